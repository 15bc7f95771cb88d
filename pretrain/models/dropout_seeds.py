"""Dropout as a function of (seed, step, micro-batch, layer), not of state.

The generator is seeded at the start of every micro-batch and again by every layer, which derives its seed from the
one in force. Hence the masks do not depend on the pipeline or data layout, a resumed run draws the same ones, and a
layer that is computed again for its backward pass (the generator's state is restored then, its seed with it) drops
what it dropped the first time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

_LAYER_BITS = 10
_LAYER_MASK = (1 << _LAYER_BITS) - 1


def default_generator() -> torch.Generator:
    """The generator that dropout draws from on this rank's device."""
    # A number for a GPU; a model that is on the CPU beside one gets the device itself (engine/cpu_bridge.py).
    device: int | torch.device = torch.cuda.current_device() if torch.cuda.is_available() else torch.device("cpu")
    return torch.cuda.default_generators[device] if isinstance(device, int) else torch.default_generator


def seed_micro_batch(seed: int, step: int, number: int) -> None:
    """Seed for micro-batch `number` of the global batch of `step`."""
    default_generator().manual_seed(_mix(seed, step, number))


def seed_layer(layer_number: int) -> None:
    """Seed for layer `layer_number` (from 1), within the micro-batch or scope whose seed is in force."""
    generator = default_generator()
    generator.manual_seed((generator.initial_seed() & ~_LAYER_MASK) | (layer_number & _LAYER_MASK))


def seed_layers(layers: Iterable[torch.nn.Module], before: int = 0) -> None:
    """Have each of `layers` (megatron's, with a `layer_number`) seeded whenever it runs forward.

    Args:
        layers: of one stack.
        before: layers of the stacks before it; no two layers of a model have one number.
    """

    def seed(layer: torch.nn.Module, inputs: Any) -> None:
        seed_layer(before + int(layer.layer_number))  # type: ignore[arg-type]

    for layer in layers:
        layer.register_forward_pre_hook(seed)


@contextmanager
def scope(*identity: int | str) -> Iterator[None]:
    """Draw from a stream of its own, such as one per tensor rank; afterwards everything is as it was."""
    generator = default_generator()
    before = generator.get_state()
    seed = generator.initial_seed()
    generator.manual_seed(_mix(seed & ~_LAYER_MASK, *identity) | (seed & _LAYER_MASK))
    try:
        yield
    finally:
        generator.set_state(before)


def _mix(*parts: int | str) -> int:
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 1) & ~_LAYER_MASK
