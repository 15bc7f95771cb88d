"""What the environment says before torch is imported: hidden GPUs, the order of kernels, exactly pinned memory."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

from configs.durations import Duration
from pretrain.config import ParallelConfig, TrainingConfig
from pretrain.engine.deepspeed_config import deepspeed_config
from pretrain.parallel import accelerator
from pretrain.parallel.accelerator import prepare_environment

EXACT = {"PYTORCH_ALLOC_CONF": "pinned_max_round_threshold_mb:1"}


def prepared(device: Any, parallel: ParallelConfig | None = None, **given: str) -> dict[str, str]:
    environment = dict(given)
    prepare_environment(device, parallel, environment)
    return environment


@pytest.mark.parametrize(("device", "given"), [("cpu", {}), ("auto", {"DS_ACCELERATOR": "cpu"})])
def test_a_run_on_the_cpu_sees_no_gpu(device: str, given: dict[str, str]) -> None:
    parallel = ParallelConfig(tensor_size=2, offload_optimizer=True)
    expected = given | {"CUDA_VISIBLE_DEVICES": ""}
    assert prepared(device, parallel, CUDA_VISIBLE_DEVICES="0,1", **given) == expected
    assert prepared(device, None, **given) == expected


def test_gpus_stay_visible() -> None:
    assert prepared("auto", None, CUDA_VISIBLE_DEVICES="1") == {"CUDA_VISIBLE_DEVICES": "1"}
    assert prepared("auto", ParallelConfig(), DS_ACCELERATOR="cuda") == EXACT | {"DS_ACCELERATOR": "cuda"}


@pytest.mark.parametrize(
    ("layout", "ordered"),
    [
        ({}, False),
        ({"tensor_size": 2}, True),
        ({"tensor_size": 2, "sequence_parallel": True, "zero_stage": 3}, True),
        ({"pipeline_size": 2}, False),
        ({"zero_stage": 2, "zero_overlap": True}, False),
        ({"tensor_size": 2, "zero_stage": 2, "zero_overlap": True}, False),
    ],
)
def test_kernels_start_in_order_for_tensor_parallel_and_not_for_zero_overlap(
    layout: dict[str, Any], ordered: bool
) -> None:
    parallel = ParallelConfig(**layout)
    assert prepared("auto", parallel).get("CUDA_DEVICE_MAX_CONNECTIONS") == ("1" if ordered else None)
    # The user's own value stays.
    told = {"CUDA_DEVICE_MAX_CONNECTIONS": "8"}
    assert prepared("auto", parallel, **told) == EXACT | told


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "pinned_max_round_threshold_mb:1"),
        ({"PYTORCH_ALLOC_CONF": "a:2"}, "a:2,pinned_max_round_threshold_mb:1"),
        ({"PYTORCH_CUDA_ALLOC_CONF": "a:2"}, "a:2,pinned_max_round_threshold_mb:1"),
        ({"PYTORCH_ALLOC_CONF": "pinned_max_round_threshold_mb:9"}, "pinned_max_round_threshold_mb:9"),
    ],
)
def test_pinned_memory_is_no_power_of_two(given: dict[str, str], expected: str) -> None:
    assert prepared("auto", ParallelConfig(), **given)["PYTORCH_ALLOC_CONF"] == expected


def test_a_torch_that_does_not_know_the_setting_is_not_given_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "version", lambda package: "2.12.1+cu128")
    assert prepared("auto", ParallelConfig()) == {}


@pytest.mark.parametrize("zero_stage", [1, 2, 3])
def test_offload_is_pinned_where_its_copies_are_awaited(zero_stage: Any) -> None:
    parallel = ParallelConfig(offload_optimizer=True, zero_stage=zero_stage)
    training = TrainingConfig(duration=Duration(1, "steps"), micro_batch_size=1, global_batch_size=1)
    zero = deepspeed_config(training, parallel, 1.0)["zero_optimization"]
    assert zero["offload_optimizer"] == {"device": "cpu", "pin_memory": zero_stage < 3}


def test_torch_knows_the_allocator_s_setting() -> None:
    # What it does not know it ignores, whatever the value.
    torch._C._accelerator_setAllocatorSettings("no_such_setting:much")
    with pytest.raises(ValueError):
        torch._C._accelerator_setAllocatorSettings("pinned_max_round_threshold_mb:much")


def test_nothing_here_imports_torch() -> None:
    script = "import sys, pretrain.parallel.accelerator; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
