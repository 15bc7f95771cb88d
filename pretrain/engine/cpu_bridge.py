"""Lets megatron-core run on machines without a GPU: its literal uses of `cuda` are replaced by the CPU.

Where there is a GPU nothing is changed but within `on_cpu`; everything that is replaced is listed in `_replace`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch

_installed = False


class _CpuTorch(ModuleType):
    """The torch module, except that tensors asked for on `cuda` are made on the CPU."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    @staticmethod
    def zeros(*size: Any, device: Any = None, **kwargs: Any) -> torch.Tensor:
        """`torch.zeros` with the device `cuda` read as the CPU."""
        return torch.zeros(*size, device="cpu" if str(device).startswith("cuda") else device, **kwargs)


def is_active() -> bool:
    """Whether the bridge is in place in this process."""
    return _installed


def install() -> None:
    """Put the bridge in place for good if no GPU is there; otherwise change nothing."""
    global _installed
    if not _installed and not torch.cuda.is_available():
        _replace()
        _installed = True


@contextmanager
def on_cpu() -> Iterator[None]:
    """megatron-core computes on the CPU inside, also where a GPU is visible; for a model of this process alone."""
    install()
    if _installed:
        yield
        return
    from megatron.core.pipeline_parallel import schedules

    replaced: list[tuple[Any, str]] = [(torch.cuda, "current_device"), (schedules, "torch")]
    originals = [(owner, name, getattr(owner, name)) for owner, name in replaced]
    _replace()
    try:
        yield
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)


def _replace() -> None:
    """Everything that the bridge replaces."""
    from megatron.core.pipeline_parallel import schedules

    # Everywhere, as device=torch.cuda.current_device():
    # megatron/core/tensor_parallel/mappings.py:91 (_gather_along_last_dim)
    # megatron/core/tensor_parallel/layers.py:552 (backward)
    # megatron/core/pipeline_parallel/p2p_communication.py:313 (create_tensor_recv_prev)
    # megatron/core/models/common/embeddings/rotary_pos_embedding.py:162 (get_emb)
    torch.cuda.current_device = lambda: torch.device("cpu")  # type: ignore[assignment,return-value]
    # torch.zeros([], device="cuda") for the count of tokens:
    # megatron/core/pipeline_parallel/schedules.py:596 (forward_backward_no_pipelining)
    # megatron/core/pipeline_parallel/schedules.py:983 (forward_backward_pipelining_with_interleaving)
    # megatron/core/pipeline_parallel/schedules.py:2138 (forward_backward_pipelining_without_interleaving)
    schedules.torch = _CpuTorch("torch")
