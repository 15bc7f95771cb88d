"""A disk that fills up under a command: one message, nothing half-written, and the work goes on where it stopped."""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.entry_process import run_entry

ROOT = Path(__file__).resolve().parents[3]
Run = subprocess.CompletedProcess[str]
WORDS = [f"word{number}" for number in range(500)]


def data_prep(*arguments: object) -> Run:
    return run_entry(["-m", "data_prep", *map(str, arguments)], cwd=ROOT, preload=("data_prep.cli", "sentencepiece"))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[tuple[Path, Callable[[str], None]]]:
    """A file system of 600 kB, and what gives it another size."""
    mount = tmp_path / "disk"
    mount.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(mount)]
    if os.geteuid() != 0 or subprocess.run(argv, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small disk needs more rights than this process has")
    yield mount, lambda size: subprocess.run(["mount", "-o", f"remount,size={size}", str(mount)], check=True) and None
    subprocess.run(["umount", "-l", str(mount)], check=True)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text, a tokenizer of it and its corpus."""
    root, choose = tmp_path_factory.mktemp("full-disk"), random.Random(1)
    with (root / "text.jsonl").open("w") as file:
        file.writelines(json.dumps({"text": " ".join(choose.choices(WORDS, k=200))}) + "\n" for _ in range(2000))
    text, tokenizer = root / "text.jsonl", root / "tokenizer"
    learned = data_prep("train-tokenizer", "-i", text, "-o", tokenizer, "vocab_size=280", "sample_bytes=100000")
    made = data_prep("tokenize", "-i", text, "--tokenizer", tokenizer, "-o", root / "corpus")
    assert (learned.returncode, made.returncode) == (0, 0), learned.stderr + made.stderr
    return root


def files(root: Path) -> dict[str, bytes]:
    """What the result is: the shards of a corpus, or the cleaned documents."""
    found = [*root.glob("shard_*"), *root.glob("documents/*")]
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


@pytest.mark.slow
@pytest.mark.parametrize(("command", "workers"), [("clean", 1), ("clean", 2), ("tokenize", 2)])
def test_work_that_fills_the_disk_goes_on_when_there_is_space(disk, inputs, tmp_path, command, workers):
    mount, resize = disk
    text = inputs / "text.jsonl"

    def run(output: Path) -> Run:
        if command == "tokenize":
            given: tuple[object, ...] = ("-i", text, "--tokenizer", inputs / "tokenizer", "work_unit_bytes=200000")
        else:
            given = (f"sources={{a: {{input: {text}}}}}", "stages=[exact_dedup]", "compression=none", "tasks=3")
        return data_prep(command, *given, f"output={output}", f"workers={workers}")

    full = run(mount / "out")
    told = [line for line in full.stderr.splitlines() if line.startswith("error:")]
    assert full.returncode == 2 and len(told) == 1 and "No space left on device" in told[0], full.stderr
    assert str(mount) in told[0] and "Traceback" not in full.stderr and "Logging error" not in full.stderr
    assert [path.name for path in mount.iterdir()] == ["out.partial"]
    resize("60m")
    again, whole = run(mount / "out"), run(tmp_path / "whole")
    assert (again.returncode, whole.returncode) == (0, 0), again.stderr + whole.stderr
    assert files(mount / "out") == files(tmp_path / "whole") != {}


@pytest.mark.slow
def test_no_command_leaves_anything_on_a_full_disk(disk, inputs):
    mount, _ = disk
    with pytest.raises(OSError, match="No space"), (mount / "full").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    text, tokenizer, corpus = inputs / "text.jsonl", inputs / "tokenizer", inputs / "corpus"
    for arguments in (
        ("sample-corpus", "-o", mount / "x", "min_bytes=1", "max_bytes=100000"),
        ("train-tokenizer", "-i", text, "-o", mount / "x", "vocab_size=280", "sample_bytes=100000"),
        ("import-tokenizer", tokenizer / "tokenizer.model", "-o", mount / "x"),
        ("tokenizer-report", tokenizer, "-i", text, "--json", mount / "x", "sample_bytes=100000"),
        ("tokenize", "-i", text, "--tokenizer", tokenizer, "-o", mount / "x"),
        ("clean", f"sources={{a: {{input: {text}}}}}", "stages=[]", f"output={mount}/x"),
        ("merge", corpus, mount / "x"),
        ("mix", "--corpus", corpus, "--budget", "1M", "-o", mount / "x"),
        ("stats", corpus, "--json", mount / "x"),
        ("stats", corpus, "--plot", mount / "x.png"),
        ("ngram", corpus, "--json", mount / "x", "--order", "2", "--max-tokens", "10000"),
    ):
        done = data_prep(*arguments)
        assert done.returncode == 2 and done.stderr.count("error:") == 1, (arguments, done.stderr)
        assert f"error: {mount}" in done.stderr and "No space left on device" in done.stderr, (arguments, done.stderr)
        assert "Traceback" not in done.stderr and "Logging error" not in done.stderr
        assert [path.name for path in mount.iterdir()] == ["full"], arguments
