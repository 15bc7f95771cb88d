"""Tokenization by kind of vocabulary, in turns on the same fresh text: ours, the raw library, gigatoken, Megatron-LM.

    python -m benchmarks.tokenization_kinds [--megabytes 60] [--rounds 3] [--vocabularies DIR] [--megatron CHECKOUT]

The text is Python sources of this installation; each round has other text, the same for all; each measurement begins
with nothing remembered. Vocabularies are learned from text that is measured nowhere, or found in DIR. The libraries and
`encode` (ours) go from texts in memory to ids; `tokenize` and Megatron-LM's two tools from a file of JSON lines to a
corpus on the disk. MB of text per CPU second, without what is done once however long the text is: loading the
vocabulary and showing that the fast way is right (its seconds stand beside it), Megatron's start (a file of one line is
measured three times and the median taken off: of little text nothing is left to measure the fast tool by). Two workers
are compared by the clock, with what each shows first: that counts less the more text there is. `--output FILE` writes
the figures as JSON.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import orjson

os.environ |= {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}

from benchmarks.tokenization_engines import Stopwatch, ours
from benchmarks.tokenization_equality import batches, sources
from benchmarks.tokenization_vocabularies import Encode, Kind, vocabularies
from data_prep.tokenizer import load_tokenizer

SAMPLE_BYTES = 30_000_000
TARGET, MEMORY_MB = 0.8, 200
IN_MEMORY, TO_DISK = ("library", "gigatoken", "encode"), ("tokenize", "preprocess_data", "preprocess_data_fast")


def main() -> None:
    """Measure every kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=60, help="text of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--vocabularies", type=Path, help="a directory to keep them in")
    parser.add_argument("--megatron", type=Path, help="a checkout of Megatron-LM that can be imported")
    parser.add_argument("--output", type=Path, help="a JSON file to write")
    parser.add_argument("--kinds", nargs="*", help="parts of names of kinds; all without")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tokenization-") as directory:
        root = Path(directory)
        parts = _parts(root, arguments.megabytes, arguments.rounds)
        kinds = vocabularies(arguments.vocabularies or root / "vocabularies", parts[0])
        found = {
            name: measure(kind, parts[1:], root, arguments.megatron)
            for name, kind in kinds.items()
            if not arguments.kinds or any(part in name for part in arguments.kinds)
        }
    shown = [argument for argument in sys.argv[1:] if not argument.startswith("/")]
    result = {
        "command": " ".join(["python -m benchmarks.tokenization_kinds", *shown]),
        "cpus": os.cpu_count(),
        "load_average_at_end": [round(value, 1) for value in os.getloadavg()],
        "targets": {"ratios": TARGET, "peak_megabytes": MEMORY_MB},
        "kinds": found,
    }
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(result, indent=2) + "\n")


def measure(kind: Kind, parts: list[Path], root: Path, megatron: Path | None) -> dict[str, object]:
    """MB per CPU second of every way, medians of the rounds; ratios; two workers against one; memory."""
    print(f"\n{kind.path.name}", flush=True)
    tools = _megatron_tools(kind, megatron)
    one_line = root / "start.jsonl"
    start_s = {
        way: statistics.median(_megatron_s(way, kind, one_line, root, megatron) for _ in range(3)) for way in tools
    }
    proof_s: list[float] = []
    rates: dict[str, list[float]] = {}
    for path in parts:
        texts = [orjson.loads(line)["text"] for line in path.open("rb")]
        megabytes = sum(len(text.encode()) for text in texts) / 1e6
        ways: dict[str, Callable[[], float]] = {
            "library": partial(_in_memory, kind.library, texts),
            **({} if kind.gigatoken is None else {"gigatoken": partial(_in_memory, kind.gigatoken, texts)}),
            "encode": partial(_in_memory, partial(_encode, kind, proof_s), texts),
        }
        for way, run in ways.items():
            gc.collect()
            rates.setdefault(way, []).append(megabytes / run())
        del texts
        gc.collect()
        rates.setdefault("tokenize", []).append(megabytes / ours(kind.path, root / "ours")(path)[0])
        for way in tools:
            cpu_s = _megatron_s(way, kind, path, root, megatron) - start_s[way]
            rates.setdefault(way, []).append(megabytes / cpu_s)
    # Of a round: with some vocabularies one text in two hundred has other ids.
    texts = [orjson.loads(line)["text"] for line in parts[0].open("rb")]
    gigatoken_is_equal = kind.gigatoken and _same_ids(kind.gigatoken(), kind.library(), texts)
    del texts
    medians = {way: statistics.median(found) for way, found in rates.items()}
    for way, found in rates.items():
        every = ", ".join(f"{rate:.1f}" for rate in found)
        print(f"  {way:<22}{medians[way]:>8.2f} MB / CPU s   ({every})", flush=True)
    ratios = {
        f"{mine} / {way}": statistics.median(a / b for a, b in zip(rates[mine], rates[way]))
        for mine, others in (("encode", IN_MEMORY), ("tokenize", (*IN_MEMORY[:2], *TO_DISK[1:])))
        for way in others
        if way in rates and way != mine
    }
    for name, ratio in ratios.items():
        verdict = "met" if ratio >= TARGET else "MISSED"
        if "gigatoken" in name and not gigatoken_is_equal:
            verdict = "gigatoken has other ids"
        print(f"  {name:<34}{ratio:>8.2f}   >= {TARGET}: {verdict}", flush=True)
    peaks, alone_mb, walls = _workers(kind, parts, root)
    every = ", ".join(f"{peak:.0f}" for peak in peaks[:-1])
    proven_s = statistics.median(proof_s)
    print(f"  2 workers / 1 worker {walls[2] / walls[1]:.2f}; shown to be right in {proven_s:.1f} CPU s", flush=True)
    print(f"  peak of a worker {every} MB, of a tenth {peaks[-1]:.0f} MB (<= {MEMORY_MB});", end=" ")
    print(f"of one process that plans too {alone_mb:.0f} MB", flush=True)
    return {
        "megabytes_per_cpu_second": {way: round(rate, 2) for way, rate in medians.items()},
        "ratios": {name: round(ratio, 3) for name, ratio in ratios.items()},
        "gigatoken_ids_are_equal": gigatoken_is_equal,
        "megabytes_per_second_of_workers": {str(count): round(rate, 2) for count, rate in walls.items()},
        "peak_megabytes": {
            "a worker, text of each round": [round(peak, 1) for peak in peaks[:-1]],
            "a worker, a tenth of the first": round(peaks[-1], 1),
            "one process that plans too": round(alone_mb, 1),
        },
        "shown_to_be_right_cpu_s": round(proven_s, 2),
    }


