from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from faked_layouts import SMALL_GPT, FakeLayout, random_state, shards_of

from configs.errors import CheckpointError
from pretrain.checkpoint.directory import (
    check_free_space,
    check_writable,
    estimated_bytes,
    expired,
    left_over_bytes,
    list_checkpoints,
    newest_checkpoint,
    step_name,
)
from pretrain.checkpoint.part_writer import plan_part, prepare_copy, write_part
from pretrain.checkpoint.state_shards import StateShard
from pretrain.checkpoint.writer import CheckpointWriter
from pretrain.parallel.sharded_shape import ShardedShape

ALONE = FakeLayout()


def my_shards(seed: int) -> list[StateShard]:
    return shards_of(ALONE, 0, random_state(SMALL_GPT, seed))


def complete(root: Path, name: str) -> None:
    (root / name).mkdir(parents=True)
    (root / name / "manifest.json").write_text("{}")


def save(root: Path, *steps: int, **options) -> list[int]:
    """Save in this one process, and list what is left."""
    writer = CheckpointWriter(root, **options)
    for step in steps:
        writer.save(step, my_shards(step), {"step": step})
    writer.wait_all_ranks()
    writer.close()
    return [step for step, _ in list_checkpoints(root)]


def test_what_has_a_checkpoints_name_is_listed_damaged_or_not(tmp_path):
    assert list_checkpoints(tmp_path / "nowhere") == []
    assert newest_checkpoint(tmp_path) is None
    complete(tmp_path, "step_00000900")
    complete(tmp_path, "step_123456789")
    complete(tmp_path, ".tmp-00000950-abc123")
    complete(tmp_path, "step_00000960.superseded-abc123")
    complete(tmp_path, "step_00000970_copy")
    (tmp_path / "step_00000980").mkdir()
    (tmp_path / "step_00000990").touch()
    (tmp_path / ".replaced-00000970-abc123").mkdir()
    assert [step for step, _ in list_checkpoints(tmp_path)] == [900, 980, 123456789]
    assert newest_checkpoint(tmp_path) == tmp_path / "step_123456789"


def test_a_file_in_place_of_the_directory_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="cannot be listed"):
        list_checkpoints(tmp_path / "file")


@pytest.mark.parametrize("below", [".", "deeper/checkpoints"])
def test_unwritable_directory_is_told_by_name(tmp_path, below):
    (tmp_path / "taken").touch()
    with pytest.raises(CheckpointError, match="cannot be written here") as error:
        check_writable(tmp_path / "taken" / below)
    assert "taken" in str(error.value)
    with pytest.raises(CheckpointError, match="cannot be written here"):
        CheckpointWriter(tmp_path / "taken" / below)


def test_read_only_file_system_is_told(tmp_path, monkeypatch):
    def refuse(path: Path, data: bytes) -> int:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(CheckpointError, match="Read-only file system"):
        check_writable(tmp_path)


def test_check_writable_leaves_nothing_but_the_directory(tmp_path):
    check_writable(tmp_path / "run" / "checkpoints", needed_bytes=1)
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []


