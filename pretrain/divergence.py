"""A run that diverged: too many steps without a finite loss and gradient."""

from __future__ import annotations

import math
from collections import deque

from configs.errors import ExitStatus, UserError
from pretrain.monitor.records import StepRecord


class Diverged(UserError):
    """Too many steps in a row had a loss or a gradient that is not finite."""

    status = ExitStatus.DIVERGED


class NonFiniteGuard:
    """Ends a run whose steps are skipped again and again.

    A step that fp16 skips because its loss scale is still too high is not counted while the scale can fall: the loss
    is finite and the scale above 1. That is how the scale is found.

    Args:
        max_in_a_row: skipped steps in a row that end the run; 0 and 1 end it at the first.
        remembered: steps that the report shows.
    """

    def __init__(self, max_in_a_row: int, remembered: int = 8) -> None:
        self._max_in_a_row = max(1, max_in_a_row)
        self._recent: deque[StepRecord] = deque(maxlen=remembered)
        self._in_a_row = 0

    @property
    def in_a_row(self) -> int:
        """Counted skipped steps since the last good one."""
        return self._in_a_row

    def observe(self, record: StepRecord) -> None:
        """Take a finished step into account; the same on every rank, since records are.

        Raises:
            Diverged: when the last `max_in_a_row` steps were skipped.
        """
        self._recent.append(record)
        if not record.skipped:
            self._in_a_row = 0
        elif not _searches_loss_scale(record):
            self._in_a_row += 1
        if self._in_a_row >= self._max_in_a_row:
            raise Diverged(self._report(), where=f"step {record.step}")

    def _report(self) -> str:
        times = "step" if self._in_a_row == 1 else f"{self._in_a_row} steps in a row"
        lines = [f"training diverged: the last {times} had a loss or gradient that is not finite and left no update"]
        lines += [f"  {'step':>8}  {'loss':>10}  {'grad norm':>10}  {'lr':>10}  skipped"]
        lines += [
            f"  {r.step:>8}  {r.loss:>10.4g}  {r.grad_norm:>10.4g}  {r.learning_rate:>10.3g}  "
            f"{'yes' if r.skipped else 'no'}"
            for r in self._recent
        ]
        lines.append("  what to try: " + "; ".join(self._advice()))
        return "\n".join(lines)

    def _advice(self) -> list[str]:
        last = self._recent[-1]
        advice = ["resume from an earlier checkpoint with a lower optimizer.lr", "a longer optimizer.warmup"]
        if last.loss_scale is not None:
            advice.append("training.precision=bf16, whose range fp16 lacks")
        elif math.isfinite(last.loss):
            advice.append("a smaller optimizer.clip_grad_norm (the loss is finite, the gradient is not)")
        else:
            advice.append("training.precision=fp32 for a few steps, to tell a bad range from bad data or weights")
        return advice


def _searches_loss_scale(record: StepRecord) -> bool:
    return record.loss_scale is not None and record.loss_scale > 1 and math.isfinite(record.loss)
