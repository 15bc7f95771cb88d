"""How a model and its state are spread over the ranks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from configs.section import Section


class ParallelConfig(Section):
    """How the model and its state are spread over the ranks; the data-parallel size is what is left."""

    tensor_size: int = Field(default=1, gt=0)
    """Ranks that share each layer's matrices."""
    pipeline_size: int = Field(default=1, gt=0)
    """Stages that the layers are cut into (1F1B schedule)."""
    sequence_parallel: bool = False
    """Whether norms and dropouts are split along the sequence within each tensor group."""
    zero_stage: Literal[0, 1, 2, 3] = 1
    """What data-parallel ranks shard: 0 nothing, 1 optimizer state, 2 gradients too, 3 parameters too."""
    zero3_persistent_elements: int = Field(default=100_000, ge=0)
    """At stage 3, weights of up to so many elements (norms, biases) stay whole on each rank and are not gathered."""
    communication_precision: Literal["fp32", "bf16", "fp16"] | None = None
    """Number format in which gradients are summed over the data ranks: fp32, or training.precision for half the
    traffic; null: fp32 at zero_stage 0 to 2, training.precision at 3."""
    zero3_prefetch_elements: int = Field(default=0, ge=0)
    """At stage 3, how much of the next weights is gathered ahead, in elements; 0: nothing (needs pipeline_size 1)."""
    zero_overlap: bool = False
    """Whether ZeRO's collectives run beside the backward pass, in buffers of their own (needs zero_stage >= 2)."""
    offload_optimizer: bool = False
    """Whether master weights and moments live in host memory (needs zero_stage >= 1)."""
    recompute: Literal["none", "selective", "full"] = "none"
    """What is computed again in the backward pass to save memory: nothing, the core attention, every layer."""
    fusions: Literal["auto", "none"] = "auto"
    """Whether bias, activation, dropout and residual sum run as kernels that torch compiles at their first use; auto:
    where there is a GPU and a C compiler."""

    @property
    def pins_offload(self) -> bool:
        """Whether what is offloaded lies in pinned host memory: at stage 3, DeepSpeed's copies would not be awaited."""
        return self.offload_optimizer and self.zero_stage in (1, 2)

    def problems(self, precision: str) -> list[str]:
        """Which settings contradict each other, whatever the ranks, a sentence each.

        Args:
            precision: training.precision.
        """
        problems = []
        if self.sequence_parallel and self.tensor_size == 1:
            problems.append("parallel.sequence_parallel needs parallel.tensor_size above 1 (found 1)")
        if self.offload_optimizer and self.zero_stage == 0:
            problems.append("parallel.offload_optimizer needs parallel.zero_stage 1, 2 or 3 (found 0)")
        if self.communication_precision not in (None, "fp32", precision):
            problems.append(
                f"parallel.communication_precision {self.communication_precision} is neither fp32 nor"
                f" training.precision {precision}"
            )
        if self.zero_overlap and self.zero_stage < 2:
            problems.append(f"parallel.zero_overlap needs parallel.zero_stage 2 or 3 (found {self.zero_stage})")
        if self.zero3_prefetch_elements and self.zero_stage != 3:
            problems.append(f"parallel.zero3_prefetch_elements needs parallel.zero_stage 3 (found {self.zero_stage})")
        if self.zero3_prefetch_elements and self.pipeline_size > 1:
            # DeepSpeed foresees one forward and one backward pass in turn; a pipeline has several under way.
            problems.append(
                f"parallel.zero3_prefetch_elements needs parallel.pipeline_size 1 (found {self.pipeline_size})"
            )
        return problems
