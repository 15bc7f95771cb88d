"""The one object that the training loop reports to; it passes everything on to files, TensorBoard and console."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Protocol

from configs.errors import MachineError, UserError
from configs.load import to_yaml
from configs.memory import host_memory_bytes
from pretrain.config import RunConfig
from pretrain.data.evaluation_set import FINGERPRINT
from pretrain.monitor.console import ConsoleLog
from pretrain.monitor.evaluated import SETS, Sets, changed_sets, is_of_present_set
from pretrain.monitor.flops import DevicePeak, device_peak
from pretrain.monitor.memory import device_memory_bytes
from pretrain.monitor.metrics_file import FILE_NAME, MetricsFile, read_metrics
from pretrain.monitor.records import EvalRecord, StepRecord
from pretrain.monitor.speed import SpeedMeter
from pretrain.monitor.tensorboard_log import LOSSES, TensorBoardLog
from pretrain.monitor.tensorboard_server import TensorBoardServer
from pretrain.monitor.watchdog import Watchdog
from pretrain.parallel.layout import Layout

TENSORBOARD_DIR = "tensorboard"


class Sink(Protocol):
    """Somewhere that records go."""

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Take one record: `kind` is run, train, validation or event."""

    def close(self) -> None:
        """Finish; safe to call twice."""


