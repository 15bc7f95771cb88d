"""LoRA beside megatron-core's linear layers, under tensor and sequence parallelism (Hu et al. 2021, section 4.1).

Of a layer that is cut by rows (column-parallel) the second factor is cut with it, and each tensor rank has all of the
first; of one that is cut by columns (row-parallel) it is the other way round. Ranks exchange the product with the
first factor alone, which is as thin as the rank of the adapter, where the layer itself exchanges whole rows:

| layer | sequence split | forward, after the first factor | backward, there | whole factor's gradient |
|---|---|---|---|---|
| cut by rows | no | nothing | sum over tensor ranks | complete |
| cut by rows | yes | gather the sequence | sum, each its part of the sequence | to be summed |
| cut by columns | no | sum over tensor ranks | nothing | complete |
| cut by columns | yes | sum, each its part of the sequence | gather the sequence | to be summed |

Shape letters: S sequence, P this tensor rank's part of it, B micro-batch, I this rank's inputs of the layer, O its
outputs, R rank of the adapter.
"""

from __future__ import annotations

from typing import Any

import torch
from megatron.core import parallel_state
from megatron.core.tensor_parallel import (
    ColumnParallelLinear,
    RowParallelLinear,
    copy_to_tensor_model_parallel_region,
    gather_from_sequence_parallel_region,
    reduce_from_tensor_model_parallel_region,
    reduce_scatter_to_sequence_parallel_region,
)
from megatron.core.transformer import TransformerConfig
from torch.nn.functional import linear

from pretrain.config.method import ADAPTER, LowRankMethod
from pretrain.config.model import ModelConfig
from pretrain.models import dropout_seeds
from pretrain.models.initialization import global_name


class LowRankAdapters:
    """Puts adapters into a stage.

    Args:
        method: their rank and scale, and beside which layers they stand.
    """

    def __init__(self, method: LowRankMethod) -> None:
        self.method = method

    def put_in(self, stage: torch.nn.Module, model: ModelConfig, config: TransformerConfig, first_layer: int) -> None:
        """Add the adapters of a stage, and freeze all else.

        Args:
            stage: this rank's part of the network; it is changed.
            model: the network.
            config: megatron-core's config of the stage.
            first_layer: number of the stage's first layer over the whole model, from 0.
        """
        stage.requires_grad_(False)
        targets = self.method.targets(model)
        for name, layer in list(stage.named_modules()):
            if name.rpartition(".")[2] in targets:
                setattr(layer, ADAPTER, LowRankAdapter(layer, config, self.method, global_name(name, first_layer)))
                layer.register_forward_hook(_add)
        if config.recompute_granularity == "full" and model.token_embedding is not None:
            for name, module in stage.named_modules():
                if name == model.token_embedding:
                    module.register_forward_hook(_require_gradient)


class LowRankAdapter(torch.nn.Module):
    """The product of two factors of one linear layer, which is added to what the layer gives.

    Args:
        layer: megatron-core's.
        config: megatron-core's.
        method: rank, scale and dropout.
        name: of the layer over the whole model, by which dropout is drawn.
    """

    def __init__(
        self,
        layer: ColumnParallelLinear | RowParallelLinear,
        config: TransformerConfig,
        method: LowRankMethod,
        name: str,
    ) -> None:
        super().__init__()
        self.name = name
        self.is_column = isinstance(layer, ColumnParallelLinear)
        self.sequence_parallel, self.tensor_size = config.sequence_parallel, config.tensor_model_parallel_size
        self.scale, self.dropout = method.scale, method.dropout
        inputs = layer.input_size if self.is_column else layer.input_size_per_partition
        outputs = layer.output_size_per_partition if self.is_column else layer.output_size
        self.lora_A = torch.nn.Parameter(torch.empty(method.r, inputs, dtype=config.params_dtype))
        self.lora_B = torch.nn.Parameter(torch.empty(outputs, method.r, dtype=config.params_dtype))
        whole = self.lora_A if self.is_column else self.lora_B
        whole.sequence_parallel = config.sequence_parallel  # type: ignore[attr-defined]

    def forward(self, input_PBI: torch.Tensor) -> torch.Tensor:
        """What is added to the layer's output, of its shape.

        Args:
            input_PBI: what the layer reads; its part of the sequence where the layer is cut by rows.
        """
        thin = linear(self._dropped(input_PBI), self.lora_A)
        if self.is_column:
            # Backward, each rank has the part of its own rows: gathering sums it, and so does copying.
            thin = (
                gather_from_sequence_parallel_region(thin)
                if self.sequence_parallel
                else copy_to_tensor_model_parallel_region(thin)
            )
        else:
            thin = (
                reduce_scatter_to_sequence_parallel_region(thin)
                if self.sequence_parallel
                else reduce_from_tensor_model_parallel_region(thin)
            )
        return linear(thin * self.scale, self.lora_B)

    def _dropped(self, input_PBI: torch.Tensor) -> torch.Tensor:
        """The input with elements dropped, while training: by a mask over the whole input, the same in every layout."""
        if not self.training or self.dropout == 0.0:
            return input_PBI
        axis = 0 if self.is_column else 2
        parts = self.tensor_size if not self.is_column or self.sequence_parallel else 1
        shape = list(input_PBI.shape)
        shape[axis] *= parts
        with dropout_seeds.scope(ADAPTER, self.name):
            mask = torch.empty(shape, dtype=torch.bool, device=input_PBI.device).bernoulli_(1.0 - self.dropout)
        if parts > 1:
            rank = parallel_state.get_tensor_model_parallel_rank()
            mask = mask.chunk(parts, axis)[rank].clone()
        return input_PBI * mask * (1.0 / (1.0 - self.dropout))


def _add(layer: Any, inputs: tuple[torch.Tensor, ...], output: Any) -> Any:
    """A forward hook: the layer's output with that of its adapter."""
    product, *rest = output
    return (product + getattr(layer, ADAPTER)(inputs[0]), *rest)


def _require_gradient(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
    """A forward hook: what is computed again in the backward pass has one only if something that it reads has."""
    return output.requires_grad_() if torch.is_grad_enabled() and output.is_leaf else output
