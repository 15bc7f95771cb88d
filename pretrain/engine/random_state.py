"""Leaves random numbers to our stateless dropout seeds, in place of megatron-core's CUDA generator states."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from megatron.core.tensor_parallel import random as megatron_random


class StatelessTracker:
    """Stands in for megatron-core's `CudaRNGStatesTracker`, without states.

    What differs per tensor rank says so itself: `CoreAttention` its heads, `HiddenDropout` its part of the sequence.
    """

    use_cudagraphable_rng = False

    def is_initialized(self) -> bool:
        """Always: there is nothing to set up."""
        return True

    def get_states(self) -> dict[str, Any]:
        """Nothing: recompute restores the generator alone."""
        return {}

    def set_states(self, states: dict[str, Any]) -> None:
        """Nothing to restore."""

    def fork(self, name: str = "model-parallel-rng") -> contextlib.AbstractContextManager[None]:
        """Go on drawing from the stream that all tensor ranks share."""
        return contextlib.nullcontext()


def install() -> None:
    """Replace megatron-core's generator tracker; on a machine without a GPU also its access to CUDA's generator."""
    # megatron/core/tensor_parallel/random.py:161 (CudaRNGStatesTracker): states that differ per layout and that a
    # checkpoint would have to carry.
    megatron_random._CUDA_RNG_STATE_TRACKER = StatelessTracker()
    megatron_random._CUDA_RNG_STATE_TRACKER_INITIALIZED = True
    if not torch.cuda.is_available():
        # megatron/core/tensor_parallel/random.py:447 (_get_all_rng_states)
        # megatron/core/tensor_parallel/random.py:457 (_set_all_rng_states)
        # keep CUDA's generator beside the CPU's; without a GPU the CPU's is all there is.
        megatron_random._get_cuda_rng_state = lambda *args, **kwargs: None
        megatron_random._set_cuda_rng_state = lambda *args, **kwargs: None
