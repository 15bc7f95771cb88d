"""What one rank finds wrong is told by all, with what would have been right."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from faked_layouts import SMALL_GPT, FakeLayout, random_state, shards_of

from configs.errors import CheckpointError
from pretrain.checkpoint import directory_lock
from pretrain.checkpoint.ranks import Problem, raise_together
from pretrain.checkpoint.writer import CheckpointWriter


def told(*problems: Problem | None) -> str:
    with pytest.raises(CheckpointError) as caught:
        raise_together(list(problems), "run")
    return str(caught.value)


def test_a_second_run_is_told_what_would_be_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("WAIT_HERE_S", "WAIT_S"):
        monkeypatch.setattr(directory_lock, limit, 0.1)
    # The lock is the process': the other run has to be one.
    hold = (
        "import fcntl, sys; lock = open(sys.argv[1], 'w'); fcntl.lockf(lock, fcntl.LOCK_EX); print(flush=True); input()"
    )
    command = [sys.executable, "-c", hold, str(tmp_path / directory_lock.LOCK_FILE)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "\n"
        try:
            with pytest.raises(CheckpointError, match="writing checkpoints here\n  expected: an output of its own"):
                CheckpointWriter(tmp_path)
        finally:
            other.communicate("\n")


def test_a_full_disk_is_told_with_what_would_help(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = CheckpointWriter(tmp_path)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1234))
    shards = shards_of(FakeLayout(), 0, random_state(SMALL_GPT, 1))
    try:
        with pytest.raises(CheckpointError, match=r"1234 bytes free .*\n  expected: more space, a smaller"):
            writer.save(10, shards, {"step": 10})
    finally:
        writer.close()


def test_what_was_expected_travels_with_the_problem() -> None:
    one = Problem.of(CheckpointError("is full", where="run", expected="space"), "run")
    other = Problem("is gone", expected="a disk")
    assert told(one) == "run: is full\n  expected: space"
    assert told(None, one, one) == "run: is full (rank 1, 2)\n  expected: space"
    assert told(one, Problem("is old", expected="space")) == (
        "run: \n- rank 0: is full\n- rank 1: is old\n  expected: space"
    )
    assert told(one, other, Problem("is odd")) == (
        "run: \n- rank 0: is full (expected: space)\n- rank 1: is gone (expected: a disk)\n- rank 2: is odd"
    )
    assert told(Problem("gave up", is_consequence=True), one) == "run: is full (rank 1)\n  expected: space"
    assert told(Problem("is odd")) == "run: is odd"
