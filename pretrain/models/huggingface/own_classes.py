"""Classifiers that transformers has no class for: their names, and how transformers learns of ours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

_MODULE = "mean_pooling"
_STEMS: Mapping[str, str] = {"bert": "Bert", "megatron-bert": "MegatronBert", "roberta": "Roberta"}
_ENDING = "-mean-pooling"


def mean_pooling_fields(model_type: str) -> dict[str, Any]:
    """The config fields by which a classifier of an encoder reads the mean; empty where there is no class for it."""
    if model_type not in _STEMS:
        return {}
    stem = f"{_MODULE}.{_STEMS[model_type]}MeanPooling"
    classes = {"AutoConfig": f"{stem}Config", "AutoModelForSequenceClassification": f"{stem}ForSequenceClassification"}
    return {"model_type": model_type + _ENDING, "auto_map": classes}


def is_own_class(model_type: str) -> bool:
    """Whether a config's `model_type` is that of a class of ours."""
    return model_type.endswith(_ENDING) and model_type.removesuffix(_ENDING) in _STEMS


def own_class_file() -> Path:
    """The file that such a classifier's directory holds, too, for readers without this project."""
    return Path(__file__).with_name(f"{_MODULE}.py")


def register_own_classes() -> None:
    """Let transformers in this process know our classes, so that no code of a model's directory is needed, or run."""
    from transformers import AutoConfig, AutoModelForSequenceClassification

    from pretrain.models.huggingface import mean_pooling

    for model_type, stem in _STEMS.items():
        config = getattr(mean_pooling, f"{stem}MeanPoolingConfig")
        AutoConfig.register(model_type + _ENDING, config, exist_ok=True)
        model = getattr(mean_pooling, f"{stem}MeanPoolingForSequenceClassification")
        AutoModelForSequenceClassification.register(config, model, exist_ok=True)
