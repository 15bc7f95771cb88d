"""Which of megatron-core's fused kernels a model is built with.

Bias, dropout and residual sum, and bias and activation, are written in Python and compiled by torch at their first
use, with Triton on a GPU; they need neither Apex nor Transformer Engine.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from pretrain.config.parallel import ParallelConfig
from pretrain.models.transformer_config import TransformerModelConfig


def _gelu_tanh(x: torch.Tensor) -> torch.Tensor:
    return functional.gelu(x, approximate="tanh")


_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu": functional.gelu,
    "gelu_tanh": _gelu_tanh,
    "swiglu": functional.silu,
    "geglu": functional.gelu,
    "geglu_tanh": _gelu_tanh,
    "relu": functional.relu,
}


def can_compile() -> bool:
    """Whether torch compiles kernels here: there is a GPU, Triton, and the C compiler that Triton calls."""
    if not torch.cuda.is_available() or importlib.util.find_spec("triton") is None:
        return False
    return bool(os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang"))


def fusion_settings(model: TransformerModelConfig, parallel: ParallelConfig) -> dict[str, Any]:
    """The activation and the fused kernels as fields of megatron-core's `TransformerConfig`."""
    fuses = parallel.fusions == "auto" and can_compile()
    fuses_activation = fuses and _has_fused_activation(model, parallel)
    activation = _ACTIVATIONS[model.activation]
    if fuses_activation and model.activation == "gelu_tanh":
        # megatron/core/transformer/mlp.py:195 (forward): what it calls gelu is the approximation by tanh once it is
        # fused, so this is right for gelu_tanh and wrong for gelu.
        activation = functional.gelu
    return {
        "activation_func": activation,
        "bias_activation_fusion": fuses_activation,
        "bias_dropout_fusion": fuses,
        # These need kernels of Apex, or an attention that is not ours.
        "masked_softmax_fusion": False,
        "gradient_accumulation_fusion": False,
    }


def _has_fused_activation(model: TransformerModelConfig, parallel: ParallelConfig) -> bool:
    if model.bias and parallel.zero_stage == 3:
        # It keeps the bias for its backward pass, and ZeRO-3 takes the bias away before that.
        return False
    return model.activation == "swiglu" or (model.activation == "gelu_tanh" and model.bias)
