"""YAML recipes + `key=value` overrides -> one frozen, validated config, or one error that says what to change."""

from __future__ import annotations

import contextlib
import copy
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from yaml.error import MarkedYAMLError

from configs.errors import ConfigError, nearest
from configs.explain import COMMAND_LINE, explain
from configs.kinds import chosen_fields, have_in_common
from configs.paths import expanded
from configs.renamed import rename_keys
from configs.section import Section

RECIPES = Path(__file__).parent
_KEY = r"[A-Za-z_][\w.]*"


Config = TypeVar("Config", bound=Section)


class _Loader(yaml.SafeLoader):
    """YAML without the numbers to the bases of 60 and 8: `8:00:00` is a time, not 28800, and `010` is not 8."""


_NUMBERS = {
    "tag:yaml.org,2002:int": r"[-+]?0b[01_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+",
    "tag:yaml.org,2002:float": r"[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?"
    r"|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag not in _NUMBERS]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _pattern in _NUMBERS.items():
    _Loader.add_implicit_resolver(_tag, re.compile(f"^(?:{_pattern})$"), list("-+0123456789."))


class _UniqueKeyLoader(_Loader):
    """A safe loader for which a key that is given twice is an error instead of a silent last word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise MarkedYAMLError(problem=f"{key.value} is given twice", problem_mark=key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def find_recipe(name: str | Path, room: str) -> Path:
    """The file that `name` means: a path, or the name of a recipe in `configs/<room>/`.

    Raises:
        ConfigError: if there is neither such a file nor such a recipe; names the nearest recipe.
    """
    try:
        path = Path(expanded(str(name)))
    except ValueError as error:
        raise ConfigError(str(error), where=f"--config {name}") from None
    if path.is_file():
        return path
    recipes = {p.stem: p for p in sorted((RECIPES / room).glob("*.yaml"))}
    if str(name) in recipes:
        return recipes[str(name)]
    if path.is_dir():
        raise ConfigError("is a directory, not a config file", where=name, expected="a YAML file")
    raise ConfigError(
        f"there is no config file or recipe {str(name)!r}",
        where="--config",
        expected=f"a YAML file, or one of the recipes {', '.join(recipes) or '(none)'}",
        nearest=nearest(path.stem, recipes),
    )


def find_recipes(names: Sequence[str] | None, room: str) -> list[Path]:
    """The files that several names mean; see `find_recipe`."""
    return [find_recipe(name, room) for name in names or []]


def load_config(
    cls: type[Config],
    source: Path | Sequence[Path] | None = None,
    overrides: Sequence[str] = (),
    complete: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> Config:
    """Build `cls` from YAML files (or from defaults alone) and `key=value` overrides.

    Of several files, each adds its keys to those before it and replaces what they both say; lists are replaced whole.
    Values of overrides are read as YAML, so `data.train=[a,b]`, `x=null` and `lr=3e-4` mean what they say; `-` alone,
    which is standard input, is text.

    Args:
        cls: what to build.
        source: the files.
        overrides: the settings.
        complete: takes the merged values and gives them with what they leave out; None: they are taken as they are.

    Raises:
        ConfigError: a file that is not YAML, an unknown key, a value of the wrong type or out of range. Every
            problem is in the one message, each with where it stands (the file or the command line), its key, the value
            found, what was expected, the nearest key.
    """
    files = [source] if isinstance(source, Path) else list(source or [])
    return _build(cls, [(path, _by_present_names(cls, read_yaml(path), path)) for path in files], overrides, complete)


def build_config(cls: type[Config], given: dict[str, Any], source: Path, overrides: Sequence[str] = ()) -> Config:
    """Build `cls` from the values `given`, which were read from `source`, and `key=value` overrides.

    Raises:
        ConfigError: see `load_config`.
    """
    return _build(cls, [(source, rename_keys(cls, given, source)[0])], overrides)


def _build(
    cls: type[Config],
    layers: Sequence[tuple[Path, dict[str, Any]]],
    overrides: Sequence[str],
    complete: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> Config:
    raw: dict[str, Any] = {}
    for path, layer in layers:
        before, raw = raw, _merged(raw, layer)
        for note in _discard_keys_of_other_kinds(cls, raw, before, list(_leaves(layer))):
            print(f"note: {path}: {note}", file=sys.stderr, flush=True)
    in_file = copy.deepcopy(raw)
    overridden = []
    for text in overrides:
        key, value = _parse_override(text)
        key, value = _override_by_present_names(cls, key, value)
        _assign(raw, key, value)
        overridden.append(key.split("."))
    for note in _discard_keys_of_other_kinds(cls, raw, in_file, overridden):
        print(f"note: {note}", file=sys.stderr, flush=True)
    if complete is not None:
        raw = complete(raw)
    try:
        return cls.model_validate(raw)
    except ValidationError as error:
        raise explain(cls, raw, error, overridden, layers) from None


def _by_present_names(cls: type[BaseModel], raw: dict[str, Any], where: object) -> dict[str, Any]:
    renamed, notes = rename_keys(cls, raw, where)
    for note in notes:
        print(f"note: {where}: {note}", file=sys.stderr, flush=True)
    return renamed


def _override_by_present_names(cls: type[BaseModel], key: str, value: Any) -> tuple[str, Any]:
    alone: dict[str, Any] = {}
    _assign(alone, key, value)
    value, parts = _by_present_names(cls, alone, COMMAND_LINE), []
    for _ in key.split("."):
        ((part, value),) = value.items()
        parts.append(part)
    return ".".join(parts), value


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both mappings in one; where both have a key, mappings are merged, and of other values that of `above` stands."""
    merged = copy.deepcopy(dict(below))
    for key, value in above.items():
        mapped = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if mapped else copy.deepcopy(value)
    return merged


def _leaves(raw: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[list[str]]:
    """The keys of all values that are no mappings, each as its parts."""
    for key, value in raw.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*above, str(key)))
        else:
            yield [*above, str(key)]


