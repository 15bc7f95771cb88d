"""Saving by real gloo ranks when ranks die, disks fill up, and machines do not share a directory."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest
import torch.distributed as dist
from faked_layouts import FakeLayout
from faked_ranks import PAIR, expect_error, load_and_compare, my_shards, run_ranks, save_steps

from configs.errors import CheckpointError
from pretrain.checkpoint import part_writer
from pretrain.checkpoint.directory import list_checkpoints, newest_checkpoint, step_name
from pretrain.checkpoint.writer import CheckpointWriter
from tests.distributed import RankFailure


def kill_while_saving(root: Path, delay_s: float, victim: int) -> None:
    """Save over and over; the victim dies after `delay_s`, the others with it."""
    writer = CheckpointWriter(root, asynchronous=True, keep_last=2)
    values = {step: my_shards(PAIR, seed=step) for step in (1, 2, 3)}
    dist.barrier()
    if dist.get_rank() == victim:
        threading.Timer(delay_s, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()
    step = 10
    while True:
        step += 10
        writer.save(step, values[1 + step // 10 % 3], {"step": step})


@pytest.mark.slow
@pytest.mark.parametrize("trial", range(12))
def test_killed_while_saving_the_newest_is_sound(tmp_path, trial):
    run_ranks(save_steps, 2, tmp_path, PAIR, [10], asynchronous=True)
    with pytest.raises(RankFailure, match="status -9"):
        run_ranks(kill_while_saving, 2, tmp_path, 0.005 + 0.017 * trial, trial % 2, timeout_s=30)
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    step = int(newest.name.removeprefix("step_"))
    seed = 10 if step == 10 else 1 + step // 10 % 3
    metadata = run_ranks(load_and_compare, 2, tmp_path, PAIR, seed=seed)[0]
    assert metadata["step"] == step
    run_ranks(save_steps, 2, tmp_path, PAIR, [step + 5], asynchronous=True)
    assert not list(tmp_path.glob(".tmp-*")), "what the dead attempt left is still there"
    assert newest_checkpoint(tmp_path) == tmp_path / step_name(step + 5)


BEFORE_RENAME_OF = {"before any rename": ".tmp-", "before set aside": "step_", "between renames": ".replaced-"}


def die_at(root: Path, point: str) -> None:
    """Rank 0 dies at a chosen point of the commit."""
    from pretrain.checkpoint import attempt

    writer = CheckpointWriter(root, asynchronous=True)

    def die(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    if dist.get_rank() == 0:
        if point == "before the rename":
            attempt.publish = die
        elif point in BEFORE_RENAME_OF:
            original = Path.rename

            def rename(self: Path, target: Path) -> Path:
                return die() if self.name.startswith(BEFORE_RENAME_OF[point]) else original(self, target)

            Path.rename = rename
        elif point == "before retention":
            attempt.SaveAttempt._retire = die
    writer.save(20, my_shards(PAIR, seed=21), {"step": 20})
    writer.wait()
    dist.barrier()


@pytest.mark.parametrize(
    ("point", "seed", "set_aside"),
    [
        pytest.param("before the rename", 20, 0, marks=pytest.mark.slow),
        pytest.param("before any rename", 20, 0, marks=pytest.mark.slow),
        # The new one has not got the name and is set aside itself: nothing that is complete is lost.
        pytest.param("before set aside", 20, 1, marks=pytest.mark.slow),
        pytest.param("between renames", 21, 1, marks=pytest.mark.slow),
        pytest.param("before retention", 21, 1, marks=pytest.mark.slow),
    ],
)
def test_killed_at_the_worst_moments_of_replacing_a_step(tmp_path, point, seed, set_aside):
    run_ranks(save_steps, 2, tmp_path, PAIR, [10, 20], asynchronous=True)
    with pytest.raises(RankFailure, match="status -9"):
        run_ranks(die_at, 2, tmp_path, point, timeout_s=30)
    assert [found for found, _ in list_checkpoints(tmp_path)] == [10, 20]
    run_ranks(load_and_compare, 2, tmp_path, PAIR, seed=seed)
    names = run_ranks(save_steps, 2, tmp_path, PAIR, [30], asynchronous=True, keep_last=9)[0]
    aside = [name for name in names if name.startswith(f"{step_name(20)}.superseded-")]
    assert len(aside) == set_aside
    assert sorted({*names} - {*aside}) == [".lock", step_name(10), step_name(20), step_name(30)]


def save_with_broken_disk(root: Path, how: str) -> list[str]:
    """One good save, one that fails on rank 1 only, one good save again."""
    writer = CheckpointWriter(root, asynchronous=True, keep_last=5)
    writer.save(10, my_shards(PAIR, seed=10), {"step": 10})
    writer.wait_all_ranks()
    sound = part_writer.write_all

    def full(descriptor: int, data: memoryview) -> None:
        sound(descriptor, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    if dist.get_rank() == 1:
        part_writer.write_all = full
    writer.save(20, my_shards(PAIR, seed=20), {"step": 20})
    try:
        if how == "at the next save":
            writer.save(30, my_shards(PAIR, seed=30), {"step": 30})
        else:
            writer.wait_all_ranks()
        found = "no error"
    except CheckpointError as error:
        found = str(error)
    dist.barrier()
    left = sorted(path.name for path in root.iterdir())
    dist.barrier()
    part_writer.write_all = sound
    writer.save(40, my_shards(PAIR, seed=40), {"step": 40})
    writer.wait_all_ranks()
    return [found, *left]


def wait_with_broken_disk(root: Path) -> tuple[str, str]:
    """What `wait` and then `wait_all_ranks` say when rank 1 cannot write."""
    writer = CheckpointWriter(root, asynchronous=True)

    def broken(descriptor: int, data: memoryview) -> None:
        raise OSError(5, "Input/output error")

    if dist.get_rank() == 1:
        part_writer.write_all = broken
    writer.save(20, my_shards(PAIR, seed=20), {"step": 20})
    return expect_error(writer.wait)[1], expect_error(writer.wait_all_ranks)[1]


def test_wait_tells_each_rank_what_it_knows(tmp_path):
    (first, first_all), (second, second_all) = run_ranks(wait_with_broken_disk, 2, tmp_path)
    assert "given up because another rank failed" in first
    assert "rank00001.safetensors: Input/output error" in second
    for message in (first_all, second_all):
        assert "rank00001.safetensors: Input/output error (rank 1)" in message


@pytest.mark.parametrize("how", [pytest.param("at the next save", marks=pytest.mark.slow), "at the end"])
def test_disk_full_on_one_rank_is_told_on_all_and_leaves_no_trace(tmp_path, how):
    for message, *left in run_ranks(save_with_broken_disk, 2, tmp_path, how):
        assert "rank00001.safetensors: No space left on device" in message
        assert "step 20" in message
        assert left == [".lock", step_name(10)]
    assert [step for step, _ in list_checkpoints(tmp_path)] == [10, 40]
    run_ranks(load_and_compare, 2, tmp_path, PAIR, seed=40)


def fail_without_a_word(root: Path) -> str:
    """Rank 1 cannot write, and cannot even leave a mark that it could not."""
    from pretrain.checkpoint import attempt

    writer = CheckpointWriter(root, asynchronous=True)

    def broken(descriptor: int, data: memoryview) -> None:
        raise OSError(5, "Input/output error")

    if dist.get_rank() == 1:
        part_writer.write_all = broken
        attempt.SaveAttempt._withdraw = lambda self: None
    writer.save(20, my_shards(PAIR, seed=20), {"step": 20})
    return expect_error(writer.save, 30, my_shards(PAIR, seed=30), {"step": 30})[1]


def test_a_rank_that_fails_without_a_mark_does_not_hold_up_the_others(tmp_path):
    for message in run_ranks(fail_without_a_word, 2, tmp_path, timeout_s=30):
        assert "rank00001.safetensors: Input/output error (rank 1)" in message
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def save_beyond_file_limit(root: Path) -> str:
    writer = CheckpointWriter(root, asynchronous=True)
    writer.save(10, my_shards(PAIR, seed=10), {"step": 10})
    writer.wait_all_ranks()
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, resource.RLIM_INFINITY))
    writer.save(20, my_shards(PAIR, seed=20), {"step": 20})
    return expect_error(writer.wait_all_ranks)[1]


def test_write_error_of_the_real_system_is_reported(tmp_path):
    for message in run_ranks(save_beyond_file_limit, 2, tmp_path):
        assert "File too large" in message
    assert [path.name for path in sorted(tmp_path.iterdir())] == [".lock", step_name(10)]


def save_inconsistent(root: Path) -> list[str]:
    """What a save says when no rank owns a tensor, and when two do."""
    writer = CheckpointWriter(root, asynchronous=True)
    found = []
    for layout, is_owner in ((PAIR, False), (FakeLayout(data=2, zero=0), True)):
        shards = my_shards(layout, seed=1)
        if dist.get_rank() == 1:
            shards[0].is_owner = is_owner
        writer.save(10, shards, {"step": 10})
        try:
            writer.wait_all_ranks()
        except RuntimeError as error:
            found.append(str(error))
    return found


def test_wrong_ownership_is_found_at_the_save(tmp_path):
    for nobody, both in run_ranks(save_inconsistent, 2, tmp_path):
        assert "embedding.word_embeddings.weight: the parts do not hold every element of [24, 8] exactly once" in both
        assert "decoder.layers.2.input_layernorm.weight: no part holds it" in nobody
    assert newest_checkpoint(tmp_path) is None


def save_without_space(root: Path) -> str:
    writer = CheckpointWriter(root)
    usage = shutil.disk_usage(root)
    if dist.get_rank() == 0:
        shutil.disk_usage = lambda _: usage._replace(free=1234)
    return expect_error(writer.save, 10, my_shards(PAIR, seed=1), {"step": 10})[1]


def test_too_little_space_is_told_before_anything_is_written(tmp_path):
    for message in run_ranks(save_without_space, 2, tmp_path):
        assert "has 1234 bytes free" in message
        assert "a checkpoint needs " in message
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def open_not_shared(root: Path) -> str:
    from pretrain.checkpoint import writer

    writer.SHARED_WAIT_S = 0.3
    return expect_error(CheckpointWriter, root / f"machine{dist.get_rank()}")[1]


def test_a_directory_that_is_not_shared_is_found(tmp_path):
    for message in run_ranks(open_not_shared, 2, tmp_path):
        assert "the directory is not shared (rank 1)" in message


def open_twice(root: Path) -> str:
    from pretrain.checkpoint import directory_lock, writer

    directory_lock.WAIT_HERE_S = 0.3
    return expect_error(writer.CheckpointWriter, root)[1]


def test_two_runs_do_not_share_a_directory(tmp_path):
    writer = CheckpointWriter(tmp_path)
    message = run_ranks(open_twice, 1, tmp_path)[0]
    assert f"another run (process {os.getpid()} on " in message and ") is writing checkpoints here" in message
    writer.close()
    assert run_ranks(open_twice, 1, tmp_path) == [""]


def close_without_the_other(root: Path) -> bool:
    from pretrain.checkpoint import attempt
    from pretrain.checkpoint import writer as writer_module

    def write_never(*_: object) -> None:
        give_up_s = time.monotonic() + 60
        while not (root / "closed").exists() and time.monotonic() < give_up_s:
            time.sleep(0.05)
        if not (root / "closed").exists():
            (root / "given-up").touch()

    writer_module.CLOSE_WAIT_S = 0.3
    writer = CheckpointWriter(root, asynchronous=True)
    writer.save(10, my_shards(PAIR, seed=1), {"step": 10})
    writer.wait_all_ranks()
    if dist.get_rank() == 1:
        # As if it had died before it could write.
        attempt.write_part = write_never
    writer.save(20, my_shards(PAIR, seed=2), {"step": 20})
    writer.close()
    waited_for_the_other = (root / "given-up").exists()
    if dist.get_rank() == 0:
        (root / "closed").touch()
    return waited_for_the_other


def test_closing_does_not_wait_for_a_rank_that_is_gone(tmp_path):
    first, _ = run_ranks(close_without_the_other, 2, tmp_path)
    assert not first
    assert newest_checkpoint(tmp_path) == tmp_path / step_name(10)
