"""Largest logit differences between a checkpoint trained with tensor 2 and pipeline or data 2 and transformers.

    python -m tests.pretrain.models.huggingface.parity_table [NAME ...]

Each model trains a few steps on four ranks with ZeRO-1, so that its weights come together from four stages' parts.
There: its weights in the transformers class. Back: the state that transformers then holds, mapped to our names, which
has to equal the checkpoint bit by bit and is computed by megatron-core once more.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pretrain.checkpoint.model_checkpoint import open_checkpoint
from pretrain.models.huggingface.config_fields import RoleIds
from pretrain.models.huggingface.family import class_name, from_config, to_config
from pretrain.models.huggingface.logit_check import check_rows, compare
from pretrain.models.huggingface.transformers_model import model_from_tensors
from pretrain.models.huggingface.weights import from_hf, to_hf
from tests.distributed import run_ranks
from tests.pretrain.engine.layout_cases import SESSION
from tests.pretrain.tiny_run import make_corpus, tiny_config

LIMIT = 1e-4
IDS = RoleIds(end_of_document=1, pad=2, mask=3, classification=4, separator=5)
_ENCODER: dict[str, Any] = {"model__num_attention_heads": 4, "model__seq_length": 32, "model__init_std": 0.2}
_PAIRS = {"objective__name": "masked_pairs"}
_MASKED = {"objective__name": "masked"}
_TARGETS = {"objective__name": "tests.pretrain.engine.encoder_decoder_objective:MadeUpTargetsConfig"}
# An encoder-decoder is not cut into stages.
_ENCODER_DECODER = _TARGETS | {
    "model__num_attention_heads": 4,
    "model__seq_length": 32,
    "model__decoder_seq_length": 24,
    "parallel__pipeline_size": 1,
}
_BART = _ENCODER_DECODER | {"model__name": "bart", "model__init_std": 0.2}
_GPT: dict[str, Any] = {"model__num_attention_heads": 4, "model__init_std": 0.2}
_GROUPED = _GPT | {"model__num_query_groups": 2}
_WINDOW: dict[str, Any] = {"model__sliding_window": 6}
_NEOX = _GPT | {
    "model__normalization": "LayerNorm",
    "model__activation": "gelu",
    "model__bias": "true",
    "model__rotary_percent": 0.5,
    "model__tie_embeddings": "false",
}
_GEMMA = _GROUPED | {
    "model__activation": "geglu_tanh",
    "model__norm_plus_one": "true",
    "model__embedding_scale": "true",
    "model__attention_head_size": 12,
}
_GEMMA2 = _GEMMA | _WINDOW | {"model__norm_placement": "both", "model__global_every": 2, "model__query_scale": 9}
MODELS: dict[str, dict[str, Any]] = {
    "bert": _ENCODER | _PAIRS | {"model__name": "bert"},
    "megatron-bert": _ENCODER | _PAIRS | {"model__name": "bert", "model__norm_placement": "pre"},
    "roberta": _ENCODER | _MASKED | {"model__name": "roberta"},
    "modernbert": _ENCODER | _MASKED | {"model__name": "modern-encoder", "model__local_window": 6},
    "t5": _ENCODER_DECODER | {"model__name": "t5", "model__activation": "relu", "model__tie_embeddings": "true"},
    "t5-1.1": _ENCODER_DECODER | {"model__name": "t5"},
    "bart": _BART,
    "mbart": _BART | {"model__norm_placement": "pre"},
    "llama": _GPT | {"model__num_query_groups": 2},
    "gpt2": _GPT
    | {
        "model__position_embedding": "learned",
        "model__normalization": "LayerNorm",
        "model__activation": "gelu_tanh",
        "model__bias": "true",
    },
    "llama3": _GROUPED
    | {"model__rotary_scaling": "{kind: llama3, factor: 8, original_seq_length: 8}", "model__rotary_base": 100},
    "mistral": _GROUPED | _WINDOW | {"model__attention_head_size": 12},
    "qwen2": _GROUPED | {"model__attention_bias": "qkv"},
    "qwen3": _GROUPED | {"model__qk_norm": "head", "model__attention_head_size": 12},
    "gpt_neox": _NEOX | {"model__residual": "parallel"},
    "phi": _NEOX | {"model__residual": "parallel_one_norm", "model__output_bias": "true"},
    "gemma": _GEMMA,
    "gemma2": _GEMMA2 | {"model__attention_softcap": 5, "model__logit_softcap": 5},
    "gemma3_text": _GEMMA2 | {"model__qk_norm": "head", "model__local_rotary_base": 50},
    "olmo2": _GROUPED | {"model__norm_placement": "after", "model__qk_norm": "projection"},
}
LAYOUT = {
    "model__num_layers": 4,
    "parallel__zero_stage": 1,
    "parallel__tensor_size": 2,
    "parallel__pipeline_size": 2,
    "training__duration": "4 steps",
    "optimizer__lr": 0.05,
    "optimizer__warmup": "1 steps",
    "evaluation__interval": "null",
}


@dataclass(frozen=True)
class Parity:
    """What was compared.

    Attributes:
        hf_class: the transformers class.
        largest_logit: of ours.
        there: largest difference of transformers' logits from ours.
        back: largest difference after our weights came back from transformers' state.
        outputs: that were compared: logits, pair.
    """

    hf_class: str
    largest_logit: float
    there: float
    back: float
    outputs: tuple[str, ...]


def train(output_dir: Path, corpus: Path, changes: dict[str, Any]) -> int:
    """On each rank: the run."""
    from pretrain import main

    torch.set_num_threads(1)
    return int(main.run(tiny_config(output_dir, corpus, **changes)))


def parity(name: str, folder: Path, corpus: Path) -> Parity:
    """Train the model of this name in `folder` and compare.

    Raises:
        AssertionError: a tensor that came back is not the checkpoint's.
    """
    changes = LAYOUT | MODELS[name]
    statuses = run_ranks(train, 4, folder, corpus, changes, process_group=False, preload=SESSION, timeout_s=300)
    assert statuses == [0] * 4
    source = open_checkpoint(folder)
    model = source.model
    fields = to_config(model, IDS)
    theirs = model_from_tensors(fields, dict(to_hf(source.tensors, model, IDS)))
    rows = check_rows(model, list(range(6, 16)), 2, 0, IDS)
    there = compare(model, source.tensors, theirs, rows)
    again = from_config(theirs.config.to_dict())
    back = dict(from_hf(theirs.state_dict(), again, IDS))
    assert set(back) == set(source.tensors)
    for key, tensor in back.items():
        own = source.tensors[key]
        by_token = "word_embeddings" in key or key.startswith("output_layer")
        unread = getattr(model, "first_position", 0) if "position_embeddings" in key else 0
        kept = slice(unread, model.vocab_size if by_token else None)
        assert torch.equal(tensor[kept], own[kept]), key
    returned = compare(again, back, theirs, rows)
    return Parity(
        class_name(model),
        there.largest_logit,
        there.largest_difference,
        returned.largest_difference,
        tuple(sorted(there.outputs)),
    )


def main(names: list[str]) -> int:
    """Print the table; the status says whether each difference is below the limit."""
    wrong = 0
    lines = ["model          transformers                 largest logit    there     back  outputs"]
    with tempfile.TemporaryDirectory(prefix="parity-") as directory:
        corpora = {
            kind: make_corpus(Path(directory, kind), sentences=kind == "sentences") for kind in ("text", "sentences")
        }
        for name in names or list(MODELS):
            # The first corpus has the tokens of an encoder, which BART has, too.
            kind = "text" if MODELS[name].get("model__name", "t5") == "t5" else "sentences"
            found = parity(name, Path(directory, "run", name), corpora[kind])
            wrong += max(found.there, found.back) > LIMIT
            lines.append(
                f"{name:14} {found.hf_class:28} {found.largest_logit:13.2f} {found.there:8.1e} {found.back:8.1e}  "
                f"{', '.join(found.outputs)}"
            )
    print("\n".join(["", *lines]))
    return int(wrong > 0)


if __name__ == "__main__":
    # The ranks find `train` by its module's name, which is not `__main__` there.
    from tests.pretrain.models.huggingface import parity_table

    sys.exit(parity_table.main(sys.argv[1:]))
