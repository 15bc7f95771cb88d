"""The GPT of one pipeline stage, built on megatron-core, with weights that depend on nothing but seed and name."""

from __future__ import annotations

from typing import Any

import torch
from megatron.core.models.gpt import GPTModel
from megatron.core.transformer import TransformerConfig
from megatron.core.transformer.transformer_block import TransformerBlockSubmodules, get_num_layers_to_build
from megatron.core.transformer.transformer_layer import get_transformer_layer_offset
from torch.nn import functional

from pretrain.config import ParallelConfig
from pretrain.model_config import ModelConfig
from pretrain.models import dropout_seeds
from pretrain.models.layers import Norm, portable_layer_spec
from pretrain.models.parameters import global_name, initial_shard, rule_for, sharded_shape


def _gelu_tanh(x: torch.Tensor) -> torch.Tensor:
    return functional.gelu(x, approximate="tanh")


_ACTIVATIONS = {"gelu": functional.gelu, "gelu_tanh": _gelu_tanh, "swiglu": functional.silu}


def transformer_config(model: ModelConfig, parallel: ParallelConfig, dtype: torch.dtype) -> TransformerConfig:
    """Our config in megatron-core's words."""
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
        ffn_hidden_size=model.ffn_size,
        normalization=model.normalization,
        layernorm_epsilon=model.norm_epsilon,
        activation_func=_ACTIVATIONS[model.activation],
        gated_linear_unit=model.activation == "swiglu",
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
        # The weights are ours (initialize_weights): drawing them here would cost time and depend on the layout.
        use_cpu_initialization=True,
        perform_initialization=False,
        # Fusions that need Apex or Transformer Engine.
        bias_dropout_fusion=False,
        bias_activation_fusion=False,
        masked_softmax_fusion=False,
        gradient_accumulation_fusion=False,
        deallocate_pipeline_outputs=False,
        **recompute,
    )


def build_gpt(
    model: ModelConfig, config: TransformerConfig, *, first_stage: bool, last_stage: bool, seed: int
) -> GPTModel:
    """Build one rank's stage and tensor shard of the model, with its initial weights.

    Every parameter carries `global_name`, `sharded_shape`, `weight_decays` and megatron's `tensor_model_parallel`.
    """
    layer = portable_layer_spec(config)
    layers = [layer] * get_num_layers_to_build(config)
    gpt = GPTModel(
        config,
        TransformerBlockSubmodules(layer_specs=layers, layer_norm=Norm),
        vocab_size=model.padded_vocab_size,
        max_sequence_length=model.seq_length,
        pre_process=first_stage,
        post_process=last_stage,
        share_embeddings_and_output_weights=model.tie_embeddings,
        position_embedding_type="rope" if model.position_embedding == "rope" else "learned_absolute",
        rotary_base=model.rotary_base,
    )
    _name_and_initialize(gpt, model, config, seed)
    if model.hidden_dropout or model.attention_dropout:
        for block_layer in gpt.decoder.layers:
            block_layer.register_forward_pre_hook(_seed_layer)
    return gpt


def _name_and_initialize(gpt: GPTModel, model: ModelConfig, config: TransformerConfig, seed: int) -> None:
    first_layer = get_transformer_layer_offset(config)
    rank, size = gpt.pg_collection.tp.rank(), config.tensor_model_parallel_size
    with torch.no_grad():
        for local_name, parameter in gpt.named_parameters():
            name = global_name(local_name, first_layer, tied=model.tie_embeddings)
            shape = sharded_shape(name, parameter.shape, model, rank, size)
            parameter.copy_(initial_shard(shape, model, seed))
            parameter.global_name = name
            parameter.sharded_shape = shape
            parameter.weight_decays = rule_for(name, model).decays
            parameter.tensor_model_parallel = shape.tensor_axis is not None


def _seed_layer(layer: torch.nn.Module, inputs: Any) -> None:
    dropout_seeds.seed_layer(int(layer.layer_number))  # type: ignore[arg-type]
