"""Our config sections -> megatron-core's `TransformerConfig`."""

from __future__ import annotations

from typing import Any

import torch
from megatron.core.transformer import TransformerConfig

from pretrain.config.parallel import ParallelConfig
from pretrain.models.fusions import fusion_settings
from pretrain.models.transformer_config import TransformerModelConfig


def megatron_config(
    model: TransformerModelConfig, parallel: ParallelConfig, dtype: torch.dtype, **more: Any
) -> TransformerConfig:
    """What megatron-core's modules and schedules read; `more` are fields that only one family sets."""
    recompute: dict[str, Any] = {}
    if parallel.recompute == "full":
        recompute = {"recompute_granularity": "full", "recompute_method": "uniform", "recompute_num_layers": 1}
    elif parallel.recompute == "selective":
        recompute = {"recompute_granularity": "selective", "recompute_modules": ["core_attn"]}
    return TransformerConfig(
        num_layers=model.num_layers,
        hidden_size=model.hidden_size,
        num_attention_heads=model.num_attention_heads,
        num_query_groups=model.query_groups,
        kv_channels=model.head_size,
        ffn_hidden_size=model.ffn_size,
        normalization=model.normalization,
        layernorm_epsilon=model.norm_epsilon,
        gated_linear_unit=model.is_gated,
        add_bias_linear=model.bias,
        hidden_dropout=model.hidden_dropout,
        attention_dropout=model.attention_dropout,
        tensor_model_parallel_size=parallel.tensor_size,
        pipeline_model_parallel_size=parallel.pipeline_size,
        sequence_parallel=parallel.sequence_parallel,
        params_dtype=dtype,
        pipeline_dtype=dtype,
        bf16=dtype == torch.bfloat16,
        fp16=dtype == torch.float16,
        # The weights are ours (initialization.py): drawing them here would cost time and depend on the layout.
        use_cpu_initialization=True,
        perform_initialization=False,
        deallocate_pipeline_outputs=False,
        # The embedding's backward pass is one that repeats, if that was asked for (engine/determinism.py).
        deterministic_mode=torch.are_deterministic_algorithms_enabled(),
        **fusion_settings(model, parallel),
        **recompute,
        **more,
    )


def schedule_config(hidden_size: int, parallel: ParallelConfig, dtype: torch.dtype) -> TransformerConfig:
    """What megatron-core's pipeline schedules read of a network that is not made of megatron's modules."""
    return TransformerConfig(
        num_layers=parallel.pipeline_size,
        hidden_size=hidden_size,
        num_attention_heads=1,
        tensor_model_parallel_size=parallel.tensor_size,
        pipeline_model_parallel_size=parallel.pipeline_size,
        params_dtype=dtype,
        pipeline_dtype=dtype,
        deallocate_pipeline_outputs=False,
    )
