"""Where a classifier reads a text: the poolings that transformers' classes have, by architecture."""

from __future__ import annotations

from typing import Any

from configs.errors import ConfigError
from finetune.pretrained import PretrainedModel

_FIRST = ("bert", "megatron-bert", "roberta", "modernbert")
_MEAN = ("modernbert",)


def poolings_of(pretrained: PretrainedModel) -> tuple[str, ...]:
    """The poolings of the architecture's `...ForSequenceClassification`, its usual one first."""
    kind = pretrained.hf_config["model_type"]
    if kind in _FIRST:
        return ("first", "mean") if kind in _MEAN else ("first",)
    return ("last",)


def pooling_fields(pretrained: PretrainedModel, pooling: str) -> dict[str, Any]:
    """The fields of transformers' config that ask for a pooling.

    Args:
        pretrained: the model.
        pooling: `last`, `first`, `mean`, or `auto` for the usual one.

    Raises:
        ConfigError: transformers has no class of this architecture that pools so; names those that it has.
    """
    known = poolings_of(pretrained)
    chosen = known[0] if pooling == "auto" else pooling
    kind = pretrained.hf_config["model_type"]
    if chosen not in known:
        raise ConfigError(
            f"is {pooling}, which transformers' classifier for {kind} cannot do",
            where="pooling",
            expected=f"auto or {' or '.join(known)}",
        )
    if kind in _MEAN:
        return {"classifier_pooling": {"first": "cls", "mean": "mean"}[chosen]}
    return {}
