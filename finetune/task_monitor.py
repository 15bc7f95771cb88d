"""What is told of a fine-tuning while it runs: lines on the console, curves for TensorBoard."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pretrain.monitor.tensorboard_log import TensorBoardLog


class TaskMonitor:
    """Prints, and writes TensorBoard's event files.

    Args:
        log: prints a line.
        directory: where the event files go; None: there are none.
        task: the task's name, under which validation figures are drawn.
        config_text: the settings, for the text tab.
    """

    def __init__(self, log: Callable[[str], None], directory: Path | None, task: str, config_text: str) -> None:
        self.log = log
        self._directory, self._task, self._config_text = directory, task, config_text
        self._curves: TensorBoardLog | None = None

    def begin(self, resumed_step: int | None) -> None:
        """Open the event files; curves of a training that goes on are hidden from the step after `resumed_step` on."""
        if self._directory is None:
            return
        from pretrain.monitor.tensorboard_log import TensorBoardLog

        try:
            self._curves = TensorBoardLog(self._directory, resumed_step, self._config_text)
        except OSError as error:
            self._complain(error)

    def train(self, step: int, loss: float, rate: float, samples_per_s: float, left_s: float, total_steps: int) -> None:
        """Tell the mean loss of the last steps, and how fast they were."""
        self._draw("train", step, {"loss": loss, "learning_rate": rate, "samples_per_s": samples_per_s})
        self.log(
            f"step {step:>5}/{total_steps}  loss {loss:.4f}  lr {rate:.2e}"
            f"  {samples_per_s:,.0f} samples/s  {left_s:.0f} s left"
        )

    def validation(self, step: int, figures: Mapping[str, float], best: str | None) -> None:
        """Tell validation figures, and by which of them they are the best so far."""
        self._draw("validation", step, {"name": self._task, **figures})
        values = "  ".join(f"{key} {value:.4f}" for key, value in figures.items())
        self.log(f"  validation at step {step}: {values}" + (f"  (best {best})" if best else ""))

    def event(self, step: int, text: str) -> None:
        """Tell what happened once."""
        self._draw("event", step, {"text": text})
        self.log(text)

    def close(self) -> None:
        """Write what is queued."""
        if self._curves is not None:
            self._curves.close()
            self._curves = None

    def _draw(self, kind: str, step: int, values: Mapping[str, object]) -> None:
        if self._curves is None:
            return
        try:
            self._curves.write(kind, step, values)
        except OSError as error:
            # A full disk must not end a training that can still go on.
            self._curves = None
            self._complain(error)

    def _complain(self, error: OSError) -> None:
        print(f"monitor: TensorBoard stopped ({error}); the training goes on", file=sys.stderr, flush=True)
