"""Lets megatron-core run where no GPU is: what it says of `cuda` is answered for the CPU.

Active only where no GPU is; everything that it changes is listed in `install`.
"""

from __future__ import annotations

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
    """Put the bridge in place if no GPU is there; otherwise change nothing."""
    global _installed
    if _installed or torch.cuda.is_available():
        return
    from megatron.core.pipeline_parallel import schedules

    # megatron/core/tensor_parallel/mappings.py:91, layers.py:552, pipeline_parallel/p2p_communication.py:313,
    # models/common/embeddings/rotary_pos_embedding.py:162 and others: device=torch.cuda.current_device()
    torch.cuda.current_device = lambda: torch.device("cpu")  # type: ignore[assignment,return-value]
    # megatron/core/pipeline_parallel/p2p_communication.py:398: torch.cuda.synchronize() after batched sends
    torch.cuda.synchronize = lambda device=None: None  # type: ignore[assignment]
    # megatron/core/models/common/language_module/language_module.py:244: weight.data.cuda()
    torch.Tensor.cuda = lambda self, *args, **kwargs: self  # type: ignore[method-assign,assignment]
    # megatron/core/pipeline_parallel/schedules.py:596, 983, 2138: torch.zeros([], device="cuda")
    schedules.torch = _CpuTorch("torch")
    _installed = True
