"""The base of every config class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, model_validator
from pydantic_core import CoreSchema

from configs.strict_numbers import refuse_bools


class Section(BaseModel):
    """A frozen section: unknown keys, and booleans for numbers, are refused; attribute docstrings describe the keys."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False, protected_namespaces=()
    )

    renamed: ClassVar[Mapping[str, str]] = {}
    """The names that keys had before, each with the present one; see `configs/renamed.py`."""

    @model_validator(mode="before")
    @classmethod
    def _keep_default_sections(cls, raw: Any) -> Any:
        """A section that is given in part keeps, for its other keys, what the field's default section says."""
        if not isinstance(raw, Mapping):
            return raw
        kept = dict(raw)
        for key in raw.keys() & cls.model_fields.keys():
            if isinstance(raw[key], Mapping):
                kept[key] = _completed(raw[key], cls.model_fields[key].get_default(call_default_factory=True))
        return kept

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return refuse_bools(cls, handler(source))


def keys_of_default(default: BaseModel) -> set[str]:
    """The keys for which a default section says something, beside the defaults of its class; its kind is one."""
    return default.model_fields_set | ({"name"} & type(default).model_fields.keys())


def _completed(given: Mapping[str, Any], default: Any) -> Mapping[str, Any]:
    """With what the section `default` says of keys that are not given; as it is where it is of another kind."""
    if not isinstance(default, BaseModel):
        return given
    said = {key: getattr(default, key) for key in keys_of_default(default)}
    if given.get("name", said.get("name")) != said.get("name"):
        return given
    inner = {key: _completed(value, said.get(key)) for key, value in given.items() if isinstance(value, Mapping)}
    return {**said, **given, **inner}
