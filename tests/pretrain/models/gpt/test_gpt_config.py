"""What GPT declares: sizes as published, what its choices add to the table, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from pretrain.models.gpt.config import EMBEDDING, OUTPUT, GPTConfig

GPT2: dict[str, Any] = {
    "position_embedding": "learned",
    "normalization": "LayerNorm",
    "activation": "gelu_tanh",
    "bias": True,
    "vocab_size": 50257,
    "vocab_multiple": 1,
    "seq_length": 1024,
}
LLAMA: dict[str, Any] = {"tie_embeddings": False, "vocab_size": 32000, "vocab_multiple": 1, "seq_length": 2048}
TINY: dict[str, Any] = {"num_layers": 2, "hidden_size": 16, "num_attention_heads": 4, "seq_length": 8, "vocab_size": 32}


def names(**choices: Any) -> set[str]:
    return {spec.name for spec in GPTConfig(**(TINY | choices)).parameters()}


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        # As the papers' models have them: GPT2LMHeadModel and LlamaForCausalLM, counted with transformers.
        (GPTConfig(num_layers=12, hidden_size=768, num_attention_heads=12, **GPT2), 124_439_808),
        (GPTConfig(num_layers=48, hidden_size=1600, num_attention_heads=25, **GPT2), 1_557_611_200),
        (
            GPTConfig(num_layers=32, hidden_size=4096, num_attention_heads=32, ffn_hidden_size=11008, **LLAMA),
            6_738_415_616,
        ),
        (
            GPTConfig(
                num_layers=22,
                hidden_size=2048,
                num_attention_heads=32,
                num_query_groups=4,
                ffn_hidden_size=5632,
                **LLAMA,
            ),
            1_100_048_384,
        ),
    ],
    ids=["GPT-2", "GPT-2 XL", "Llama 2 7B", "TinyLlama 1.1B"],
)
def test_published_sizes_have_the_published_number_of_parameters(model: GPTConfig, parameters: int) -> None:
    assert model.num_parameters() == parameters


def test_each_choice_adds_the_parameters_that_it_means() -> None:
    plain = names()
    assert names(tie_embeddings=False) - plain == {OUTPUT}
    assert names(position_embedding="learned") - plain == {"embedding.position_embeddings.weight"}
    norms = names(normalization="LayerNorm") - plain
    assert len(norms) == 2 * TINY["num_layers"] + 1 and all(name.endswith("norm.bias") for name in norms)
    linear = names(bias=True) - plain
    assert len(linear) == 4 * TINY["num_layers"] and all(name.endswith(".bias") for name in linear)


def test_the_tied_table_stands_at_both_ends() -> None:
    (tied,) = (spec for spec in GPTConfig(**TINY).parameters() if spec.name == EMBEDDING)
    assert (tied.holder, tied.local_names) == ("ends", (OUTPUT,))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"num_query_groups": 3}, "num_attention_heads 4 is not a multiple of num_query_groups 3"),
        ({"hidden_size": 12}, "rotary positions need an even head size; hidden_size / heads is 3"),
    ],
)
def test_heads_that_do_not_go_together_are_refused(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        GPTConfig(**(TINY | wrong))
