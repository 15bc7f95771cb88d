"""Ways to break what a run finds: its corpus, its checkpoints, its disk, its port. Each takes the run's directory."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.pretrain.tiny_run import make_corpus


def write(name: str, text: str) -> Callable[[Path], None]:
    return lambda work: (work / name).write_text(text) and None


def truncate_shard(work: Path) -> None:
    shard = next((work / "corpus").glob("*.bin"))
    os.truncate(shard, shard.stat().st_size // 2)


def damage_counts(work: Path) -> None:
    (work / "corpus/token_counts.npy").write_bytes(bytes(50))


def remove_shard(work: Path) -> None:
    next((work / "corpus").glob("*.bin")).unlink()


def other_tokenizer(work: Path) -> None:
    shutil.copytree(work / "corpus", work / "other")
    shutil.rmtree(work / "corpus")
    shutil.copytree(make_corpus(work / "fresh", documents=90), work / "corpus")


def remove_manifests(work: Path) -> None:
    for manifest in (work / "run/checkpoints").glob("step_*/manifest.json"):
        manifest.unlink()


def damage_checkpoints(work: Path) -> None:
    for part in (work / "run/checkpoints").glob("step_*/*.safetensors"):
        with part.open("r+b") as file:
            for share in (0.2, 0.5, 0.8):
                file.seek(int(part.stat().st_size * share))
                file.write(b"\xff\x00\xff\x00")


@contextmanager
def full_disk(work: Path) -> Iterator[None]:
    """A file system of 1 MB where the run wants to write."""
    (work / "small").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(work / "small")], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(work / "small")], check=True)


@contextmanager
def port_taken(work: Path) -> Iterator[None]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 6873))
        taken.listen()
        yield
