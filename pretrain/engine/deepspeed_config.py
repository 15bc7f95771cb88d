"""Our config sections -> DeepSpeed's config: pure functions, so that users never write DeepSpeed JSON."""

from __future__ import annotations

from typing import Any, Literal

from pretrain.config.parallel import ParallelConfig
from pretrain.config.training import TrainingConfig

Precision = Literal["fp32", "bf16", "fp16"]
_NEVER = 10**12


def communication_precision(precision: Precision, zero_stage: int, configured: Precision | None = None) -> Precision:
    """Number format in which gradients are summed over data ranks.

    Stages 0 and 1 have them in fp32, summed over the micro-batches, and would round that sum; stage 2 sums once per
    micro-batch, as stage 3, which has the larger traffic beside its gathers.
    """
    if configured is not None:
        return configured
    return precision if zero_stage == 3 else "fp32"


def deepspeed_settings(
    *,
    zero: dict[str, Any],
    precision: Precision,
    micro_batch_size: int,
    clip_grad_norm: float,
    accumulation_steps: int = 1,
    communication: Precision | None = None,
) -> dict[str, Any]:
    """The DeepSpeed config that every engine of ours has in common.

    Args:
        zero: the section `zero_optimization`, `stage` among its keys.
        precision: number format of weights and activations; gradients are accumulated in fp32.
        micro_batch_size: samples per rank and forward pass.
        clip_grad_norm: gradients are scaled down to this global norm; 0: never.
        accumulation_steps: micro-batches per step, as far as DeepSpeed is to know.
        communication: see `communication_precision`; None: the default of the stage.
    """
    settings: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": micro_batch_size,
        "gradient_accumulation_steps": accumulation_steps,
        "gradient_clipping": clip_grad_norm,
        "zero_optimization": {"overlap_comm": False, "contiguous_gradients": True, **zero},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": _NEVER,
        # It would wait for the device at every forward pass; the monitor measures speed from the one wait of a step.
        "timers": {"throughput": {"enabled": False}},
        "bf16": {"enabled": precision == "bf16"},
        "communication_data_type": communication_precision(precision, zero["stage"], communication),
    }
    if precision != "fp32":
        settings["data_types"] = {"grad_accum_dtype": "fp32"}
    return settings


def deepspeed_config(training: TrainingConfig, parallel: ParallelConfig, clip_grad_norm: float) -> dict[str, Any]:
    """The DeepSpeed config of the pretraining engine.

    Accumulation is ours: DeepSpeed sees every micro-batch as a step of its own that `managed_gradient_accumulation`
    false leaves open, and ZeRO-2/3 still reduce each of them, so no full gradient is kept.
    """
    # Stage 0 is run as stage 1 whose partition group is the rank alone: nothing is sharded, the 16-bit paths,
    # checkpoints and gradient hooks are the same for all stages. The data-parallel mean is ours (gradients.py).
    zero: dict[str, Any] = {
        "stage": max(1, parallel.zero_stage),
        "reduce_bucket_size": 50_000_000,
        "allgather_bucket_size": 50_000_000,
        "stage3_param_persistence_threshold": parallel.zero3_persistent_elements,
        "stage3_prefetch_bucket_size": parallel.zero3_prefetch_elements,
        "overlap_comm": parallel.zero_overlap,
    }
    if parallel.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": parallel.pins_offload}
    settings = deepspeed_settings(
        zero=zero,
        precision=training.precision,
        micro_batch_size=training.micro_batch_size,
        clip_grad_norm=clip_grad_norm,
        # At stage 0 DeepSpeed sums over the rank alone, and must not round.
        communication=parallel.communication_precision if parallel.zero_stage else "fp32",
    )
    settings["managed_gradient_accumulation"] = False
    if training.precision == "fp16":
        power = max(0, round(training.initial_loss_scale).bit_length() - 1)
        settings["fp16"] = {"enabled": True, "initial_scale_power": power, "hysteresis": 1}
    return settings
