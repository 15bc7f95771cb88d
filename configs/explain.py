"""What is wrong with a config, in words: each problem with its place, its key, the value found, the nearest choice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from configs.errors import ConfigError, nearest
from configs.examples import example_text, in_words
from configs.kinds import chosen_fields, kinds_of

COMMAND_LINE = "command line"
# What pydantic says of these names Python's types, or the config's classes.
_OF_ANOTHER_SORT = (
    "model_type",
    "model_attributes_type",
    "dict_type",
    "list_type",
    "tuple_type",
    "too_short",
    "too_long",
)
# What pydantic says of these has no example.
_NOT_READ = {"int": "a whole number", "float": "a number", "bool": "true or false", "string": "text"}
_MISSING = object()


def explain(
    cls: type[BaseModel],
    raw: Mapping[str, Any],
    error: ValidationError,
    overridden: Sequence[Sequence[str]],
    layers: Sequence[tuple[Path, Mapping[str, Any]]],
) -> ConfigError:
    """The one error that says everything that is wrong with a config.

    Args:
        cls: the config class.
        raw: what was validated: the files with the overrides in them.
        error: what validation found.
        overridden: keys of the overrides, each as its parts.
        layers: the files, each with what it holds; the last is the strongest.
    """
    items = error.errors(include_url=False)
    return _one_error([(_place(item, overridden, layers), _explain_one(cls, raw, item)) for item in items])


def field_keys(cls: type[BaseModel], prefix: str = "", raw: Mapping[str, Any] | None = None) -> Iterator[str]:
    """Every dotted key that `cls` accepts, sections and their fields.

    Args:
        cls: the config class.
        prefix: of every key.
        raw: values of a config; where a section is chosen by name, only the keys of the kind chosen there count.
    """
    for name, field in cls.model_fields.items():
        yield prefix + name
        inner = raw.get(name) if isinstance(raw, Mapping) else None
        kinds = kinds_of(field)
        chosen = kinds.chosen_in(inner) if kinds is not None and raw is not None else None
        seen: set[str] = set()
        for section in [chosen] if chosen is not None else sections_of(field):
            keys = [key for key in field_keys(section, f"{prefix}{name}.", inner) if key not in seen]
            seen.update(keys)
            yield from keys


def sections_of(field: FieldInfo) -> list[type[BaseModel]]:
    """The config classes that a field may hold: itself, one inside a union or a list, or all kinds that it chooses."""
    kinds = kinds_of(field)
    if kinds is not None:
        return list(kinds.declarations().values())
    candidates = [field.annotation, *get_args(field.annotation)]
    return [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]


def _place(item: Any, overridden: Sequence[Sequence[str]], layers: Sequence[tuple[Path, Mapping[str, Any]]]) -> str:
    """Where the value was given that `item` is about: an override may have set it, what holds it, or a part of it."""
    if not layers:
        return COMMAND_LINE
    # Of a key that is missing, the section tells who wrote that.
    location = item["loc"][:-1] if item["type"] == "missing" else item["loc"]
    parts = [str(part) for part in location]
    if any(parts[: len(key)] == key for key in overridden):
        return COMMAND_LINE
    held_by = [path for path, layer in layers if _lookup(layer, location) is not _MISSING]
    if any(key[: len(parts)] == parts for key in overridden):
        return f"{held_by[-1]} and {COMMAND_LINE}" if held_by else COMMAND_LINE
    return str(held_by[-1] if held_by and location else layers[-1][0])


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
        other = _other_kind(cls, item["loc"])
        close = _nearest_key(cls, raw, item["loc"])
        hint = f"; it belongs to {other}" if other else f"; did you mean {close}?" if close else ""
        value = "" if found is _MISSING else f" (value {found!r})"
        return f"unknown key {key}{value}{hint}"
    if item["type"] == "missing":
        if isinstance(item["loc"][-1], int):
            # A value of a tuple: what is wrong is the list.
            return _explain_one(cls, raw, {**item, "type": "too_short", "loc": item["loc"][:-1]})
        missing = f"{key} is missing and has no default"
        return f"{missing}; {expected}" if (expected := _sort_in_words(cls, raw, item)) else missing
    message = _sort_in_words(cls, raw, item) or item["msg"]
    if item["type"] == "literal_error":
        close = nearest(str(found), [c.strip(" '") for c in item["ctx"]["expected"].replace(" or ", ",").split(",")])
        message = f"expected {item['ctx']['expected']}" + (f"; did you mean {close}?" if close else "")
    message = message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if found is _MISSING or (isinstance(found, dict) and item["type"] not in _OF_ANOTHER_SORT) or not key:
        return f"{key}: {message}" if key else message
    return f"{key} = {found!r}: {message}"


def _sort_in_words(cls: type[BaseModel], raw: Mapping[str, Any], item: Any) -> str | None:
    """What sort of value a key takes, with an example, where it has none, or one of another sort; else None."""
    if item["type"] == "path_type":
        return "expected a path"
    sort, _, problem = item["type"].partition("_")
    is_not_read = sort in _NOT_READ and problem in ("parsing", "type", "from_float", "unicode", "parsing_size")
    if item["type"] not in (*_OF_ANOTHER_SORT, "missing") and not is_not_read:
        return None
    # The innermost key: numbers, and names that the config chose, lead no deeper.
    for depth in range(len(item["loc"]), 0, -1):
        *above, leaf = map(str, item["loc"][:depth])
        field = _section_at(cls, raw, above).model_fields.get(leaf)
        if field is None:
            continue
        kinds, given = kinds_of(field), _lookup(raw, item["loc"])
        if kinds is not None and given in kinds.targets:
            return f"expected {in_words(field)}; did you mean {'.'.join([*above, leaf])}.name={given}?"
        if depth < len(item["loc"]) and item["type"] == "missing":
            continue
        if depth < len(item["loc"]) and is_not_read:
            return f"expected {_NOT_READ[sort]}, with {'.'.join([*above, leaf])} such as {example_text(field)}"
        where = f" for {'.'.join([*above, leaf])}" if depth < len(item["loc"]) else ""
        what = _NOT_READ[sort] if is_not_read else in_words(field)
        return f"expected {what}{where}, such as {example_text(field)}"
    return None


def _nearest_key(cls: type[BaseModel], raw: Mapping[str, Any], location: tuple[Any, ...]) -> str | None:
    *above, leaf = map(str, location)
    known = list(field_keys(cls, raw=raw))
    by_leaf = [k for k in known if k.rsplit(".", 1)[-1] == leaf]
    if by_leaf:
        return by_leaf[0]
    beside = nearest(leaf, _section_at(cls, raw, above).model_fields)
    if beside:
        return ".".join([*above, beside])
    key = ".".join([*above, leaf])
    close = nearest(key, known)
    if close and not key.startswith(f"{close}."):
        return close
    leaf_elsewhere = nearest(leaf, [k.rsplit(".", 1)[-1] for k in known])
    return next((k for k in known if k.rsplit(".", 1)[-1] == leaf_elsewhere), None)


def _section_at(cls: type[BaseModel], raw: Any, location: Sequence[str]) -> type[BaseModel]:
    """The section that a location in `cls` leads to; names and numbers in mappings and lists lead no deeper."""
    for part in location:
        raw = raw.get(part) if isinstance(raw, Mapping) else None
        if part in cls.model_fields:
            field = cls.model_fields[part]
            kinds = kinds_of(field)
            chosen = kinds.chosen_in(raw) if kinds is not None else None
            cls = chosen or next(iter(sections_of(field)), cls)
    return cls


def _other_kind(cls: type[BaseModel], location: tuple[Any, ...]) -> str | None:
    """Which other kind of its section has a key that the chosen one has not, such as `model.name=bert`."""
    *above, leaf = map(str, location)
    for path, kinds in chosen_fields(cls):
        if list(path) == above:
            names = [name for name, kind in kinds.declarations().items() if leaf in kind.model_fields]
            return f"{'.'.join(path)}.name={' or '.join(names)}" if names else None
    return None


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
