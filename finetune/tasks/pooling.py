"""Where a classifier reads a text: the poolings that transformers' class of an architecture has, and ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from configs.errors import ConfigError
from finetune.pretrained import PretrainedModel
from pretrain.models.huggingface.own_classes import mean_pooling_fields


def pooling_fields(pretrained: PretrainedModel, pooling: str) -> dict[str, Any]:
    """The fields of transformers' config that ask for a pooling.

    Where transformers' class of an encoder cannot take the mean, a class of ours does; `auto` never chooses that one,
    since readers of the saved directory have to allow its code.

    Args:
        pretrained: the model.
        pooling: `last`, `first`, `mean`, or `auto` for the usual one of the class.

    Raises:
        ConfigError: there is no class of this architecture that pools so; names what there is.
    """
    known = pretrained.poolings
    if pooling == "auto":
        return dict(known.get(_usual(pretrained), {}))
    kind = pretrained.hf_config["model_type"]
    # A decoder of the same type would see nothing but what is before a token.
    own = mean_pooling_fields(kind) if pretrained.is_encoder and "mean" not in known else {}
    if own:
        known = {**known, "mean": own}
    if pooling not in known:
        what = "cannot do" if known else "is not known to do (it is none of ours)"
        raise ConfigError(
            f"is {pooling}, which transformers' classifier for {kind} {what}",
            where="pooling",
            expected=" or ".join(["auto", *known]),
        )
    return dict(known[pooling])


def pooling_warnings(pretrained: PretrainedModel, pooling: str) -> Iterator[str]:
    """What is odd about a pooling that is possible, a sentence each."""
    chosen = _usual(pretrained) if pooling == "auto" else pooling
    if chosen == "first" and pretrained.is_encoder and not pretrained.puts_special_tokens:
        yield (
            f"{pretrained.path} was pretrained without special tokens, so that no classification token begins a text:"
            f" pooling={pooling} classifies it by the first piece of its first word; pooling=mean reads all tokens"
        )


def _usual(pretrained: PretrainedModel) -> str:
    """The pooling that `auto` is; empty for an architecture that is none of ours."""
    # Without special tokens in training, the first token of a text is a word like any other.
    if pretrained.is_encoder and not pretrained.puts_special_tokens and "mean" in pretrained.poolings:
        return "mean"
    return next(iter(pretrained.poolings), "")
