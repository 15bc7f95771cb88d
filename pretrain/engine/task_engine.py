"""A DeepSpeed engine around any torch module: data parallel with ZeRO, for fine-tuning on tasks.

Pretraining has an engine of its own with every parallel axis (`engine.py`); this one knows nothing of megatron-core.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import torch
import torch.distributed as dist

from configs.errors import ConfigError, MachineError
from pretrain.parallel.launch import Launch, discover
from pretrain.engine.upstream import import_deepspeed

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class TaskOptimizer:
    """AdamW.

    Attributes:
        lr: learning rate at the start; `set_learning_rate` changes it.
        weight_decay: of matrices; vectors (norms, biases) get none.
        beta1, beta2, epsilon: as in the paper.
        clip_grad_norm: gradients are scaled down to this global norm; 0: never.
    """

    lr: float
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    clip_grad_norm: float = 1.0


@contextmanager
def task_processes(timeout_s: float = 1800.0) -> Iterator[Launch]:
    """The process group of whatever started this process, for as long as the block runs; alone needs no port.

    Raises:
        ConfigError: if the launcher's variables are incomplete.
        MachineError: if the ranks cannot meet.
    """
    launch = discover()
    if dist.is_initialized():
        yield launch
        return
    # DeepSpeed and its helpers read torchrun's words.
    words = {"RANK": launch.rank, "WORLD_SIZE": launch.world_size, "LOCAL_RANK": launch.local_rank}
    before = {key: os.environ.get(key) for key in words}
    os.environ.update({key: str(value) for key, value in words.items()})
    backend, options = _backend(launch)
    try:
        if launch.world_size == 1:
            dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1, **options)
        else:
            address = f"tcp://{launch.master_address}:{launch.master_port}"
            try:
                dist.init_process_group(
                    backend,
                    init_method=address,
                    rank=launch.rank,
                    world_size=launch.world_size,
                    timeout=timedelta(seconds=timeout_s),
                    **options,
                )
            except (dist.DistError, RuntimeError, OSError) as error:
                problem = str(error).strip().splitlines()[0]
                raise MachineError(f"the ranks cannot meet ({problem})", where=address) from None
        yield launch
    finally:
        _stop_processes()
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


def task_engine(
    model: torch.nn.Module,
    optimizer: TaskOptimizer,
    *,
    zero_stage: int,
    precision: Precision,
    micro_batch_size: int,
    accumulation_steps: int = 1,
) -> Any:
    """A `DeepSpeedEngine` for `model`; rank 0's weights go to all ranks.

    A step is `accumulation_steps` rounds of `loss = ...; engine.backward(loss); engine.step()`; the gradient is the
    mean over the rounds and the ranks.

    Args:
        model: fp32 on the CPU; its forward pass becomes the engine's.
        optimizer: how it is trained.
        zero_stage: 0 nothing is sharded, 1 optimizer state, 2 gradients too, 3 parameters too.
        precision: of weights and activations; master weights and moments are fp32.
        micro_batch_size: samples per rank and round.
        accumulation_steps: rounds per step.

    Raises:
        ConfigError: bf16 at stage 0, for which DeepSpeed has no optimizer with fp32 accumulation.
    """
    if precision == "bf16" and zero_stage == 0:
        raise ConfigError("is 0 together with precision=bf16", where="training.zero_stage", expected="1, 2 or 3")
    deepspeed = import_deepspeed()
    settings: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": micro_batch_size,
        "gradient_accumulation_steps": accumulation_steps,
        "gradient_clipping": optimizer.clip_grad_norm,
        "zero_optimization": {
            "stage": zero_stage,
            "overlap_comm": False,
            "contiguous_gradients": True,
            "stage3_param_persistence_threshold": 0,
        },
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 10**12,
        "bf16": {"enabled": precision == "bf16"},
    }
    if precision == "bf16":
        settings["data_types"] = {"grad_accum_dtype": "fp32"}
    engine, *_ = deepspeed.initialize(
        model=model,
        optimizer=torch.optim.AdamW(
            _decay_groups(model, optimizer.weight_decay),
            lr=optimizer.lr,
            betas=(optimizer.beta1, optimizer.beta2),
            eps=optimizer.epsilon,
        ),
        config=settings,
        dist_init_required=False,
    )
    return engine


def set_learning_rate(engine: Any, lr: float) -> None:
    """Use `lr` from the next step on."""
    for group in engine.optimizer.param_groups:
        group["lr"] = lr


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
    """What really runs: the engine's class, its ZeRO stage, its optimizer's class, the ranks."""
    return {
        "engine": type(engine).__name__,
        "zero_stage": int(engine.zero_optimization_stage()),
        "optimizer": type(engine.optimizer).__name__,
        "world_size": dist.get_world_size(),
    }


def _stop_processes() -> None:
    if not dist.is_initialized():
        return
    communication = sys.modules.get("deepspeed.comm")
    if communication is not None and communication.is_initialized():
        communication.destroy_process_group()  # forgets DeepSpeed's clones of the group, too
    else:
        dist.destroy_process_group()


def _decay_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trained if parameter.dim() >= 2]
    vectors = [parameter for parameter in trained if parameter.dim() < 2]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _backend(launch: Launch) -> tuple[str, dict[str, Any]]:
    if not torch.cuda.is_available():
        return "gloo", {}
    count = torch.cuda.device_count()
    if launch.local_rank >= count:
        raise ConfigError(f"is {launch.local_rank}", where="LOCAL_RANK", expected=f"below {count}, the GPUs here")
    device = torch.device("cuda", launch.local_rank)
    torch.cuda.set_device(device)
    return "nccl", {"device_id": device}
