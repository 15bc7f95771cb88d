"""Kills tokenization with SIGKILL at random moments, starts it again, and compares with what nobody disturbed.

    python -m tests.data_prep.kill_and_rerun --kills 30

Prints what each kill found, and ends with status 1 unless every corpus that came out is, file by file and byte by byte,
the one that a single process makes without being killed. Kills come within the time that the work takes undisturbed;
when a corpus is complete before all kills are spent, the next one is begun.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import orjson

ROOT = Path(__file__).resolve().parents[2]


def files_of(directory: Path) -> dict[str, bytes]:
    """All files below a directory."""
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def write_text(path: Path, size_bytes: int, seed: int) -> None:
    """Lines of JSON, some malformed or empty, of words with a long tail of frequencies."""
    draw = random.Random(seed)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyzäé", k=draw.randint(1, 9))) for _ in range(4000)]
    with path.open("wb") as stream:
        while stream.tell() < size_bytes:
            text = " ".join(words[int(draw.paretovariate(0.7)) % len(words)] for _ in range(draw.randint(0, 400)))
            stream.write(orjson.dumps({"text": text, "id": stream.tell()}) + b"\n")
            if draw.random() < 0.002:
                stream.write(b'{"text": \n')


def command(text: Path, tokenizer: Path, output: Path, workers: int) -> list[str]:
    """The command that is killed."""
    settings = [f"workers={workers}", "work_unit_bytes=400000", "metadata_fields=[id]"]
    return [
        sys.executable, "-m", "data_prep", "tokenize", "--input", str(text), "--tokenizer", str(tokenizer),
        "--output", str(output), *settings,
    ]  # fmt: skip


def run(kills: int, seed: int, size_bytes: int, directory: Path) -> int:
    """Do it; returns how many corpora came out different."""
    draw = random.Random(seed)
    text, tokenizer, alone, output = (directory / name for name in ("text.jsonl", "tokenizer", "alone", "killed"))
    write_text(text, size_bytes, seed)
    train = [sys.executable, "-m", "data_prep", "train-tokenizer", "--input", str(text), "--output", str(tokenizer)]
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": ROOT}
    subprocess.run([*train, "vocab_size=700", "sample_bytes=300000"], **quiet)
    subprocess.run(command(text, tokenizer, alone, 1), **quiet)
    expected = files_of(alone)
    shards = sum(name.endswith(".bin") for name in expected)
    began_s = time.monotonic()
    subprocess.run(command(text, tokenizer, output, 2), **quiet)
    whole_s = time.monotonic() - began_s
    done, corpora, different = 0, 1, int(files_of(output) != expected)
    shutil.rmtree(output)
    verdict = "DIFFERENT from" if different else "the same bytes as"
    print(f"undisturbed: {shards} shards in {whole_s:.1f} s, {verdict} one process")
    while done < kills or output.with_name("killed.partial").exists():
        process = subprocess.Popen(
            command(text, tokenizer, output, 2), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=ROOT,
            start_new_session=True,
        )  # fmt: skip
        wait_s = draw.uniform(0.2, 0.9) * whole_s if done < kills else None
        try:
            _, message = process.communicate(timeout=wait_s)
            if process.returncode != 0:
                print(message.decode())
                return 1
        except subprocess.TimeoutExpired:
            # The whole group: the command, the fork server and the workers.
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            done += 1
            finished = len(list(directory.glob("killed.partial/finished/*.json")))
            begun = len(list(directory.glob("killed.partial/.shard*")))
            print(
                f"kill {done:2}: after {wait_s:.2f} s, {finished} of {shards} shards finished, {begun} files half-made"
            )
        if output.exists():
            corpora += 1
            found = files_of(output)
            same = found == expected
            different += not same
            for name in sorted(found.keys() | expected.keys()):
                if found.get(name) != expected.get(name):
                    how = "missing" if name not in found else "extra" if name not in expected else "other bytes"
                    print(f"  {name}: {how}")
            print(f"corpus {corpora}: {'the same bytes' if same else 'DIFFERENT'} after {done} kills")
            shutil.rmtree(output)
    print(f"{done} kills, {corpora} corpora, {different} different")
    return different


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--megabytes", type=float, default=48)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        raise SystemExit(min(1, run(arguments.kills, arguments.seed, int(arguments.megabytes * 1e6), Path(directory))))


if __name__ == "__main__":
    main()
