"""A value that a config key would accept, as one types it, for messages about values that it does not."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from annotated_types import Gt, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from configs.durations import Duration, Units
from configs.kinds import kinds_of

_SIMPLE = {bool: True, int: 1, float: 1.0, str: "NAME", Path: "PATH", Duration: "1000 steps"}
NUM_OPTIONAL_KEYS = 2
"""How many keys an example of a section shows that needs none."""


def example_text(field: FieldInfo) -> str:
    """An acceptable value of `field` in one line of YAML, such as `[0.98, 0.01, 0.01]` or `{start: 32, ...}`."""
    text = yaml.safe_dump(_of_field(field), default_flow_style=True, sort_keys=False, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...")


def in_words(field: FieldInfo) -> str:
    """What sort of value `field` takes."""
    value = _of_field(field)
    if isinstance(value, Mapping):
        return "keys with values" if _is_section(field) else "names with values"
    if isinstance(value, Sequence) and not isinstance(value, str):
        is_fixed = get_origin(field.annotation) is tuple and Ellipsis not in get_args(field.annotation)
        return f"a list of {len(value)} values" if is_fixed else "a list"
    return "a value"


def _is_section(field: FieldInfo) -> bool:
    annotations = [field.annotation, *get_args(field.annotation)]
    return any(isinstance(each, type) and issubclass(each, BaseModel) for each in annotations)


def _of_field(field: FieldInfo) -> Any:
    kinds = kinds_of(field)
    if kinds is not None:
        return {"name": kinds.default, **_of_annotation(kinds.declaration(kinds.default))}
    if field.examples:
        return field.examples[0]
    if (units := _units(field.metadata)) is not None:
        return units.example
    default = field.get_default(call_default_factory=True)
    if isinstance(default, bool | int | float | str) or (default and isinstance(default, list | tuple)):
        return list(default) if isinstance(default, tuple) else default
    value = _of_annotation(field.annotation)
    ends = [float(str(bound.lt)) for bound in field.metadata if isinstance(bound, Lt)]
    starts = [float(str(bound.gt)) for bound in field.metadata if isinstance(bound, Gt)]
    if ends and isinstance(value, float) and value >= ends[0]:
        return ends[0] / 2
    return type(value)(starts[0] + 1) if starts and isinstance(value, int | float) and value <= starts[0] else value


def _units(metadata: Sequence[Any]) -> Units | None:
    return next((item for item in metadata if isinstance(item, Units)), None)


def _of_annotation(annotation: Any) -> Any:
    if get_origin(annotation) is Annotated and (units := _units(annotation.__metadata__)) is not None:
        return units.example
    origin, arguments = get_origin(annotation), [a for a in get_args(annotation) if a is not types.NoneType]
    if origin is Annotated or origin in (Union, types.UnionType):
        return _of_annotation(arguments[0])
    if origin is Literal:
        return arguments[0]
    if origin is dict:
        return {"NAME": _of_annotation(arguments[1])}
    if origin in (list, tuple):
        return [_of_annotation(each) for each in arguments if each is not Ellipsis]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = annotation.model_fields
        shown = [name for name, field in fields.items() if (field.is_required() and name != "name") or field.examples]
        return {name: _of_field(fields[name]) for name in shown or list(fields)[:NUM_OPTIONAL_KEYS]}
    return _SIMPLE.get(annotation, "VALUE")
