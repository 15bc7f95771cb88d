"""The whole of cleaning over planted dirt: what is dropped and why, whatever the workers, and however often killed."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import zstandard
from cleaning_inputs import SCRIPT, write_all

from configs.errors import DataError
from configs.load import load_config
from data_prep.cleaning.config import CleanConfig
from data_prep.cleaning.run import clean
from data_prep.corpus import Corpus

ROOT = Path(__file__).parents[3]
# Stage -> reason -> documents by source. Everything else is kept.
DROPPED = {
    "read": {
        "malformed: no JSON (unexpected character, expected a string key)": {"web": 1},
        "malformed: no field 'text'": {"web": 1},
        "malformed: int for text in field 'text'": {"web": 1},
        "malformed: bytes that are not UTF-8": {"table": 1},
        "empty": {"web": 2, "columns": 1},
    },
    "extract": {"no_text": {"pages": 1}},
    "language": {"language_de": {"web": 1}},
    "gopher_repetition": {"dup_line_frac": {"web": 1}},
    "gopher_quality": {"gopher_short_doc": {"web": 1}},
    "exact_dedup": {"duplicate": {"web": 1}},
    "minhash_dedup": {"near_duplicate": {"web": 2}},
    "decontaminate": {"contaminated": {"web": 1}},
}
KEPT = {"web": 91, "table": 6, "columns": 6, "pages": 2, "crawl": 2, "saved": 5}


def documents_of(output: Path) -> list[dict]:
    lines = []
    for path in sorted((output / "documents").iterdir()):
        with zstandard.open(path, "rt", encoding="utf-8") as stream:
            lines += [json.loads(line) for line in stream]
    return lines


def hashes_of(output: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted((output / "documents").iterdir())}


def without_cost(output: Path) -> dict:
    report = json.loads((output / "report.json").read_text())
    del report["cost"]
    for name in ("output", "workers", "executor", "slurm"):
        del report["recipe"][name]
    return report


@pytest.fixture(scope="module")
def cleaned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("raw")
    clean(load_config(CleanConfig, write_all(root), ["workers=1"]))
    return root


@pytest.mark.slow
def test_each_document_is_kept_or_dropped_for_its_reason(cleaned: Path) -> None:
    report = json.loads((cleaned / "clean" / "report.json").read_text())
    dropped = {
        stage["name"]: {reason: entry["sources"] for reason, entry in stage["reasons"].items()}
        for stage in report["stages"]
        if stage["reasons"]
    }
    assert dropped == DROPPED
    assert {name: entry["documents_out"] for name, entry in report["sources"].items()} == KEPT
    for stage in report["stages"]:
        assert stage["documents_in"] == stage["documents_out"] + stage["dropped"], stage["name"]
    assert report["languages"]["de"] == 1
    assert [Path(path).name for path in report["input"]["empty_files"]] == ["empty.jsonl"]


@pytest.mark.slow
def test_documents_come_out_repaired_masked_and_with_their_fields(cleaned: Path) -> None:
    documents = {record["id"]: record for record in documents_of(cleaned / "clean")}
    assert len(documents) == sum(KEPT.values())
    mended = documents["mojibake"]["text"]
    assert "schöne" in mended and "joe.doe@host.org" not in mended and "@example." in mended
    assert documents["w3"] | {"text": ""} == {
        "text": "",
        "id": "w3",
        "source": "web",
        "language": "en",
        "language_score": documents["w3"]["language_score"],
        "duplicate_count": 0,
        "url": "http://host/3",
    }
    assert {"exact-copy", "german", "short", "repeated", "contaminated"}.isdisjoint(documents)
    copies = [{"w0", "exact-copy"}, {"w1", "whitespace-copy"}, {"w2", "near-copy"}]
    assert all(len(pair & documents.keys()) == 1 for pair in copies)
    page = next(record for record in documents.values() if record["source"] == "crawl")
    assert "Contact" not in page["text"] and "<p>" not in page["text"] and page["url"].startswith("http://host/")


@pytest.mark.slow
def test_the_page_shows_rejects_and_runs_nothing(cleaned: Path) -> None:
    page = (cleaned / "clean" / "report.html").read_text()
    assert "&lt;script&gt;" in page and SCRIPT not in page and "<script" not in page
    assert page.count("<svg") == 6 and "near duplicate: 2" in page
    assert not re.search(r'(src|href)="(?!#)', page) and "url(http" not in page and "@import" not in page


@pytest.mark.slow
def test_the_result_does_not_depend_on_the_workers(cleaned: Path, tmp_path: Path) -> None:
    clean(load_config(CleanConfig, cleaned / "recipe.yaml", ["workers=2", f"output={tmp_path / 'two'}"]))
    assert hashes_of(tmp_path / "two") == hashes_of(cleaned / "clean")
    assert without_cost(tmp_path / "two") == without_cost(cleaned / "clean")


@pytest.mark.slow
def test_a_finished_output_is_left_alone_and_another_recipe_refused(cleaned: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in (cleaned / "clean").rglob("*")}
    assert clean(load_config(CleanConfig, cleaned / "recipe.yaml", ["workers=2"])).was_there
    with pytest.raises(DataError, match=r"gopher_quality\.min_doc_words was 50, is 49"):
        clean(load_config(CleanConfig, cleaned / "recipe.yaml", ["gopher_quality.min_doc_words=49"]))
    more = cleaned / "web" / "c.jsonl"
    more.write_text("{}\n")
    try:
        with pytest.raises(DataError, match=r"inputs\..*c\.jsonl is new"):
            clean(load_config(CleanConfig, cleaned / "recipe.yaml"))
    finally:
        more.unlink()
    assert {p: p.stat().st_mtime_ns for p in (cleaned / "clean").rglob("*")} == before


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_with_the_same_bytes(cleaned: Path, tmp_path: Path) -> None:
    output, chance = tmp_path / "killed", random.Random(5)
    command = [
        sys.executable,
        "-m",
        "data_prep",
        "clean",
        str(cleaned / "recipe.yaml"),
        f"output={output}",
        "workers=2",
    ]
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    kills = 0
    for _ in range(12):
        started = subprocess.Popen(
            command, env=environ, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        try:
            _, problem = started.communicate(timeout=chance.uniform(1.5, 6) if kills < 4 else 240)
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, signal.SIGKILL)
            started.communicate()
            kills += 1
            if output.exists():
                break  # killed between the last rename and the end
            time.sleep(0.2)
            continue
        assert started.returncode == 0, problem.decode()
        break
    assert kills >= 1 and hashes_of(output) == hashes_of(cleaned / "clean")
    assert without_cost(output) == without_cost(cleaned / "clean")
    assert not output.with_name("killed.partial").exists()


@pytest.mark.slow
def test_tokenize_reads_the_result(cleaned: Path, tmp_path: Path) -> None:
    documents = str(cleaned / "clean" / "documents")
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    for arguments in (
        ["train-tokenizer", "--input", documents, "--output", str(tmp_path / "t"), "vocab_size=400"],
        ["tokenize", "--input", documents, "--tokenizer", str(tmp_path / "t"), "--output", str(tmp_path / "c")],
    ):
        command = [sys.executable, "-m", "data_prep", *arguments]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
    assert Corpus.open(tmp_path / "c").num_documents == sum(KEPT.values())


@pytest.mark.slow
def test_a_killed_worker_is_an_error_and_no_hang(cleaned: Path, tmp_path: Path) -> None:
    output = tmp_path / "orphan"
    command = [
        sys.executable,
        "-m",
        "data_prep",
        "clean",
        str(cleaned / "recipe.yaml"),
        f"output={output}",
        "workers=2",
    ]
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    started = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while started.poll() is None and time.monotonic() < deadline:
        # Workers are the children of the fork server, which is a child of the command.
        below = psutil.Process(started.pid).children(recursive=True)
        workers = [process for process in below if process.ppid() != started.pid]
        if workers and (output.with_name("orphan.partial") / "progress").exists():
            workers[0].kill()
            break
        time.sleep(0.05)
    _, problem = started.communicate(timeout=60)
    assert started.returncode == 2 and b"a worker process was killed" in problem, problem.decode()
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0 and hashes_of(output) == hashes_of(cleaned / "clean"), done.stderr
