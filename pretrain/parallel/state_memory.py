"""How much memory each rank needs for what it holds throughout: weights, gradients, optimizer state. No torch.

Activations, what is gathered for a layer, buffers of collectives and the libraries come on top.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from pretrain.config import ModelConfig, RunConfig
from pretrain.models.parameter_table import ParameterSpec
from pretrain.parallel.layout import Layout

FP32_BYTES = 4


@dataclass(frozen=True)
class StateMemory:
    """Bytes that one rank holds.

    Attributes:
        device_bytes: on the device that computes.
        host_bytes: in host memory: what is offloaded, and the copy from which checkpoints are written.
    """

    device_bytes: int
    host_bytes: int


def state_memory(
    config: RunConfig, layout: Layout, weights: int, *, frozen: int = 0, trains: bool = True
) -> StateMemory:
    """What a rank of this run holds whose tensor x pipeline shard has so many weights that are trained.

    Of `frozen` ones beside them there is nothing but the weights.

    Without training there are no gradients, but in the buffers that stage 3 and an offloaded optimizer make at their
    start, and no copy for checkpoints.

    Gradients are fp32, whatever the precision. With an offloaded optimizer ZeRO-2 and 3 keep them twice in host
    memory: accumulated, and as what the optimizer reads.
    """
    parallel = config.parallel
    weight = FP32_BYTES if config.training.precision == "fp32" else 2
    state = FP32_BYTES * (1 + config.optimizer.states_per_weight(config.trained_parameters()))
    part = -(-weights // layout.data)
    states, gradients, held = (part if parallel.zero_stage >= stage else weights for stage in (1, 2, 3))
    if not trains and parallel.zero_stage < 3 and not parallel.offload_optimizer:
        gradients = 0
    kept = -(-frozen // layout.data) if parallel.zero_stage == 3 else frozen
    device: float = weight * (held + kept)
    host = state * part if trains else 0  # the checkpoint's copy: of replicas, one rank writes
    if parallel.offload_optimizer:
        host += (state + FP32_BYTES) * states
        if parallel.zero_stage == 1:
            device += FP32_BYTES * gradients
        else:
            host += FP32_BYTES * gradients
    else:
        device += state * states + FP32_BYTES * gradients
    return StateMemory(math.ceil(device), math.ceil(host))


def weights_of_stages(model: ModelConfig, layout: Layout, table: Iterable[ParameterSpec] | None = None) -> list[int]:
    """Weights of a tensor rank's shard of each pipeline stage; `model.vocab_size` must be known.

    Args:
        model: the network.
        layout: how it is cut.
        table: which of the weights of its layers; None: the model's own.
    """
    held = [0] * layout.pipeline
    for spec in model.parameters() if table is None else table:
        elements = spec.elements // (layout.tensor if spec.tensor_axis is not None else 1)
        for stage in range(layout.pipeline):
            if spec.is_held_by(stage, layout.pipeline, model.num_layers):
                held[stage] += elements
    return held
