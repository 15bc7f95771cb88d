from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from pretrain.monitor.metrics_file import MetricsFile, drop_after, read_metrics


def write_steps(path: Path, steps: range, resumed_step: int | None, loss: float = 1.0) -> None:
    file = MetricsFile(path, resumed_step)
    for step in steps:
        file.write("train", step, {"loss": loss})
    file.close()


def test_a_resumed_file_has_each_step_once_with_the_newer_value(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write_steps(path, range(1, 10), None, loss=1.0)
    write_steps(path, range(6, 12), 5, loss=2.0)
    records = list(read_metrics(path))
    assert [r["step"] for r in records] == list(range(1, 12))
    assert [r["loss"] for r in records] == [1.0] * 5 + [2.0] * 6


def test_a_new_run_starts_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write_steps(path, range(0, 10), None)
    write_steps(path, range(0, 3), None)
    assert [r["step"] for r in read_metrics(path)] == [0, 1, 2]


def test_a_line_that_a_kill_cut_off_is_dropped_and_the_next_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write_steps(path, range(1, 5), None)
    path.write_bytes(path.read_bytes()[:-7])
    write_steps(path, range(4, 6), 4)
    assert [r["step"] for r in read_metrics(path)] == [1, 2, 3, 4, 5]
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_complete_record_without_its_newline_does_not_swallow_the_next(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"kind": "train", "step": 1}\n{"kind": "train", "step": 2}')
    write_steps(path, range(3, 4), 2)
    assert [r["step"] for r in read_metrics(path)] == [1, 3]


def test_damaged_lines_are_left_out_with_one_warning_and_the_rest_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "metrics.jsonl"
    write_steps(path, range(1, 8), None)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2], lines[4], lines[5] = b"\xff\xfe\n", b"[1]\n", b'{"kind": "train"}\n'
    path.write_bytes(b"".join(lines))
    write_steps(path, range(8, 10), 7)
    assert [r["step"] for r in read_metrics(path)] == [1, 2, 4, 7, 8, 9]
    said = capsys.readouterr().err.splitlines()
    assert said == [f"warning: {path}: left out what is no record: line 3 and 2 more"]


def test_a_line_that_a_kill_cut_off_is_no_reason_to_warn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "metrics.jsonl"
    write_steps(path, range(1, 5), None)
    path.write_bytes(path.read_bytes()[:-7])
    assert [r["step"] for r in read_metrics(path)] == [1, 2, 3]
    assert capsys.readouterr().err == ""


def test_numbers_that_json_lacks_become_null(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "m.jsonl", None)
    file.write("train", 1, {"loss": math.nan, "grad_norm": math.inf, "lr": 0.5})
    file.close()
    assert json.loads((tmp_path / "m.jsonl").read_text()) == {
        "kind": "train", "step": 1, "loss": None, "grad_norm": None, "lr": 0.5,
    }  # fmt: skip


def test_dropping_leaves_the_old_file_when_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from configs.errors import MachineError

    path = tmp_path / "metrics.jsonl"
    write_steps(path, range(1, 10), None)
    before = path.read_bytes()

    def no_space(_: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("data_prep.storage.publishing.flush_to_disk", no_space)
    with pytest.raises(MachineError, match="No space left"):
        drop_after(path, 4)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_each_record_is_in_the_file_before_the_next_step(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "m.jsonl", None)
    file.write("event", 3, {"text": "größer"})
    assert [r["text"] for r in read_metrics(tmp_path / "m.jsonl")] == ["größer"]
    file.close()
