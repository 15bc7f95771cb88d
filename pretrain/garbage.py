"""Python's garbage collection at the same step on every rank: a rank that collects alone has all others wait for it."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def collected_together(interval_steps: int) -> Iterator[Callable[[int], None]]:
    """While in force Python collects when it is told to, and what was there before is left out of it (frozen).

    Args:
        interval_steps: between two collections; 0: Python collects when it likes, as always.

    Yields:
        what is to be called with the number of each step after it.
    """
    if interval_steps == 0:
        yield lambda step: None
        return

    def after(step: int) -> None:
        if step % interval_steps == 0:
            gc.collect()

    was_enabled = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield after
    finally:
        gc.unfreeze()
        if was_enabled:
            gc.enable()
