"""Where a classifier reads a text by default, and what tells an encoder: facts of the family, without a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from configs.errors import ConfigError
from finetune.pretrained import PretrainedModel
from finetune.tasks.pooling import pooling_fields, pooling_warnings
from pretrain.models.huggingface.family import HUGGING_FACE_FAMILIES, load_family


def pretrained(model_type: str, architecture: str, **changes: Any) -> PretrainedModel:
    config = {"model_type": model_type, "architectures": [architecture]}
    family = load_family(model_type) if model_type in HUGGING_FACE_FAMILIES else None
    return PretrainedModel(Path("model"), config, {}, None, 8, {}, family, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("model_type", "architecture", "is_encoder"),
    [
        ("llama", "LlamaForCausalLM", False),
        ("bert", "BertForMaskedLM", True),
        ("bert", "BertForPreTraining", True),
        ("bert", "BertLMHeadModel", False),  # a class of the type that the family does not have: a decoder
        ("megatron-bert", "MegatronBertForPreTraining", True),
        ("distilbert", "DistilBertForMaskedLM", True),
        ("mistral", "MistralForCausalLM", False),
    ],
)
def test_encoders_are_told_by_their_family_and_others_by_their_class(
    model_type: str, architecture: str, is_encoder: bool
) -> None:
    assert pretrained(model_type, architecture).is_encoder is is_encoder


@pytest.mark.parametrize("name", HUGGING_FACE_FAMILIES)
def test_every_family_says_what_its_classes_are(name: str) -> None:
    family = load_family(name)
    heads = set(family.classes) - {"classification"}
    assert family.model_type == name
    assert [family.sees_both_sides, "causal" in heads, heads == {"conditional"}].count(True) == 1


def test_auto_is_the_mean_only_for_encoders_without_special_tokens_whose_class_can() -> None:
    def auto(*model: str, **changes: Any) -> dict[str, Any]:
        return pooling_fields(pretrained(*model, **changes), "auto")

    modern = ("modernbert", "ModernBertForMaskedLM")
    assert auto(*modern) == {"classifier_pooling": "cls"}
    assert auto(*modern, puts_special_tokens=False) == {"classifier_pooling": "mean"}
    for model in (("bert", "BertForMaskedLM"), ("llama", "LlamaForCausalLM")):
        assert auto(*model) == auto(*model, puts_special_tokens=False) == {}
    with pytest.raises(ConfigError, match="which transformers' classifier for bert cannot do"):
        pooling_fields(pretrained("bert", "BertForMaskedLM"), "last")
    with pytest.raises(ConfigError, match=r"expected: auto or first$"):  # a decoder of the type
        pooling_fields(pretrained("bert", "BertLMHeadModel"), "mean")


def test_the_first_word_piece_is_read_only_with_a_warning() -> None:
    def warned(*model: str, pooling: str, **changes: Any) -> bool:
        found = list(pooling_warnings(pretrained(*model, **changes), pooling))
        assert all("without special tokens" in text and "pooling=mean" in text for text in found)
        return bool(found)

    modern, bert = ("modernbert", "ModernBertForMaskedLM"), ("bert", "BertForMaskedLM")
    assert warned(*modern, pooling="first", puts_special_tokens=False)
    assert warned(*bert, pooling="auto", puts_special_tokens=False)
    assert not warned(*modern, pooling="auto", puts_special_tokens=False)
    assert not warned(*bert, pooling="mean", puts_special_tokens=False)
    assert not warned(*modern, pooling="first") and not warned(*bert, pooling="auto")
    assert not warned("llama", "LlamaForCausalLM", pooling="auto", puts_special_tokens=False)
