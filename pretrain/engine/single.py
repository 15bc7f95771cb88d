"""Our model in this one process, without an optimizer: the reference that exports are compared with.

Shape letters: B samples, S tokens, V padded vocabulary.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.distributed as dist

from pretrain.config import ParallelConfig
from pretrain.models.gpt.config import ModelConfig


def reference_logits(model: ModelConfig, tensors: Mapping[str, torch.Tensor], tokens_BS: torch.Tensor) -> torch.Tensor:
    """Logits of our megatron-core model, fp32 on the CPU.

    Args:
        model: the architecture; `vocab_size` must be known.
        tensors: the whole weights by global name, as a checkpoint has them.
        tokens_BS: int64 token ids, S at most `model.seq_length`.

    Returns:
        logits_BSV, fp32.

    Raises:
        KeyError: if `tensors` lacks a weight of the model.
        ValueError: if a weight has another shape than the model, or the process already trains with others.
    """
    with _one_process(), torch.no_grad():
        from pretrain.models.gpt.network import build_gpt, transformer_config

        config = transformer_config(model, ParallelConfig(zero_stage=0), torch.float32)
        gpt = build_gpt(model, config, first_stage=True, last_stage=True, seed=0).eval()
        for parameter in gpt.parameters():
            name = parameter.global_name
            if tuple(tensors[name].shape) != tuple(parameter.shape):
                raise ValueError(f"{name} is {tuple(tensors[name].shape)}, the model has {tuple(parameter.shape)}")
            parameter.copy_(tensors[name])
        position_ids_BS = torch.arange(tokens_BS.shape[1]).expand_as(tokens_BS)
        return gpt(tokens_BS, position_ids_BS, None).float()


@contextmanager
def _one_process() -> Iterator[None]:
    """Process groups of this process alone, taken down again if they were not there before."""
    warnings.filterwarnings("ignore", module="megatron")
    from megatron.core import parallel_state

    from pretrain.engine import cpu_bridge, random_state

    if dist.is_initialized() and dist.get_world_size() > 1:
        raise ValueError("the reference model runs in a process of its own")
    started = not dist.is_initialized()
    if started:
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    grouped = not parallel_state.model_parallel_is_initialized()
    cpu_bridge.install()
    random_state.install()
    if grouped:
        parallel_state.initialize_model_parallel()
    try:
        yield
    finally:
        if grouped:
            parallel_state.destroy_model_parallel()
        if started:
            dist.destroy_process_group()
