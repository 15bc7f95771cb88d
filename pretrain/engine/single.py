"""Our model in this one process, without an optimizer: the reference that exports are compared with.

Shape letters: B samples, S tokens, V padded vocabulary.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.distributed as dist

from pretrain.config.method import NetworkMethod
from pretrain.config.model import ModelConfig
from pretrain.config.parallel import ParallelConfig
from pretrain.data.batch import MicroBatch
from pretrain.engine.processes import join_ranks, leave_ranks
from pretrain.parallel.launch import Launch


def reference_outputs(
    model: ModelConfig,
    tensors: Mapping[str, torch.Tensor],
    batch: MicroBatch,
    method: NetworkMethod | None = None,
) -> dict[str, torch.Tensor]:
    """What our megatron-core model computes, fp32 on the CPU.

    Args:
        model: the architecture; `vocab_size` must be known.
        tensors: the whole weights by global name, as a checkpoint has them.
        batch: what is read; labels are not looked at.
        method: where it is an adapter, the model has it, and `tensors` hold its weights, too.

    Returns:
        `logits` [B, S, V] (of an encoder-decoder, for what its decoder reads), and the outputs of other heads by name.

    Raises:
        KeyError: if `tensors` lacks a weight of the model.
        ValueError: if a weight has another shape than the model, or the process already trains with others.
    """
    with _one_process(), torch.no_grad():
        from pretrain.models.family import Output, StagePlace, family_of
        from pretrain.models.initialization import build_stage, materialize
        from pretrain.models.parameter_table import ParameterSpec
        from pretrain.parallel.sharded_shape import ShardedShape

        def given(spec: ParameterSpec, shape: ShardedShape, start: int, stop: int, target: torch.Tensor) -> None:
            weight = tensors[spec.name]
            if tuple(weight.shape) != spec.shape:
                raise ValueError(f"{spec.name} is {tuple(weight.shape)}, the model has {spec.shape}")
            target.copy_(weight.reshape(-1)[start:stop])

        family = family_of(model)
        module, _ = build_stage(
            family, model, ParallelConfig(zero_stage=0, fusions="none"), torch.float32, StagePlace(), method
        )
        materialize(module, torch.device("cpu"), given)
        module.eval()
        output = family.forward(module, module, batch)
        assert isinstance(output, Output)
        return {"logits": output.logits_SBV.transpose(0, 1).float(), **output.heads}


def reference_logits(model: ModelConfig, tensors: Mapping[str, torch.Tensor], tokens_BS: torch.Tensor) -> torch.Tensor:
    """Logits of our megatron-core model on plain token ids, fp32 on the CPU, [B, S, V]; see `reference_outputs`."""
    positions_BS = torch.arange(tokens_BS.shape[1]).expand_as(tokens_BS)
    batch = MicroBatch(tokens_BS, tokens_BS, torch.ones(tokens_BS.shape), positions_BS)
    return reference_outputs(model, tensors, batch)["logits"]


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
        join_ranks(Launch(0, 1, 0, 1, None, None, "python"), torch.device("cpu"))
    grouped = not parallel_state.model_parallel_is_initialized()
    random_state.install()
    if grouped:
        parallel_state.initialize_model_parallel()
    try:
        with cpu_bridge.on_cpu():
            yield
    finally:
        if grouped:
            parallel_state.destroy_model_parallel()
        if started:
            leave_ranks()
