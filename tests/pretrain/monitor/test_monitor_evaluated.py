"""The best of a set counts what was measured on the set as it is now."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
from monitor_runs import monitor, run_config
from test_monitor_summary import outcome

from pretrain.monitor import EvalRecord
from pretrain.monitor.evaluated import changed_sets
from pretrain.monitor.metrics_file import read_metrics
from pretrain.monitor.summary import write_summary

OLD = {"corpora": [{"corpus": "a"}], "samples": 16, "fingerprint": "old"}
NEW = {"corpora": [{"corpus": "b"}], "samples": 16, "fingerprint": "new"}
LONGER = OLD | {"samples": 32, "fingerprint": "longer"}


def session(directory: Path, sets: Any, losses: dict[int, float], resumed_step: int | None = None) -> None:
    config = run_config(directory, "monitor.tensorboard=false")
    watched = monitor(config, resumed_step=resumed_step, evaluation_sets=sets)
    for step, loss in losses.items():
        watched.log_eval(EvalRecord(step, "validation", loss, {"perplexity": math.exp(loss), "bits_per_byte": None}))
    watched.close()


def events(directory: Path) -> list[str]:
    return [r["text"] for r in read_metrics(directory / "metrics.jsonl") if r["kind"] == "event"]


def summary_of(directory: Path, step: int) -> tuple[dict[str, Any], list[str]]:
    summary = write_summary(run_config(directory), outcome(step=step), io.StringIO())
    return summary, (directory / "summary.txt").read_text().splitlines()


@pytest.mark.parametrize(("now", "what"), [(NEW, "other documents"), (LONGER, "samples 16 -> 32")])
def test_another_set_is_said_once_and_its_best_is_its_own(tmp_path: Path, now: dict[str, Any], what: str) -> None:
    session(tmp_path, {"validation": OLD}, {10: 2.0, 20: 3.0})
    assert events(tmp_path) == []
    session(tmp_path, {"validation": now}, {30: 5.0, 40: 6.0}, resumed_step=20)
    (said,) = events(tmp_path)
    assert said.startswith(f"the set 'validation' is another one than at step 20 ({what}): its earlier")
    summary, rows = summary_of(tmp_path, 40)
    assert (summary["best"]["validation"]["step"], summary["best"]["validation"]["evaluations"]) == (30, 2)
    assert any(row.startswith("best validation") and "loss 5.0000" in row for row in rows)
    # What was said once is known to the sessions after it, and a set that comes back has its own losses back.
    session(tmp_path, {"validation": now}, {}, resumed_step=40)
    assert len(events(tmp_path)) == 1
    session(tmp_path, {"validation": OLD}, {50: 4.0}, resumed_step=40)
    assert len(events(tmp_path)) == 2
    assert summary_of(tmp_path, 50)[0]["best"]["validation"]["loss"] == 2.0


def test_a_finished_run_is_measured_on_another_set(tmp_path: Path) -> None:
    session(tmp_path, {"validation": OLD}, {10: 2.0, 20: 3.0})
    session(tmp_path, {"validation": NEW}, {20: 5.0}, resumed_step=20)
    assert summary_of(tmp_path, 20)[0]["last"]["validation"]["loss"] == 5.0
    session(tmp_path, {"validation": NEW}, {20: 5.0}, resumed_step=20)
    records = [r for r in read_metrics(tmp_path / "metrics.jsonl") if r["kind"] == "validation"]
    assert [(r["step"], r["fingerprint"]) for r in records] == [(10, "old"), (20, "old"), (20, "new")]


def test_records_without_a_fingerprint_count_as_before(tmp_path: Path) -> None:
    session(tmp_path, None, {10: 2.0})
    path = tmp_path / "metrics.jsonl"
    older = [{k: v for k, v in r.items() if k not in ("fingerprint", "evaluation_sets")} for r in read_metrics(path)]
    path.write_text("".join(json.dumps(record) + "\n" for record in older))
    session(tmp_path, {"validation": NEW}, {20: 3.0}, resumed_step=10)
    assert events(tmp_path) == []
    assert summary_of(tmp_path, 20)[0]["best"]["validation"]["step"] == 10


def test_a_set_that_is_gone_is_neither_shown_nor_missed(tmp_path: Path) -> None:
    session(tmp_path, {"validation": OLD}, {10: 2.0})
    session(tmp_path, {"wiki": NEW}, {}, resumed_step=10)
    assert events(tmp_path) == []
    summary, rows = summary_of(tmp_path, 10)
    assert summary["best"] == summary["last"] == {} and not any("validation" in row for row in rows)


def test_a_set_whose_description_was_lost_is_still_told_apart() -> None:
    record = {"kind": "validation", "step": 5, "name": "v", "fingerprint": "old"}
    (line,) = changed_sets([record], {"v": NEW})
    assert "another one than at step 5 (other samples)" in line
