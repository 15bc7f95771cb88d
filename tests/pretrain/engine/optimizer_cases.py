"""Every optimizer under the layouts that shard it differently; the runs are those of `layout_cases`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pretrain.config import RunConfig
from pretrain.config.kinds import OPTIMIZERS
from tests.pretrain.engine.layout_cases import Case

RATES = {"sgd": 0.5, "adagrad": 0.01, "lion": 1e-3, "lamb": 0.3, "adafactor": 0.5, "muon": 0.2}
"""Peak learning rates at which a few steps move the weights well. Adagrad's first step is the sign of each gradient: at
a larger rate it would tell of the rounding of gradients that are nearly 0."""


@dataclass(frozen=True)
class OptimizerCase(Case):
    """A layout and an optimizer.

    Attributes:
        optimizer: its name.
        options: of its keys.
    """

    optimizer: str = "sgd"
    options: dict[str, Any] = field(default_factory=dict)

    def config(self, parallel: dict[str, Any] | None = None) -> RunConfig:
        """See the base class."""
        config = super().config(parallel)
        declared = OPTIMIZERS.declaration(self.optimizer)
        chosen = declared.model_validate({"lr": self.peak_lr, "clip_grad_norm": 0.3} | self.options)
        return config.model_copy(update={"optimizer": chosen})

    @property
    def peak_lr(self) -> float:
        """See the base class."""
        return RATES[self.optimizer]


def _cases(optimizer: str, label: str = "", **options: Any) -> tuple[OptimizerCase, ...]:
    def case(name: str, ranks: int, zero: int, tensor: int = 1, pipeline: int = 1, **more: Any) -> OptimizerCase:
        parallel = {
            "zero_stage": zero,
            "tensor_size": tensor,
            "pipeline_size": pipeline,
            "zero3_persistent_elements": 0,
        }
        parallel |= more.pop("parallel", {})
        title = f"{optimizer}{label}, {name}"
        return OptimizerCase(title, ranks, parallel, optimizer=optimizer, options=options, **more)

    sequence = {"parallel": {"sequence_parallel": True}}
    return (
        case("zero 0, data 2", 2, 0),
        case("zero 1, data 2", 2, 1),
        case("zero 2, data 2", 2, 2),
        case("zero 3, data 2", 2, 3),
        case("zero 0, tensor 2", 2, 0, tensor=2),
        case("zero 1, tensor 2, data 2, gpt2", 4, 1, tensor=2, family="gpt2"),
        *([case("zero 1, tensor 2, data 2", 4, 1, tensor=2)] if optimizer == "lion" else []),
        case("zero 3, tensor 2, sequence, data 2", 4, 3, tensor=2, **sequence),
        case("zero 2, pipeline 2, data 2", 4, 2, pipeline=2),
        case("zero 3, tensor 2, pipeline 2, data 2", 8, 3, tensor=2, pipeline=2),
        case("zero 2, tensor 2, offload", 2, 2, tensor=2, parallel={"offload_optimizer": True}),
    )


OPTIMIZER_CASES: tuple[OptimizerCase, ...] = (
    *_cases("sgd"),
    *_cases("adagrad"),
    *_cases("lion"),
    *_cases("lamb"),
    *_cases("adafactor"),
    *_cases("adafactor", " with momentum", beta1=0.9)[6:7],
    *_cases("muon"),
)
"""What `python -m tests.pretrain.engine.equivalence_table` adds of optimizers."""
