"""A source of weights that lies in memory, and directories of transformers models with random weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pretrain.checkpoint.state_shards import Rectangles, as_matrix
from pretrain.config.model import ModelConfig
from pretrain.models.encoder.bert_config import BertConfig, RobertaConfig
from pretrain.models.encoder.modern_config import ModernEncoderConfig
from pretrain.models.encoder_decoder.bart_config import BartConfig
from pretrain.models.encoder_decoder.t5_config import T5Config
from pretrain.models.gpt.config import GPTConfig
from pretrain.models.huggingface.config_fields import RoleIds
from pretrain.models.huggingface.family import to_config
from pretrain.models.huggingface.transformers_model import save_weights
from pretrain.models.huggingface.weights import to_hf
from tests.finetune.finetune_oracle import random_tensors

IDS = RoleIds(end_of_document=1, pad=2, mask=3, classification=4, separator=5)
SIZES: dict[str, Any] = {
    "num_layers": 2,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "ffn_hidden_size": 48,
    "seq_length": 16,
    "vocab_size": 48,
    "vocab_multiple": 16,
}
GPT2: dict[str, Any] = {
    "position_embedding": "learned",
    "normalization": "LayerNorm",
    "activation": "gelu_tanh",
    "bias": True,
}
_NORM_AND_BIAS: dict[str, Any] = {"normalization": "LayerNorm", "bias": True, "tie_embeddings": False}
_GEMMA: dict[str, Any] = {"activation": "geglu_tanh", "norm_plus_one": True, "embedding_scale": True}
_GEMMA2: dict[str, Any] = _GEMMA | {"norm_placement": "both", "query_scale": 10, "sliding_window": 5, "global_every": 2}
_NEW_DECODERS: dict[str, dict[str, Any]] = {
    "qwen2": {"attention_bias": "qkv", "num_query_groups": 2},
    "mistral": {"sliding_window": 5, "attention_head_size": 10, "tie_embeddings": False},
    "qwen3": {"qk_norm": "head", "attention_head_size": 12},
    "gpt_neox": _NORM_AND_BIAS | {"activation": "gelu", "residual": "parallel", "rotary_percent": 0.25},
    "phi": _NORM_AND_BIAS
    | {"activation": "gelu_tanh", "residual": "parallel_one_norm", "rotary_percent": 0.5, "output_bias": True},
    "gemma": _GEMMA,
    "gemma2": _GEMMA2 | {"attention_softcap": 3.0, "logit_softcap": 2.0},
    "gemma3_text": _GEMMA2 | {"qk_norm": "head", "local_rotary_base": 20.0, "rotary_base": 3000.0},
    "olmo2": {"norm_placement": "after", "qk_norm": "projection", "tie_embeddings": False},
}
MODELS: dict[str, ModelConfig] = {
    "llama": GPTConfig(**SIZES, num_query_groups=2, tie_embeddings=False),
    "gpt2": GPTConfig(**SIZES, **GPT2),
    "starcoder2": GPTConfig(**SIZES, **{**GPT2, "position_embedding": "rope"}),
    **{name: GPTConfig(**SIZES, **choices) for name, choices in _NEW_DECODERS.items()},
    "bert": BertConfig(**SIZES),
    "megatron-bert": BertConfig(**SIZES, norm_placement="pre"),
    "roberta": RobertaConfig(**SIZES),
    "t5": T5Config(**SIZES, decoder_seq_length=16),
    "bart": BartConfig(**SIZES, decoder_seq_length=16),
    "mbart": BartConfig(**SIZES, decoder_seq_length=16, norm_placement="pre"),
    "modernbert": ModernEncoderConfig(**{**SIZES, "num_layers": 4}, local_window=6),
}
"""A model of each Hugging Face family, without rows of padding."""


class SourceInMemory:
    """See `StartSource`."""

    def __init__(self, model: ModelConfig, tensors: Mapping[str, torch.Tensor]) -> None:
        self.path, self.model, self.notes = Path("memory"), model, ()
        self.tensors = dict(tensors)

    def shape(self, name: str) -> tuple[int, ...] | None:
        return tuple(self.tensors[name].shape) if name in self.tensors else None

    def names(self) -> list[str]:
        return list(self.tensors)

    def fill(self, name: str, wanted: Rectangles, target: npt.NDArray[np.float32]) -> None:
        matrix = self.tensors[name].reshape(as_matrix(tuple(self.tensors[name].shape))).numpy()
        for row0, row1, column0, column1, start in wanted.tolist():
            flat = matrix[row0:row1, column0:column1].reshape(-1)
            target[start : start + flat.size] = flat

    def close(self) -> None:
        return

    def find_damage(self, rank: int, ranks: int) -> list[str]:
        return []

    def is_same_tokenizer(self, fingerprint: str | None, tokenizer: object) -> bool | None:
        return None

    def record(self) -> dict[str, Any]:
        return {"path": "memory", "kind": "checkpoint"}


def write_directory(
    folder: Path, model: ModelConfig, tensors: Mapping[str, torch.Tensor] | None = None, dtype: str = "float32"
) -> dict[str, torch.Tensor]:
    """A Hugging Face directory of `model`, without a tokenizer; returns what its safetensors hold."""
    from transformers import AutoConfig

    folder.mkdir(parents=True)
    AutoConfig.for_model(**to_config(model, IDS), dtype=dtype).save_pretrained(folder)
    ours = random_tensors(model) if tensors is None else tensors
    theirs = {name: tensor.to(getattr(torch, dtype)) for name, tensor in to_hf(ours, model, IDS)}
    save_weights(theirs, folder / "model.safetensors")
    return theirs


def change_config(folder: Path, **fields: Any) -> None:
    """Other fields in the directory's config."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
