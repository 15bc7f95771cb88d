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
    """

    key: str
    value: Any
    allowed: str
    beside: tuple[str, ...]
    supported: str

    def __str__(self) -> str:
        """The values that no class has together, such as `model.bias=true with model.normalization=RMSNorm`."""
        found = f"model.{self.key}={self.value}"
        return f"{' and '.join(f'model.{text}' for text in self.beside)} with {found}" if self.beside else found

    def error(self, supported: Sequence[str]) -> ConfigError:
        """The refusal of an export; `supported` says what each candidate asks for."""
        beside = f" beside {', '.join(self.beside)}" if self.beside else ""
        return ConfigError(
            f"{self.value!r}{beside} has no counterpart in transformers (there it is {self.allowed})",
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
    """

    key: str
    allowed: tuple[Any, ...]
    why: str = ""

    @property
    def in_words(self) -> str:
        """The allowed values."""
        return " or ".join(map(str, self.allowed)) + (f" ({self.why})" if self.why else "")


def first_obstacle(model: ModelConfig, model_type: str, needs: Sequence[Need]) -> Obstacle | None:
    """The first of `needs` that the model does not meet.

    Args:
        model: keys that are null count as what null stands for.
        model_type: of the class that has the needs.
        needs: what tells architectures apart first, so that the candidate that agrees longest is the nearest.
    """
    values = model.resolved()
    for number, need in enumerate(needs):
        if values[need.key] not in need.allowed:
            beside = tuple(f"{met.key}={values[met.key]}" for met in needs[:number])
            supported = " + ".join(f"{each.key}={each.in_words}" for each in needs) + f" ({model_type})"
            return Obstacle(need.key, values[need.key], need.in_words, beside, supported)
    return None
