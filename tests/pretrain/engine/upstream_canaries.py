"""What ranks of their own do to see how deepspeed and megatron-core behave, unpatched and with our patches.

Each function runs in a process where nothing is patched yet. It raises AssertionError where upstream behaves
differently from what the patch assumes.
"""

from __future__ import annotations

import contextlib
import importlib
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist

IN_0, IN_1 = 3, 2
"""Widths of the two layers of `small_engine`'s model; their gradients for an input of ones are known."""


def small_engine(stage: int, kind: Any = torch.optim.SGD) -> tuple[Any, list[torch.nn.Parameter]]:
    """A DeepSpeed engine as ours are set up, around two weights in groups of their own, with plain SGD and clipping."""
    from pretrain.engine.deepspeed_config import deepspeed_settings
    from pretrain.engine.upstream import import_deepspeed

    model = torch.nn.Sequential(torch.nn.Linear(IN_0, IN_1, bias=False), torch.nn.Linear(IN_1, 1, bias=False))
    for layer in model:
        torch.nn.init.ones_(layer.weight)
    parameters = list(model.parameters())
    zero = {"stage": stage, "stage3_param_persistence_threshold": 0}
    settings = deepspeed_settings(zero=zero, precision="fp32", micro_batch_size=1, clip_grad_norm=1.0)
    settings["managed_gradient_accumulation"] = False
    optimizer = kind([{"params": [parameter]} for parameter in parameters], lr=1.0)
    deepspeed = import_deepspeed()
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=settings, dist_init_required=False)
    return engine, parameters


def our_view(engine: Any, parameters: list[torch.nn.Parameter], stage: int) -> Any:
    """The engine's optimizer behind our interface."""
    from pretrain.engine.zero_partitions import FlatPartitions, ParameterPartitions
    from pretrain.optimizers.adamw_config import AdamWConfig

    return (ParameterPartitions if stage == 3 else FlatPartitions)(engine.optimizer, parameters, AdamWConfig(lr=1.0))


def loss_of(engine: Any) -> torch.Tensor:
    return engine(torch.ones(1, IN_0)).sum()


def weights(engine: Any) -> list[torch.Tensor]:
    from pretrain.engine.task_engine import full_weights

    return list(full_weights(engine).values())


def zero_norm_hooks(stage: int) -> None:
    """Stages 1 to 3: upstream's norm is taken once per group; our hooks are called in its place and decide the step."""
    engine, parameters = small_engine(stage)
    taken: list[int] = []
    norm_of_group = engine.optimizer.get_grad_norm_direct

    def counted(*arguments: Any, **options: Any) -> Any:
        taken.append(1)
        return norm_of_group(*arguments, **options)

    engine.optimizer.get_grad_norm_direct = counted
    engine.backward(loss_of(engine))
    engine.step()
    assert len(taken) == len(parameters), "upstream's norm is not one per parameter group any more"
    answers = [True, False]

    def measure() -> tuple[torch.Tensor, bool]:
        return torch.tensor(1000.0), answers.pop(0)

    our_view(engine, parameters, stage).before_step(measure)
    taken.clear()
    for may_apply in tuple(answers):
        before = weights(engine)
        engine.backward(loss_of(engine))
        left = len(answers)
        engine.step()
        assert (left - len(answers), taken) == (1, []), "the hooks are not called once, in place of upstream's norm"
        assert engine.was_step_applied() == may_apply
        moved = [float((old - new).abs().max()) for old, new in zip(before, weights(engine), strict=True)]
        # The gradients are of order 1: with upstream's norm the step would have the length 1, with ours a thousandth.
        assert all(0 < m < 0.01 for m in moved) if may_apply else not any(moved), moved


def zero_partitions(stage: int) -> None:
    """Stages 1 to 3: gradients, owned ranges and master parameters are where our interface looks for them."""
    engine, parameters = small_engine(stage)
    view = our_view(engine, parameters, stage)
    engine.backward(loss_of(engine))
    seen: dict[int, torch.Tensor] = {}

    def measure() -> tuple[torch.Tensor, bool]:
        seen.update({id(p): shard.clone() for p, shard in view.gradient_shards()})
        return torch.tensor(1.0), False

    view.before_step(measure)
    engine.step()
    expected = [torch.ones(IN_0 * IN_1), torch.full((IN_1,), float(IN_0))]
    assert all(torch.equal(seen[id(p)].view(-1), gradient) for p, gradient in zip(parameters, expected, strict=True))
    ranges = {id(o.parameter): (o.start, o.stop) for o in view.owned_ranges()}
    assert ranges == {id(parameters[0]): (0, IN_0 * IN_1), id(parameters[1]): (0, IN_1)}
    for owned in view.owned_ranges():
        owned.flat.data[owned.offset : owned.offset + owned.stop - owned.start] = 7.0
    view.copy_master_to_model()
    assert all(bool((weight == 7.0).all()) for weight in weights(engine)), "the model's parameters were not set"


