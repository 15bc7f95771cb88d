"""How precise the gradients are that the optimizer gets: seen at their bits.

A bf16 number has the 16 low bits of an fp32 number at zero. A gradient that was rounded to bf16 on its way has only
such elements; one that was summed in fp32 has hardly any.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from configs.errors import ConfigError
from pretrain.config import ParallelConfig
from pretrain.engine.deepspeed_config import communication_precision, deepspeed_settings
from pretrain.parallel.layout import resolve_layout
from tests.distributed import run_ranks
from tests.pretrain.engine.layout_cases import PRELOAD, Case
from tests.pretrain.engine.test_engine_steps import build

BF16, FP32 = "bf16", "fp32"
CHANCE = 0.2
"""More than the share of elements whose sum over 8 micro-batches in fp32 happens to be a bf16 number (0.13)."""


def share_of_bf16_elements(case: Case) -> float:
    """On each rank: which share of this rank's gradient before the optimizer is representable in bf16; zeros not."""
    engine, place = build(case)
    counts = [0, 0]
    square_sum = engine._gradients.local_square_sum

    def look(shards: Any) -> torch.Tensor:
        shards = list(shards)
        for _, gradient in shards:
            bits = gradient.contiguous().view(-1).view(torch.int32)
            counts[0] += int((bits & 0xFFFF == 0)[bits != 0].sum())
            counts[1] += int((bits != 0).sum())
        return square_sum(shards)

    engine._gradients.local_square_sum = look
    batches = case.micro_batches(0, place.data_rank, place.layout.data)
    assert engine.train_batch(batches, step=0, learning_rate=1e-3).applied
    return counts[0] / counts[1]


def share(ranks: int, **parallel: Any) -> float:
    # Two samples a micro-batch, and one micro-batch a rank: what is not bf16 then was summed over ranks in fp32.
    batch = {"global_batch_size": 2 * ranks} if ranks > 1 else {}
    case = Case("bits", ranks, {"zero3_persistent_elements": 0} | parallel, precision="bf16", **batch)
    shares = run_ranks(share_of_bf16_elements, ranks, case, process_group=False, preload=PRELOAD)
    return max(shares) if shares[0] < 0.5 else min(shares)


@pytest.mark.parametrize(
    "zero_stage", [1, pytest.param(0, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)]
)
def test_micro_batches_are_summed_in_fp32(zero_stage: int) -> None:
    assert share(1, zero_stage=zero_stage) < CHANCE


@pytest.mark.slow
@pytest.mark.parametrize("zero_stage", [1, 2])
def test_micro_batches_are_summed_in_fp32_with_the_optimizer_in_host_memory(zero_stage: int) -> None:
    assert share(1, zero_stage=zero_stage, offload_optimizer=True) < CHANCE


@pytest.mark.slow
@pytest.mark.parametrize(
    ("zero_stage", "configured", "expected"),
    [
        (0, None, FP32),
        (0, BF16, BF16),
        (1, None, FP32),
        (1, BF16, BF16),
        (2, None, FP32),
        (3, None, BF16),
        (3, FP32, FP32),
    ],
)
def test_ranks_sum_in_the_configured_precision(zero_stage: int, configured: str | None, expected: str) -> None:
    found = share(2, zero_stage=zero_stage, communication_precision=configured)
    assert found > 0.95 if expected == BF16 else found < 0.7


def test_the_default_is_fp32_up_to_stage_2_and_the_training_precision_at_stage_3() -> None:
    found = {(stage, p): communication_precision(p, stage) for stage in range(4) for p in ("fp32", "bf16", "fp16")}
    assert {key: value for key, value in found.items() if value != FP32} == {(3, "bf16"): "bf16", (3, "fp16"): "fp16"}
    assert communication_precision("bf16", 1, "bf16") == "bf16"


@pytest.mark.parametrize("stage", [1, 2])
def test_fine_tuning_follows_the_same_rule(stage: int) -> None:
    settings = deepspeed_settings(zero={"stage": stage}, precision="bf16", micro_batch_size=1, clip_grad_norm=1.0)
    assert settings["communication_data_type"] == FP32


def test_another_format_than_fp32_or_the_training_precision_is_refused() -> None:
    config = Case("refused", 1, precision="bf16").config()
    config = config.model_copy(update={"parallel": ParallelConfig(communication_precision="fp16")})
    with pytest.raises(ConfigError, match=r"parallel.communication_precision fp16 .*fp32 .*training.precision bf16"):
        resolve_layout(config, 1)
