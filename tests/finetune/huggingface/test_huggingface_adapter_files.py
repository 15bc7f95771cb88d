"""Factors of an adapter under transformers' names: their product is what merging adds to each matrix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from finetune.huggingface.adapter_files import peft_factors
from pretrain.checkpoint.model_checkpoint import ModelCheckpoint
from pretrain.config.method import LowRankMethod
from pretrain.models.gpt.config import GPTConfig
from pretrain.models.huggingface.config_fields import NO_IDS
from pretrain.models.huggingface.weights import to_hf
from pretrain.starting.adapted_model import AdaptedModel, MergedTensors
from tests.pretrain.engine.layout_cases import GPT2, LLAMA

NEOX: dict[str, Any] = GPT2 | {
    "position_embedding": "rope",
    "residual": "parallel",
    "activation": "gelu",
    "tie_embeddings": False,
    "rotary_percent": 0.25,
}


@pytest.mark.parametrize(
    ("sizes", "modules"),
    [
        (LLAMA, ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]),
        (GPT2, ["c_attn", "c_proj", "c_fc", "c_proj"]),
        (NEOX, ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"]),
    ],
    ids=["llama", "gpt2", "gpt_neox"],
)
def test_each_product_is_what_merging_adds(sizes: dict[str, Any], modules: list[str]) -> None:
    model, method = GPTConfig.model_validate(sizes), LowRankMethod(r=3, alpha=7.0, rslora=True)
    generator = torch.Generator().manual_seed(0)
    base = {spec.name: torch.randn(spec.shape, generator=generator) for spec in model.parameters()}
    adapter = {spec.name: torch.randn(spec.shape, generator=generator) for spec in method.trained_parameters(model)}
    merged = MergedTensors(base, adapter, method.scale)
    opened = ModelCheckpoint(Path("unused"), model, merged, {})
    adapted = AdaptedModel(opened, method, adapter, base, source=None, has_new_ids=False)  # type: ignore[arg-type]
    before, after = (dict(to_hf(tensors, model)) for tensors in (base, merged))
    found = list(peft_factors(adapted, NO_IDS))
    assert [module.rpartition(".")[2] for module, *_ in found[: len(modules)]] == modules
    for module, first, second, transposed in found:
        product = second @ first * method.scale
        name = f"{module}.weight"
        change = (after[name] - before[name]).t() if transposed else after[name] - before[name]
        torch.testing.assert_close(product, change, rtol=1e-4, atol=1e-4)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {f"{module}.weight" for module, *_ in found}
