"""The tasks of a real Slurm array make one corpus, the same as one process makes."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import orjson
import pytest
from slurm_host import SlurmHost

from data_prep.config import TokenizeConfig, TokenizerConfig
from data_prep.sharding.tokenization import tokenize
from data_prep.tokenizer.training import train_tokenizer

ROOT = Path(__file__).resolve().parents[2]


def files_of(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def logs_of(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(directory.glob("task-*.log"))}


def states_of(slurm: SlurmHost, job: int) -> set[str]:
    return set(re.findall(r"JobState=(\w+)", slurm.client("scontrol", "--oneliner", "show", "job", str(job))))


@pytest.mark.slow
def test_an_array_of_four_tasks_writes_the_bytes_of_one_process(slurm: SlurmHost, tmp_path: Path) -> None:
    text, tokenizer = tmp_path / "text.jsonl", tmp_path / "tokenizer"
    words = [f"word{number % 97} of line {number}" for number in range(40_000)]
    text.write_bytes(b"".join(orjson.dumps({"text": " ".join(words[n : n + 9])}) + b"\n" for n in range(40_000)))
    train_tokenizer(TokenizerConfig(input=[str(text)], output=tokenizer, vocab_size=290, sample_bytes=100_000))
    settings = {"input": [str(text)], "tokenizer": tokenizer, "work_unit_bytes": 300_000}
    tokenize(TokenizeConfig(output=tmp_path / "one", workers=1, launcher="processes", **settings))
    environ = {"BESSEMER_HOME": str(ROOT), "BESSEMER_VENV": sys.prefix}
    arguments = ["tokenize", "--input", str(text), "--tokenizer", str(tokenizer), "--output", str(tmp_path / "array")]
    job = slurm.submit(
        "--array=0-3", "--ntasks=1", f"--output={tmp_path}/task-%a.log", str(ROOT / "cluster" / "data_prep.sh"),
        *arguments, "work_unit_bytes=300000", "workers=1", cwd=tmp_path, environ=environ,
    )  # fmt: skip
    deadline_s = time.monotonic() + 120
    while (states := states_of(slurm, job.id)) != {"COMPLETED"}:
        assert time.monotonic() < deadline_s and "FAILED" not in states, (states, logs_of(tmp_path))
        time.sleep(0.5)
    logs = logs_of(tmp_path)
    assert len(logs) == 4
    assert files_of(tmp_path / "array") == files_of(tmp_path / "one"), logs
    assert any("documents" in log for log in logs.values()), logs
