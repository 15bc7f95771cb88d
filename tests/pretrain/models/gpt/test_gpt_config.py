"""What GPT declares: sizes as published, what its choices add to the table, what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from pretrain.models.gpt.config import GPTConfig
from pretrain.models.transformer_config import EMBEDDING, OUTPUT

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


def published(layers: int, width: int, heads: int, ffn: int, vocabulary: int, **choices: Any) -> GPTConfig:
    sizes = {"num_layers": layers, "hidden_size": width, "num_attention_heads": heads, "ffn_hidden_size": ffn}
    return GPTConfig(**sizes, vocab_size=vocabulary, vocab_multiple=1, seq_length=2048, **choices)


NEOX: dict[str, Any] = {"normalization": "LayerNorm", "activation": "gelu", "bias": True, "tie_embeddings": False}
GEMMA: dict[str, Any] = {"activation": "geglu_tanh", "norm_plus_one": True, "norm_placement": "both"}
GEMMA |= {"attention_head_size": 256, "sliding_window": 512, "global_every": 2}


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        (published(24, 896, 14, 4864, 151936, num_query_groups=2, attention_bias="qkv"), 494_032_768),
        (
            published(28, 1024, 16, 3072, 151936, num_query_groups=8, attention_head_size=128, qk_norm="head"),
            596_049_920,
        ),
        (
            published(32, 4096, 32, 14336, 32000, num_query_groups=8, tie_embeddings=False, sliding_window=4096),
            7_241_732_096,
        ),
        (published(12, 768, 12, 3072, 50304, **NEOX, residual="parallel", rotary_percent=0.25), 162_322_944),
        (
            published(32, 2560, 32, 10240, 51200, **NEOX, residual="parallel_one_norm", output_bias=True),
            2_779_683_840,
        ),
        (published(26, 2304, 8, 9216, 256000, **GEMMA, num_query_groups=4), 2_614_341_888),
        (published(26, 1152, 4, 6912, 262144, **GEMMA, num_query_groups=1, qk_norm="head"), 999_885_952),
        (
            published(16, 2048, 16, 8192, 100352, tie_embeddings=False, norm_placement="after", qk_norm="projection"),
            1_484_916_736,
        ),
    ],
    ids=["Qwen2 0.5B", "Qwen3 0.6B", "Mistral 7B", "Pythia 160M", "Phi-2", "Gemma 2 2B", "Gemma 3 1B", "OLMo 2 1B"],
)
def test_later_decoders_have_the_published_number_of_parameters(model: GPTConfig, parameters: int) -> None:
    assert model.num_parameters() == parameters


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
        ({"attention_head_size": 5}, "rotary positions need an even head size; attention_head_size is 5"),
        ({"hidden_size": 18}, "hidden_size 18 is not a multiple of num_attention_heads 4"),
        ({"rotary_percent": 0.25}, "rotates 1 elements of a head, expected an even number .* nearest is 0.5"),
        ({"global_every": 3}, "global_every is 3, and sliding_window is null"),
        ({"sliding_window": 4, "local_rotary_base": 100.0}, "all layers are local; set rotary_base, or global_every"),
        ({"position_embedding": "learned", "rotary_percent": 0.5}, "rotary_percent is set, .* position_embedding=rope"),
        ({"position_embedding": "learned", "embedding_scale": True}, "embedding_scale is true, .* expected rope"),
        ({"normalization": "LayerNorm", "qk_norm": "head"}, "qk_norm is of RMSNorm, .* or qk_norm=null"),
        (
            {"normalization": "LayerNorm", "norm_plus_one": True},
            "norm_plus_one is of RMSNorm, .* or norm_plus_one=false",
        ),
        ({"residual": "parallel", "norm_placement": "both"}, "residual is parallel, and norm_placement is both"),
        ({"rotary_scaling": {"kind": "yarn", "factor": 2}}, "original_seq_length is null, and kind yarn needs it"),
        (
            {"rotary_scaling": {"kind": "linear", "factor": 2, "beta_fast": 8.0}},
            "beta_fast is of kind yarn, and kind is linear; leave it out",
        ),
        (
            {"rotary_percent": 0.5, "rotary_scaling": {"kind": "yarn", "factor": 2, "original_seq_length": 4}},
            "rotary_scaling.kind is yarn, .* expected rotary_percent=1, or kind linear or llama3",
        ),
    ],
)
def test_heads_that_do_not_go_together_are_refused(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        GPTConfig(**(TINY | wrong))


def test_a_model_that_was_declared_before_its_later_choices_is_the_same_with_their_defaults() -> None:
    now = GPTConfig(**TINY).resolved()
    assert now["attention_head_size"] == now["query_scale"] == 4 and now["attention_bias"] == "none"
    written_out = {key: now[key] for key in ("attention_head_size", "query_scale", "attention_bias")}
    assert GPTConfig(**TINY, **written_out).resolved() == now


def test_windows_and_rotations_by_layer() -> None:
    model = GPTConfig(**(TINY | {"num_layers": 6}), sliding_window=4, global_every=3, local_rotary_base=100.0)
    assert [model.window(layer) for layer in range(6)] == [3, 3, None, 3, 3, None]
    assert [model.rotation(layer) for layer in range(6)] == [1, 1, 0, 1, 1, 0]
    everywhere = GPTConfig(**TINY, sliding_window=4)
    assert [everywhere.window(layer) for layer in range(2)] == [3, 3]
    # Two of 16 x 16 heads and widths: 12 d T for each layer, T being the sample or the window.
    assert GPTConfig(**TINY).attention_flops_per_token() == 12 * 16 * 2 * 8
    assert everywhere.attention_flops_per_token() == 12 * 16 * 2 * 4


def test_yarn_multiplies_the_scores_by_the_square_of_its_factor() -> None:
    scaling = {"kind": "yarn", "factor": 8, "original_seq_length": 4}
    model = GPTConfig(**TINY, rotary_scaling=scaling, query_scale=9)
    assert model.softmax_scale(0) == pytest.approx((0.1 * math.log(8) + 1) ** 2 / 3)
    assert GPTConfig(**TINY).softmax_scale(0) is None
