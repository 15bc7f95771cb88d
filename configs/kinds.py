"""What is chosen by name: the section `model` has the keys of the family that `model.name` says.

A kind has two halves. Its declaration is a config class (a subclass of `Named`): the keys, what it needs, what it
refuses; it imports neither torch nor an engine. Its implementation is what does the work, named by the declaration as
`module:Class` and imported when a run starts. A name is one of those that a `Kinds` knows, or the declaration of
somebody else's kind as `module:Class`.
"""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, core_schema

from configs.errors import nearest
from configs.section import Section


class Named(Section):
    """Base of the declarations: a section whose class `name` chooses."""

    name: str
    """Which kind it is."""

    implementation: ClassVar[str] = ""
    """What does the work, as `module:Class`."""

    def resolved(self) -> dict[str, Any]:
        """Every key with what null stands for filled in, JSON-able: what decides whether two sections are the same."""
        return self.model_dump(mode="json")

    def implement(self) -> Any:
        """The class that does the work; imports its module."""
        return resolve(self.implementation)


@dataclass(frozen=True)
class Kinds:
    """The kinds of one sort, such as all model families.

    Attributes:
        what: the sort in words, such as `model family`.
        targets: the declaration of each known name, as `module:Class`.
        default: what a section without a name is.
    """

    what: str
    targets: Mapping[str, str]
    default: str

    def declaration(self, name: str) -> type[Named]:
        """The config class of the kind called `name`.

        Raises:
            ValueError: there is none; says which there are, and the nearest.
        """
        target = self.targets.get(name, name)
        if ":" not in target:
            close = nearest(name, self.targets)
            hint = f"; did you mean {close}?" if close else ""
            known = ", ".join(self.targets)
            raise ValueError(f"there is no {self.what} {name!r}; expected one of {known}, or module:Class{hint}")
        try:
            found = resolve(target)
        except Exception as error:  # whatever somebody else's module does while it is imported
            raise ValueError(f"the {self.what} {name!r} cannot be imported ({_told(error)})") from error
        if not (isinstance(found, type) and issubclass(found, Named)):
            raise ValueError(f"{name!r} is not the config class of a {self.what}")
        if lacking := sorted(getattr(found, "__abstractmethods__", ())):
            raise ValueError(f"the {self.what} {name!r} leaves out {', '.join(lacking)}, which each has to say")
        return found

    def declarations(self) -> dict[str, type[Named]]:
        """The config class of every known name."""
        return {name: self.declaration(name) for name in self.targets}

    def default_section(self) -> Any:
        """A section of the default kind with nothing but defaults."""
        return self.declaration(self.default)(name=self.default)

    def chosen_in(self, raw: Any) -> type[Named] | None:
        """The config class that the raw value of a section asks for; None where it names no kind that there is."""
        name = raw.get("name", self.default) if isinstance(raw, Mapping) else self.default
        try:
            return self.declaration(name)
        except (ValueError, TypeError):
            return None


@dataclass(frozen=True)
class ChosenBy:
    """Marks a config field whose class is chosen by its `name`: `model: Annotated[ModelConfig, ChosenBy(FAMILIES)]`."""

    kinds: Kinds

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def choose(value: Any, validate: Any) -> Any:
            if isinstance(value, source):
                return value
            if not isinstance(value, Mapping):
                return validate(value)
            name = value.get("name", self.kinds.default)
            if not isinstance(name, str):
                raise ValueError(f"name is {name!r}; expected one of {', '.join(self.kinds.targets)}")
            cls = self.kinds.declaration(name)
            if not issubclass(cls, source):
                raise ValueError(f"{name!r} is not the config class of a {self.kinds.what}")
            # Errors inside carry their own place, which pydantic puts below this section's.
            return cls.model_validate({**value, "name": name})

        # Values are written out with the keys of their own class, not of the field's.
        return core_schema.no_info_wrap_validator_function(
            choose, handler(source), serialization=core_schema.simple_ser_schema("any")
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        options = []
        for name, cls in self.kinds.declarations().items():
            option = handler(cls.__pydantic_core_schema__)
            option = dict(handler.resolve_ref_schema(option))
            option["properties"] = {**option["properties"], "name": {"const": name, "default": name}}
            required = [key for key in option.get("required", []) if key != "name"]
            option["required"] = required if name == self.kinds.default else ["name", *required]
            options.append(option)
        foreign = {"type": "string", "pattern": "^[\\w.]+:\\w+$", "description": "module:Class of somebody else's kind"}
        options.append({"type": "object", "properties": {"name": foreign}, "required": ["name"]})
        return {"anyOf": options}


def kinds_of(field: FieldInfo) -> Kinds | None:
    """The kinds that the section in `field` may be of; None where its class is fixed."""
    return next((item.kinds for item in field.metadata if isinstance(item, ChosenBy)), None)


def _told(error: Exception) -> str:
    """An error of a module that was being imported, and the last line of a file that led to it."""
    frames = traceback.extract_tb(error.__traceback__)
    files = [frame for frame in frames if not frame.filename.startswith("<") and "importlib" not in frame.filename]
    where = f", {files[-1].filename} line {files[-1].lineno}" if len(files) > 1 else ""
    return f"{type(error).__name__}: {error}{where}"


def resolve(target: str) -> Any:
    """The object that `module:name` means."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def comes_with(target: str, directory: Path) -> bool:
    """Whether the module of `module:name` lies in `directory`, such as that of a downloaded model; imports nothing.

    A name in a downloaded file may mean a module that is installed here, but never code that came along with it.
    """
    found = PathFinder.find_spec(target.partition(":")[0].partition(".")[0])
    if ":" not in target or found is None:
        return False
    places = [found.origin, *(found.submodule_search_locations or ())]
    return any(Path(place).resolve().is_relative_to(directory.resolve()) for place in places if place)


def have_in_common(one: type[BaseModel] | None, other: type[BaseModel], key: str) -> bool:
    """Whether two kinds have a key from one declaration, so that it means the same; None: a kind that is not known."""
    if one is None or key not in one.model_fields or key not in other.model_fields:
        return key in other.model_fields
    declaring = [
        next(cls for cls in kind.__mro__ if key in vars(cls).get("__annotations__", {})) for kind in (one, other)
    ]
    return declaring[0] is declaring[1]


def chosen_fields(cls: type[BaseModel], prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Kinds]]:
    """Every field of `cls`, at any depth, whose section is chosen by name."""
    for name, field in cls.model_fields.items():
        kinds = kinds_of(field)
        if kinds is not None:
            yield (*prefix, name), kinds
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from chosen_fields(field.annotation, (*prefix, name))