class Monitor:
    """Takes the records of a run on every rank: the main one writes them, all of them watch for stalls.

    Args:
        config: the run.
        layout: how the ranks are used.
        flops_per_token: see `SpeedMeter`.
        device_name: `cpu`, or the name that the accelerator gives itself.
        total_steps: steps of the whole run; None where it ends by time.
        is_main: whether this rank writes.
        resumed_step: step of the checkpoint that the run continues; None or 0 for a new run.
        rank: this process' number; None: what the launcher put into RANK.
        evaluation_sets: what each validation and test set is; see `RunData`. None: not known.

    Raises:
        MachineError: if the output directory cannot be written or TensorBoard's port is taken.
        ConfigError: if a Weights & Biases project is named but the package is not installed.
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        layout: Layout,
        flops_per_token: Callable[[int], float],
        device_name: str,
        total_steps: int | None,
        is_main: bool,
        resumed_step: int | None,
        rank: int | None = None,
        evaluation_sets: Sets | None = None,
    ) -> None:
        self._config = config
        self._sets: Sets = evaluation_sets or {}
        self._last_step = resumed_step or 0
        self._first_record: StepRecord | None = None
        self._pending: StepRecord | None = None
        self._started_s = time.monotonic()
        self._host_memory_bytes = 0
        self._on_device = device_name != "cpu"
        self._evaluated: set[tuple[str, int]] = set()
        self._sinks: list[Sink] = []
        self._console: ConsoleLog | None = None
        self._server: TensorBoardServer | None = None
        self._meter: SpeedMeter | None = None
        self._peak: DevicePeak | None = None
        own_rank = int(os.environ.get("RANK", "0")) if rank is None else rank
        self._watchdog = Watchdog(config.monitor.stall_timeout.value, rank=own_rank, last_step=self._last_step)
        if is_main:
            try:
                self._open(layout, flops_per_token, device_name, total_steps, resumed_step or None)
            except OSError as error:
                self.close()
                raise MachineError(f"cannot be written ({error.strerror})", where=config.output) from None
            except UserError:
                self.close()
                raise

    def log_step(self, record: StepRecord) -> None:
        """Report a finished step; every step, whatever the log interval."""
        self._watchdog.alive(record.step)
        self._last_step = record.step
        if self._meter is None:
            return
        is_first, self._first_record = self._first_record is None, self._first_record or record
        self._meter.add(record)
        self._host_memory_bytes = max(self._host_memory_bytes, record.host_memory_bytes or host_memory_bytes())
        if record.skipped:
            self.log_event(f"step {record.step} skipped: loss {record.loss}, gradient norm {record.grad_norm}")
        if is_first or record.step % self._config.monitor.log_interval == 0:
            self._write_step(record)
        else:
            self._pending = record
            if self._console is not None and self._console.is_live:
                self._console.refresh(record.step, self._train_values(record, self._meter.figures()))

    def log_layers(self, step: int, norms: Mapping[str, Any] | None) -> None:
        """Report the norms of each layer, `LayerNorm` by name, of a step that measured them; None: it did not."""
        if norms is not None:
            self._write("layers", step, {name: asdict(found) for name, found in norms.items()})

    def log_eval(self, record: EvalRecord) -> None:
        """Report a validation set."""
        self._watchdog.alive()
        measured_on = self._sets.get(record.name, {}).get(FINGERPRINT)
        values = {"name": record.name, "loss": record.loss, **record.figures}
        values |= {FINGERPRINT: measured_on, "session_s": self._session_s()}
        if (record.name, record.step) not in self._evaluated:
            self._write("validation", record.step, values)
        elif self._console is not None:
            # A finished run that is started again evaluates its last step again.
            self._console.write("validation", record.step, values)

    def log_event(self, text: str) -> None:
        """Report something that happened once, such as a save or a resume."""
        self._watchdog.alive()
        self._write("event", self._last_step, {"text": text, "session_s": self._session_s()})

    def close(self) -> None:
        """Log the last step if that is still to be done, close all files, stop all helpers; safe to call twice."""
        if self._pending is not None:
            self._write_step(self._pending)
        for sink in self._sinks:
            try:
                sink.close()
            except OSError as error:
                _complain(sink, error)
        self._sinks = []
        if self._server is not None:
            self._server.close()
        self._watchdog.stop()

    def _open(
        self,
        layout: Layout,
        flops_per_token: Callable[[int], float],
        device_name: str,
        total_steps: int | None,
        resumed_step: int | None,
    ) -> None:
        config, directory = self._config, self._config.output
        plain = config.model_dump(mode="json")
        directory.mkdir(parents=True, exist_ok=True)
        peak = self._peak = device_peak(device_name, config.training.precision, config.monitor.peak_tflops)
        self._meter = SpeedMeter(
            seq_length=config.model.seq_length,
            flops_per_token=flops_per_token,
            world_size=layout.world_size,
            peak=peak,
            total_steps=total_steps,
        )
        self._sinks.append(MetricsFile(directory / FILE_NAME, resumed_step))
        earlier = list(read_metrics(directory / FILE_NAME))
        evaluations = [r for r in earlier if r["kind"] == "validation" and is_of_present_set(r, self._sets)]
        self._evaluated = {(r["name"], r["step"]) for r in evaluations}
        if config.monitor.tensorboard:
            self._sinks.append(TensorBoardLog(directory / TENSORBOARD_DIR, resumed_step, to_yaml(config)))
        if config.monitor.wandb_project is not None:
            self._sinks.append(_wandb_log(directory, config.monitor.wandb_project, plain, resumed_step))
        self._console = ConsoleLog(total_steps)
        self._sinks.append(self._console)
        described = {SETS: self._sets}
        self._write("run", self._last_step, _run_values(plain, layout, device_name, peak) | described)
        for line in changed_sets(earlier, self._sets):
            self.log_event(line)
        if peak.flops_per_s is None:
            self.log_event(f"no MFU: {peak.source}")
        if config.monitor.serve_tensorboard is not None:
            self._server = TensorBoardServer(directory / TENSORBOARD_DIR, config.monitor.serve_tensorboard)
            self.log_event(f"TensorBoard: {self._server.url}")

    def _write_step(self, record: StepRecord) -> None:
        assert self._meter is not None
        self._pending = None
        speed = self._meter.take()
        values = self._train_values(record, speed)
        self._host_memory_bytes = 0
        self._tell_of_low_peak(speed["tflops_per_device"])
        self._write("train", record.step, values)

    def _tell_of_low_peak(self, tflops: float | None) -> None:
        """Say once that the peak is none, since training does more."""
        peak = self._peak
        if tflops is None or peak is None or peak.flops_per_s is None or not peak.is_below(tflops * 1e12):
            return
        self._peak = None
        why = (
            "the machine was busy when that was measured, and no MFU is shown" if peak.is_measured else "set it higher"
        )
        self.log_event(
            f"the steps do {tflops:.3g} TFLOP/s per device, more than the peak of {peak.flops_per_s / 1e12:.3g}"
            f" ({peak.source}): {why}"
        )

    def _train_values(self, record: StepRecord, speed: dict[str, Any]) -> dict[str, Any]:
        assert self._meter is not None
        values = {field.name: getattr(record, field.name) for field in fields(record)}
        values.pop("step")
        if len(record.losses) == 1:
            values.pop(LOSSES)  # it is the loss
        values |= speed
        values["host_memory_bytes"] = self._host_memory_bytes
        if self._on_device and record.device_memory_bytes is None:
            values["device_memory_bytes"] = device_memory_bytes()
        values["time_left_s"] = self._meter.time_left_s(record.step)
        values["session_s"] = self._session_s()
        return values

    def _session_s(self) -> float:
        return round(time.monotonic() - self._started_s, 3)

    def _write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        for sink in list(self._sinks):
            try:
                sink.write(kind, step, values)
            except OSError as error:
                # A full disk must not end a run that can still train.
                self._sinks.remove(sink)
                _complain(sink, error)


def _complain(sink: Sink, error: OSError) -> None:
    print(f"monitor: {type(sink).__name__} stopped ({error}); the run goes on", file=sys.stderr, flush=True)


def _wandb_log(directory: Path, project: str, config: dict[str, Any], resumed_step: int | None) -> Sink:
    from pretrain.monitor.wandb_log import WandbLog

    return WandbLog(project, directory=directory, name=directory.name, resumed_step=resumed_step, config=config)


def _run_values(config: dict[str, Any], layout: Layout, device_name: str, peak: DevicePeak) -> dict[str, Any]:
    return {
        "config": config,
        "layout": str(layout),
        "world_size": layout.world_size,
        "device_name": device_name,
        "peak_flops_per_s": peak.flops_per_s,
        "peak_source": peak.source,
        "measured_matmul_flops_per_s": peak.measured_flops_per_s,
    }
