"""How much memory this process holds."""

from __future__ import annotations

import ctypes


def host_memory_bytes() -> int:
    """Resident memory of this process."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def give_back_freed_memory() -> None:
    """Give the system back what this process has freed; glibc keeps it otherwise, other allocators are left alone."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
