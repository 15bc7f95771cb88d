"""How much memory there is, and how much of the accelerator's this process holds."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

_CONTROL_GROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def host_total_bytes() -> int:
    """Host memory of this machine, or of the container where that has less."""
    import psutil

    total = int(psutil.virtual_memory().total)
    for limit in _CONTROL_GROUP_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # no such file; "max"
            total = min(total, int(Path(limit).read_text()))
    return total


def device_total_bytes(local_rank: int) -> int | None:
    """Memory of the accelerator of a rank of this machine; None without one."""
    import torch

    if not torch.cuda.is_available():
        return None
    # Asked by number: whoever asks for the present one has all ranks begin on the first.
    return int(torch.cuda.get_device_properties(local_rank % torch.cuda.device_count()).total_memory)


def device_memory_bytes() -> int | None:
    """Peak memory that this process' tensors took on the accelerator since its start; None without one."""
    # Looks torch up instead of importing it: who has not loaded it has nothing on a device.
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return int(torch.cuda.max_memory_allocated())
