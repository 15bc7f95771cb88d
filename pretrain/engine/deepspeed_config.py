"""Our config in DeepSpeed's words: a pure function, so that users never write DeepSpeed JSON."""

from __future__ import annotations

from typing import Any

from pretrain.config import RunConfig


def deepspeed_config(config: RunConfig) -> dict[str, Any]:
    """What `deepspeed.initialize` gets.

    Accumulation is ours: DeepSpeed sees every micro-batch as a step of its own that `managed_gradient_accumulation`
    false leaves open, and ZeRO-2/3 still reduce-scatter each of them, so no full gradient is kept.
    """
    training, parallel = config.training, config.parallel
    # Stage 0 is run as stage 1 whose partition group is the rank alone: nothing is sharded, the 16-bit paths,
    # checkpoints and gradient hooks are the same for all stages. The data-parallel mean is ours (gradients.py).
    zero: dict[str, Any] = {
        "stage": max(1, parallel.zero_stage),
        "overlap_comm": False,
        "contiguous_gradients": True,
        "reduce_bucket_size": 50_000_000,
        "allgather_bucket_size": 50_000_000,
        "stage3_param_persistence_threshold": parallel.zero3_persistent_elements,
        "stage3_prefetch_bucket_size": 0,
    }
    if parallel.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": False}
    settings: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": training.micro_batch_size,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": config.optimizer.clip_grad_norm,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 10**12,
        "bf16": {"enabled": training.precision == "bf16"},
    }
    if training.precision == "fp16":
        power = max(0, round(training.initial_loss_scale).bit_length() - 1)
        settings["fp16"] = {"enabled": True, "initial_scale_power": power, "hysteresis": 1}
    if training.precision != "fp32":
        settings["data_types"] = {"grad_accum_dtype": "fp32"}
    return settings
