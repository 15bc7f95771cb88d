"""Figures as people read them."""

from __future__ import annotations

import math


def count(value: float) -> str:
    """`950`, `12.3k`, `1.24M`, `6.74B`."""
    for scale, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        # 999.96k would round to 1000k.
        if abs(value) >= scale * 0.9995:
            return f"{value / scale:.3g}{suffix}" if abs(value) < scale * 999.5 else f"{value / scale:.0f}{suffix}"
    return f"{value:.3g}" if value != int(value) else f"{int(value)}"


def seconds(value: float) -> str:
    """`42 s`, `3 min 12 s`, `4 h 05 min`, `2 d 03 h`."""
    if not math.isfinite(value):
        return "unknown"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600:02d} h"


def size(value_bytes: float) -> str:
    """`512 MiB`, `1.50 GiB`."""
    if value_bytes < 2**30:
        return f"{value_bytes / 2**20:.0f} MiB"
    return f"{value_bytes / 2**30:.2f} GiB"


def share(value: float | None) -> str:
    """`41.3%`; `unknown` for None."""
    return "unknown" if value is None else f"{value:.1%}"


def figure(name: str, value: float | None, *, digits: int = 4) -> str:
    """One figure of an evaluation, such as `perplexity 42.52` or `1.8750 bits per byte`; empty where not known."""
    if name == "perplexity":
        return "perplexity infinite" if value is None else f"perplexity {value:.2f}"
    if value is None:
        return ""
    if name == "bits_per_byte":
        return f"{value:.{digits}f} bits per byte"
    return (
        f"{name.replace('_', ' ')} {value:.2f}"
        if "perplexity" in name
        else f"{name.replace('_', ' ')} {value:.{digits}f}"
    )
