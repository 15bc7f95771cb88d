"""How far a run has come: the few numbers that decide its next sample, learning rate and batch size."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Attributes:
        step: finished steps, skipped ones included; also the number of the next step, counted from 0.
        consumed_samples: samples read so far; also the number of the next sample.
        skipped_steps: steps whose update was left out because loss or gradient was not finite.
    """

    step: int = 0
    consumed_samples: int = 0
    skipped_steps: int = 0

    def after(self, global_batch_size: int, *, applied: bool) -> Progress:
        """Where the run is after one more step."""
        return replace(
            self,
            step=self.step + 1,
            consumed_samples=self.consumed_samples + global_batch_size,
            skipped_steps=self.skipped_steps + (not applied),
        )
