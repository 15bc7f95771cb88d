"""The curves for TensorBoard."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pretrain.monitor.records import evaluation_figures

_GIB = 2.0**30
LOSSES = "losses"
"""Key of a train record that holds each loss by name, where there are several."""
# Key of a train record -> its tag, and what it is divided by.
_TRAIN_TAGS: dict[str, tuple[str, float]] = {
    "loss": ("train/loss", 1),
    "learning_rate": ("train/learning_rate", 1),
    "grad_norm": ("train/grad_norm", 1),
    "param_norm": ("train/param_norm", 1),
    "global_batch_size": ("train/global_batch_size", 1),
    "skipped_total": ("train/skipped_steps", 1),
    "loss_scale": ("train/loss_scale", 1),
    "consumed_tokens": ("train/consumed_tokens", 1),
    "tokens_per_s": ("speed/tokens_per_s", 1),
    "samples_per_s": ("speed/samples_per_s", 1),
    "tflops_per_device": ("speed/tflops_per_device", 1),
    "mfu": ("speed/mfu", 1),
    "matmul_share": ("speed/share_of_measured_matmul", 1),
    "step_time_s": ("speed/step_time_s", 1),
    "data_time_s": ("speed/data_time_s", 1),
    "host_memory_bytes": ("memory/host_gib", _GIB),
    "device_memory_bytes": ("memory/device_gib", _GIB),
}


def scalars(kind: str, values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The curves that a record adds a point to: (tag, value)."""
    if kind == "train":
        for key, (tag, unit) in _TRAIN_TAGS.items():
            if values.get(key) is not None:
                yield tag, float(values[key]) / unit
        for name, value in (values.get(LOSSES) or {}).items():
            if value is not None:
                yield f"train/loss/{name}", float(value)
    elif kind == "layers":
        for layer, norms in values.items():
            for norm, value in norms.items():
                yield f"layers/{norm}_norm/{layer}", float(value)
    elif kind == "validation":
        for key, value in {"loss": values.get("loss"), **evaluation_figures(values)}.items():
            if value is not None:
                yield f"validation/{values['name']}/{key}", float(value)


class TensorBoardLog:
    """Event files in `directory`, which a resumed run continues without drawing any step twice.

    Args:
        directory: where the event files go.
        resumed_step: points of later steps are hidden; None hides all earlier ones.
        config_text: shown in the text tab.

    Raises:
        OSError: if the directory cannot be written.
    """

    def __init__(self, directory: Path, resumed_step: int | None, config_text: str) -> None:
        from torch.utils.tensorboard import SummaryWriter

        directory.mkdir(parents=True, exist_ok=True)
        if resumed_step is None:
            _remove_events(directory)
        else:
            _wait_for_a_later_name(directory)
        purge_step = None if resumed_step is None else resumed_step + 1
        self._writer = SummaryWriter(log_dir=str(directory), purge_step=purge_step, flush_secs=10)
        block = "".join(f"    {line}\n" for line in config_text.splitlines())
        self._writer.add_text("config", block, global_step=resumed_step or 0)

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Add the points of one record.

        Raises:
            OSError: if the event file cannot be written.
        """
        if kind == "event":
            self._writer.add_text("events", str(values["text"]), global_step=step)
        for tag, value in scalars(kind, values):
            self._writer.add_scalar(tag, value, global_step=step)

    def close(self) -> None:
        """Write what is queued; safe to call twice."""
        self._writer.close()


def _remove_events(directory: Path) -> None:
    for path in directory.glob("events.out.tfevents.*"):
        path.unlink()


def _wait_for_a_later_name(directory: Path) -> None:
    # TensorBoard reads files by name, which begins with the second; two sessions within one second would be read
    # in the order of their process numbers, and the purge would hit the wrong one.
    stamps = [path.name.split(".")[3] for path in directory.glob("events.out.tfevents.*")]
    newest = max((int(stamp) for stamp in stamps if stamp.isdigit()), default=0)
    deadline = time.monotonic() + 1.1
    while int(time.time()) <= newest and time.monotonic() < deadline:
        time.sleep(0.05)
