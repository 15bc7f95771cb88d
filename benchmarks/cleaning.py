"""Near-duplicate recall and precision on planted copies, and the text that each cleaning stage handles per CPU second.

    python benchmarks/cleaning.py dedup [--input TEXT.jsonl]
    python benchmarks/cleaning.py stages [--input TEXT.jsonl] [--megabytes N]

Without --input the text is what `python -m data_prep sample-corpus` finds in this Python installation.

`dedup`: documents whose true similarity (shared 5-word shingles over all, every pair compared) to every other is below
0.5 are the base; for each kind of copy some of them get one. Recall is the share of planted pairs of which one is
dropped; precision the share of dropped documents that belong to a planted pair.

`stages`: each stage alone over the same documents, one process, from the counts that the report is made of.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import orjson
import zstandard

from configs.load import load_config
from data_prep.cleaning.config import STAGES, CleanConfig
from data_prep.cleaning.run import clean
from data_prep.cleaning.words import word_splitter
from data_prep.config import SampleCorpusConfig
from data_prep.sample_corpus import sample_corpus

RESULTS = Path(__file__).parent / "results"
COPIES = {"exact": None, "whitespace": None, "5 % of words": 0.05, "15 % of words": 0.15}
# n-grams, buckets, hashes per bucket: as published for FineWeb, and three that look closer.
SETTINGS = {"published 5/14/8": (5, 14, 8), "3/20/5": (3, 20, 5), "2/50/6": (2, 50, 6), "2/25/4": (2, 25, 4)}
PER_KIND = 300


def texts_of(given: Path | None, folder: Path) -> list[str]:
    path = given or folder / "text.jsonl"
    if given is None:
        sample_corpus(SampleCorpusConfig(output=path))
    with path.open("rb") as stream:
        return [orjson.loads(line)["text"] for line in stream]


def write(path: Path, documents: list[tuple[str, str]]) -> Path:
    path.write_bytes(b"".join(orjson.dumps({"id": i, "text": t}) + b"\n" for i, t in documents))
    return path


def run(folder: Path, source: Path, stages: list[str], *settings: str) -> tuple[dict[str, Any], list[str]]:
    """The report and the ids of kept documents."""
    output = Path(tempfile.mkdtemp(dir=folder)) / "out"
    base = [f"output={output}", f"sources.s.input={source}", f"stages={json.dumps(stages)}", "tasks=1", "workers=1"]
    # Each run begins as a new process does, without the words that an earlier one met.
    word_splitter("en").forget()
    report = clean(load_config(CleanConfig, None, [*base, *settings])).report
    kept = []
    for path in sorted((output / "documents").iterdir()):
        with zstandard.open(path, "rb") as stream:
            kept += [orjson.loads(line)["id"] for line in stream.read().splitlines()]
    return report, kept


def unlike(texts: list[str], limit: float) -> list[str]:
    """The texts whose similarity to every text before them is below `limit`."""
    owners: dict[tuple[str, ...], list[int]] = {}
    sizes, kept = [], []
    for text in texts:
        words = text.lower().split()
        shingles = {tuple(words[i : i + 5]) for i in range(len(words) - 4)}
        shared = Counter(owner for shingle in shingles for owner in owners.get(shingle, ()))
        if any(n / (len(shingles) + sizes[owner] - n) >= limit for owner, n in shared.items()):
            continue
        for shingle in shingles:
            owners.setdefault(shingle, []).append(len(kept))
        sizes.append(len(shingles))
        kept.append(text)
    return kept


def planted(text: str, kind: str, chance: random.Random, words: list[str]) -> str:
    if kind == "exact":
        return text
    if kind == "whitespace":
        return "  " + text.replace("\n", "\n\n ").replace(" ", "  ")
    parts = text.split(" ")
    full = [i for i, part in enumerate(parts) if part.strip()]
    for place in chance.sample(full, round((COPIES[kind] or 0) * len(full))):
        parts[place] = chance.choice(words)
    return " ".join(parts)


def dedup(given: Path | None) -> dict[str, Any]:
    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        long = [t for t in texts_of(given, folder) if 60 <= len(t.split()) <= 2000]
        chance.shuffle(long)
        base = unlike(long[:4000], 0.5)
        words = [word for text in base[:200] for word in text.split() if word.isalpha()]
        documents = [(f"base-{i}", text) for i, text in enumerate(base)]
        for number, kind in enumerate(COPIES):
            for i in range(number * PER_KIND, (number + 1) * PER_KIND):
                documents.append((f"copy-{i}", planted(base[i], kind, chance, words)))
        chance.shuffle(documents)
        source = write(folder / "planted.jsonl", documents)
        runs = {
            "exact_dedup": ("exact_dedup", []),
            "exact_dedup, ignore_whitespace": ("exact_dedup", ["exact_dedup.ignore_whitespace=true"]),
        }
        for label, (n, buckets, hashes) in SETTINGS.items():
            keys = ("n_grams", "buckets", "hashes_per_bucket")
            settings = [f"minhash_dedup.{key}={value}" for key, value in zip(keys, (n, buckets, hashes))]
            runs[f"minhash_dedup, {label}"] = ("minhash_dedup", settings)
        table = {}
        for label, (stage, settings) in runs.items():
            began = time.process_time()
            _, kept = run(folder, source, [stage], *settings)
            table[label] = score(set(kept), len(documents)) | {"cpu_s": round(time.process_time() - began, 1)}
    return {"base_documents": len(base), "planted_per_kind": PER_KIND, "results": table}


def score(kept: set[str], total: int) -> dict[str, Any]:
    found = {}
    right = 0
    for number, kind in enumerate(COPIES):
        pairs = range(number * PER_KIND, (number + 1) * PER_KIND)
        hits = sum(not {f"base-{i}", f"copy-{i}"} <= kept for i in pairs)
        right += sum((f"base-{i}" not in kept) + (f"copy-{i}" not in kept) for i in pairs)
        found[kind] = round(hits / PER_KIND, 3)
    dropped = total - len(kept)
    return {"recall": found, "dropped": dropped, "precision": round(right / dropped, 4) if dropped else None}


def web_archive(path: Path, texts: list[str]) -> Path:
    import io
    from html import escape

    from warcio.statusandheaders import StatusAndHeaders
    from warcio.warcwriter import WARCWriter

    with path.open("wb") as stream:
        writer = WARCWriter(stream, gzip=True)
        for number, text in enumerate(texts):
            body = "".join(f"<p>{escape(part)}</p>" for part in text.split("\n\n"))
            page = f"<html><head><title>{number}</title></head><body><article>{body}</article></body></html>"
            head = StatusAndHeaders("200 OK", [("Content-Type", "text/html")], protocol="HTTP/1.0")
            payload = io.BytesIO(page.encode())
            writer.write_record(
                writer.create_warc_record(f"http://host/{number}", "response", payload=payload, http_headers=head)
            )
    return path


def stages(given: Path | None, megabytes: float) -> dict[str, Any]:
    rates: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts, size = [], 0
        for text in texts_of(given, folder):
            if size >= megabytes * 1e6:
                break
            texts.append(text)
            size += len(text.encode())
        source = write(folder / "part.jsonl", [(f"d{i}", t) for i, t in enumerate(texts)])
        write(folder / "quiz.jsonl", [(f"q{i}", t) for i, t in enumerate(texts[:50])])
        evaluation = f"decontaminate.files=[{folder / 'quiz.jsonl'}]"
        few = "language.candidates=[en,de,es,fr,it,nl,pt,ru,zh,ja]"
        # The first run of each kind loads tables and models, which the second finds.
        run(folder, source, ["gopher_quality", "language", "c4"], few)
        for stage in STAGES:
            report, _ = run(folder, source, [stage], few, evaluation)
            rates[stage] = report["cost"]["stages"][stage]["megabytes_per_cpu_s"]
            rates["read"] = report["cost"]["stages"]["read"]["megabytes_per_cpu_s"]
            rates["write"] = report["cost"]["stages"]["write"]["megabytes_per_cpu_s"]
        report, _ = run(folder, web_archive(folder / "a.warc.gz", texts[:1500]), [])
        rates["extract (of HTML, wall time)"] = report["cost"]["stages"]["extract"]["megabytes_per_cpu_s"]
        for label, settings in language_variants(few):
            rates[label] = run(folder, source, ["language"], *settings)[0]["cost"]["stages"]["language"][
                "megabytes_per_cpu_s"
            ]
        rates |= dict(plain_splitter(texts, size))
    return {"documents": len(texts), "megabytes": round(size / 1e6, 2), "megabytes_per_cpu_s": rates}


def language_variants(few: str) -> Iterator[tuple[str, list[str]]]:
    yield "language, high accuracy, 10 candidates", [few, "language.accuracy=high"]
    yield "language, low accuracy, all 75", []
    yield "language, 10 candidates, whole texts", [few, "language.max_chars=10000000"]


def plain_splitter(texts: list[str], size: int) -> Iterator[tuple[str, float]]:
    """The slow stages with datatrove's own word splitter, for comparison."""
    from datatrove.data import Document
    from datatrove.pipeline.filters import C4QualityFilter, GopherQualityFilter, GopherRepetitionFilter

    GopherQualityFilter().filter(Document("loads the tables", "0"))
    for name, step in (
        ("gopher_repetition", GopherRepetitionFilter()),
        ("gopher_quality", GopherQualityFilter()),
        ("c4", C4QualityFilter()),
    ):
        began = time.process_time()
        for text in texts:
            step.filter(Document(text, "0"))
        yield f"{name}, datatrove's word splitter", round(size / 1e6 / (time.process_time() - began), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("dedup", "stages"))
    parser.add_argument("--input", type=Path)
    parser.add_argument("--megabytes", type=float, default=2.0)
    given = parser.parse_args()
    found = dedup(given.input) if given.what == "dedup" else stages(given.input, given.megabytes)
    print(json.dumps(found, indent=2))
    path = RESULTS / f"cleaning_{given.what}.json"
    path.write_text(json.dumps(found, indent=2) + "\n")
    print(f"saved in {path}")


if __name__ == "__main__":
    main()