def test_too_little_space_names_both_numbers(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(CheckpointError, match=rf"needs {10 * free} bytes .* \d+ bytes free"):
        check_free_space(tmp_path, 10 * free)
    with pytest.raises(CheckpointError, match="bytes free"):
        check_writable(tmp_path, 10 * free)


@pytest.mark.parametrize(
    ("steps", "keep_last", "every", "gone"),
    [
        ([10, 20, 30], 2, None, [10]),
        ([30, 10, 20], 1, None, [10, 20]),
        ([10, 20, 30, 40], 1, 20, [10, 30]),
        ([0, 10, 20], 1, 10, [0]),
        ([], 1, None, []),
    ],
)
def test_retention(steps, keep_last, every, gone):
    assert expired(steps, keep_last, every) == gone


def test_retention_of_a_writer(tmp_path):
    assert save(tmp_path, *range(10, 90, 10), keep_last=2, keep_every_steps=30) == [30, 60, 70, 80]


def test_estimate_is_close_to_what_is_written(tmp_path):
    elements = 1_000_000
    shape = ShardedShape("w", (1000, 1000), (1000, 1000))
    writer = CheckpointWriter(tmp_path, asynchronous=False)
    memory = torch.zeros(elements)
    writer.save(1, [StateShard(shape, 0, elements, dict.fromkeys(("master", "exp_avg", "exp_avg_sq"), memory))], {})
    written = sum(path.stat().st_size for path in (tmp_path / step_name(1)).iterdir())
    assert written <= estimated_bytes(elements, 2) <= 1.15 * written


def test_saving_a_step_again_sets_the_earlier_one_aside(tmp_path, capsys):
    save(tmp_path, 10, 20)
    before = (tmp_path / step_name(20) / "rank00000.json").read_bytes()
    writer = CheckpointWriter(tmp_path)
    writer.save(20, my_shards(99), {"step": 20})
    writer.wait_all_ranks()
    assert (tmp_path / step_name(20) / "rank00000.json").read_bytes() != before
    (aside,) = tmp_path.glob("*.superseded-*")
    assert (aside / "rank00000.json").read_bytes() == before
    assert f"{aside.name}: of another course of training" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {".lock", step_name(10), step_name(20), aside.name}


def test_a_run_that_starts_anew_sets_all_earlier_ones_aside_at_its_first_save(tmp_path, capsys):
    save(tmp_path, 10, 20, 30, keep_last=9)
    assert save(tmp_path, starts_anew=True) == [10, 20, 30], "nothing is saved yet"
    assert save(tmp_path, 20, 40, keep_last=1, starts_anew=True) == [40]
    assert len(list(tmp_path.glob("*.superseded-*"))) == 3
    assert capsys.readouterr().err.count("of another course of training") == 3


def test_newer_checkpoints_of_a_course_that_was_rolled_back_are_set_aside(tmp_path, capsys):
    save(tmp_path, 10, 20, 30, keep_last=9)
    assert save(tmp_path, 15, keep_last=1) == [15]
    assert newest_checkpoint(tmp_path) == tmp_path / step_name(15)
    aside = sorted(path.name.split("-")[0] for path in tmp_path.glob("*.superseded-*"))
    assert aside == [f"{step_name(20)}.superseded", f"{step_name(30)}.superseded"]
    assert "of another course of training than the checkpoint of step 15" in capsys.readouterr().err


def test_what_dead_attempts_left_is_removed_and_nothing_else(tmp_path):
    save(tmp_path, 10)
    complete(tmp_path, ".tmp-00000020-0123456789ab")
    complete(tmp_path, ".tmp-delete-0123456789ab")
    complete(tmp_path, "step_00000030.superseded-0123456789ab")
    (tmp_path / "notes.txt").touch()
    CheckpointWriter(tmp_path).close()
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [".lock", "notes.txt", step_name(10), "step_00000030.superseded-0123456789ab"]


def test_unremovable_old_checkpoint_is_a_warning_only(tmp_path, monkeypatch, capsys):
    from pretrain.checkpoint import attempt

    def refuse(path: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(attempt, "delete_checkpoint", refuse)
    assert save(tmp_path, 10, 20, keep_last=1) == [10, 20]
    assert "could not be removed (Operation not permitted)" in capsys.readouterr().err


def test_a_damaged_checkpoint_takes_no_sound_ones_place(tmp_path):
    save(tmp_path, 10, 20, keep_last=9)
    (tmp_path / step_name(20) / "manifest.json").unlink()
    assert save(tmp_path, 30, keep_last=2) == [10, 20, 30]


def test_what_is_going_to_be_removed_is_free_space(small_disk):
    (small_disk / ".tmp-00000010-abc123").mkdir()
    (small_disk / ".tmp-00000010-abc123" / "rank00000.safetensors").write_bytes(bytes(300_000))
    with pytest.raises(CheckpointError, match="bytes free"):
        check_free_space(small_disk, 200_000)
    check_free_space(small_disk, 200_000, soon_free_bytes=left_over_bytes(small_disk))


def test_a_part_is_let_alone_once_it_is_announced(tmp_path, monkeypatch):
    """Rank 0 renames the directory as soon as it sees the names of all parts."""
    plan = plan_part(my_shards(1), 0)
    buffer = torch.empty(plan.elements)
    prepare_copy(plan, buffer)()
    replace = Path.replace

    def announce(path: Path, target: Path) -> None:
        replace(path, target)
        if target.name == "rank00000.json":
            (tmp_path / "attempt").rename(tmp_path / "committed")

    monkeypatch.setattr(Path, "replace", announce)
    (tmp_path / "attempt").mkdir()
    write_part(plan, buffer, tmp_path / "attempt")
    assert sorted(path.name for path in (tmp_path / "committed").iterdir()) == [
        "rank00000.json",
        "rank00000.safetensors",
    ]


@pytest.mark.slow
def test_stall_waits_for_the_save_before(tmp_path, monkeypatch):
    from pretrain.checkpoint import part_writer

    sound = part_writer.write_all

    def slow(descriptor: int, data: memoryview) -> None:
        time.sleep(0.5)
        sound(descriptor, data)

    monkeypatch.setattr(part_writer, "write_all", slow)
    writer = CheckpointWriter(tmp_path, asynchronous=True)
    first = writer.save(10, my_shards(1), {})
    second = writer.save(20, my_shards(2), {})
    assert first.total_s < 0.5 and 0.3 < second.wait_s <= second.total_s
    writer.wait_all_ranks()
    assert second.copied_bytes == sum(3 * 4 * shard.elements for shard in my_shards(2))


def test_shards_that_are_not_flat_fp32_are_refused(tmp_path):
    writer = CheckpointWriter(tmp_path)
    for wrong in (torch.zeros(4, dtype=torch.bfloat16), torch.zeros(5), torch.zeros(2, 2), torch.zeros(8)[::2]):
        sound = torch.zeros(4)
        shard = StateShard(
            ShardedShape("w", (4,), (4,)), 0, 4, {"master": sound, "exp_avg": wrong, "exp_avg_sq": sound}
        )
        with pytest.raises(ValueError, match="w: exp_avg is torch"):
            writer.save(1, [shard], {})
    with pytest.raises(TypeError):
        writer.save(1, my_shards(1), {"when": object()})
    assert list_checkpoints(tmp_path) == []


@pytest.mark.slow
def test_a_process_that_ends_without_waiting_still_finishes_its_checkpoint(tmp_path):
    code = """if True:
        import sys, time, pathlib
        sys.path.insert(0, sys.argv[2])
        from test_checkpoint_directory import CheckpointWriter, my_shards
        from pretrain.checkpoint import part_writer
        sound = part_writer.write_all
        part_writer.write_all = lambda descriptor, data: (time.sleep(0.3), sound(descriptor, data))
        CheckpointWriter(pathlib.Path(sys.argv[1])).save(10, my_shards(1), {})
    """
    argv = [sys.executable, "-c", code, str(tmp_path), str(Path(__file__).parent)]
    subprocess.run(argv, check=True, timeout=60)
    assert newest_checkpoint(tmp_path) == tmp_path / step_name(10)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 400 kB."""
    mount = tmp_path / "disk"
    mount.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(mount)]
    if os.geteuid() != 0 or subprocess.run(argv, capture_output=True).returncode != 0:
        pytest.skip("mounting a small disk needs more rights than this process has")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


def test_a_disk_that_fills_up_while_writing(small_disk, monkeypatch):
    from pretrain.checkpoint import writer as writer_module

    writer = CheckpointWriter(small_disk, keep_last=99)
    writer.save(1, my_shards(1), {"step": 1})
    writer.wait_all_ranks()
    with pytest.raises(CheckpointError, match="bytes free"):
        for step in range(2, 99):
            writer.save(step, my_shards(step), {"step": step})
            writer.wait_all_ranks()
    survivors = list_checkpoints(small_disk)
    # The disk may also fill between the check and the writing.
    monkeypatch.setattr(writer_module, "check_free_space", lambda root, needed: None)
    with pytest.raises(CheckpointError, match=r"could not be written: .*No space left on device"):
        for step in range(100, 200):
            writer.save(step, my_shards(step), {"step": step})
            writer.wait_all_ranks()
    assert set(survivors) <= set(list_checkpoints(small_disk))
    assert not list(small_disk.glob(".tmp-*"))
