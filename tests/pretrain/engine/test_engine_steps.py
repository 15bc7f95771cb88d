"""What a step does besides training: skipping what is not finite, flags, keeping decay and loss scale in order."""

from __future__ import annotations

import traceback
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pretrain.engine.gradients import wait_for_copies_to_host
from tests.distributed import run_ranks
from tests.pretrain.engine.layout_cases import PRELOAD, Case, micro_batches, objective_of


def build(case: Case) -> tuple[Any, Any]:
    from pretrain.engine import topology
    from pretrain.engine.engine import TrainEngine
    from pretrain.parallel.launch import discover
    from pretrain.parallel.layout import resolve_layout

    torch.set_num_threads(1)
    launch = discover()
    place = topology.start(launch, resolve_layout(case.config(), launch.world_size))
    return TrainEngine(case.config(), place, objective_of(case.config())), place


def poison_one_step(case: Case, poisoned_step: int) -> tuple[list[tuple[float, float, bool]], bool]:
    """On each rank: three steps, one of them with an infinite loss on one rank; did that step leave the state alone?"""
    engine, place = build(case)
    seen, untouched = [], True
    for step in range(3):
        batches = micro_batches(case, step, place.data_rank, place.layout.data)
        if step == poisoned_step and place.data_rank == place.layout.data - 1:
            mask = batches[0].loss_mask_BS.clone()
            mask[0, 0] = float("inf")
            batches[0] = replace(batches[0], loss_mask_BS=mask)
        before = [{name: t.clone() for name, t in shard.tensors.items()} for shard in engine.shards()]
        result = engine.train_batch(batches, step=step, learning_rate=1e-2)
        seen.append((result.loss, result.grad_norm, result.applied))
        if step == poisoned_step:
            after = [shard.tensors for shard in engine.shards()]
            untouched = all(torch.equal(old[n], new[n]) for old, new in zip(before, after, strict=True) for n in old)
    return seen, untouched


