from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from pretrain_data_corpora import random_lengths, write_corpus

from configs.errors import MachineError
from data_prep.corpus import Corpus
from pretrain.data.build_lock import built_once
from pretrain.data.documents import Documents
from pretrain.data.index_file import Allocate, built_on_disk

SPLIT = (0.8, 0.1, 0.1)


def fill(allocate: Allocate) -> None:
    arrays = allocate({"a": 1000, "b": 0, "c": 3})
    arrays["a"][:] = np.arange(1000)
    arrays["c"][:] = [7, 8, 9]


def refuse(allocate: Allocate) -> None:
    raise AssertionError("built although it was there")


def test_an_index_is_built_once_and_then_mapped(tmp_path: Path) -> None:
    path = tmp_path / "index" / "x.index"
    for build in (fill, refuse):
        arrays = built_on_disk(path, "identity", build)
        assert arrays["a"].tolist() == list(range(1000))
        assert (arrays["b"].tolist(), arrays["c"].tolist()) == ([], [7, 8, 9])
    assert sorted(file.name for file in path.parent.iterdir()) == ["x.index"]
    with pytest.raises(ValueError):
        arrays["a"][0] = 1


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "header", "extend"])
def test_a_damaged_index_is_built_again(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "x.index"
    built_on_disk(path, "identity", fill)
    raw = bytearray(path.read_bytes())
    if damage == "flip":
        raw[4096 + 500] ^= 1
    elif damage == "truncate":
        del raw[-8:]
    elif damage == "empty":
        raw.clear()
    elif damage == "header":
        raw[:100] = bytes(100)
    else:
        raw += bytes(8)
    path.write_bytes(raw)
    assert built_on_disk(path, "identity", fill)["a"].tolist() == list(range(1000))
    built_on_disk(path, "identity", refuse)


def test_an_index_of_something_else_is_built_again(tmp_path: Path) -> None:
    built_on_disk(tmp_path / "x.index", "corpus one", fill)
    with pytest.raises(AssertionError, match="built although"):
        built_on_disk(tmp_path / "x.index", "corpus two", refuse)
    # The failed build left neither a lock nor a half-written file.
    assert [file.name for file in tmp_path.iterdir()] == ["x.index"]


def test_large_corpora_give_the_same_documents_from_disk(tmp_path: Path) -> None:
    corpus = Corpus.open(write_corpus(tmp_path / "c", random_lengths(300), shards=2))
    cache = tmp_path / "cache"
    in_memory = Documents(corpus, "train", SPLIT, cache)
    assert not cache.exists()
    for _ in range(2):
        on_disk = Documents(corpus, "train", SPLIT, cache, in_memory_documents=10)
        for epoch in (0, 3):
            for name, expected in in_memory.order(epoch, 5).items():
                assert np.array_equal(on_disk.order(epoch, 5)[name], expected)
    assert len(list(cache.iterdir())) == 3
    whole = in_memory.order(3, 5)
    head = in_memory.head(3, 200, 5)
    assert head["start"][-1] >= 200
    assert np.array_equal(head["source"], whole["source"][: len(head["source"])])


def test_an_unwritable_cache_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(MachineError, match="file"):
        built_on_disk(tmp_path / "file" / "x.index", "identity", fill)


_BUILDER = """
import os, sys, time
from pathlib import Path
from pretrain.data import build_lock
from pretrain.data.index_file import built_on_disk

build_lock._FIRST_NOTICE_S = 0.2

def build(allocate):
    with open(sys.argv[2], "a") as log:
        log.write("built\\n")
    time.sleep(float(sys.argv[3]))
    allocate({"a": 100})["a"][:] = range(100)

go = Path(sys.argv[4])
go.with_name(f"ready-{os.environ['LOCAL_RANK']}").touch()
while not go.exists():
    time.sleep(0.005)
arrays = built_on_disk(Path(sys.argv[1]), "identity", build)
print(int(arrays["a"].sum()))
"""


def start_builder(tmp_path: Path, sleep_s: float, local_rank: int = 0) -> subprocess.Popen[str]:
    arguments = [str(tmp_path / "x.index"), str(tmp_path / "log"), str(sleep_s), str(tmp_path / "go")]
    return subprocess.Popen(
        [sys.executable, "-c", _BUILDER, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"LOCAL_RANK": str(local_rank)},
    )


@pytest.mark.slow
def test_of_processes_at_the_same_time_one_builds_and_the_others_wait(tmp_path: Path) -> None:
    processes = [start_builder(tmp_path, 1.5, rank) for rank in range(2)]
    while len(list(tmp_path.glob("ready-*"))) < 2:
        time.sleep(0.01)
    (tmp_path / "go").touch()
    outputs = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert (tmp_path / "log").read_text() == "built\n"
    assert [out.strip() for out, _ in outputs] == ["4950", "4950"]
    waiting = [err for _, err in outputs if "waiting for the data index" in err]
    assert len(waiting) == 1 and "x.index: process" in waiting[0] and "builds it" in waiting[0]
    assert not (tmp_path / "x.lock").exists()


def test_the_lock_of_a_killed_builder_is_taken_over_at_once(tmp_path: Path) -> None:
    builder = start_builder(tmp_path, 60)
    (tmp_path / "go").touch()
    while not (tmp_path / "log").exists():
        time.sleep(0.01)
    builder.kill()
    builder.communicate()
    assert (tmp_path / "x.lock").exists()
    assert built_on_disk(tmp_path / "x.index", "identity", fill)["a"].tolist() == list(range(1000))
    assert not (tmp_path / "x.lock").exists()


def test_a_lock_file_that_nobody_holds_is_in_nobodys_way(tmp_path: Path) -> None:
    lock = tmp_path / "x.lock"
    lock.write_text('{"host": "another", "pid": 1}')
    with built_once(lock, lambda: False, "x") as is_mine:
        assert is_mine
    assert not lock.exists()


def test_who_gets_the_lock_after_another_built_builds_nothing(tmp_path: Path) -> None:
    with built_once(tmp_path / "x.lock", lambda: True, "x") as is_mine:
        assert not is_mine
    assert not list(tmp_path.iterdir())
