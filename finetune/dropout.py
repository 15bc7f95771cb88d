"""Dropout of a pretrained model, by what the configs of transformers' families call it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from configs.errors import ConfigError

if TYPE_CHECKING:
    from finetune.pretrained import PretrainedModel

_NAMES = (
    *("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"),  # BERT and its kin
    *("resid_pdrop", "embd_pdrop", "attn_pdrop"),  # GPT-2, Phi
    *("attention_dropout", "hidden_dropout", "residual_dropout", "embedding_dropout", "mlp_dropout"),  # Llama and later
    *("dropout", "activation_dropout", "dropout_rate", "summary_last_dropout"),  # BART, T5, XLNet
)
KEY = "training.dropout"


def with_dropout(pretrained: PretrainedModel, rate: float) -> PretrainedModel:
    """The model with this rate in every kind of dropout that its config has a number for.

    Raises:
        ConfigError: its config has none.
    """
    import transformers

    from pretrain.models.huggingface.own_classes import is_own_class, register_own_classes

    given = dict(pretrained.hf_config)
    if is_own_class(given["model_type"]):
        register_own_classes()
    config = transformers.AutoConfig.for_model(**given)
    fields = [name for name in _NAMES if isinstance(getattr(config, name, None), float | int)]
    if not fields:
        raise ConfigError(
            f"is {rate}, and the config of {given['model_type']} has no dropout", where=KEY, expected="null"
        )
    return dataclasses.replace(pretrained, hf_config={**given, **dict.fromkeys(fields, rate)})


def refuse_equal_passes(network: Any, r_drop: float) -> None:
    """Refuse R-Drop where nothing drops out: its two passes would be the same.

    Raises:
        ConfigError: all rates are 0.
    """
    config = getattr(network, "config", None)
    rates = [getattr(config, name, None) for name in _NAMES]
    rates += [module.p for module in network.modules() if isinstance(getattr(module, "p", None), float)]
    if not any(isinstance(rate, float | int) and rate > 0 for rate in rates):
        raise ConfigError(
            f"is {r_drop}, and nothing of {type(network).__name__} drops out: both passes would be the same",
            where="training.r_drop",
            expected="training.dropout above 0, or 0",
        )


def check_dropout(network: Any, rate: float) -> None:
    """Refuse a rate that did not reach the network that a task built.

    Raises:
        ConfigError: the network has no config of transformers, or one without this rate.
    """
    config = getattr(network, "config", None)
    if not any(getattr(config, name, None) == rate for name in _NAMES):
        raise ConfigError(
            f"is {rate}, and {type(network).__name__} of this task takes no dropout from the pretrained model's config",
            where=KEY,
            expected="null",
        )
