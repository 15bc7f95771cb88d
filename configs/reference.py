"""The configuration reference and the editors' schemas, made from the config classes."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import PydanticUndefined, core_schema

from configs.durations import Duration, Units
from configs.explain import sections_of
from configs.kinds import Named, kinds_of
from configs.registry import ENTRIES, CommandEntry
from configs.section import keys_of_default

REFERENCE = Path(__file__).parents[1] / "docs" / "configuration.md"
SCHEMAS = Path(__file__).parent / "schema"

_INTRODUCTION = """# Configuration

Made from the config classes by `python -m configs reference`; do not edit.

A config is a YAML file with the keys below, and `key=value` overrides on the command line, whose values are read as
YAML: `optimizer.lr=3e-4`, `data.train=[a,b]`, `model.vocab_size=null`. `--config` takes a file or the name of a recipe
in `configs/`; given several times, each file adds its keys to those before it and replaces what both say
(`--config gpt-125m --config my-data.yaml`). `--print-config` prints the result without starting anything. A key that
does not exist is an error that names the nearest one. `python -m configs check FILE` checks a file without starting
anything; with `--ranks N` the layout on N ranks, too.

A duration is a number with its unit: `1000 steps`, `2B tokens`, `5k samples`, `4h`, `90 s`, `3 epochs`.
k, M, B and T are powers of a thousand.

Editors that know the YAML language server complete and check a file that begins with
`# yaml-language-server: $schema=PATH`, where PATH leads to the file in `configs/schema/`.
"""
_NAMES = {int: "integer", float: "number", bool: "true or false", str: "text", Path: "path", type(None): "null"}
_LIMITS: tuple[tuple[type, str, str], ...] = (
    (Gt, "gt", "above {}"),
    (Ge, "ge", "at least {}"),
    (Lt, "lt", "below {}"),
    (Le, "le", "at most {}"),
    (MinLen, "min_length", "{} or more items"),
    (MaxLen, "max_length", "at most {} items"),
)


def reference_text() -> str:
    """The whole of `docs/configuration.md`."""
    return "\n".join([_INTRODUCTION, *(line for entry in ENTRIES for line in _entry_lines(entry))])


def schema_texts() -> dict[str, str]:
    """The JSON schema of each entry, by file name."""
    return {f"{entry.name}.json": _schema_text(entry) for entry in ENTRIES}


def _schema_text(entry: CommandEntry) -> str:
    schema = entry.config_class().model_json_schema(schema_generator=_EditorSchema)
    head = {"$schema": GenerateJsonSchema.schema_dialect, "title": f"Config of {entry.command}"}
    return json.dumps({**schema, **head}, indent=2, ensure_ascii=False) + "\n"


class _EditorSchema(GenerateJsonSchema):
    """A schema of what a YAML file may hold, which is more than the values that come out."""

    def encode_default(self, dft: Any) -> Any:
        return str(dft) if isinstance(dft, Duration) else super().encode_default(dft)

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        # A section that is chosen by name may leave out what the default section of its field says.
        made = super().model_schema(schema)
        fields = schema["cls"].model_fields
        for name, shown in made.get("properties", {}).items():
            default = fields[name].get_default(call_default_factory=True) if name in fields else None
            if not isinstance(default, Named):
                continue
            for option in shown.get("anyOf", []):
                if option.get("properties", {}).get("name", {}).get("const") == default.name:
                    said = keys_of_default(default)
                    option["required"] = [key for key in option["required"] if key not in said]
        return made

    def function_before_schema(self, schema: core_schema.BeforeValidatorFunctionSchema) -> JsonSchemaValue:
        # Such a function accepts short forms (one path for a list of them), which the type does not tell.
        inner = super().function_before_schema(schema)
        if self.mode == "serialization" or "json_schema_input_schema" in schema or "properties" in inner:
            return inner
        item = {"anyOf": [inner.get("items", inner), {"type": "string"}]}
        return {"anyOf": [*item["anyOf"], {**inner, "items": item}] if "items" in inner else item["anyOf"]}


def _entry_lines(entry: CommandEntry) -> Iterator[str]:
    cls = entry.config_class()
    yield f"## {entry.name}\n"
    what = _first_line(cls).removeprefix(f"`{entry.name}`: ")
    yield f"Read by `{entry.command}`. {what[:1].upper()}{what[1:]}\n"
    yield from _section_lines(cls, "", None, depth=3)


def _section_lines(cls: type[BaseModel], prefix: str, values: BaseModel | None, depth: int) -> Iterator[str]:
    plain = {name: field for name, field in cls.model_fields.items() if not _own_section(field)}
    if plain:
        yield "| key | type | default | what it is |"
        yield "|---|---|---|---|"
        for name, field in plain.items():
            yield _row(prefix + name, field, values, name)
        yield ""
    for name, field in cls.model_fields.items():
        default = field.get_default(call_default_factory=True)
        kinds = kinds_of(field)
        if kinds is not None:
            yield f"{'#' * min(depth, 6)} {prefix}{name}\n"
            chosen = ", ".join(f"`{kind}`" for kind in kinds.targets)
            yield f"`{prefix}{name}.name` chooses the {kinds.what}: {chosen}, or `module:Class` of one's own.\n"
            for kind, declaration in kinds.declarations().items():
                yield f"{'#' * min(depth + 1, 6)} {prefix}{name}.name = {kind}\n"
                yield f"{_first_line(declaration)}\n"
                values = _as_default(default, declaration)
                yield from _section_lines(declaration, f"{prefix}{name}.", values, depth + 2)
            continue
        for section in sections_of(field):
            yield f"{'#' * min(depth, 6)} {prefix}{name}\n"
            yield f"{_first_line(section)}\n"
            origin = get_origin(field.annotation)
            marker = "[]" if origin is list else ".NAME" if origin is dict else ""
            yield from _section_lines(section, f"{prefix}{name}{marker}.", _as_default(default, section), depth + 1)


def _as_default(default: Any, section: type[BaseModel]) -> BaseModel | None:
    return default if type(default) is section else None


def _own_section(field: FieldInfo) -> bool:
    """Whether the field's value is a section itself, rather than a list of them or nothing at all."""
    return bool(sections_of(field)) and get_origin(field.annotation) is None