def adagrad_is_made_anew(stage: int) -> None:
    """torch's Adagrad, and what is derived from it, is replaced by one with a single group."""
    engine, parameters = small_engine(stage, torch.optim.Adagrad)
    assert len(parameters) > 1 == len(engine.optimizer.optimizer.param_groups)


def stage3_micro_step_id() -> None:
    """Stage 3: with micro_step_id 0 a micro-batch overwrites the gradient buffer, with 1 it is added to it."""
    engine, _ = small_engine(3)
    zero = engine.optimizer
    for micro_step_id, expected in ((0, 0.0), (1, 7.0)):
        loss = loss_of(engine)
        zero.grad_partitions_flat_buffer.fill_(7.0)
        zero.micro_step_id = micro_step_id
        engine.backward(loss)
        found = zero.grad_partitions_flat_buffer[: IN_0 * IN_1]
        assert torch.equal(found, torch.full((IN_0 * IN_1,), expected + 1.0)), (micro_step_id, found)


def announced_backward() -> None:
    """A backward pass that is announced leaves the epilogue to us, and only `clear_backward_seen_flag` counts it."""
    engine, _ = small_engine(3)
    epilogue, calls = engine._backward_epilogue, []
    engine._backward_epilogue = lambda: (calls.append(1), epilogue())[1]
    torch.autograd.backward(loss_of(engine))
    assert len(calls) == 1, "the engine does not take an unannounced backward pass for its user's any more"
    loss = loss_of(engine)
    with engine._running_engine_backward_lock:
        engine._running_engine_backward_count += 1
        engine._running_engine_backward = True
    torch.autograd.backward(loss)
    assert len(calls) == 1, "the announcement has no effect"
    number = engine.optimizer.micro_step_id
    engine._backward_epilogue()
    assert engine.optimizer.micro_step_id == number, "the epilogue counts the micro-batch: no need to do it"
    engine.optimizer.clear_backward_seen_flag()
    assert engine.optimizer.micro_step_id == number + 1


def trace_check_over_the_world(rank_is_alone_in_stage: bool) -> None:
    """Two ranks: upstream compares their traces though they hold different stages; ours compares within a stage."""
    import deepspeed
    from deepspeed.runtime.zero import partitioned_param_coordinator as coordinator
    from deepspeed.runtime.zero import utils

    from pretrain.engine import upstream

    upstream.import_deepspeed()
    deepspeed.init_distributed(dist_backend="gloo", dist_init_required=False)
    rank = dist.get_rank()
    raised = contextlib.nullcontext() if rank == 0 else pytest.raises(RuntimeError, match="disagreement")
    with raised:
        utils.assert_ints_same_as_other_ranks([rank])
    alone = dist.new_group([rank], use_local_synchronization=True)
    upstream.scope_trace_check_to(alone if rank_is_alone_in_stage else dist.group.WORLD)
    disagree = pytest.raises(RuntimeError, match="disagree on the order")
    with contextlib.nullcontext() if rank_is_alone_in_stage else disagree:
        coordinator.assert_ints_same_as_other_ranks([rank])


def bf16_is_sent_elsewhere() -> None:
    """Upstream gives bf16 at stage 1 to BF16_Optimizer; with the patch every stage has the ZeRO optimizer."""
    import deepspeed
    from deepspeed.runtime import engine as deepspeed_engine

    from pretrain.engine import upstream

    upstream._skip_shared_memory_build(deepspeed)  # this one alone: joining would start a compiler
    deepspeed.init_distributed(dist_backend="gloo", dist_init_required=False)

    def chosen(stage: int) -> Any:
        settings = SimpleNamespace(
            get_data_types=lambda: (torch.bfloat16, torch.float32),
            zero_optimization=lambda: True,
            zero_allow_untested_optimizer=lambda: True,
            zero_optimization_stage=lambda: stage,
            zero_cpu_offload=lambda: False,
            zero_compute_grad_norm=lambda: True,
            global_rank=1,
        )
        return deepspeed_engine.DeepSpeedEngine._do_optimizer_sanity_check(settings, torch.optim.SGD([torch.ones(1)]))

    assert (chosen(1), chosen(2)) == (deepspeed_engine.BFLOAT16, deepspeed_engine.ZERO_OPTIMIZATION)
    # Now with the patch.
    upstream.import_deepspeed()
    assert (chosen(1), chosen(2)) == (deepspeed_engine.ZERO_OPTIMIZATION, deepspeed_engine.ZERO_OPTIMIZATION)


