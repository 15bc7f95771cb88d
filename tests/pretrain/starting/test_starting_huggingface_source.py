"""Hugging Face directories as what a run starts from: every family's tensors, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from configs.errors import CheckpointError, DataError
from pretrain.checkpoint.state_shards import as_matrix
from pretrain.models.gpt.attention_config import RotaryScaling
from pretrain.models.gpt.config import GPTConfig
from pretrain.models.huggingface.family import HUGGING_FACE_FAMILIES
from pretrain.models.huggingface.transformers_model import save_weights
from pretrain.models.huggingface.weights import to_hf
from pretrain.starting.far_positions import row_length
from pretrain.starting.huggingface_source import HuggingFaceSource, padding_multiple
from pretrain.starting.logit_comparison import compare_logits, truncated
from pretrain.starting.source import open_source
from tests.finetune.finetune_oracle import random_tensors
from tests.pretrain.starting.source_in_memory import MODELS, SIZES, change_config, write_directory


def test_every_family_is_tested_here() -> None:
    assert set(MODELS) == set(HUGGING_FACE_FAMILIES)


@pytest.mark.parametrize("name", MODELS)
def test_every_familys_tensors_are_ours(name: str, tmp_path: Path) -> None:
    model = MODELS[name]
    ours = random_tensors(model)
    write_directory(tmp_path / "hf", model, ours)
    source = open_source(tmp_path / "hf")
    assert source.model.resolved() | {"init_std": 0} == model.resolved() | {"init_std": 0}
    # BART's class always has a bias of its logits; the config of a directory does not say whether it is used.
    assert all("final_logits_bias: left out" in note for note in source.notes), source.notes
    assert bool(source.notes) == (model.name == "bart") and set(source.names()) == set(ours)
    for key, tensor in ours.items():
        rows, columns = as_matrix(tuple(tensor.shape))
        found = np.empty(tensor.numel(), dtype=np.float32)
        half = -(-rows // 2)
        boxes = [[0, half, 0, columns, 0], [half, rows, 0, columns, half * columns]]
        source.fill(key, np.array(boxes[: 1 + (half < rows)], dtype=np.int64), found)
        unread = getattr(model, "first_position", 0) if "position_embeddings" in key else 0
        assert torch.equal(torch.from_numpy(found).view_as(tensor)[unread:], tensor[unread:]), key


def test_half_precision_and_several_files_are_read(tmp_path: Path) -> None:
    theirs = write_directory(tmp_path / "hf", MODELS["llama"], dtype="bfloat16")
    (tmp_path / "hf" / "model.safetensors").unlink()
    names = sorted(theirs)
    files = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for file, held in files.items():
        save_weights({name: theirs[name] for name in held}, tmp_path / "hf" / file)
    index = {"weight_map": {name: file for file, held in files.items() for name in held}}
    (tmp_path / "hf" / "model.safetensors.index.json").write_text(json.dumps(index))
    source = HuggingFaceSource(tmp_path / "hf")
    expected = theirs["model.layers.1.mlp.down_proj.weight"].float()
    assert torch.equal(source.tensor("decoder.layers.1.mlp.linear_fc2.weight"), expected)
    (tmp_path / "hf" / "model-2.safetensors").unlink()
    with pytest.raises(DataError, match=r"model-2.safetensors: is missing"):
        HuggingFaceSource(tmp_path / "hf")


def test_names_without_the_body_and_of_the_first_bert_are_found(tmp_path: Path) -> None:
    theirs = write_directory(tmp_path / "hf", MODELS["bert"])
    renamed = {}
    for name, tensor in theirs.items():
        old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        renamed[old] = tensor
    renamed["bert.embeddings.position_ids"] = torch.arange(16).float()
    renamed["another.head.weight"] = torch.ones(2)
    save_weights(renamed, tmp_path / "hf" / "model.safetensors")
    source = HuggingFaceSource(tmp_path / "hf")
    assert [note.partition(" also ")[2] for note in source.notes] == [
        "holds another.head.weight: left out, the model has no place for it"
    ]
    assert torch.equal(source.tensor("embedding.norm.weight"), theirs["bert.embeddings.LayerNorm.weight"])

    theirs = write_directory(tmp_path / "gpt2", MODELS["gpt2"])
    bare = {name.removeprefix("transformer."): tensor for name, tensor in theirs.items()}
    save_weights(bare, tmp_path / "gpt2" / "model.safetensors")
    source = HuggingFaceSource(tmp_path / "gpt2")
    assert torch.equal(source.tensor("decoder.final_layernorm.bias"), theirs["transformer.ln_f.bias"])


def test_what_does_not_fit_is_refused_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "hf"
    theirs = write_directory(folder, MODELS["llama"])
    weights = folder / "model.safetensors"

    def refused(text: str) -> None:
        with pytest.raises(DataError, match=text):
            open_source(folder)

    save_weights({name: t for name, t in theirs.items() if name != "model.norm.weight"}, weights)
    refused(r"has no tensor model.norm.weight, which Llama needs \(its class is LlamaForCausalLM\)")
    save_weights(theirs | {"model.norm.weight": torch.ones(31)}, weights)
    refused(r"model.norm.weight \[31\]: this is not our decoder.final_layernorm.weight \[32\]")
    save_weights(theirs | {"model.norm.weight": torch.ones(32, dtype=torch.float64)}, weights)
    refused(r"model.norm.weight is F64(?s:.*)expected: F32, BF16, F16")
    save_weights(theirs, weights)
    weights.write_bytes(weights.read_bytes()[:-8])
    refused(r"model.safetensors: is damaged")
    weights.rename(folder / "pytorch_model.bin")
    refused("no safetensors, but pytorch_model.bin, and pickled weights are never read")
    save_weights(theirs, weights)
    change_config(folder, rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4})
    refused("rope_parameters is")
    change_config(folder, model_type="opt")
    refused("model_type is 'opt'")
    with pytest.raises(DataError, match=r"(?s)does not exist.*did you mean: .*/hf"):
        open_source(tmp_path / "hff")
    with pytest.raises(DataError, match=r"holds neither a complete checkpoint nor a config.json"):
        open_source(tmp_path)


@pytest.mark.parametrize("name", ["llama", "gpt2", "modernbert", "roberta"])
def test_logits_are_compared_with_those_of_transformers(name: str, tmp_path: Path) -> None:
    write_directory(tmp_path / "hf", MODELS[name])
    source = HuggingFaceSource(tmp_path / "hf")
    told = compare_logits(source, 10**9)
    assert told.startswith("logits equal those of transformers'") and "layers alone" not in told
    short = compare_logits(source, 1)
    assert f"with its first 1 of {MODELS[name].num_layers} layers alone: it has" in short


def test_a_config_that_is_read_wrongly_shows_in_the_logits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_directory(tmp_path / "hf", MODELS["llama"])
    source = HuggingFaceSource(tmp_path / "hf")
    source.model = source.model.model_copy(update={"norm_epsilon": 1e-1})
    with pytest.raises(CheckpointError, match=r"our model's logits differ by .* from those of transformers"):
        compare_logits(source, 10**9)


FAR: dict[str, Any] = SIZES | {"num_layers": 4, "seq_length": 700, "vocab_size": 512}
SLOW_ANGLES = RotaryScaling(kind="llama3", factor=8, original_seq_length=65536)
WINDOWS = {"sliding_window": 640, "global_every": 3, "attention_bias": "qkv", "num_query_groups": 2}
FAR_MISTAKES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "a window too narrow by a token": (WINDOWS, {"sliding_window": 639}, "logits of 700 tokens"),
    "a window too wide by a token": (WINDOWS, {"sliding_window": 641}, "logits of 700 tokens"),
    "no window": (WINDOWS, {"sliding_window": None, "global_every": None}, "logits of 700 tokens"),
    "a global layer elsewhere": (WINDOWS, {"global_every": 2}, "logits of 700 tokens"),
    # Heads of 8 elements: of their four frequencies two are so slow that they turn by 1e-3 in all of the row.
    "angles slower by another factor": (
        {"rotary_base": 1e12, "rotary_scaling": SLOW_ANGLES},
        {"rotary_scaling": SLOW_ANGLES.model_copy(update={"factor": 9.0})},
        r"our rotary frequencies .* by a factor of up to 1\.125",
    ),
}
"""What the directory is, what ours reads instead, and what is said: none of it shows on 512 tokens."""


@pytest.mark.parametrize("name", FAR_MISTAKES)
def test_what_shows_far_from_the_beginning_alone_is_seen(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choices, mistake, told = FAR_MISTAKES[name]
    write_directory(tmp_path / "hf", GPTConfig(**FAR, **choices))
    source = HuggingFaceSource(tmp_path / "hf")
    right = source.model
    source.model = right.model_copy(update=mistake)
    with pytest.raises(CheckpointError, match=told):
        compare_logits(source, 10**9)
    if name == "no window":
        source.model = right
        assert "random weights, agree on 700 tokens" in compare_logits(source, 10**9)
    elif name != "a global layer elsewhere":
        return
    monkeypatch.setattr("pretrain.starting.logit_comparison.compare_far", lambda *unused: None)
    source.model = right.model_copy(update=mistake)
    assert "logits equal" in compare_logits(source, 10**9)


def test_the_row_is_longer_than_a_window_up_to_a_limit() -> None:
    def of(window: int | None, length: int = 100_000) -> tuple[int, int | None]:
        return row_length(GPTConfig(**(SIZES | {"seq_length": length}), sliding_window=window))

    assert [of(None), of(4096), of(4159)] == [(4160, None), (4160, None), (4160, None)]
    assert [of(4160), of(30_000)] == [(4160, 4160), (4160, 30_000)]
    assert [of(4096, 2048), of(600, 620)] == [(2048, None), (620, None)]


def test_a_bias_of_barts_logits_is_read_where_there_is_one(tmp_path: Path) -> None:
    model = MODELS["bart"].model_copy(update={"output_bias": True})
    ours = random_tensors(model)
    theirs = write_directory(tmp_path / "hf", model, ours)
    source = HuggingFaceSource(tmp_path / "hf")
    assert source.model.output_bias is True  # type: ignore[attr-defined]
    assert source.notes == ("model.output_bias is true: its tensor is not zero, and is trained",)
    assert torch.equal(source.tensor("output_layer.bias"), ours["output_layer.bias"])
    assert "logits equal" in compare_logits(source, 10**9)
    again = dict(to_hf({name: source.tensor(name) for name in source.names()}, source.model, source.ids))
    assert torch.equal(again["final_logits_bias"], theirs["final_logits_bias"])


def test_as_many_layers_are_compared_as_fit() -> None:
    model = MODELS["llama"].model_copy(update={"num_layers": 8})
    whole, one = (model.model_copy(update={"num_layers": n}).num_parameters() for n in (8, 1))
    layer = (whole - one) // 7
    assert [truncated(model, most).num_layers for most in (whole, whole - 1, one + layer, one - 1)] == [8, 7, 2, 1]


def test_no_row_is_padding_where_the_vocabulary_allows() -> None:
    assert [padding_multiple(size) for size in (32000, 50257, 300, 30522)] == [128, 1, 4, 2]


def write_tokenizer(folder: Path, *words: str) -> None:
    """Transformers' files of a vocabulary of whole words."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate(["<unk>", "</s>", *words])}
    pipeline = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    PreTrainedTokenizerFast(tokenizer_object=pipeline, unk_token="<unk>", eos_token="</s>").save_pretrained(folder)


def test_the_tokenizer_of_another_project_is_known_by_its_vocabulary(tmp_path: Path) -> None:
    from data_prep.tokenizer.importing import import_tokenizer

    folder = tmp_path / "hf"
    write_directory(folder, MODELS["llama"])
    source = HuggingFaceSource(folder)
    assert source.is_same_tokenizer("0123", None) is None
    write_tokenizer(folder, "a", "ship")
    same = import_tokenizer(folder, tmp_path / "same", {})
    assert source.is_same_tokenizer(same.fingerprint, None) is True
    other_roles = import_tokenizer(folder, tmp_path / "roles", {"pad": "<unk>"})
    assert other_roles.fingerprint != same.fingerprint
    assert source.is_same_tokenizer(other_roles.fingerprint, other_roles) is True
    write_tokenizer(tmp_path / "other", "a", "boat")
    other = import_tokenizer(tmp_path / "other", tmp_path / "boat", {})
    assert source.is_same_tokenizer(other.fingerprint, other) is False
