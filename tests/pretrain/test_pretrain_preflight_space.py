"""Before a run starts, the disk is asked for room for all checkpoints that will lie there at once."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from configs.errors import CheckpointError
from pretrain import preflight
from pretrain.checkpoint.directory import estimated_bytes, most_at_once, step_name
from tests.pretrain.tiny_run import tiny_config


@pytest.mark.parametrize(
    ("present", "saves", "keep_last", "more"),
    [
        (0, None, 2, 3),
        (0, 1, 2, 1),
        (0, 2, 2, 2),
        (0, 3, 2, 3),
        (0, 9, 1, 2),
        (1, None, 2, 2),
        (2, None, 2, 1),
        (2, 1, 2, 1),
        (1, 1, 2, 1),
        (2, 0, 2, 0),
    ],
)
def test_how_many_lie_there_at_once(present: int, saves: int | None, keep_last: int, more: int) -> None:
    assert most_at_once(present, saves, keep_last) == more


@pytest.mark.parametrize(
    ("interval", "total", "after", "saves"),
    [
        ("5 steps", 12, 0, 3),
        ("5 steps", 10, 0, 2),
        ("5 steps", 12, 5, 2),
        ("5 steps", 12, 12, 0),
        ("500 steps", 12, 0, 1),
        ("null", 12, 3, 1),
        ("4 min", 12, 0, None),
        ("5 steps", None, 0, None),
    ],
)
def test_how_many_saves_are_to_come(interval: str, total: int | None, after: int, saves: int | None) -> None:
    config = tiny_config(Path("run"), Path("corpus"), checkpoint__interval=interval)
    assert config.checkpoint.num_saves(total, after) == saves


def refusal(
    output: Path, monkeypatch: pytest.MonkeyPatch, room_for: float, branch_step: int | None = None, **changes: Any
) -> str | None:
    config = tiny_config(output, Path("corpus"), model__vocab_size=300, **changes)
    one = estimated_bytes(config.model.num_parameters(), len(config.optimizer.states))
    (output / "checkpoints").mkdir(parents=True, exist_ok=True)
    usage = SimpleNamespace(free=int(one * room_for))
    monkeypatch.setattr("pretrain.checkpoint.directory.shutil.disk_usage", lambda path: usage)
    try:
        preflight._check_space(config, 12, branch_step)
    except CheckpointError as error:
        return error.render()
    return None


def test_a_disk_with_room_for_one_only_is_refused_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    often = {"checkpoint__interval": "2 steps", "checkpoint__keep_last": 2}
    said = refusal(tmp_path, monkeypatch, 1.5, **often)
    assert said is not None and "3 lie here before an old one may go" in said and "checkpoint.keep_last" in said
    assert refusal(tmp_path, monkeypatch, 2.9, **often) is not None
    assert refusal(tmp_path, monkeypatch, 3.1, **often) is None
    assert refusal(tmp_path, monkeypatch, 1.5, checkpoint__interval="500 steps") is None
    assert refusal(tmp_path, monkeypatch, 0.5, checkpoint__interval="500 steps") is not None


def test_what_lies_there_already_needs_no_more_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    often = {"checkpoint__interval": "2 steps", "checkpoint__keep_last": 2}
    for step in (2, 4):
        (tmp_path / "checkpoints" / step_name(step)).mkdir(parents=True)
    assert refusal(tmp_path, monkeypatch, 1.5, **often) is None
    # Of another run they stay where they are, under other names.
    said = refusal(tmp_path, monkeypatch, 1.5, checkpoint__resume="never", **often)
    assert said is not None and "3 lie here" in said


def test_a_branch_saves_only_what_is_left_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    often = {"checkpoint__interval": "2 steps", "checkpoint__keep_last": 2}
    assert refusal(tmp_path, monkeypatch, 1.5, branch_step=8, **often) is not None
    assert refusal(tmp_path, monkeypatch, 1.5, branch_step=10, **often) is None