@pytest.mark.parametrize("zero_stage", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_step_that_is_not_finite_on_one_rank_is_skipped_on_all(zero_stage: int) -> None:
    check_skipping(Case("poisoned", 2, {"zero_stage": zero_stage}))


@pytest.mark.slow
@pytest.mark.parametrize("zero_stage", [0, 2])
@pytest.mark.parametrize("layout", [{}, {"pipeline_size": 2}, {"offload_optimizer": True}])
def test_skipping_in_more_layouts(zero_stage: int, layout: dict[str, Any]) -> None:
    if zero_stage == 0:
        layout = {key: value for key, value in layout.items() if key != "offload_optimizer"}
    check_skipping(Case("poisoned", 2, {"zero_stage": zero_stage} | layout))


def check_skipping(case: Case) -> None:
    ranks = run_ranks(poison_one_step, case.ranks, case, 1, process_group=False, preload=PRELOAD)
    clean = run_ranks(poison_one_step, case.ranks, case, -1, process_group=False, preload=PRELOAD)
    for (seen, untouched), (undisturbed, _) in zip(ranks, clean, strict=True):
        assert [applied for _, _, applied in seen] == [True, False, True]
        assert untouched
        assert seen[0] == undisturbed[0]
        # The step after trains on: another loss than after an applied step, but a number.
        assert 0 < seen[2][0] < 10
        assert 0 < seen[2][1] < 10


def flag(case: Case) -> tuple[float, ...]:
    engine, place = build(case)
    batches = micro_batches(case, 0, place.data_rank, place.layout.data)
    return engine.train_batch(batches, step=0, learning_rate=1e-3, flags=lambda: (float(place.rank == 1), 0.0)).flags


def test_one_rank_s_flag_is_known_to_all() -> None:
    ranks = run_ranks(flag, 2, Case("flags", 2, {"pipeline_size": 2}), process_group=False, preload=PRELOAD)
    assert ranks == [(1.0, 0.0), (1.0, 0.0)]


def waits_of_a_step(case: Case) -> tuple[int, set[str]]:
    """On each rank: lists read from tensors in a step, and the functions that read single numbers from them.

    On a GPU each of them would wait for the device, unless the tensor is in host memory.
    """
    from deepspeed.accelerator import get_accelerator
    from torch.utils._python_dispatch import TorchDispatchMode

    engine, place = build(case)
    batches = case.micro_batches(0, place.data_rank, place.layout.data)
    engine.train_batch(batches, step=0, learning_rate=1e-3)
    lists: list[int] = []
    readers: set[str] = set()
    to_list = torch.Tensor.tolist

    def counted(tensor: torch.Tensor) -> Any:
        lists.append(tensor.numel())
        return to_list(tensor)

    def refuse(*arguments: Any) -> None:
        raise AssertionError("the device is waited for")

    class Reading(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
            if function is torch.ops.aten._local_scalar_dense.default:
                outside = [frame.name for frame in traceback.extract_stack() if "/torch/" not in frame.filename]
                readers.add(outside[-2])  # the last is this method
            return function(*arguments, **(keywords or {}))

    with pytest.MonkeyPatch.context() as patch, Reading():
        patch.setattr(torch.Tensor, "tolist", counted)
        patch.setattr(get_accelerator(), "synchronize", refuse)
        patch.setattr(torch.cuda, "synchronize", refuse)
        for step in (1, 2):
            engine.train_batch(batches, step=step, learning_rate=1e-3)
    return len(lists), readers


@pytest.mark.slow
@pytest.mark.parametrize("zero_stage", [1, 3])
def test_a_step_waits_for_the_device_once(zero_stage: int) -> None:
    case = Case("waits", 2, {"zero_stage": zero_stage, "pipeline_size": 2}, precision="bf16")
    # DeepSpeed asks the norm that it gets from us, which is in host memory.
    expected = (2, {"is_invalid_grad_norm"})
    assert run_ranks(waits_of_a_step, 2, case, process_group=False, preload=PRELOAD) == [expected, expected]


def test_gradients_in_host_memory_are_read_when_the_gpu_has_copied_them(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[Any] = []
    stream = SimpleNamespace(synchronize=lambda: waited.append(1))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    on_gpu = torch.empty(1, device="meta")  # stands for a tensor that is not in host memory
    for gradients, device, expected in (
        ([on_gpu, torch.ones(1)], "cuda", 1),
        ([on_gpu], "cuda", 0),
        ([torch.ones(1)], "cpu", 0),
    ):
        waited.clear()
        wait_for_copies_to_host(gradients, torch.device(device))
        assert len(waited) == expected


def decays(case: Case) -> dict[str, float]:
    engine, _ = build(case)
    decay: dict[str, float] = {}
    for group in engine.zero.param_groups:
        for flat in group["params"]:
            decay |= {
                owned.parameter.spec.name: group["weight_decay"]
                for owned in engine.zero.owned_ranges()
                if owned.flat.data_ptr() == flat.data_ptr()
            }
    return decay


def test_norms_and_biases_do_not_decay() -> None:
    case = Case("decay", 1, {"zero_stage": 1}, family="gpt2")
    decay = run_ranks(decays, 1, case, process_group=False, preload=PRELOAD)[0]
    assert len(decay) == 4 + 4 * 12
    for name, value in decay.items():
        is_matrix = name.endswith("weight") and "layernorm" not in name
        assert value == (0.1 if is_matrix else 0.0), name


def scale_history(case: Case) -> list[tuple[float | None, bool]]:
    from deepspeed.accelerator import get_accelerator

    # DeepSpeed refuses fp16 on a CPU, which computes it, if slowly.
    get_accelerator().is_fp16_supported = lambda: True
    engine, place = build(case)
    history = []
    for step in range(3):
        batches = micro_batches(case, step, place.data_rank, place.layout.data)
        if step == 1:
            batches[0] = replace(batches[0], loss_mask_BS=batches[0].loss_mask_BS * float("nan"))
        result = engine.train_batch(batches, step=step, learning_rate=1e-3)
        history.append((result.loss_scale, result.applied))
    state = engine.loss_scale_state()
    engine.restore(engine.optimizer_step(), state)
    assert engine.loss_scale_state() == state
    return history


@pytest.mark.slow
def test_fp16_halves_its_scale_when_a_step_overflows() -> None:
    case = Case("fp16", 1, {"zero_stage": 2}, precision="fp16")
    history = run_ranks(scale_history, 1, case, process_group=False, preload=PRELOAD)[0]
    assert history == [(65536.0, True), (65536.0, False), (32768.0, True)]
