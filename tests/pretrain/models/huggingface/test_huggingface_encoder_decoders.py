"""T5, BART and mBART: transformers' classes compute what ours do, both ways; wrong mappings are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from configs.errors import CheckpointError, ConfigError, DataError
from pretrain.models.encoder_decoder.bart_config import BartConfig
from pretrain.models.encoder_decoder.config import EncoderDecoderConfig
from pretrain.models.encoder_decoder.t5_config import T5Config
from pretrain.models.huggingface.config_fields import RoleIds
from pretrain.models.huggingface.family import class_name, counterpart_of, from_config, obstacle_to_export, to_config
from pretrain.models.huggingface.logit_check import PADDING_SEGMENT, check_rows, compare, require
from pretrain.models.huggingface.transformers_model import (
    add_older_spellings,
    load_pretrained,
    model_from_tensors,
)
from pretrain.models.huggingface.weights import from_hf, to_hf

pytest.importorskip("transformers")

IDS = RoleIds(end_of_document=1, pad=2, mask=3, classification=4, separator=5)
SIZES: dict[str, Any] = {
    "num_layers": 2,
    "num_decoder_layers": 3,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "ffn_hidden_size": 48,
    "seq_length": 24,
    "decoder_seq_length": 20,
    "vocab_size": 96,
    "vocab_multiple": 64,
}
T5_SIZES = SIZES | {"attention_head_size": 6, "relative_buckets": 8, "relative_max_distance": 14}
MODELS: dict[str, EncoderDecoderConfig] = {
    "t5": T5Config(**T5_SIZES, activation="relu", tie_embeddings=True),
    "t5 1.1": T5Config(**T5_SIZES),
    "t5 gated by silu": T5Config(**T5_SIZES, activation="swiglu"),
    "bart": BartConfig(**SIZES),
    "bart with an output bias": BartConfig(**SIZES, output_bias=True, activation="gelu_tanh"),
    "mbart": BartConfig(**SIZES, norm_placement="pre", scale_embedding=True, activation="relu"),
}
CLASSES = {
    "t5": "T5ForConditionalGeneration",
    "t5 1.1": "T5ForConditionalGeneration",
    "bart": "BartForConditionalGeneration",
    "mbart": "MBartForConditionalGeneration",
}
Tensors = dict[str, torch.Tensor]
Fields = dict[str, Any]


def random_tensors(model: EncoderDecoderConfig) -> Tensors:
    generator = torch.Generator().manual_seed(11)
    tensors = {}
    for spec in model.parameters():
        drawn = torch.randn(spec.shape, generator=generator)
        large = spec.name in ("embedding.word_embeddings.weight", "output_layer.weight") or "relative" in spec.name
        tensors[spec.name] = drawn * (0.6 if large else 0.15) + ("norm.weight" in spec.name)
    return tensors


@pytest.mark.parametrize("name", MODELS)
def test_the_transformers_model_computes_what_ours_does(name: str) -> None:
    model = MODELS[name]
    ours = random_tensors(model)
    theirs = model_from_tensors(to_config(model, IDS), dict(to_hf(ours, model, IDS)))
    agreement = compare(model, ours, theirs, check_rows(model, list(range(6, 16)), 2, 0, IDS))
    assert agreement.largest_logit > 1 and agreement.largest_difference < 1e-5
    assert agreement.outputs == ("logits",)


@pytest.mark.parametrize("name", CLASSES)
def test_a_model_of_transformers_is_computed_by_ours(name: str) -> None:
    """A config and weights that transformers made itself."""
    import transformers

    config = transformers.AutoConfig.for_model(**to_config(MODELS[name], IDS))
    torch.manual_seed(3)
    theirs = getattr(transformers, CLASSES[name])(config).eval()
    if name == "t5 1.1":
        theirs.lm_head.weight = torch.nn.Parameter(torch.zeros_like(theirs.lm_head.weight))
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    model = from_config(config.to_dict())
    assert isinstance(model, EncoderDecoderConfig) and class_name(model) == CLASSES[name]
    ids = RoleIds.of(config.to_dict())
    tensors = dict(from_hf(theirs.state_dict(), model, ids))
    assert set(tensors) == {spec.name for spec in model.parameters()}
    agreement = compare(model, tensors, theirs, check_rows(model, [], 2, 1, ids))
    assert agreement.largest_logit > 0.5 and agreement.largest_difference < 2e-5


@pytest.mark.parametrize("name", MODELS)
def test_weights_and_config_come_back_unchanged(name: str) -> None:
    from transformers import AutoConfig

    model = MODELS[name]
    ours = random_tensors(model)
    back = dict(from_hf(dict(to_hf(ours, model, IDS)), model, IDS))
    assert set(back) == set(ours)
    for key, tensor in ours.items():
        by_token = "word_embeddings" in key or key.startswith("output_layer")
        kept = slice(model.vocab_size if by_token else None)
        assert torch.equal(back[key][kept], tensor[kept]) and back[key].shape == tensor.shape, key
    again = from_config(AutoConfig.for_model(**to_config(model, IDS)).to_dict())
    unsaid = {"vocab_multiple", "decoder_seq_length", "output_bias"}
    assert again.model_dump(exclude=unsaid) == model.model_dump(exclude=unsaid)


@pytest.mark.parametrize("name", ["t5", "t5 1.1"])
def test_a_written_t5_is_reloaded_with_its_own_output_layer(name: str, tmp_path: Path) -> None:
    """transformers 5 says of every T5 that it is tied: what counts is what a reader gets."""
    from transformers import AutoConfig

    model = MODELS[name]
    ours = random_tensors(model)
    fields = to_config(model, IDS)
    model_from_tensors(fields, dict(to_hf(ours, model, IDS))).save_pretrained(tmp_path)
    AutoConfig.for_model(**fields).save_pretrained(tmp_path)
    add_older_spellings(tmp_path)
    reloaded = load_pretrained(tmp_path)
    assert compare(model, ours, reloaded, check_rows(model, [], 1, 0, IDS)).largest_difference < 1e-5
    is_tied = model.ties_output
    assert (reloaded.lm_head.weight is reloaded.shared.weight) == is_tied
    # What a reader of version 4 goes by.
    assert json.loads((tmp_path / "config.json").read_text())["tie_word_embeddings"] == is_tied
    assert from_config(reloaded.config.to_dict()).model_dump()["tie_embeddings"] == is_tied


def test_the_rows_of_the_check_show_padding_and_a_decoder() -> None:
    rows = check_rows(MODELS["bart"], [50, 51], 2, 0, IDS)
    assert rows.tokens_BS.shape == (4, 24) and rows.segment_ids_BS is not None
    assert [sorted(set(row.tolist())) for row in rows.segment_ids_BS] == [[0], [0], [-1, 0], [0]]
    assert torch.equal(rows.tokens_BS == IDS.pad, rows.segment_ids_BS == PADDING_SEGMENT)
    decoder = rows.extras["decoder_tokens_BT"]
    assert decoder.shape == (4, 20) and set(decoder[:, 0].tolist()) == {IDS.separator}
    assert set(check_rows(MODELS["t5"], [], 2, 0, IDS).extras["decoder_tokens_BT"][:, 0].tolist()) == {IDS.pad}


def scaling_left_out(fields: Fields, theirs: Tensors, ours: Tensors) -> None:
    fields["tie_word_embeddings"] = False


def scaled_though_untied(fields: Fields, theirs: Tensors, ours: Tensors) -> None:
    fields["tie_word_embeddings"] = True


def exact_gelu(fields: Fields, theirs: Tensors, ours: Tensors) -> None:
    fields["feed_forward_proj"] = "gated-gelu_python"


def gate_and_up_swapped(fields: Fields, theirs: Tensors, ours: Tensors) -> None:
    one, other = (f"decoder.block.1.layer.2.DenseReluDense.wi_{n}.weight" for n in (0, 1))
    theirs[one], theirs[other] = theirs[other], theirs[one]


def fewer_buckets(fields: Fields, theirs: Tensors, ours: Tensors) -> None:
    fields["relative_attention_max_distance"] = 9


def tables_swapped(fields: Fields, theirs: Tensors, ours: Tensors) -> None:
    one, other = (f"{s}.block.0.layer.0.SelfAttention.relative_attention_bias.weight" for s in ("encoder", "decoder"))
    theirs[one], theirs[other] = theirs[other], theirs[one]


def naive_keys_and_values(fields: Fields, theirs: Tensors, ours: Tensors) -> None:
    packed = ours["decoder.layers.1.cross_attention.linear_kv.weight"]
    for name, part in zip("kv", packed.chunk(2)):
        theirs[f"decoder.block.1.layer.1.EncDecAttention.{name}.weight"] = part


def positions_off_by_one(fields: Fields, theirs: Tensors, ours: Tensors) -> None:
    theirs["model.decoder.embed_positions.weight"] = theirs["model.decoder.embed_positions.weight"].roll(1, 0)


def norms_swapped(fields: Fields, theirs: Tensors, ours: Tensors) -> None:
    one, other = (f"model.decoder.layers.0.{n}_layer_norm.weight" for n in ("self_attn", "encoder_attn"))
    theirs[one], theirs[other] = theirs[other], theirs[one]


def embedding_not_scaled(fields: Fields, theirs: Tensors, ours: Tensors) -> None:
    fields["scale_embedding"] = False


def output_bias_missing(fields: Fields, theirs: Tensors, ours: Tensors) -> None:
    theirs["final_logits_bias"] = torch.zeros_like(theirs["final_logits_bias"])


MISTAKES: list[tuple[str, Callable[[Fields, Tensors, Tensors], None]]] = [
    ("t5", scaling_left_out),
    ("t5 1.1", scaled_though_untied),
    ("t5 1.1", exact_gelu),
    ("t5 1.1", gate_and_up_swapped),
    ("t5 1.1", fewer_buckets),
    ("t5", tables_swapped),
    ("t5", naive_keys_and_values),
    ("bart", positions_off_by_one),
    ("bart", norms_swapped),
    ("mbart", embedding_not_scaled),
    ("bart with an output bias", output_bias_missing),
]


@pytest.mark.parametrize(("name", "mistake"), MISTAKES, ids=[mistake.__name__ for _, mistake in MISTAKES])
def test_a_wrong_mapping_is_refused(name: str, mistake: Callable[[Fields, Tensors, Tensors], None]) -> None:
    model = MODELS[name]
    ours = random_tensors(model)
    fields, theirs = to_config(model, IDS), {key: value.clone() for key, value in to_hf(ours, model, IDS)}
    mistake(fields, theirs, ours)
    agreement = compare(model, ours, model_from_tensors(fields, theirs), check_rows(model, [], 2, 0, IDS))
    with pytest.raises(CheckpointError, match="nothing was written"):
        require(agreement, Path("run"))


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (T5Config(**T5_SIZES, bias=True), "model.normalization=RMSNorm with model.bias=true"),
        (T5Config(**T5_SIZES, normalization="LayerNorm"), "model.normalization=LayerNorm"),
        (BartConfig(**SIZES, norm_epsilon=1e-6), "with model.norm_epsilon=1e-06"),
        (BartConfig(**SIZES, bias=False), "with model.bias=false"),
    ],
)
def test_what_has_no_counterpart_is_told(model: EncoderDecoderConfig, text: str) -> None:
    assert text in str(obstacle_to_export(model))
    with pytest.raises(ConfigError, match="has no counterpart in transformers"):
        counterpart_of(model)


@pytest.mark.parametrize(
    ("name", "change", "named"),
    [
        ("t5", {"feed_forward_proj": "gated-relu"}, "gated-relu"),
        ("t5", {"is_encoder_decoder": False}, "is_encoder_decoder"),
        ("bart", {"tie_word_embeddings": False}, "tie_word_embeddings"),
        ("bart", {"decoder_ffn_dim": 7}, "decoder_ffn_dim"),
        ("mbart", {"encoder_layerdrop": 0.1}, "encoder_layerdrop"),
        ("bart", {"activation_function": "silu"}, "silu"),
    ],
)
def test_foreign_features_are_refused_on_import(name: str, change: Fields, named: str) -> None:
    with pytest.raises(DataError, match=named):
        from_config(to_config(MODELS[name], IDS) | change)


def test_a_bias_of_the_logits_is_not_lost_on_import() -> None:
    model = MODELS["bart"]
    theirs = dict(to_hf(random_tensors(model), model, IDS))
    theirs["final_logits_bias"] = torch.ones_like(theirs["final_logits_bias"])
    with pytest.raises(CheckpointError, match="is not zero"):
        dict(from_hf(theirs, model, IDS))
