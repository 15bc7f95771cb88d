"""Sums of squares over many elements, exact to the last digits of fp32 on every device.

torch's norm of an fp32 tensor on the CPU adds one element after the other in fp32: 40M normally distributed elements
come out 0.3 % too small, and equal ones 2 % wrong.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

BLOCK_ELEMENTS = 1 << 16
"""Elements that are held in fp64 at a time: 512 KiB, which stays in a core's cache."""


def square_sum(tensors: Iterable[torch.Tensor], device: torch.device) -> torch.Tensor:
    """The sum of the squares of all elements, added up in fp64.

    Args:
        tensors: contiguous, of any floating-point format, on any devices.
        device: where the sum is wanted.

    Returns:
        fp64, without dimensions, on `device`. Waits for no device but that of a tensor which is elsewhere.
    """
    on_host: list[torch.Tensor] = []
    elsewhere: list[torch.Tensor] = []
    for tensor in tensors:
        if tensor.numel():
            (on_host if tensor.device.type == "cpu" else elsewhere).append(tensor.detach())
    total = _square_sum_on_host(on_host).to(device)
    if elsewhere:
        # One kernel for all of them, which adds blocks in fp64.
        norms = torch._foreach_norm(elsewhere, 2, torch.float64)
        total = total + torch.stack(norms).square().sum().to(device)
    return total


def _square_sum_on_host(tensors: list[torch.Tensor]) -> torch.Tensor:
    total = torch.zeros((), dtype=torch.float64)
    buffer = torch.empty(BLOCK_ELEMENTS, dtype=torch.float64)
    for tensor in tensors:
        for block in tensor.reshape(-1).split(BLOCK_ELEMENTS):
            block_fp64 = buffer[: block.numel()].copy_(block)
            total += torch.dot(block_fp64, block_fp64)
    return total