def _parts(root: Path, megabytes: float, rounds: int) -> list[Path]:
    """Files of JSON lines: a sample to learn from, then one for each round, none with a text of another."""
    texts = sources()
    sizes = [SAMPLE_BYTES, *[megabytes * 1e6] * rounds]
    paths = [root / f"part-{number}.jsonl" for number in range(len(sizes))]
    for path, left_bytes in zip(paths, sizes):
        with path.open("wb") as stream:
            while left_bytes > 0:
                text = next(texts, None)
                if text is None:
                    raise SystemExit(f"this installation has too little text for {rounds} rounds of {megabytes:g} MB")
                stream.write(orjson.dumps({"text": text}) + b"\n")
                left_bytes -= len(text.encode())
    (root / "start.jsonl").write_bytes(orjson.dumps({"text": "a"}) + b"\n")
    return paths


def _in_memory(make: Callable[[], Encode], texts: list[str]) -> float:
    encode, groups = make(), list(batches(iter(texts)))
    with Stopwatch() as watch:
        for group in groups:
            encode(group)
    return watch.cpu_s


def _encode(kind: Kind, proof_s: list[float]) -> Encode:
    tokenizer = load_tokenizer(kind.path)
    began_s = time.process_time()
    tokenizer.explain_engine()
    proof_s.append(time.process_time() - began_s)
    return tokenizer.encode_flat


def _same_ids(encode: Encode, other: Encode, texts: list[str]) -> bool:
    return all(_ids(encode, group) == _ids(other, group) for group in batches(iter(texts)))


def _ids(encode: Encode, texts: list[str]) -> list[list[int]]:
    return [list(map(int, ids)) for ids in encode(texts)]  # type: ignore[attr-defined]


def _megatron_tools(kind: Kind, megatron: Path | None) -> tuple[str, ...]:
    if megatron is None:
        return ()
    return TO_DISK[1:] if kind.megatron_fast else TO_DISK[1:2]


def _megatron_s(way: str, kind: Kind, path: Path, root: Path, megatron: Path | None) -> float:
    """CPU seconds of one of Megatron-LM's tools, its start included."""
    assert megatron is not None
    command = [sys.executable, megatron / "tools" / f"{way}.py", "--input", path, "--output-prefix", root / "megatron"]
    command += [*kind.megatron, "--append-eod"]
    command += ["--workers", "1"] if way == "preprocess_data" else ["--use-gigatoken"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    # It waits for ever for a worker that failed.
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=3600)
    if done.returncode:
        raise SystemExit(f"{way}.py failed: {done.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _workers(kind: Kind, parts: list[Path], root: Path) -> tuple[list[float], float, dict[int, float]]:
    """Peak MB of a worker for each round's text and for a tenth of it, and of one that plans too; MB/s of 1 and 2."""
    tenth = root / "tenth.jsonl"
    lines = parts[0].read_bytes().splitlines(keepends=True)
    tenth.write_bytes(b"".join(lines[::10]))
    peaks: list[float] = []
    walls: dict[int, float] = {}
    alone_mb = 0.0
    for path, workers in ((parts[0], 1), *((part, 2) for part in parts), (tenth, 2)):
        command = [sys.executable, "-m", "benchmarks.tokenization_worker", path, kind.path, root / "worker", workers]
        command += [path.stat().st_size // 8]
        done = subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True)
        subprocess.run(["rm", "-r", str(root / "worker")], check=True)
        own_mb, worker_mb, rate = map(float, done.stdout.split())
        if workers == 1:
            alone_mb = own_mb
        else:
            peaks.append(worker_mb)
        walls.setdefault(workers, rate)
    return peaks, alone_mb, walls


if __name__ == "__main__":
    main()
