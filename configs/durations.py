"""Durations that carry their unit: `1000 steps`, `2B tokens`, `4h`, `90 s`, `3 epochs`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import core_schema

_SCALE = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}
_TIME_S = {
    "s": 1,
    "sec": 1,
    "second": 1,
    "min": 60,
    "minute": 60,
    "h": 3600,
    "hour": 3600,
    "d": 86400,
    "day": 86400,
}
_COUNTED = {"step": "steps", "token": "tokens", "sample": "samples", "epoch": "epochs"}
_PATTERN = re.compile(r"^\s*([0-9][0-9_]*(?:\.[0-9]+)?)\s*([kKmMbBtT]??)\s*([a-z]+)\s*$")


@dataclass(frozen=True)
class Duration:
    """A length of training, or of time between two events.

    Attributes:
        value: how many, in `unit`; whole for everything but seconds.
        unit: `steps`, `tokens`, `samples`, `epochs` or `seconds`.
    """

    value: float
    unit: str

    @classmethod
    def parse(cls, text: str | Duration) -> Duration:
        """Read `1000 steps`, `2.5B tokens`, `4h`.

        Raises:
            ValueError: if the text is not a number followed by a known unit.
        """
        if isinstance(text, Duration):
            return text
        expected = "a number with its unit, such as '1000 steps', '2B tokens' or '4h'"
        match = _PATTERN.match(str(text))
        if not match:
            raise ValueError(f"{text!r} is not a duration; expected {expected}")
        number, scale, unit = match.groups()
        if unit in ("m", "min") and not scale:
            unit = "min"
        singular = unit[:-1] if unit.endswith("s") and unit != "s" else unit
        amount = float(number.replace("_", "")) * _SCALE[scale.lower()]
        if singular in _COUNTED:
            if amount != int(amount):
                raise ValueError(f"{text!r} is not a whole number of {_COUNTED[singular]}")
            return cls(int(amount), _COUNTED[singular])
        if singular in _TIME_S and not scale:
            return cls(amount * _TIME_S[singular], "seconds")
        raise ValueError(f"{text!r} has the unknown unit {unit!r}; expected {expected}")

    def __str__(self) -> str:
        amount = int(self.value) if self.value == int(self.value) else self.value
        return f"{amount} {self.unit}"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.parse, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "string", "examples": ["1000 steps", "2B tokens", "4h"]}

    def in_steps(self, global_batch_size: int, seq_length: int) -> int:
        """How many steps at a constant batch size; rounds up.

        Raises:
            ValueError: for units that need more than batch size and sequence length (epochs, seconds).
        """
        per_step = {"steps": 1, "samples": global_batch_size, "tokens": global_batch_size * seq_length}
        if self.unit not in per_step:
            raise ValueError(f"{self} cannot be counted in steps")
        return -(-int(self.value) // per_step[self.unit])
