"""Where a run comes from, and what was changed on the way: kept in its checkpoints and told in its summary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pretrain.starting.start import RECORD_KEY, started_line

BRANCH_KEY = "branch_from"
"""Of a checkpoint's metadata: the checkpoint of another run that this one went on from."""
STRETCHES_KEY = "stretches"
"""Of a checkpoint's metadata: see `Lineage.stretches`."""


@dataclass(frozen=True)
class Lineage:
    """Where a run comes from.

    Attributes:
        started_from: where the weights came from at its beginning; None: they were drawn.
        branched_from: `path`, `step` and `consumed_samples` of another run's checkpoint that it went on from, or None.
        stretches: each part of the run that began with changed settings: the steps before it (`from_step`), a line for
            each change (`changes`), and the checkpoint of another run that it went on from (`branched_from`) or None.
    """

    started_from: Mapping[str, Any] | None = None
    branched_from: Mapping[str, Any] | None = None
    stretches: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> Lineage:
        """What a checkpoint's metadata say."""
        return cls(metadata.get(RECORD_KEY), metadata.get(BRANCH_KEY), tuple(metadata.get(STRETCHES_KEY, ())))

    def continued(self, step: int, changes: list[str], branched_from: Mapping[str, Any] | None) -> Lineage:
        """The same after a resume.

        Args:
            step: where it happened.
            changes: a line for each setting that changed.
            branched_from: the checkpoint of another run that was loaded; None: it was the run's own.
        """
        if not changes and branched_from is None:
            return self
        path = None if branched_from is None else branched_from["path"]
        stretch = {"from_step": step, "changes": changes, "branched_from": path}
        return Lineage(self.started_from, branched_from or self.branched_from, (*self.stretches, stretch))

    def metadata(self) -> dict[str, Any]:
        """What `of` reads; nothing for a run that began with drawn weights and never changed."""
        known = {
            RECORD_KEY: self.started_from,
            BRANCH_KEY: self.branched_from,
            STRETCHES_KEY: list(self.stretches),
        }
        return {key: value for key, value in known.items() if value}

    def opening(self, step: int) -> str:
        """How a session that begins at `step` came to it, in words."""
        branched = self.branched_from
        if branched is not None and branched["step"] == step:
            return f"branched from {branched['path']} at step {step}"
        if step:
            return f"resumed at step {step}"
        origin = started_line(self.started_from)
        return "started" if origin is None else f"started from the weights of {origin}"
