"""Layouts of training low-rank adapters beside frozen weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pretrain.config import RunConfig
from pretrain.config.method import LowRankMethod
from tests.pretrain.engine.layout_cases import Case
from tests.pretrain.engine.optimizer_cases import OptimizerCase


@dataclass(frozen=True)
class LowRankCase(Case):
    """A layout of an adapter; `method` has its fields."""

    method: dict[str, Any] = field(default_factory=dict)

    def config(self, parallel: dict[str, Any] | None = None) -> RunConfig:
        """See the base class."""
        method = LowRankMethod(**({"r": 4, "alpha": 32.0} | self.method))
        return super().config(parallel).model_copy(update={"method": method, "start_from": Path("unused")})


@dataclass(frozen=True)
class OptimizedLowRankCase(LowRankCase, OptimizerCase):
    """A layout of an adapter that another optimizer than AdamW trains."""

    @property
    def peak_lr(self) -> float:
        """See the base class; factors that begin at zero move by as much as the rate says, whatever LAMB's ratio."""
        return 0.1 * super().peak_lr


def _case(name: str, ranks: int, zero: int, tensor: int = 1, pipeline: int = 1, **options: Any) -> Case:
    keys = ("sequence_parallel", "recompute", "offload_optimizer")
    parallel = {"zero_stage": zero, "tensor_size": tensor, "pipeline_size": pipeline, "zero3_persistent_elements": 0}
    parallel |= {key: options.pop(key) for key in keys if key in options}
    # At the usual 0.02 frozen layers hardly move the residual stream.
    model = {"init_std": 0.1} | options.pop("model", {})
    made = OptimizedLowRankCase if "optimizer" in options else LowRankCase
    return made(f"lora, {name}", ranks, parallel, model=model, **options)


_SP = {"sequence_parallel": True}

LOW_RANK_CASES: tuple[Case, ...] = (
    _case("zero 1", 1, 1),
    _case("zero 1, tensor 2", 2, 1, tensor=2),
    _case("zero 1, tensor 2, sequence", 2, 1, tensor=2, **_SP),
    _case("zero 2, pipeline 2", 2, 2, pipeline=2),
    _case("zero 2, data 2, gpt2", 2, 2, family="gpt2"),
    _case("zero 3, data 2", 2, 3),
    _case("zero 3, data 2, recompute full", 2, 3, recompute="full"),
    _case("zero 3, tensor 2, sequence, gpt2 untied", 2, 3, tensor=2, family="gpt2", model={"tie_embeddings": False},
          **_SP),
    _case("zero 2, tensor 2, sequence, pipeline 2", 4, 2, tensor=2, pipeline=2, **_SP),
    _case("zero 3, tensor 2, sequence, pipeline 2, data 2", 8, 3, tensor=2, pipeline=2, **_SP),
    _case("zero 1, tensor 2, dropout", 2, 1, tensor=2, method={"dropout": 0.2}),
    _case("zero 1, tensor 2, sequence, dropout, recompute full", 2, 1, tensor=2, method={"dropout": 0.2},
          recompute="full", **_SP),
    _case("zero 1, tensor 2, attention alone", 2, 1, tensor=2, method={"target_modules": ["linear_qkv"]}),
    _case("zero 1, pipeline 2, offload, rslora", 2, 1, pipeline=2, offload_optimizer=True, method={"rslora": True}),
    _case("zero 3, tensor 2, bf16", 2, 3, tensor=2, precision="bf16", model={"init_std": 0.02}),
    _case("muon, zero 3, tensor 2, sequence, data 2", 4, 3, tensor=2, optimizer="muon", **_SP),
    _case("adafactor, zero 2, tensor 2, data 2", 4, 2, tensor=2, optimizer="adafactor"),
    _case("lamb, zero 3, data 2", 2, 3, optimizer="lamb"),
)  # fmt: skip
