"""The one object that the training loop reports to; it passes everything on to files, TensorBoard and console."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Protocol

from configs.errors import MachineError
from pretrain.config import RunConfig
from pretrain.layout import Layout
from pretrain.monitor.metrics_file import FILE_NAME, MetricsFile
from pretrain.monitor.records import EvalRecord, StepRecord


class Sink(Protocol):
    """Somewhere that records go."""

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Take one record: `kind` is train, validation or event."""

    def close(self) -> None:
        """Finish; safe to call twice."""


class Monitor:
    """Takes the records of a run on every rank; only the main one writes.

    Args:
        config: the run.
        layout: how the ranks are used.
        num_flops_per_token: floating-point operations that one trained token needs.
        device_name: `cpu`, or the name that the accelerator gives itself.
        total_steps: steps of the whole run; None where it ends by time.
        is_main: whether this rank writes.
        resumed_step: step of the checkpoint that the run continues; None or 0 for a new run.

    Raises:
        MachineError: if the output directory cannot be written.
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        layout: Layout,
        num_flops_per_token: float,
        device_name: str,
        total_steps: int | None,
        is_main: bool,
        resumed_step: int | None,
    ) -> None:
        self._config = config
        self._layout = layout
        self._num_flops_per_token = num_flops_per_token
        self._total_steps = total_steps
        self._last_step = resumed_step or 0
        self._sinks: list[Sink] = []
        if is_main:
            try:
                config.output_dir.mkdir(parents=True, exist_ok=True)
                self._sinks.append(MetricsFile(config.output_dir / FILE_NAME, resumed_step or None))
            except OSError as error:
                raise MachineError(f"cannot be written ({error.strerror})", where=config.output_dir) from None

    def log_step(self, record: StepRecord) -> None:
        """Report a finished step; every step, whatever the log interval."""
        self._last_step = record.step
        if record.step % self._config.monitor.log_interval == 0:
            self._write("train", record.step, asdict(record))

    def log_eval(self, record: EvalRecord) -> None:
        """Report a validation set."""
        values = asdict(record)
        values.pop("step")
        self._write("validation", record.step, values)

    def log_event(self, text: str) -> None:
        """Report something that happened once, such as a save or a resume."""
        self._write("event", self._last_step, {"text": text})

    def close(self) -> None:
        """Finish all files; safe to call twice."""
        for sink in self._sinks:
            sink.close()
        self._sinks = []

    def _write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        for sink in list(self._sinks):
            try:
                sink.write(kind, step, values)
            except OSError as error:
                # A full disk must not end a run that can still train.
                self._sinks.remove(sink)
                print(f"monitor: {type(sink).__name__} stopped ({error}); the run goes on", file=sys.stderr)
