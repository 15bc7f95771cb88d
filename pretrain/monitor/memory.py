"""How much memory this process holds."""

from __future__ import annotations

import sys


def host_memory_bytes() -> int:
    """Resident memory of this process."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def device_memory_bytes() -> int | None:
    """Peak memory that this process' tensors took on the accelerator since its start; None without one."""
    # Looks torch up instead of importing it: who has not loaded it has nothing on a device.
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return int(torch.cuda.max_memory_allocated())
