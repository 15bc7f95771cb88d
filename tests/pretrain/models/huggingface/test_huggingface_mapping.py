"""Our tensors <-> transformers: equal logits for every family, and the mistakes that the gate is there for."""

from __future__ import annotations

import pytest
import torch

from configs.errors import CheckpointError, ConfigError, DataError
from pretrain.models.gpt.config import GPTConfig
from pretrain.models.huggingface.family import counterpart_of, from_config, to_config
from pretrain.models.huggingface.transformers_model import model_from_tensors
from pretrain.models.huggingface.weights import from_hf, to_hf
from tests.finetune.finetune_oracle import oracle_logits, random_tensors

BASE = {"num_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "seq_length": 24}
BASE |= {"vocab_size": 101, "vocab_multiple": 16}
LLAMA = {"position_embedding": "rope", "normalization": "RMSNorm", "activation": "swiglu", "ffn_hidden_size": 48}
GPT2 = {"position_embedding": "learned", "normalization": "LayerNorm", "activation": "gelu_tanh", "bias": True}
STARCODER = {"position_embedding": "rope", "normalization": "LayerNorm", "activation": "gelu", "bias": True}

MODELS = {
    "llama": dict(LLAMA, num_query_groups=2, tie_embeddings=False, norm_epsilon=1e-6),
    "llama tied, one group": dict(LLAMA, num_query_groups=1, rotary_base=500.0),
    "llama heads = groups, bias": dict(LLAMA, bias=True),
    "gpt2": dict(GPT2, norm_epsilon=1e-3),
    "gpt2 untied, exact gelu": dict(GPT2, tie_embeddings=False, activation="gelu"),
    "gpt2 without bias": dict(GPT2, bias=False),
    "rope + LayerNorm": dict(STARCODER, num_query_groups=2, tie_embeddings=False),
    "rope + LayerNorm, no bias, tanh": dict(STARCODER, bias=False, activation="gelu_tanh"),
}


def config(name: str, **changes: object) -> GPTConfig:
    return GPTConfig(**(BASE | MODELS[name] | changes))  # type: ignore[arg-type]


def tokens(model: GPTConfig, batch: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randint(model.vocab_size, (batch, model.seq_length), generator=generator)


def difference(model: GPTConfig, ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    tokens_BS = tokens(model)
    expected = oracle_logits(model, ours, tokens_BS)[..., : model.vocab_size]
    with torch.no_grad():
        found = model_from_tensors(to_config(model), theirs)(tokens_BS).logits
    assert found.shape == expected.shape and found.dtype == torch.float32
    return float((found - expected).abs().max())


@pytest.mark.parametrize("name", MODELS)
def test_the_transformers_model_computes_what_ours_does(name: str) -> None:
    model = config(name)
    ours = random_tensors(model)
    assert difference(model, ours, dict(to_hf(ours, model))) < 1e-5


@pytest.mark.parametrize("name", MODELS)
def test_weights_and_config_come_back_unchanged(name: str) -> None:
    from transformers import AutoConfig

    model = config(name)
    ours = random_tensors(model)
    fields = to_config(model)
    theirs = dict(to_hf(ours, model))
    back = dict(from_hf(theirs, model))
    assert set(back) == set(ours) == {spec.name for spec in model.parameters()}
    for key, tensor in ours.items():
        kept = model.vocab_size if "word_embeddings" in key or "output_layer" in key else None
        assert torch.equal(back[key][:kept], tensor[:kept]), key
        assert back[key].shape == tensor.shape
    complete = AutoConfig.for_model(**fields).to_dict()
    again = from_config(complete)
    same = {"vocab_multiple", "ffn_hidden_size", "num_query_groups"} | ({"bias"} if "without bias" in name else set())
    assert again.model_dump(exclude=same) == model.model_dump(exclude=same)
    assert (again.ffn_size, again.query_groups) == (model.ffn_size, model.query_groups)


def test_padded_rows_stay_behind_and_are_zero_after_an_import() -> None:
    model = config("llama")
    theirs = dict(to_hf(random_tensors(model), model))
    assert theirs["model.embed_tokens.weight"].shape[0] == theirs["lm_head.weight"].shape[0] == 101
    back = dict(from_hf(theirs, model))
    assert back["output_layer.weight"].shape[0] == 112
    assert not back["output_layer.weight"][101:].any()


def swap_gate_and_up(theirs: dict[str, torch.Tensor]) -> None:
    gate, up = "model.layers.1.mlp.gate_proj.weight", "model.layers.1.mlp.up_proj.weight"
    theirs[gate], theirs[up] = theirs[up], theirs[gate]


def naive_qkv(theirs: dict[str, torch.Tensor]) -> None:
    names = [f"model.layers.0.self_attn.{x}_proj.weight" for x in "qkv"]
    model = config("llama")
    packed = random_tensors(model)["decoder.layers.0.self_attention.linear_qkv.weight"]
    for name, part in zip(names, packed.split([len(theirs[n]) for n in names])):
        theirs[name] = part


def interleaved_rotary(theirs: dict[str, torch.Tensor]) -> None:
    for x in "qk":
        name = f"model.layers.0.self_attn.{x}_proj.weight"
        rows = theirs[name].view(-1, 4, 2, 32)  # heads, half, pair, hidden
        theirs[name] = rows.transpose(1, 2).reshape(theirs[name].shape)


def one_weight(theirs: dict[str, torch.Tensor]) -> None:
    theirs["model.layers.1.mlp.down_proj.weight"][3, 4] += 0.02


@pytest.mark.parametrize("mistake", [swap_gate_and_up, naive_qkv, interleaved_rotary, one_weight])
def test_a_wrong_mapping_is_far_above_the_gate(mistake) -> None:
    model = config("llama")
    ours = random_tensors(model)
    theirs = {name: tensor.clone() for name, tensor in to_hf(ours, model)}
    mistake(theirs)
    assert difference(model, ours, theirs) > 1e-3


@pytest.mark.parametrize(
    ("name", "changes", "field"),
    [
        ("gpt2", {"normalization": "RMSNorm"}, "model.normalization"),
        ("gpt2", {"activation": "swiglu"}, "model.activation"),
        ("gpt2", {"num_query_groups": 2}, "model.num_query_groups"),
        ("llama", {"activation": "gelu"}, "model.activation"),
        ("rope + LayerNorm", {"activation": "swiglu"}, "model.activation"),
        ("llama", {"vocab_size": None}, "model.vocab_size"),
    ],
)
def test_a_model_without_counterpart_is_refused_by_its_field(name: str, changes: dict[str, object], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        to_config(config(name, **changes))
    assert str(caught.value.where) == field


def test_supported_combinations_have_a_family() -> None:
    assert [counterpart_of(config(name)).model_type for name in ("llama", "gpt2", "rope + LayerNorm")] == [
        "llama",
        "gpt2",
        "starcoder2",
    ]


def test_tensors_that_do_not_fit_the_config_are_named() -> None:
    model = config("llama")
    ours = random_tensors(model)
    gone = {k: v for k, v in ours.items() if k != "decoder.final_layernorm.weight"}
    with pytest.raises(CheckpointError, match=r"decoder\.final_layernorm\.weight: is missing"):
        dict(to_hf(gone, model))
    with pytest.raises(CheckpointError, match="extra"):
        dict(to_hf(ours | {"extra": torch.zeros(1)}, model))
    with pytest.raises(CheckpointError, match=r"\(32, 47\)"):
        dict(to_hf(ours | {"decoder.layers.0.mlp.linear_fc2.weight": torch.zeros(32, 47)}, model))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model_type": "mamba"}, "mamba"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, "yarn"),
        ({"head_dim": 16}, "head_dim"),
        ({"hidden_act": "relu"}, "relu"),
        ({"mlp_bias": True}, "mlp_bias"),
    ],
)
def test_foreign_features_are_refused_on_import(change: dict[str, object], named: str) -> None:
    fields = to_config(config("llama")) | change
    with pytest.raises(DataError, match=named):
        from_config(fields)