def _row(key: str, field: FieldInfo, values: BaseModel | None, name: str) -> str:
    described = " ".join((field.description or "").split())
    units = "".join(f" in {item}" for item in field.metadata if isinstance(item, Units))
    kind = ", ".join([type_text(field.annotation) + units, *_limits(field)])
    default = getattr(values, name) if values is not None else field.get_default(call_default_factory=True)
    shown = "required" if default is PydanticUndefined else f"`{_value_text(default)}`"
    return f"| `{key}` | {_cell(kind)} | {_cell(shown)} | {_cell(described)} |"


def type_text(annotation: Any) -> str:
    """A type in words: `integer or null`, `one of a, b`, `list of path`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return "one of " + ", ".join(f"`{value}`" for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(type_text(argument) for argument in arguments)
    if origin is list:
        return f"list of {type_text(arguments[0])}"
    if origin is tuple:
        return f"list of {len(arguments)}: " + ", ".join(type_text(argument) for argument in arguments)
    if origin is dict:
        return f"mapping of {type_text(arguments[0])} to {type_text(arguments[1])}"
    if hasattr(annotation, "__metadata__"):
        units = "".join(f" in {item}" for item in annotation.__metadata__ if isinstance(item, Units))
        return type_text(arguments[0]) + units
    if annotation is Duration:
        return "duration"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "{" + ", ".join(annotation.model_fields) + "}"
    if annotation not in _NAMES:
        raise TypeError(f"the reference has no words for the type {annotation!r}")
    return _NAMES[annotation]


def _limits(field: FieldInfo) -> Iterator[str]:
    for item in field.metadata:
        for kind, attribute, words in _LIMITS:
            if isinstance(item, kind):
                yield words.format(getattr(item, attribute))


def _value_text(value: Any) -> str:
    if isinstance(value, Duration | Path | str) and str(value).isprintable():
        return str(value)
    if isinstance(value, BaseModel):
        return json.dumps(value.model_dump(mode="json"))
    return json.dumps(value)


def _first_line(cls: type[BaseModel]) -> str:
    return " ".join((cls.__doc__ or "").split("\n\n")[0].split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
