from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from configs.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    ExitStatus,
    MachineError,
    UserError,
    guarded,
    nearest,
    report_and_exit,
)


def test_a_message_names_place_problem_expected_and_nearest() -> None:
    error = UserError("found 3", where="a.b", expected="an even number", nearest="4")
    assert str(error) == "a.b: found 3\n  expected: an even number\n  did you mean: 4"
    assert str(UserError("found 3")) == "found 3"


@pytest.mark.parametrize("cls", [UserError, ConfigError, DataError, CheckpointError, MachineError])
def test_an_error_survives_a_worker_pool(cls: type[UserError]) -> None:
    error = cls("x", where="y", expected="z", nearest="w", status=ExitStatus.DIVERGED)
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(copy) is cls
    assert (str(copy), copy.status) == (str(error), ExitStatus.DIVERGED)


def test_the_statuses_are_those_that_are_documented() -> None:
    assert {s.name: int(s) for s in ExitStatus} == {
        "OK": 0, "BUG": 1, "USER_ERROR": 2, "DIVERGED": 3, "INTERRUPTED": 75,
    }  # fmt: skip


def test_an_entry_ends_with_message_and_status(capsys: pytest.CaptureFixture[str]) -> None:
    def entry() -> None:
        raise MachineError("disk is full", where="/data")

    with pytest.raises(SystemExit) as caught:
        guarded(entry)
    assert caught.value.code == 2
    captured = capsys.readouterr()
    assert captured.err == "error: /data: disk is full\n" and captured.out == ""


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        guarded(lambda: 1 / 0)


def test_no_traceback_reaches_the_user() -> None:
    code = "from configs.errors import *\ndef f(): raise DataError('bad')\nguarded(f)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (2, "error: bad\n")


def test_torchrun_is_left_the_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    with pytest.raises(SystemExit):
        report_and_exit(DataError("bad", where="a.jsonl"))
    told = json.loads((tmp_path / "error.json").read_text())["message"]
    assert told["message"] == "error: a.jsonl: bad" and int(told["extraInfo"]["timestamp"]) > 0
    assert [path.name for path in tmp_path.iterdir()] == ["error.json"]
    # Where that cannot be written, the message and the status are as ever.
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "none" / "error.json"))
    with pytest.raises(SystemExit) as caught:
        report_and_exit(DataError("bad"))
    assert caught.value.code == 2


@pytest.mark.slow
def test_the_report_of_torchrun_ends_with_the_message(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("from configs.errors import *\ndef f(): raise DataError('bad', expected='good')\nguarded(f)\n")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 1
    first, report = done.stderr.split("ChildFailedError", 1)
    assert "error: bad\n  expected: good\n" in first
    assert "error: bad\n    expected: good\n" in report and "To enable traceback" not in report


def test_nearest() -> None:
    assert nearest("zero_stag", ["zero_stage", "tensor_size"]) == "zero_stage"
    assert nearest("xyz", ["zero_stage"]) is None


def test_control_characters_are_printed_as_escapes() -> None:
    error = UserError("has\0 \x1b[31m\x85", where="a\rb", expected="c\td\ne", nearest="t\0e\0")
    assert error.render() == "a\\rb: has\\x00 \\x1b[31m\\x85\n  expected: c\\td\ne\n  did you mean: t\\x00e\\x00"
