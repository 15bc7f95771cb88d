"""What the encoder-decoders declare: sizes as published, initial values, operations, what is refused."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from pretrain.config.kinds import FAMILIES
from pretrain.models.encoder_decoder.bart_config import BartConfig
from pretrain.models.encoder_decoder.config import EncoderDecoderConfig
from pretrain.models.encoder_decoder.t5_config import T5Config
from pretrain.models.initial_values import InitialValues
from pretrain.models.initialization import sharded_shape
from pretrain.models.parameter_table import Normal, NormalByRows
from pretrain.objectives.causal_config import CausalConfig
from pretrain.objectives.masked_config import MaskedConfig

BASE: dict[str, Any] = {"num_layers": 12, "hidden_size": 768, "num_attention_heads": 12, "seq_length": 512}
FIRST: dict[str, Any] = {"activation": "relu", "tie_embeddings": True}
VOCABULARY: dict[str, Any] = {"vocab_size": 32128, "vocab_multiple": 1}
ELEVEN: dict[str, Any] = FIRST | {
    "num_layers": 24,
    "hidden_size": 1024,
    "num_attention_heads": 128,
    "attention_head_size": 128,
    "ffn_hidden_size": 65536,
    "seq_length": 512,
}
BART_BASE = BASE | {"num_layers": 6, "seq_length": 1024}


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        # Counted with transformers; of version 1.1 with its own output layer.
        (T5Config(**BASE, **FIRST, **VOCABULARY), 222_903_552),
        (T5Config(**BASE, ffn_hidden_size=2048, **VOCABULARY), 247_577_856),
        (T5Config(**ELEVEN, **VOCABULARY), 11_307_321_344),
        (BartConfig(**BART_BASE, vocab_size=50265, vocab_multiple=1), 139_420_416),
    ],
    ids=["t5-base", "t5-v1_1-base", "t5-11b", "bart-base"],
)
def test_published_sizes_have_the_published_number_of_parameters(model: EncoderDecoderConfig, parameters: int) -> None:
    assert model.num_parameters() == parameters


def stds_of(model: EncoderDecoderConfig) -> dict[str, Any]:
    return {spec.name: spec.init for spec in model.parameters() if isinstance(spec.init, Normal)}


def test_initial_values_of_t5_are_those_of_mesh_tensorflow() -> None:
    model = T5Config(**BASE, attention_head_size=64, ffn_hidden_size=2048, vocab_size=100)
    found = stds_of(model)
    width, inner = 768**-0.5, (12 * 64) ** -0.5
    layer = "decoder.layers.3."
    qkv = found[f"{layer}self_attention.linear_qkv.weight"]
    assert isinstance(qkv, NormalByRows) and qkv.run_rows == 64
    assert qkv.run_stds == pytest.approx(((768 * 64) ** -0.5, width, width))
    expected = {
        "embedding.word_embeddings.weight": 1.0,
        "decoder_relative_bias.table.weight": width,
        f"{layer}self_attention.linear_proj.weight": inner,
        f"{layer}cross_attention.linear_q.weight": (768 * 64) ** -0.5,
        f"{layer}cross_attention.linear_kv.weight": width,
        f"{layer}cross_attention.linear_proj.weight": inner,
        f"{layer}mlp.linear_fc1.weight": width,
        f"{layer}mlp.linear_fc2.weight": 2048**-0.5,
        "output_layer.weight": width,
    }
    assert {name: found[name].std for name in expected} == pytest.approx(expected)
    assert {init.std for init in stds_of(BartConfig(**BASE, vocab_size=100)).values()} == {0.02}


def test_queries_keys_and_values_are_drawn_with_their_own_deviations_on_every_rank() -> None:
    model = T5Config(**BASE | {"hidden_size": 256, "num_attention_heads": 4}, attention_head_size=64, vocab_size=100)
    name = "encoder.layers.0.self_attention.linear_qkv.weight"
    spec = next(spec for spec in model.parameters() if spec.name == name)
    fill = InitialValues(7)

    def drawn(rank: int, size: int) -> torch.Tensor:
        shape = sharded_shape(spec, rank, size)
        part = torch.empty(shape.local_shape)
        fill(spec, shape, 0, part.numel(), part.view(-1))
        return part

    whole = drawn(0, 1)
    stds = whole.view(4, 3, 64, 256).std((0, 2, 3)).tolist()
    assert stds == pytest.approx(list(spec.init.run_stds), rel=0.02)  # type: ignore[union-attr]
    assert torch.equal(torch.cat([drawn(0, 2), drawn(1, 2)]), whole)


def test_operations_count_each_stack_by_what_it_reads() -> None:
    sizes = {"num_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "vocab_size": 128}
    model = T5Config(**sizes, **FIRST, seq_length=32, decoder_seq_length=8, num_decoder_layers=1)
    attention, mlp, table = 4 * 64 * 64, 2 * 64 * 256, 128 * 64
    encoder = 2 * (attention + mlp) + 5 * 64
    keys_and_values = 2 * 64 * 64
    decoder = attention + (attention - keys_and_values) + mlp + 4 * 64
    scores = 12 * 64 * (2 * 32 * 32 + 8 * 8 + 8 * 32)
    per_sample = 6 * (32 * (encoder + keys_and_values) + 8 * (decoder + table)) + scores
    assert model.flops_per_token() * 32 == pytest.approx(per_sample)


def test_null_lengths_and_layers_are_those_of_the_encoder() -> None:
    plain = T5Config(**BASE, vocab_size=100)
    assert (plain.decoder_layers, plain.target_length, plain.head_size) == (12, 512, 64)
    said = T5Config(**BASE, vocab_size=100, num_decoder_layers=12, decoder_seq_length=512, attention_head_size=64)
    assert plain.resolved() == said.resolved()
    long_targets = BartConfig(**BASE, vocab_size=100, decoder_seq_length=600)
    assert long_targets.num_positions == 602


def test_norms_stand_where_the_placement_says() -> None:
    post, pre = (BartConfig(**BASE, vocab_size=100, norm_placement=p) for p in ("post", "pre"))
    post_names, pre_names = ({spec.name for spec in model.parameters()} for model in (post, pre))
    assert pre_names - post_names == {
        f"{s}.final_layernorm.{p}" for s in ("encoder", "decoder") for p in ("weight", "bias")
    }
    assert post_names < pre_names and "embedding.decoder.norm.weight" in post_names


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"hidden_size": 770}, "hidden_size 770 is not a multiple of num_attention_heads 12; expected"),
        ({"relative_buckets": 30}, "relative_buckets 30 is not a multiple of 4"),
        ({"relative_max_distance": 16}, "relative_max_distance 16 is not above relative_buckets / 2, 16"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(keys: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        T5Config(**BASE | keys, vocab_size=100)
    assert T5Config(**BASE | {"hidden_size": 770}, attention_head_size=64, vocab_size=100).inner_size == 768


def test_objectives_of_one_stack_are_refused() -> None:
    model = T5Config(**BASE, vocab_size=100)
    assert any("has no target for the decoder of model.name=t5" in text for text in MaskedConfig().problems(model))
    assert CausalConfig().problems(model)


def test_rates_of_dropout_that_transformers_cannot_tell_apart_are_noted() -> None:
    rates = {"hidden_dropout": 0.1, "attention_dropout": 0.1, "activation_dropout": 0.1}
    assert T5Config(**BASE, vocab_size=100, **rates).notes() == []
    (note,) = T5Config(**BASE, vocab_size=100, hidden_dropout=0.1).notes()
    assert "attention_dropout 0" in note


def test_rows_have_their_own_deviation_again_and_again() -> None:
    init = NormalByRows(1.0, run_rows=2, run_stds=(1.0, 2.0, 3.0))
    assert np.array([init.std_of_row(row) for row in range(8)]).tolist() == [1, 1, 2, 2, 3, 3, 1, 1]


def test_declarations_import_no_torch() -> None:
    modules = ", ".join({FAMILIES.targets[name].split(":")[0] for name in ("t5", "bart")})
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
