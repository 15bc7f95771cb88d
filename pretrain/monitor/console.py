"""What the person at the terminal sees: lines in a log; on a terminal also one live line below them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, TextIO

from pretrain.monitor import wording
from pretrain.monitor.records import evaluation_figures


def step_line(step: int, total_steps: int | None, values: Mapping[str, Any]) -> str:
    """One step in one line; figures that are not known are left out."""
    parts = [f"step {step}" + (f"/{total_steps}" if total_steps else "")]
    losses = ", ".join(f"{name} {value:.4f}" for name, value in (values.get("losses") or {}).items())
    parts.append(f"loss {values['loss']:.4f}" + (f" ({losses})" if losses else ""))
    parts.append(f"lr {values['learning_rate']:.2e}")
    parts.append(f"grad norm {values['grad_norm']:.3f}")
    if values.get("tokens_per_s") is not None:
        parts.append(f"{wording.count(values['tokens_per_s'])} tokens/s")
    if values.get("mfu") is not None:
        parts.append(f"MFU {wording.share(values['mfu'])}")
    if values.get("skipped_total"):
        parts.append(f"skipped {values['skipped_total']}")
    memory = values.get("device_memory_bytes") or values.get("host_memory_bytes")
    if memory:
        parts.append(wording.size(memory))
    if values.get("time_left_s") is not None:
        parts.append(f"{wording.seconds(values['time_left_s'])} left")
    return " | ".join(parts)


def validation_line(step: int, values: Mapping[str, Any]) -> str:
    """One validation set in one line."""
    told = [wording.figure(name, value) for name, value in evaluation_figures(values).items()]
    return " | ".join([f"{values['name']} at step {step}: loss {values['loss']:.4f}", *filter(None, told)])


class ConsoleLog:
    """Prints records; live on a terminal, line by line elsewhere.

    Args:
        total_steps: steps of the whole run; None where it ends by time.
        output: where to; None: standard output.
    """

    def __init__(self, total_steps: int | None, output: TextIO | None = None) -> None:
        self._total_steps = total_steps
        self._output = output or sys.stdout
        self._live: Any = None
        if self._output.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(file=self._output), transient=True, refresh_per_second=4)
            self._live.start()

    @property
    def is_live(self) -> bool:
        """Whether `refresh` shows anything."""
        return self._live is not None

    def refresh(self, step: int, values: Mapping[str, Any]) -> None:
        """Show a step in the live line; nothing where there is no terminal."""
        if self._live is not None:
            from rich.text import Text

            line = step_line(step, self._total_steps, values)
            self._live.update(Text(line, style="bold cyan", no_wrap=True, overflow="ellipsis"))

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Print one record as a line that stays."""
        if kind == "train":
            self._print(step_line(step, self._total_steps, values))
        elif kind == "validation":
            self._print(validation_line(step, values))
        elif kind == "event":
            self._print(str(values["text"]))

    def close(self) -> None:
        """Give the terminal back; safe to call twice."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _print(self, line: str) -> None:
        if self._live is not None:
            self._live.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, file=self._output, flush=True)
