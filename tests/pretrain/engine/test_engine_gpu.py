"""What only a GPU can show: no CPU bridge, 16-bit training, the stages against each other, offload over the bus."""

from __future__ import annotations

import os

import pytest
import torch
import torch.distributed as dist

from tests.distributed import run_ranks
from tests.pretrain.engine.layout_cases import Case, Trajectory, largest_differences, objective_of, train
from tests.pretrain.engine.test_engine_steps import build, scale_history

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU, and this machine shows none"),
]


def trajectory(case: Case) -> Trajectory:
    # Nothing is imported before the ranks are forked: a forked process cannot use a CUDA that its parent opened.
    return run_ranks(train, 1, case, process_group=False)[0]


@pytest.mark.parametrize("options", [{}, {"offload_optimizer": True}, {"recompute": "full"}])
@pytest.mark.parametrize("zero_stage", [1, 2, 3])
def test_stages_agree_on_a_gpu(zero_stage: int, options: dict[str, object]) -> None:
    expected = trajectory(Case("reference", 1, {"zero_stage": 0}))
    found = trajectory(Case("stage", 1, {"zero_stage": zero_stage, "zero3_persistent_elements": 0} | options))
    assert max(largest_differences(found, expected)) < 1e-3


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("zero_stage", [0, 3])
def test_sixteen_bit_training_stays_near_fp32(zero_stage: int, precision: str) -> None:
    expected = trajectory(Case("reference", 1, {"zero_stage": 0}))
    found = trajectory(Case("half", 1, {"zero_stage": zero_stage}, precision=precision))
    losses, norms = largest_differences(found, expected)
    assert losses < 5e-3
    assert norms < 8e-2


def bridge_state(case: Case) -> tuple[bool, str]:
    from pretrain.engine import cpu_bridge

    _, place = build(case)
    return cpu_bridge.is_active(), place.device.type


def test_no_bridge_is_active_on_a_gpu() -> None:
    assert run_ranks(bridge_state, 1, Case("bridge", 1), process_group=False) == [(False, "cuda")]


def test_fp16_skips_a_step_that_overflows() -> None:
    history = run_ranks(scale_history, 1, Case("fp16", 1, {"zero_stage": 2}, precision="fp16"), process_group=False)
    assert history == [[(65536.0, True), (65536.0, False), (32768.0, True)]]


def alone(case: Case) -> tuple[str, bool, float]:
    """A process that no launcher started: NCCL with a store in its own memory."""
    from pretrain.engine import topology
    from pretrain.engine.engine import TrainEngine
    from pretrain.parallel.launch import discover
    from pretrain.parallel.layout import Layout

    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        del os.environ[name]
    launch = discover()
    place = topology.start(launch, Layout())
    engine = TrainEngine(case.config(), place, objective_of(case.config()))
    loss = engine.train_batch(case.micro_batches(0, 0, 1), step=0, learning_rate=1e-3).loss
    return dist.get_backend(), launch.master_address is None, loss


def test_a_plain_start_needs_no_port() -> None:
    backend, is_alone, loss = run_ranks(alone, 1, Case("alone", 1), process_group=False)[0]
    assert (backend, is_alone) == ("nccl", True)
    assert 4 < loss < 7
