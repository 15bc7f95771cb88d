"""A DeepSpeed engine around any torch module: data parallel with ZeRO, for fine-tuning on tasks.

Pretraining has an engine of its own with every parallel axis (`engine.py`); this one knows nothing of megatron-core.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Literal

import torch
import torch.distributed as dist

from configs.errors import ConfigError
from pretrain.config.optimizer import OptimizerConfig
from pretrain.engine.deepspeed_config import deepspeed_settings
from pretrain.engine.norms import square_sum
from pretrain.engine.processes import choose_device, join_ranks, launcher_variables, leave_ranks, variables_set
from pretrain.engine.task_partitioning import whole_shape
from pretrain.engine.upstream import import_deepspeed
from pretrain.optimizers.optimizer import optimizer_kind_of
from pretrain.parallel.launch import Launch, discover

Precision = Literal["fp32", "bf16"]


@contextmanager
def task_processes(timeout_s: float = 1800.0) -> Iterator[Launch]:
    """The process group of whatever started this process, for as long as the block runs; alone needs no port.

    Raises:
        ConfigError: if the launcher's variables are incomplete.
        MachineError: if the ranks cannot meet, or a process has no GPU of its own.
    """
    launch = discover()
    if dist.is_initialized():
        yield launch
        return
    # DeepSpeed and its helpers read torchrun's words.
    device = choose_device(launch)
    with variables_set(launcher_variables(launch, device)):
        try:
            join_ranks(launch, device, timedelta(seconds=timeout_s))
            yield launch
        finally:
            leave_ranks()


def task_engine(
    model: torch.nn.Module,
    optimizer: OptimizerConfig,
    *,
    zero_stage: int,
    precision: Precision,
    micro_batch_size: int,
    accumulation_steps: int = 1,
    layers_above: Mapping[str, int] | None = None,
) -> Any:
    """A `DeepSpeedEngine` for `model`; rank 0's weights go to all ranks.

    A step is `accumulation_steps` rounds of `loss = ...; engine.backward(loss); engine.step()`; the gradient is the
    mean over the rounds and the ranks.

    Args:
        model: fp32 on the CPU, or with parameters that a `Partitioner` made; its forward pass becomes the engine's.
        optimizer: how it is trained; matrices decay, vectors (norms, biases) do not.
        zero_stage: 0 nothing is sharded, 1 optimizer state, 2 gradients too, 3 parameters too.
        precision: of weights and activations; master weights and optimizer states are fp32.
        micro_batch_size: samples per rank and round.
        accumulation_steps: rounds per step.
        layers_above: of each parameter, by its name: -1 above all layers. The rate of a layer is `layer_decay` times
            that of the one above it, and layers can be left without a rate (`set_learning_rate`); None: no need.

    Raises:
        ConfigError: bf16 at stage 0, for which DeepSpeed has no optimizer with fp32 accumulation.
    """
    if precision == "bf16" and zero_stage == 0:
        raise ConfigError("is 0 together with precision=bf16", where="training.zero_stage", expected="1, 2 or 3")
    deepspeed = import_deepspeed()
    engine, *_ = deepspeed.initialize(
        model=model,
        optimizer=optimizer_kind_of(optimizer).build(_groups(model, optimizer, layers_above or {}), optimizer),
        config=deepspeed_settings(
            zero={"stage": zero_stage, "stage3_param_persistence_threshold": 0},
            precision=precision,
            micro_batch_size=micro_batch_size,
            clip_grad_norm=optimizer.clip_grad_norm,
            accumulation_steps=accumulation_steps,
        ),
        dist_init_required=False,
    )
    # deepspeed/runtime/engine.py:3503 (clip_fp32_gradients): at stage 0, takes each norm with torch in fp32, which on
    # the CPU errs by percents for large matrices; the stages above take it in fp64.
    engine.clip_fp32_gradients = lambda: clip_gradients(model.parameters(), optimizer.clip_grad_norm)
    return engine


def clip_gradients(parameters: Iterable[torch.nn.Parameter], largest_norm: float) -> None:
    """Scale the gradients down to a norm of `largest_norm` where it is above; they are the same on every rank."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = square_sum(gradients, gradients[0].device).sqrt() if gradients else torch.zeros(())
    coefficient = (largest_norm / (norm + 1e-6)).clamp(max=1.0).float()
    for gradient in gradients:
        gradient.mul_(coefficient)


def set_learning_rate(engine: Any, lr: float, open_layers: int | None = None) -> None:
    """Use `lr` from the next step on.

    Args:
        engine: made by `task_engine`.
        lr: of the highest layer and of what is above it.
        open_layers: the highest layers that have a rate; those below have 0, and no weight decay; None: all.
    """
    for group in engine.optimizer.param_groups:
        closed = open_layers is not None and group["layers_above"] >= open_layers
        group["lr"] = 0.0 if closed else lr * group["lr_scale"]


def full_weights(engine: Any) -> dict[str, torch.Tensor]:
    """The whole weights of the module by name, on the CPU; on rank 0 only, elsewhere empty. Collective."""
    weights: dict[str, torch.Tensor] = {}
    deepspeed = import_deepspeed()
    sharded = engine.zero_optimization_stage() == 3
    for name, parameter in engine.module.named_parameters():
        with deepspeed.zero.GatheredParameters([parameter], enabled=sharded):
            if dist.get_rank() == 0:
                weights[name] = parameter.detach().to("cpu", copy=True)
    return weights


def describe(engine: Any) -> dict[str, Any]:
    """What really runs: the engine's class, its ZeRO stage, its optimizer's class, the ranks, `cpu` or `cuda`."""
    return {
        "engine": type(engine).__name__,
        "zero_stage": int(engine.zero_optimization_stage()),
        "optimizer": type(engine.optimizer).__name__,
        "world_size": dist.get_world_size(),
        "device": torch.device(engine.device).type,
    }


def _groups(
    model: torch.nn.Module, optimizer: OptimizerConfig, layers_above: Mapping[str, int]
) -> list[dict[str, Any]]:
    """Parameter groups of what decays alike and has as many layers above it."""
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        above, decays = layers_above.get(name, -1), len(whole_shape(parameter)) >= 2
        new = {
            "params": [],
            "weight_decay": optimizer.weight_decay if decays else 0.0,
            "layers_above": above,
            "lr_scale": optimizer.layer_decay ** max(above, 0),
        }
        groups.setdefault((above, not decays), new)["params"].append(parameter)
    return [groups[key] for key in sorted(groups)]
