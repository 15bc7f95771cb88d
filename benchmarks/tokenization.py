"""Tokenization against the raw tokenizer, datatrove and `datasets.map` in one run, in turns; reading; memory.

    python -m benchmarks.tokenization --megabytes 12 --rounds 3 [--text FILE.jsonl]

The text is what `sample-corpus` finds in this Python installation, or FILE; each engine gets other text in each round,
as long as there is enough of it. The vocabulary is a BPE with byte fallback of 8,192 ids trained on a seventh of the
text; datatrove and `datasets.map` use the same one as a Hugging Face `tokenizer.json`. Each measurement of ours begins
with nothing remembered. Rates are MB of text per CPU second and per second of one worker, without its start. Prints a
table and writes it to `benchmarks/results/tokenization.json`.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import orjson

os.environ |= {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}

from benchmarks import tokenization_engines as engines

RESULTS = Path(__file__).parent / "results"
UNIT_BYTES = 4_000_000
TARGETS = {
    "tokenize / raw sentencepiece": 0.9,
    "tokenize / datatrove": 1.5,
    "tokenize / datasets.map": 1.5,
    "2 workers / 1 worker": 1.8,
    "read .jsonl / raw": 0.8,
    "read .jsonl.gz / raw": 0.8,
    "read .jsonl.zst / raw": 0.8,
}
MEMORY_MB = 150


def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=12, help="text for each engine and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--text", type=Path, help="JSON lines to use instead of what sample-corpus finds")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tokenization-") as directory:
        bench = TokenizationBench(Path(directory), arguments)
        rates = bench.compare()
        workers, reading, memory = bench.workers(), bench.reading(), bench.memory()
    report(arguments, rates, workers, reading, memory)


class TokenizationBench:
    """The text and the vocabularies."""

    def __init__(self, directory: Path, arguments: argparse.Namespace) -> None:
        self.directory, self.megabytes, self.rounds = directory, arguments.megabytes, arguments.rounds
        text = arguments.text
        if text is None:
            text = directory / "text.jsonl"
            run("sample-corpus", "--output", text, "min_bytes=0", "max_bytes=2000000000")
        self.lines = text.read_bytes().splitlines(keepends=True)
        self.taken = 0
        (directory / "sample.jsonl").write_bytes(b"".join(self.lines[::7]))
        self.tokenizer, self.json = directory / "tokenizer", directory / "hf"
        run(
            "train-tokenizer",
            "--config",
            "tokenizer-bpe-8k",
            "--input",
            directory / "sample.jsonl",
            "--output",
            self.tokenizer,
        )
        from data_prep.tokenizer import load_tokenizer
        from finetune.huggingface.tokenizer import save

        self.json.mkdir()
        save(load_tokenizer(self.tokenizer), self.json, 2048)

    def fresh(self, megabytes: float) -> tuple[Path, int]:
        """A file of the next lines, and how many bytes of text are in it."""
        path = self.directory / f"part-{self.taken}.jsonl"
        size = text_bytes = 0
        with path.open("wb") as stream:
            while size < megabytes * 1e6:
                line = self.lines[self.taken % len(self.lines)]
                stream.write(line)
                size += len(line)
                text_bytes += len(orjson.loads(line)["text"].encode())
                self.taken += 1
        return path, text_bytes

    def compare(self) -> dict[str, tuple[float, float]]:
        """MB of text per CPU second and per second, medians, by engine; the first round is not counted."""
        model, tokenizer_json = self.tokenizer / "tokenizer.model", self.json / "tokenizer.json"
        compared: dict[str, engines.Engine] = {
            "raw sentencepiece": engines.raw(model),
            "tokenize": engines.ours(self.tokenizer, self.directory / "ours"),
            "datatrove": engines.datatrove(tokenizer_json, self.directory / "datatrove"),
            "datasets.map": engines.datasets_map(tokenizer_json, self.directory / "cache"),
        }
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in compared}
        for number in range(self.rounds + 1):
            for name, engine in compared.items():
                path, text_bytes = self.fresh(self.megabytes if number else 1)
                gc.collect()
                cpu_s, wall_s = engine(path)
                if number:
                    found[name].append((text_bytes / 1e6 / cpu_s, text_bytes / 1e6 / wall_s))
                path.unlink()
        return {name: (median(r[0] for r in rates), median(r[1] for r in rates)) for name, rates in found.items()}

    def workers(self) -> dict[int, float]:
        """MB of text per second with one and with two workers."""
        path, _ = self.fresh(6 * self.megabytes)
        rates: dict[int, list[float]] = {1: [], 2: []}
        for _ in range(self.rounds):
            for count, found in rates.items():
                found.append(self._worker(path, count, UNIT_BYTES)[1])
        path.unlink()
        return {count: median(found) for count, found in rates.items()}

    def reading(self) -> dict[str, float]:
        """How fast all texts are read, as a ratio to the libraries alone, by ending."""
        path, _ = self.fresh(3 * self.megabytes)
        ratios = {}
        with engines.packed(path) as files:
            for kind, file in files.items():
                pairs = [(engines.read_raw(file)[0], engines.read_ours(file)[0]) for _ in range(max(9, self.rounds))]
                ratios[kind] = median(raw for raw, _ in pairs) / median(ours for _, ours in pairs)
        return ratios

    def memory(self) -> dict[str, float]:
        """Peak MB of a worker for an input in one unit, and for ten times that."""
        peaks = {}
        for name, factor in (("input", 0.5), ("ten times the input", 5)):
            path, _ = self.fresh(factor * self.megabytes)
            peaks[name] = self._worker(path, 1, 10**10)[0]
            path.unlink()
        return peaks

    def _worker(self, path: Path, workers: int, unit_bytes: int) -> tuple[float, float]:
        output = self.directory / "worker"
        command = [sys.executable, "-m", "benchmarks.tokenization_worker", path, self.tokenizer, output]
        command += [str(workers), str(unit_bytes)]
        done = subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True)
        shutil.rmtree(output)
        peak_mb, rate = map(float, done.stdout.split())
        return peak_mb, rate


def report(
    arguments: argparse.Namespace,
    rates: dict[str, tuple[float, float]],
    workers: dict[int, float],
    reading: dict[str, float],
    memory: dict[str, float],
) -> None:
    """Print the table and write the results."""
    ratios: dict[str, float] = {"2 workers / 1 worker": workers[2] / workers[1]}
    ratios |= {f"read {kind} / raw": ratio for kind, ratio in reading.items()}
    for name in TARGETS:
        above, below = name.split(" / ")
        if above in rates and below in rates:
            ratios[name] = rates[above][0] / rates[below][0]
    print(f"{'':<22}{'MB / CPU s':>12}{'MB / s':>10}")
    for name, (cpu, wall) in rates.items():
        print(f"{name:<22}{cpu:>12.2f}{wall:>10.2f}")
    for count, rate in workers.items():
        print(f"{f'{count} worker(s)':<22}{'':>12}{rate:>10.2f}")
    for name, target in TARGETS.items():
        print(f"{name:<34}{ratios[name]:>8.2f}   target >= {target}: {'met' if ratios[name] >= target else 'MISSED'}")
    for name, peak in memory.items():
        verdict = "met" if peak <= MEMORY_MB else "MISSED"
        print(f"{f'peak memory, {name}':<34}{peak:>6.0f} MB   target <= {MEMORY_MB} MB: {verdict}")
    result = {
        "command": f"python -m benchmarks.tokenization --megabytes {arguments.megabytes:g} --rounds {arguments.rounds}",
        "text": "sample-corpus" if arguments.text is None else arguments.text.name,
        "cpus": os.cpu_count(),
        "load_average_at_end": [round(value, 1) for value in os.getloadavg()],
        "megabytes_per_cpu_second": {name: round(cpu, 3) for name, (cpu, _) in rates.items()},
        "megabytes_per_second": {name: round(wall, 3) for name, (_, wall) in rates.items()},
        "workers_megabytes_per_second": {str(count): round(rate, 3) for count, rate in workers.items()},
        "peak_megabytes": {name: round(peak, 1) for name, peak in memory.items()},
        "ratios": {name: round(ratio, 3) for name, ratio in ratios.items()},
        "targets": TARGETS,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "tokenization.json").write_text(json.dumps(result, indent=2) + "\n")


def median(values: object) -> float:
    """Of an iterable."""
    return statistics.median(values)  # type: ignore[call-overload]


def run(*arguments: object) -> None:
    """One command of data preparation."""
    command = [sys.executable, "-m", "data_prep", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
