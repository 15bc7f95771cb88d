"""`metrics.jsonl`: one JSON object per line, one line per logged step, validation or event.

A resumed run continues the file of the one before it: what lies beyond the step that it resumes from is dropped
first, so that each step is in the file once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from data_prep.atomic import staged_file

FILE_NAME = "metrics.jsonl"


class MetricsFile:
    """Appends records to a JSON lines file; each is in the operating system's hands when the call returns.

    Args:
        path: the file; made if it does not exist.
        resumed_step: records of later steps are dropped; None drops all of them.

    Raises:
        OSError: if the file cannot be opened.
        MachineError: if an earlier session's file cannot be replaced.
    """

    def __init__(self, path: Path, resumed_step: int | None) -> None:
        drop_after(path, resumed_step)
        self._file = path.open("a", encoding="utf-8")

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Append one record; numbers that are not finite become null, as JSON has none.

        Raises:
            OSError: if the file cannot be written.
        """
        record = {"kind": kind, "step": step, **{key: _finite(value) for key, value in values.items()}}
        self._file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._file.close()


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a metrics file, in order.

    A line that is not complete JSON ends the iteration: the process that wrote it was killed there.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                record = json.loads(line)
            except ValueError:
                return
            if not line.endswith(b"\n") or not isinstance(record, dict):
                return
            yield record


def drop_after(path: Path, step: int | None) -> None:
    """Drop the records after `step` (None: all) and an incomplete last line, by one atomic replacement.

    Raises:
        MachineError: if the file cannot be replaced.
    """
    if not path.exists():
        return
    kept = [record for record in read_metrics(path) if step is not None and record.get("step", 0) <= step]
    with staged_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in kept)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
