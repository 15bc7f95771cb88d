"""What a model family has to do, and what it hands to an objective.

Shape letters: B samples in the micro-batch, S tokens, T = B * S, V vocabulary entries of this tensor rank.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
import torch.distributed as dist

from pretrain.config.model import ModelConfig
from pretrain.config.parallel import ParallelConfig
from pretrain.data.batch import MicroBatch


@dataclass(frozen=True)
class StagePlace:
    """Which part of the network a rank builds.

    Attributes:
        stage: number of the pipeline stage.
        num_stages: how many there are.
        tensor_rank: place in the tensor group.
        tensor_size: how many ranks share each matrix.
    """

    stage: int = 0
    num_stages: int = 1
    tensor_rank: int = 0
    tensor_size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether the stage embeds tokens."""
        return self.stage == 0

    @property
    def is_last(self) -> bool:
        """Whether the stage gives the output."""
        return self.stage == self.num_stages - 1


@dataclass(frozen=True)
class Output:
    """What the last stage computed for one micro-batch.

    Attributes:
        logits_SBV: this tensor rank's part of the vocabulary; [S, B, V].
        tensor_group: the ranks that have the other parts; None: this rank has the whole vocabulary.
        heads: outputs of other heads by name, whole on every rank, such as `pair` [B, 2].
    """

    logits_SBV: torch.Tensor
    tensor_group: dist.ProcessGroup | None = None
    heads: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def nll(self, labels_BS: torch.Tensor) -> torch.Tensor:
        """Negative log-probability of each label in nats, fp32 [B, S]. Every tensor rank must call it."""
        if self.tensor_group is None:
            # Flat: torch has no deterministic kernel on a GPU for more dimensions.
            logits_TV, labels_SB = self.logits_SBV.float().flatten(0, 1), labels_BS.transpose(0, 1)
            nll_T = torch.nn.functional.cross_entropy(logits_TV, labels_SB.flatten(), reduction="none")
            return nll_T.view_as(labels_SB).transpose(0, 1)
        from megatron.core.tensor_parallel import vocab_parallel_cross_entropy

        labels_SB = labels_BS.transpose(0, 1).contiguous()
        return vocab_parallel_cross_entropy(self.logits_SBV.float(), labels_SB).transpose(0, 1).contiguous()

    def rows(self, rows: torch.Tensor) -> Output:
        """The output of some rows of the micro-batch, a copy; `rows` are their numbers, int64."""
        heads = {name: head[rows] for name, head in self.heads.items()}
        return Output(self.logits_SBV.index_select(1, rows), self.tensor_group, heads)

    def log_z(self) -> torch.Tensor:
        """Log of the softmax's denominator, fp32 [B, S]. Every tensor rank must call it, and before `nll`.

        That overwrites fp32 logits that are cut over tensor ranks.
        """
        logits_SBV = self.logits_SBV.float()
        if self.tensor_group is None:
            return logits_SBV.logsumexp(-1).transpose(0, 1)
        from megatron.core.tensor_parallel import reduce_from_tensor_model_parallel_region

        largest_SB = logits_SBV.detach().amax(-1)
        dist.all_reduce(largest_SB, op=dist.ReduceOp.MAX, group=self.tensor_group)
        sums_SB = (logits_SBV - largest_SB[..., None]).exp().sum(-1)
        sums_SB = reduce_from_tensor_model_parallel_region(sums_SB, self.tensor_group)
        return (sums_SB.log() + largest_SB).transpose(0, 1)

    def mean_logit(self, num_ids: int) -> torch.Tensor:
        """Mean logit of the first `num_ids` ids, fp32 [B, S]. Every tensor rank must call it, and before `nll`."""
        width = self.logits_SBV.shape[-1]
        first = 0 if self.tensor_group is None else dist.get_rank(self.tensor_group) * width
        sums_SB = self.logits_SBV[..., : min(max(num_ids - first, 0), width)].float().sum(-1)
        if self.tensor_group is not None:
            from megatron.core.tensor_parallel import reduce_from_tensor_model_parallel_region

            sums_SB = reduce_from_tensor_model_parallel_region(sums_SB, self.tensor_group)
        return (sums_SB / num_ids).transpose(0, 1)

    def is_top(self, labels_BS: torch.Tensor) -> torch.Tensor:
        """Whether the label is the likeliest token, of several the one with the lowest id; bool [B, S].

        Every tensor rank must call it.
        """
        logits_SBV = self.logits_SBV.detach().float()
        own_SB, top_SB = logits_SBV.max(-1)
        largest_SB, nobody = own_SB.clone(), torch.iinfo(top_SB.dtype).max
        if self.tensor_group is not None:
            dist.all_reduce(largest_SB, op=dist.ReduceOp.MAX, group=self.tensor_group)
            top_SB = top_SB + dist.get_rank(self.tensor_group) * logits_SBV.shape[-1]
        top_SB = top_SB.masked_fill(own_SB != largest_SB, nobody)  # NaN is not even the largest
        if self.tensor_group is not None:
            dist.all_reduce(top_SB, op=dist.ReduceOp.MIN, group=self.tensor_group)
        return top_SB.transpose(0, 1) == labels_BS


class ModelFamily(Protocol):
    """Builds a family's network and runs it. Made without arguments."""

    def build(
        self, model: Any, parallel: ParallelConfig, dtype: torch.dtype, place: StagePlace
    ) -> tuple[torch.nn.Module, Any]:
        """The part of the network that a rank has, weights not yet set.

        Parameters lose their memory as soon as a module registers them, and get it, and their values, by the table.

        Args:
            model: the family's own config, a subclass of `ModelConfig`.
            parallel: sequence parallelism and recompute.
            dtype: of weights and activations.
            place: which part.

        Returns:
            The module, and megatron-core's config of it, which its pipeline schedules read.
        """
        ...

    def forward(self, stage: Callable[..., Any], module: Any, batch: MicroBatch) -> Output | torch.Tensor:
        """Run this rank's part on one micro-batch.

        Args:
            stage: runs the module, through whatever wraps it.
            module: the module itself, to ask it for its groups.
            batch: what is read.

        Returns:
            The output on the last stage; on the others what is sent to the next one.
        """
        ...


def family_of(model: ModelConfig) -> ModelFamily:
    """The implementation of the family that `model` belongs to."""
    family: ModelFamily = model.implement()()
    return family