def shared_memory_is_built() -> None:
    """DeepSpeed builds its shared-memory collectives unless the table of operators says that they do not fit."""
    import deepspeed
    from deepspeed.accelerator import get_accelerator

    from pretrain.engine.upstream import import_deepspeed

    backend = importlib.import_module("deepspeed.comm.torch")
    name = get_accelerator().create_op_builder("ShareMemCommBuilder").NAME
    deepspeed.ops.__compatible_ops__[name] = True
    built: list[str] = []
    builder = SimpleNamespace(NAME=name, load=lambda: built.append(name), absolute_name=lambda: name)
    get_accelerator().create_op_builder = lambda class_name: builder
    backend.build_shm_op()
    assert built == ["deepspeed_shm_comm"]
    import_deepspeed()
    assert backend.build_shm_op() is None and len(built) == 1


def collectives_warn() -> None:
    """DeepSpeed's collectives warn of torch's deprecated names, and `import_deepspeed` silences exactly that."""
    from deepspeed.comm.torch import TorchBackend

    from pretrain.engine.upstream import import_deepspeed

    def warned() -> list[str]:
        with warnings.catch_warnings(record=True) as seen:
            TorchBackend.get_all_gather_function()(torch.zeros(1), torch.ones(1))
            TorchBackend.get_reduce_scatter_function()(torch.zeros(1), torch.ones(1))
        return [str(w.message) for w in seen if "is deprecated" in str(w.message)]

    warnings.simplefilter("always")
    assert len(warned()) == 2
    import_deepspeed()
    assert warned() == []


def lowest_loss_scale_raises() -> None:
    """At the lowest loss scale an overflow raises, unless the attribute that we set says not to."""
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler

    from pretrain.engine.upstream import import_deepspeed

    import_deepspeed().init_distributed(dist_backend="gloo", dist_init_required=False)
    scaler = DynamicLossScaler(1.0, scale_window=1000, min_scale=1.0, delayed_shift=1, consecutive_hysteresis=False)
    with pytest.raises(Exception, match="already at minimum"):
        scaler.update_scale(True)
    scaler.raise_error_at_min_scale = False
    scaler.update_scale(True)
    assert scaler.cur_scale == 1.0


def generator_states() -> None:
    """megatron-core's tracker has states of its own and asks CUDA's generator; with ours neither is there."""
    from megatron.core.tensor_parallel import random as megatron_random

    from pretrain.engine import random_state

    with pytest.raises(Exception, match="is not added"), megatron_random.CudaRNGStatesTracker().fork():
        pass
    megatron_random.initialize_rng_tracker()
    with pytest.raises((AssertionError, RuntimeError)):
        megatron_random._get_all_rng_states()
    random_state.install()
    assert isinstance(megatron_random.get_cuda_rng_tracker(), random_state.StatelessTracker)
    before = torch.get_rng_state()
    with megatron_random._fork_rng():
        torch.rand(1)
    assert torch.equal(torch.get_rng_state(), before), "recompute does not restore the CPU's generator"


def cuda_is_named() -> None:
    """megatron-core's modules and schedules ask for `cuda`; with the bridge they get the CPU."""
    from megatron.core.models.common.embeddings.rotary_pos_embedding import RotaryEmbedding
    from megatron.core.pipeline_parallel import schedules

    from pretrain.engine import cpu_bridge

    rotary = RotaryEmbedding(kv_channels=4, rotary_percent=1.0, use_cpu_initialization=True)
    asked: tuple[Callable[[], Any], ...] = (
        lambda: rotary(8),
        lambda: schedules.torch.zeros([], dtype=torch.int, device="cuda"),
    )
    for ask in asked:
        with pytest.raises((AssertionError, RuntimeError)):
            ask()
    cpu_bridge.install()
    assert all(ask().device.type == "cpu" for ask in asked)