def _discard_keys_of_other_kinds(
    cls: type[BaseModel], raw: dict[str, Any], in_file: dict[str, Any], overridden: Sequence[Sequence[str]]
) -> list[str]:
    """Where an override, or a later file, chooses another kind than the file before: drop what that says of keys that
    this kind does not have, or has of its own (another optimizer's `epsilon` is another number).

    Returns:
        a note for each section of which something was dropped.
    """
    notes = []
    for path, kinds in chosen_fields(cls):
        section, before = _at(raw, path), _at(in_file, path)
        if not isinstance(section, dict) or not isinstance(before, dict) or [*path, "name"] not in overridden:
            continue
        old, new = before.get("name", kinds.default), kinds.chosen_in(section)
        if new is None or section["name"] == old:
            continue
        other = kinds.chosen_in(before)
        given = {key[len(path)] for key in overridden if key[: len(path)] == list(path) and len(key) > len(path)}
        dropped = [key for key in before if key not in given and not have_in_common(other, new, key)]
        for key in dropped:
            section.pop(key, None)
        if dropped:
            where = ".".join(path)
            listed = ", ".join(f"{where}.{key}" for key in dropped)
            notes.append(f"{where}.name={section['name']} in place of {old}: the file's {listed} left out")
    return notes


def _at(raw: Any, path: Sequence[str]) -> Any:
    for part in path:
        raw = raw.get(part) if isinstance(raw, dict) else None
    return raw


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ConfigError: if the file cannot be read, is not YAML or not a mapping.
    """
    try:
        # A subclass of the safe loader, which the linter cannot see.
        raw = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeyLoader)  # noqa: S506
    except OSError as error:
        raise ConfigError(f"cannot be read ({error.strerror})", where=path) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"is not UTF-8 text (byte {error.start})", where=path) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1} column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"is not valid YAML: {problem}", where=f"{path}{place}") from None
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise ConfigError(f"holds a {type(raw).__name__}", where=path, expected="a mapping of keys to values")
    return raw


def to_yaml(config: BaseModel) -> str:
    """`config` as YAML that `load_config` reads back to an equal config."""
    values = config.model_dump(mode="json")
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=110)
    if yaml.safe_load(text) == values:
        return text
    # Some letters, such as the next-line character U+0085, do not survive unescaped.
    return yaml.safe_dump(values, sort_keys=False, width=110)


def _parse_override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key:
        # `key`, `--key`, `key:`, `key: value`; of anything else, what was meant is not known.
        meant = re.fullmatch(rf"-*({_KEY})\s*(?::\s*(.*))?", text.strip(), re.DOTALL)
        hint = f"{meant[1]}={meant[2] or 'VALUE'}" if meant else None
        if _is_recipe(text):
            hint = f"--config {shlex.quote(text)}"
        raise ConfigError(f"{text!r} is not an override", where=COMMAND_LINE, expected="key=value", nearest=hint)
    if value.strip() == "-":
        # Standard input; of YAML it would be a list of one null.
        return key, "-"
    try:
        return key, yaml.load(value, _UniqueKeyLoader)  # noqa: S506 (a safe loader)
    except yaml.YAMLError as error:
        why = f": {error.problem}" if isinstance(error, MarkedYAMLError) and error.problem else ""
        raise ConfigError(f"the value of {text!r} is not valid YAML{why}", where=key, expected="key=value") from None


def _is_recipe(text: str) -> bool:
    """Whether it is what `--config` takes: the name of a recipe, or a YAML file that there is."""
    with contextlib.suppress(OSError, ValueError):  # such as a text that is too long for a path
        if text.endswith((".yaml", ".yml")) and Path(text).is_file():
            return True
    return text in {path.stem for path in RECIPES.glob("*/*.yaml")}


def _assign(raw: dict[str, Any], key: str, value: Any) -> None:
    parts = key.split(".")
    node = raw
    for depth, part in enumerate(parts[:-1]):
        child = node.get(part)
        if child is None:
            child = node[part] = {}
        if not isinstance(child, dict):
            above = ".".join(parts[: depth + 1])
            raise ConfigError(f"{above} holds {child!r} and has no keys below it", where=f"override {key!r}")
        node = child
    node[parts[-1]] = value
