"""How much memory this process holds."""

from __future__ import annotations


def host_memory_bytes() -> int:
    """Resident memory of this process."""
    import psutil

    return int(psutil.Process().memory_info().rss)
