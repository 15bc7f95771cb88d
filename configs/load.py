"""YAML recipe + `key=value` overrides -> one frozen, validated config, or one error that says what to change."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError
from yaml.error import MarkedYAMLError

from configs.errors import ConfigError, nearest
from configs.section import Section

RECIPES = Path(__file__).parent
COMMAND_LINE = "command line"
_MISSING = object()
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
    path = Path(name)
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


def load_config(cls: type[Config], source: Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Build `cls` from a YAML file (or from defaults alone) and `key=value` overrides.

    Values of overrides are read as YAML, so `data.train=[a,b]`, `x=null` and `lr=3e-4` mean what they say.

    Raises:
        ConfigError: a file that is not YAML, an unknown key, a value of the wrong type or out of range. Every
            problem is in the one message, each with where it stands (the file or the command line), its key, the value
            found, what was expected, the nearest key.
    """
    raw = read_yaml(source) if source is not None else {}
    in_file = copy.deepcopy(raw)
    overridden = []
    for text in overrides:
        key, value = _parse_override(text)
        _assign(raw, key, value)
        overridden.append(key.split("."))
    try:
        return cls.model_validate(raw)
    except ValidationError as error:
        items = error.errors(include_url=False)
    problems = [(_place(item, overridden, in_file, source), _explain_one(cls, raw, item)) for item in items]
    raise _one_error(problems)


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


def field_keys(cls: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every dotted key that `cls` accepts, sections and their fields."""
    for name, field in cls.model_fields.items():
        yield prefix + name
        for section in sections_of(field.annotation):
            yield from field_keys(section, f"{prefix}{name}.")


def sections_of(annotation: Any) -> list[type[BaseModel]]:
    """The config classes that a field's type names: itself, or one inside a union or a list."""
    candidates = [annotation, *get_args(annotation)]
    return [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]


def _parse_override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key:
        # `key`, `--key`, `key:`, `key: value`; of anything else, what was meant is not known.
        meant = re.fullmatch(rf"-*({_KEY})\s*(?::\s*(.*))?", text.strip(), re.DOTALL)
        hint = f"{meant[1]}={meant[2] or 'VALUE'}" if meant else None
        raise ConfigError(f"{text!r} is not an override", where=COMMAND_LINE, expected="key=value", nearest=hint)
    try:
        return key, yaml.load(value, _UniqueKeyLoader)  # noqa: S506 (a safe loader)
    except yaml.YAMLError as error:
        why = f": {error.problem}" if isinstance(error, MarkedYAMLError) and error.problem else ""
        raise ConfigError(f"the value of {text!r} is not valid YAML{why}", where=key, expected="key=value") from None


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


def _place(item: Any, overridden: Sequence[Sequence[str]], in_file: Mapping[str, Any], source: Path | None) -> str:
    """Where the value was given that `item` is about: an override may have set it, what holds it, or a part of it."""
    if source is None:
        return COMMAND_LINE
    # Of a key that is missing, the section tells who wrote that.
    location = item["loc"][:-1] if item["type"] == "missing" else item["loc"]
    parts = [str(part) for part in location]
    if any(parts[: len(key)] == key for key in overridden):
        return COMMAND_LINE
    if any(key[: len(parts)] == parts for key in overridden):
        return COMMAND_LINE if _lookup(in_file, location) is _MISSING else f"{source} and {COMMAND_LINE}"
    return str(source)


def _one_error(problems: Sequence[tuple[str, str]]) -> ConfigError:
    places = list(dict.fromkeys(place for place, _ in problems))
    if len(problems) == 1:
        return ConfigError(problems[0][1], where=places[0])
    count = f"{len(problems)} problems"
    if len(places) == 1:
        return ConfigError("\n- ".join([count, *(text for _, text in problems)]), where=places[0])
    return ConfigError("\n- ".join([count, *(f"{place}: {text}" for place, text in problems)]))


def _explain_one(cls: type[BaseModel], raw: Mapping[str, Any], item: Any) -> str:
    # Union members put their type name into the location; keep what exists in the input.
    key = ".".join(str(part) for part in item["loc"])
    found = _lookup(raw, item["loc"])
    if item["type"] == "extra_forbidden":
        close = _nearest_key(cls, item["loc"])
        hint = f"; did you mean {close}?" if close else ""
        return f"unknown key {key} (value {found!r}){hint}"
    if item["type"] == "missing":
        return f"{key} is missing and has no default"
    message = item["msg"]
    if item["type"] == "literal_error":
        close = nearest(str(found), [c.strip(" '") for c in item["ctx"]["expected"].replace(" or ", ",").split(",")])
        message = f"expected {item['ctx']['expected']}" + (f"; did you mean {close}?" if close else "")
    message = message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if found is _MISSING or isinstance(found, dict) or not key:
        return f"{key}: {message}" if key else message
    return f"{key} = {found!r}: {message}"


def _nearest_key(cls: type[BaseModel], location: tuple[Any, ...]) -> str | None:
    *above, leaf = map(str, location)
    known = list(field_keys(cls))
    by_leaf = [k for k in known if k.rsplit(".", 1)[-1] == leaf]
    if by_leaf:
        return by_leaf[0]
    beside = nearest(leaf, _section_at(cls, above).model_fields)
    if beside:
        return ".".join([*above, beside])
    close = nearest(".".join([*above, leaf]), known)
    if close:
        return close
    leaf_elsewhere = nearest(leaf, [k.rsplit(".", 1)[-1] for k in known])
    return next((k for k in known if k.rsplit(".", 1)[-1] == leaf_elsewhere), None)


def _section_at(cls: type[BaseModel], location: Sequence[str]) -> type[BaseModel]:
    """The section that a location in `cls` leads to; names and numbers in mappings and lists lead no deeper."""
    for part in location:
        if part in cls.model_fields:
            cls = next(iter(sections_of(cls.model_fields[part].annotation)), cls)
    return cls


def _lookup(raw: Any, location: tuple[Any, ...]) -> Any:
    node = raw
    for part in location:
        in_mapping = isinstance(node, Mapping) and part in node
        in_list = isinstance(node, list) and isinstance(part, int) and part < len(node)
        if in_mapping or in_list:
            node = node[part]
        elif isinstance(node, Mapping | list):
            return _MISSING
    return node
