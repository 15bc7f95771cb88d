"""What a work in this process has done so far, for the progress to look at."""

from __future__ import annotations

from dataclasses import replace

from data_prep.parallel.progress import Done


class TaskTally:
    """Counts what is done; `look` is what `Progress` asks."""

    def __init__(self) -> None:
        self._done = Done()

    def advance(self, input_bytes: int, tokens: int) -> None:
        """Count another so many bytes and tokens."""
        done = self._done
        # One assignment: the progress looks from another thread.
        self._done = replace(done, input_bytes=done.input_bytes + input_bytes, tokens=done.tokens + tokens)

    def look(self) -> Done:
        """All so far."""
        return self._done
