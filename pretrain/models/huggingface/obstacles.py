"""What of a model a transformers class does not compute, found from the keys and values that the class needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from configs.errors import ConfigError
from pretrain.config.model import ModelConfig


@dataclass(frozen=True)
class Obstacle:
    """Why a transformers class does not compute what a model computes.

    Attributes:
        key: of the model's config, without `model.`.
        value: what it is.
        allowed: what it is in transformers, in words.
        beside: the keys with their values that do agree and were asked before.
        supported: all that the class asks for.
        met: how many keys that were asked before agree, also those that are left as they are in most models.
        unmet: how many keys do not agree, this one among them.
        is_one_of_several: whether the class asks for more keys than this.
    """

    key: str
    value: Any
    allowed: str
    beside: tuple[str, ...]
    supported: str
    met: int = 0
    unmet: int = 1
    is_one_of_several: bool = False

    def __str__(self) -> str:
        """The values that no class has together, such as `model.bias=true with model.normalization=RMSNorm`."""
        found = f"model.{self.key}={_spelled(self.value)}"
        if not self.beside:
            return f"{found} with all else as this model has it" if self.is_one_of_several else found
        return f"{' and '.join(f'model.{text}' for text in self.beside)} with {found}"

    def error(self, supported: Sequence[str]) -> ConfigError:
        """The refusal of an export; `supported` says what each candidate asks for."""
        beside = f" beside {', '.join(self.beside)}" if self.beside else ""
        return ConfigError(
            f"{_spelled(self.value)}{beside} has no counterpart in transformers (there it is {self.allowed})",
            where=f"model.{self.key}",
            expected="; ".join(supported),
        )


@dataclass(frozen=True)
class Need:
    """A key of the model's config and the values with which a transformers class computes the same.

    Attributes:
        key: without `model.`.
        allowed: any of these.
        why: said of them in brackets, such as `as many as heads`.
        is_usual: whether it is as in most models: then it is told only where it is not met.
    """

    key: str
    allowed: tuple[Any, ...]
    why: str = ""
    is_usual: bool = False

    @property
    def in_words(self) -> str:
        """The allowed values."""
        return " or ".join(map(_spelled, self.allowed)) + (f" ({self.why})" if self.why else "")


def first_obstacle(model: ModelConfig, model_type: str, needs: Sequence[Need]) -> Obstacle | None:
    """The first of `needs` that the model does not meet.

    Args:
        model: keys that are null count as what null stands for.
        model_type: of the class that has the needs.
        needs: what tells architectures apart first: of candidates with as many obstacles, the nearest agrees longest.
    """
    values = model.resolved()
    unmet = sum(values[need.key] not in need.allowed for need in needs)
    for number, need in enumerate(needs):
        if values[need.key] not in need.allowed:
            before = [met for met in needs[:number] if not met.is_usual]
            beside = tuple(f"{met.key}={_spelled(values[met.key])}" for met in before)
            told = [each for each in needs if not each.is_usual]
            supported = " + ".join(f"{each.key}={each.in_words}" for each in told) + f" ({model_type})"
            return Obstacle(need.key, values[need.key], need.in_words, beside, supported, number, unmet, len(needs) > 1)
    return None


def _spelled(value: Any) -> str:
    """As a recipe writes it."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
