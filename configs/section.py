"""The base of every config class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler
from pydantic_core import CoreSchema

from configs.strict_numbers import refuse_bools


class Section(BaseModel):
    """A frozen section: unknown keys, and booleans for numbers, are refused; attribute docstrings describe the keys."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False, protected_namespaces=()
    )

    renamed: ClassVar[Mapping[str, str]] = {}
    """The names that keys had before, each with the present one; see `configs/renamed.py`."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return refuse_bools(cls, handler(source))
