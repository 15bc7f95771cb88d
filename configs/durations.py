"""Durations that carry their unit: `1000 steps`, `2B tokens`, `4h`, `90 s`, `3 epochs`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import PydanticCustomError, core_schema

_SCALE = {"k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}
_SECONDS = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1),
    **dict.fromkeys(("min", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hour", "hours"), 3600),
    **dict.fromkeys(("d", "day", "days"), 86400),
}
_COUNTED = {
    **dict.fromkeys(("step", "steps"), "steps"),
    **dict.fromkeys(("token", "tokens"), "tokens"),
    **dict.fromkeys(("sample", "samples"), "samples"),
    **dict.fromkeys(("epoch", "epochs"), "epochs"),
}
_LONGEST = 10**24
_EXAMPLES = {
    "steps": "1000 steps",
    "samples": "5k samples",
    "tokens": "2B tokens",
    "epochs": "3 epochs",
    "seconds": "4h",
}
_NUMBER = r"[0-9][0-9_]*(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?"
_PATTERN = re.compile(rf"\s*({_NUMBER})\s*([a-zA-Z]+(?: +[a-zA-Z]+)?)\s*")


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
        match = _PATTERN.fullmatch(str(text))
        if not match:
            raise ValueError(f"{text!r} is not a duration; expected {expected}")
        number, word = match.groups()
        scale, unit = _split_scale(word)
        amount = Decimal(number.replace("_", "")) * scale
        if amount > _LONGEST:
            raise ValueError(f"{text!r} is longer than anything; expected {expected}")
        if unit in _SECONDS and scale == 1:
            return cls(float(amount * _SECONDS[unit]), "seconds")
        if unit not in _COUNTED:
            raise ValueError(f"{text!r} has the unknown unit {word!r}; expected {expected}")
        if amount != int(amount):
            raise ValueError(f"{text!r} is not a whole number of {_COUNTED[unit]}")
        return cls(int(amount), _COUNTED[unit])

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


class Units:
    """A duration of a config that has a meaning in some units only: `Annotated[Duration, Units("steps", "seconds")]`.

    Attributes:
        names: the units, of `steps`, `samples`, `tokens`, `epochs`, `seconds`.
        zero: whether none at all is a length, too.
    """

    def __init__(self, *names: str, zero: bool = False) -> None:
        self.names = names
        self.zero = zero

    def __str__(self) -> str:
        *first, last = ["time" if name == "seconds" else name for name in self.names]
        return f"{', '.join(first)} or {last}" if first else last

    @property
    def example(self) -> str:
        """A duration in the first of the units."""
        return _EXAMPLES[self.names[0]]

    def check(self, duration: Duration) -> Duration:
        """`duration` itself.

        Raises:
            PydanticCustomError: if it is in another unit, or no length at all.
        """
        if duration.unit not in self.names:
            examples = " or ".join(repr(_EXAMPLES[name]) for name in self.names)
            self._refuse(f"is in {duration.unit}; expected {self}, such as {examples}")
        if duration.value <= 0 and not self.zero:
            self._refuse(f"is no length; expected more than 0 {duration.unit}")
        return duration

    def _refuse(self, problem: str) -> None:
        raise PydanticCustomError("duration_units", "{problem}", {"problem": problem})

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return handler(schema) | {"examples": [_EXAMPLES[name] for name in self.names]}


def _split_scale(word: str) -> tuple[int, str]:
    """`B tokens` -> (10**9, `tokens`); `tokens` -> (1, `tokens`), whose t is no scale."""
    if word in _COUNTED or word in _SECONDS:
        return 1, word
    if word[0].lower() in _SCALE:
        return _SCALE[word[0].lower()], word[1:].lstrip()
    return 1, word
