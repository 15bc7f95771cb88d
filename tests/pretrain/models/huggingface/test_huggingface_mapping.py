"""Our tensors <-> transformers: equal logits for every family, and the mistakes that the logit check is there for."""

from __future__ import annotations

import subprocess
import sys
from typing import ClassVar

import pytest
import torch

from configs.errors import CheckpointError, ConfigError, DataError
from pretrain.models.gpt.config import GPTConfig
from pretrain.models.huggingface.decoder_family import USUAL
from pretrain.models.huggingface.family import (
    class_name,
    counterpart_of,
    from_config,
    load_family,
    obstacle_to_export,
    sees_both_sides,
    to_config,
)
from pretrain.models.huggingface.llama import Llama
from pretrain.models.huggingface.obstacles import Need, Obstacle, first_obstacle
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
def test_a_wrong_mapping_is_far_above_the_tolerance(mistake) -> None:
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
        ({"rope_parameters": {"rope_type": "longrope", "factor": 4.0}}, "longrope"),
        ({"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ({"hidden_act": "relu"}, "relu"),
        ({"pretraining_tp": 2}, "pretraining_tp"),
    ],
)
def test_foreign_features_are_refused_on_import(change: dict[str, object], named: str) -> None:
    fields = to_config(config("llama")) | change
    with pytest.raises(DataError, match=named):
        from_config(fields)


def test_every_choice_of_gpt_is_an_obstacle_until_a_class_computes_it() -> None:
    sizes = {"name", "num_layers", "hidden_size", "seq_length", "init_std", "init_cutoff", "vocab_size"}
    sizes |= {"vocab_multiple", "num_attention_heads", "num_query_groups", "ffn_hidden_size", "norm_epsilon"}
    sizes |= {"hidden_dropout", "attention_dropout"}
    asked = {"position_embedding", "normalization", "activation", "attention_bias", "attention_head_size"}
    asked |= {"query_scale"}
    # Every class with rotary positions has these; `bias` is asked of the classes that do not choose.
    everywhere = {"rotary_base", "rotary_scaling", "tie_embeddings", "bias"}
    folded = {"base_hidden_size", "base_head_size"}  # `weights.py` folds them into the weights, or refuses
    assert set(GPTConfig.model_fields) == sizes | asked | everywhere | folded | set(USUAL)
    defaults = GPTConfig(**BASE).resolved()  # type: ignore[arg-type]
    assert {key: defaults[key] for key in USUAL} == dict(USUAL)


class ToyConfig(GPTConfig):
    """A family of somebody's module, with a counterpart of somebody's module."""

    name: str = f"{__name__}:ToyConfig"
    huggingface: ClassVar[tuple[str, ...]] = (f"{__name__}:ToyLlama",)


class ToyLlama(Llama):
    """Finds an obstacle in long models."""

    def obstacle(self, model: GPTConfig) -> Obstacle | None:
        return first_obstacle(model, "toy", [Need("seq_length", (24, 48), "short")]) or super().obstacle(model)


def test_a_foreign_family_names_its_own_counterpart() -> None:
    model = ToyConfig(**(BASE | MODELS["llama"]))  # type: ignore[arg-type]
    ours = random_tensors(model)
    assert type(counterpart_of(model)).__name__ == "ToyLlama" and obstacle_to_export(model) is None
    assert difference(model, ours, dict(to_hf(ours, model))) < 1e-5
    long = ToyConfig(**(BASE | MODELS["llama"] | {"seq_length": 96}))  # type: ignore[arg-type]
    assert obstacle_to_export(long) == "model.seq_length=96"
    with pytest.raises(ConfigError, match=r"model\.seq_length: 96 has no counterpart.*24 or 48 \(short\)"):
        to_config(long)


class HeadedLlama(Llama):
    """Was pretrained with a head of its own name."""

    classes = {"next_word": "LlamaForCausalLM"}

    def head(self, model: GPTConfig) -> str:
        return "next_word" if model.num_layers < 3 else "next_sentence"


class HeadedConfig(GPTConfig):
    """Is exported as that."""

    huggingface: ClassVar[tuple[str, ...]] = (f"{__name__}:HeadedLlama",)


def test_a_foreign_family_has_heads_of_its_own_and_is_read_by_its_name() -> None:
    from transformers import AutoConfig

    model = HeadedConfig(**(BASE | MODELS["llama"] | {"num_layers": 2}))  # type: ignore[arg-type]
    assert class_name(model) == "LlamaForCausalLM" and sees_both_sides(model) is False
    fields = AutoConfig.for_model(**to_config(model)).to_dict() | {"model_type": "own"}
    with pytest.raises(DataError, match="model_type is 'own'"):
        from_config(fields)
    again = from_config(fields, family=f"{__name__}:HeadedLlama")
    assert (again.num_layers, again.hidden_size) == (model.num_layers, model.hidden_size)
    with pytest.raises(ConfigError, match=r"(?s)the head 'next_sentence', for which HeadedLlama.*one of next_word"):
        class_name(model.model_copy(update={"num_layers": 4}))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("lama", "(?s)'lama'.*is not known.*llama"),
        ("nowhere:Family", "cannot be imported .ModuleNotFoundError"),
        (f"{__name__}:Nothing", "cannot be imported .AttributeError"),
        ("os:abort", "is no class"),
        ("builtins:dict", "does not say its model_type"),
    ],
)
def test_a_name_that_is_no_family_is_refused(name: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_family(name)


def test_a_model_that_names_no_counterpart_has_none() -> None:
    class Bare(GPTConfig):
        huggingface: ClassVar[tuple[str, ...]] = ()

    model = Bare(**BASE)  # type: ignore[arg-type]
    assert obstacle_to_export(model) == "model.name=gpt"
    with pytest.raises(ConfigError, match=r"model\.name"):
        counterpart_of(model)


def test_obstacles_are_told_without_torch() -> None:
    code = """
import sys
sys.modules["torch"] = sys.modules["transformers"] = None
from pretrain.config.kinds import FAMILIES
from pretrain.models.huggingface.family import HUGGING_FACE_FAMILIES, load_family, obstacle_to_export
sizes = dict(num_layers=2, hidden_size=32, num_attention_heads=4, seq_length=24)
models = [FAMILIES.declaration(name)(**sizes) for name in FAMILIES.targets]
print([obstacle_to_export(model) for model in models], [load_family(name).model_type for name in HUGGING_FACE_FAMILIES])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    names = ["llama", "gpt2", "starcoder2", "mistral", "qwen2", "qwen3", "gpt_neox", "phi", "gemma", "gemma2"]
    names += ["gemma3_text", "olmo2", "bert", "megatron-bert", "roberta", "modernbert", "t5", "bart", "mbart"]
    assert done.stdout.strip() == f"{[None] * 6} {names}", done.stderr
