"""Which kernels a profile saw on the GPU, and how much of the time none ran."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Kernel:
    """One run of a kernel, or one copy.

    Attributes:
        name: as the profiler has it.
        start_us: when it began, in microseconds.
        end_us: when it ended.
    """

    name: str
    start_us: float
    end_us: float


def kernels_of(profile: Any) -> list[Kernel]:
    """What a `torch.profiler.profile` saw on the GPU."""
    return [
        Kernel(event.name, float(event.time_range.start), float(event.time_range.end))
        for event in profile.events()
        if event.device_type.name == "CUDA" and not event.is_user_annotation
    ]


def busy_us(kernels: Iterable[Kernel]) -> float:
    """Microseconds in which at least one of them ran; streams may run several at once."""
    total, end = 0.0, float("-inf")
    for kernel in sorted(kernels, key=lambda kernel: kernel.start_us):
        total += max(0.0, kernel.end_us - max(kernel.start_us, end))
        end = max(end, kernel.end_us)
    return total


def kernel_table(kernels: Iterable[Kernel], steps: int, rows: int) -> list[dict[str, Any]]:
    """The kernels that take most time: calls and milliseconds of a step, and the share of all kernels' time.

    Args:
        kernels: of all steps.
        steps: how many there were.
        rows: of the table; the rest is one row more.
    """
    spent_us: dict[str, float] = defaultdict(float)
    calls: dict[str, int] = defaultdict(int)
    for kernel in kernels:
        spent_us[kernel.name] += kernel.end_us - kernel.start_us
        calls[kernel.name] += 1
    total_us = sum(spent_us.values())
    names = sorted(spent_us, key=lambda name: -spent_us[name])
    groups = [[name] for name in names[:rows]] + ([names[rows:]] if names[rows:] else [])
    return [
        {
            "kernel": group[0][:120] if len(group) == 1 else f"{len(group)} others",
            "calls_per_step": round(sum(calls[name] for name in group) / steps, 2),
            "ms_per_step": round(sum(spent_us[name] for name in group) / 1e3 / steps, 3),
            "share": round(sum(spent_us[name] for name in group) / total_us, 4),
        }
        for group in groups
    ]
