"""`metrics.jsonl`: one JSON object per line, one line per logged step, validation or event.

A resumed run continues the file of the one before it: what lies beyond the step that it resumes from is dropped
first, so that each step is in the file once.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from data_prep.storage.publishing import staged_file

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

    A last line without its end is left out: the process that wrote it was killed there. So are damaged lines before
    it, with one warning for all of them.
    """
    if not path.exists():
        return
    damaged = []
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                break
            record = _record(line)
            if record is None:
                damaged.append(number)
            else:
                yield record
    if damaged:
        more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
        text = f"warning: {path}: left out what is no record: line {damaged[0]}{more}"
        print(text, file=sys.stderr, flush=True)


def drop_after(path: Path, step: int | None) -> None:
    """Drop the records after `step` (None: all) and what is no record, by one atomic replacement.

    Raises:
        MachineError: if the file cannot be replaced.
    """
    if not path.exists():
        return
    kept = [] if step is None else [record for record in read_metrics(path) if record["step"] <= step]
    with staged_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in kept)


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    whole = isinstance(record, dict) and isinstance(record.get("kind"), str) and isinstance(record.get("step"), int)
    return record if whole else None


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
