"""What tokenization does with bad input: `python -m tests.data_prep.damaged_input` prints the table.

Every case is a real command in a process of its own. It must end with the status and the words that are expected,
without a traceback, and leave either a corpus with just the documents that are good, or nothing that a reader would
take for one.
"""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from configs.errors import UserError
from data_prep.config import TokenizerConfig
from data_prep.corpus import Corpus
from data_prep.corpus_tools.verification import verify_corpus
from data_prep.tokenizer.training import train_tokenizer
from tests.entry_process import run_entry

ROOT = Path(__file__).resolve().parents[2]
GOOD = 400


def lines(count: int = GOOD) -> bytes:
    """So many good documents."""
    return b"".join(orjson.dumps({"text": f"good document number {n}", "n": n}) + b"\n" for n in range(count))


@dataclass(frozen=True)
class Case:
    """One kind of bad input.

    Attributes:
        name: what is wrong.
        prepare: makes the input in the directory given.
        says: what the command must print.
        status: what it must end with.
        kept: documents of the corpus that comes out; None: there is none.
        arguments: besides input, tokenizer and output.
        held: what is in force while the command runs; given the directory of the output.
    """

    name: str
    prepare: Callable[[Path], object]
    says: tuple[str, ...]
    status: int = 2
    kept: int | None = None
    arguments: tuple[str, ...] = ()
    held: Callable[[Path], AbstractContextManager[None]] = field(default=lambda directory: nullcontext())


def file(name: str, content: bytes) -> Callable[[Path], object]:
    """An input of one file."""
    return lambda directory: (directory / name).write_bytes(content)


def _parquet(directory: Path) -> None:
    pq.write_table(pa.table({"text": ["a"] * GOOD}), directory / "t.parquet")
    os.truncate(directory / "t.parquet", (directory / "t.parquet").stat().st_size - 20)


def _unreadable(directory: Path) -> None:
    # A directory would be passed over; root may read any file, but not a file that is a dead link.
    (directory / "a.jsonl").write_bytes(lines())
    (directory / "list").write_text(f"{directory}/a.jsonl\n{directory}/gone.jsonl\n")


def _giant(directory: Path) -> None:
    with (directory / "t.jsonl").open("wb") as stream:
        stream.write(lines(GOOD // 2) + b'{"text": "')
        for _ in range(200):
            stream.write(b"two hundred megabytes " * (1_000_000 // 22))
        stream.write(b'"}\n' + lines(GOOD // 2))


def _beside_good(name: str, content: bytes) -> Callable[[Path], object]:
    def prepare(directory: Path) -> None:
        (directory / "good.jsonl").write_bytes(lines())
        (directory / name).write_bytes(content)

    return prepare


def _text(directory: Path) -> None:
    words = [f"words{n * 7919 % 5000}" for n in range(200_000)]
    text = b"".join(orjson.dumps({"text": " ".join(words[n : n + 50])}) + b"\n" for n in range(0, 200_000, 50))
    (directory / "t.jsonl").write_bytes(text)


@contextmanager
def _small_disk(directory: Path) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=768k", "tmpfs", str(directory)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(directory)], check=True)


HALF_GZIP = gzip.compress(lines(20_000))
BROKEN_LINE = lines(GOOD // 2) + b'{"text": "never closed\n' + lines(GOOD // 2)
LATIN = lines(GOOD // 2) + '{"text": "caf\xe9"}\n'.encode("latin-1") + lines(GOOD // 2)
CSV = b"text\n" + b"".join(b"row number %d\n" % n for n in range(GOOD))
STRICT = ("--strict",)
CASES = [
    Case("malformed line", file("t.jsonl", BROKEN_LINE), ("1 malformed", "is not valid JSON"), 0, GOOD),
    Case(
        "malformed line, strict",
        file("t.jsonl", BROKEN_LINE),
        ("t.jsonl, line 201: is not valid JSON",),
        arguments=STRICT,
    ),
    Case(
        "too many malformed lines",
        file("t.jsonl", lines(9) + b"{\n"),
        ("1 of 10 records cannot be read", "max_malformed_share"),
    ),
    Case("invalid UTF-8", file("t.jsonl", LATIN), ("1 malformed", "is not UTF-8: byte 0xe9"), 0, GOOD),
    Case(
        "invalid UTF-8, strict",
        file("t.jsonl", LATIN),
        ("t.jsonl, line 201: is not UTF-8: byte 0xe9 at byte 14",),
        arguments=STRICT,
    ),
    Case("UTF-16 text", file("t.txt", "text".encode("utf-16")), ("is not UTF-8: byte 0xff at byte 1",)),
    Case("truncated gzip", file("t.jsonl.gz", HALF_GZIP[: len(HALF_GZIP) // 2]), ("t.jsonl.gz: is truncated",)),
    Case(
        "truncated gzip, skipped",
        _beside_good("t.jsonl.gz", HALF_GZIP[:40]),
        ("1 damaged files", "is truncated"),
        0,
        GOOD,
        ("damaged_files=skip",),
    ),
    Case(
        "truncated Zstandard", file("t.jsonl.zst", zstandard.compress(lines(9000))[:-9]), ("t.jsonl.zst: is truncated",)
    ),
    Case("not gzip at all", file("t.txt.gz", b"plain"), ("t.txt.gz: is not valid gzip",)),
    Case("truncated Parquet", _parquet, ("t.parquet: cannot be read",)),
    Case("empty file", file("t.jsonl", b""), ("t.jsonl: is empty",)),
    Case("empty file beside others", _beside_good("t.jsonl", b""), ("empty, passed over: ", "t.jsonl"), 0, GOOD),
    Case("nothing but empty texts", file("t.jsonl", b'{"text": ""}\n' * 9), ("there is no text in any document",)),
    Case(
        "missing column",
        file("t.csv", b"id,Text\n1,a\n"),
        ("has no column 'text', only id, Text", "did you mean: Text"),
    ),
    Case(
        "missing field", file("t.jsonl", b'{"texts": "a"}\n' * 9), ("has no field 'text', only texts", "9 of 9 records")
    ),
    Case(
        "quote that never ends",
        file("t.csv", CSV + b'"stray\n' + CSV[5:]),
        (f"t.csv, line {GOOD + 2}: a quoted field that begins here does not end", "damaged_files=skip"),
    ),
    Case(
        "quote that never ends, skipped",
        file("t.csv", CSV + b'"stray\n' + CSV[5:]),
        ("1 damaged files", f"t.csv, line {GOOD + 2}: a quoted field"),
        0,
        GOOD,
        ("damaged_files=skip",),
    ),
    Case("table cut within a quoted field", file("t.csv", CSV + b'"cut of'), (f"t.csv, line {GOOD + 2}: a quoted",)),
    Case("a document of 200 MB", _giant, ("1 too long", "is longer than max_document_bytes = 16777216"), 0, GOOD),
    Case("a document of 200 MB, strict", _giant, ("is longer than max_document_bytes = 16777216",), arguments=STRICT),
    Case("a document of one token", file("t.jsonl", b'{"text": "g"}\n'), ("1 documents, 2 tokens",), 0, 1),
    Case(
        "a file that is gone", _unreadable, ("gone.jsonl: there is no such input",), arguments=("--input", "@{in}/list")
    ),
    Case(
        "unknown kind",
        file("t.docx", b"PK"),
        ("{in}/t.docx: is of an unknown kind",),
        arguments=("--input", "{in}/t.docx"),
    ),
    Case(
        "unknown setting",
        file("t.jsonl", lines()),
        ("text_feild", "did you mean text_field"),
        arguments=("text_feild=x",),
    ),
    Case("wrong type of setting", file("t.jsonl", lines()), ("workers", "'many'"), arguments=("workers=many",)),
    Case("output in the way", file("t.jsonl", lines()), ("exists and holds other things",), arguments=("output={in}",)),
    Case("output not writable", file("t.jsonl", lines()), ("cannot be written",), arguments=("output=/proc/corpus",)),
    Case(
        "full disk",
        _text,
        ("cannot be written: No space left on device",),
        arguments=("work_unit_bytes=100000",),
        held=_small_disk,
    ),
]


@dataclass(frozen=True)
class Seen:
    """What a command printed, its status, and the documents of the corpus that it left; None: none."""

    message: str
    status: int
    kept: int | None


class Workplace:
    """A tokenizer, and a directory for each case."""

    def __init__(self, root: Path) -> None:
        self.root, self.tokenizer = root, root / "tokenizer"
        (root / "train.jsonl").write_bytes(lines(2000))
        train_tokenizer(TokenizerConfig(input=[str(root / "train.jsonl")], output=self.tokenizer, vocab_size=290))

    def see(self, case: Case) -> Seen:
        """Make the input and look what happens."""
        work = self.root / case.name.replace(" ", "-")
        (work / "in").mkdir(parents=True)
        (work / "out").mkdir()
        case.prepare(work / "in")
        given = [part.replace("{in}", str(work / "in")) for part in case.arguments]
        inputs = [] if "--input" in given else ["--input", str(work / "in")]
        command = ["-m", "data_prep", "tokenize", *inputs, "--tokenizer", str(self.tokenizer)]
        command += ["--output", str(work / "out" / "corpus"), "workers=1", *given]
        with case.held(work / "out"):
            done = run_entry(command, cwd=ROOT, preload=("data_prep.cli", "sentencepiece"))
            kept = None
            if (work / "out" / "corpus").exists():
                corpus = Corpus.open(work / "out" / "corpus")
                assert not verify_corpus(corpus.path, workers=1).problems.count
                kept = corpus.num_documents
            partial = work / "out" / "corpus.partial"
            if partial.exists():
                # Nothing that is not finished may be taken for a corpus.
                try:
                    Corpus.open(partial)
                    kept = -1
                except UserError:
                    pass
        shutil.rmtree(work)
        said = (done.stdout + done.stderr).replace(str(work), "WORK")
        return Seen(said.strip(), done.returncode, kept)


def problems(case: Case, seen: Seen) -> list[str]:
    """What is not as it should be."""
    found = []
    if seen.status != case.status:
        found.append(f"status {seen.status}, not {case.status}")
    if seen.kept != case.kept:
        found.append(f"{seen.kept} documents kept, not {case.kept}")
    if "Traceback" in seen.message:
        found.append("a traceback")
    if case.status and seen.message.count("error: ") != 1:
        found.append("not one message")
    said = [part.replace("{in}", "WORK/in") for part in case.says]
    return found + [f"does not say {part!r}" for part in said if part not in seen.message]


def main() -> int:
    """Print the table; 1 if any case is not as it should be."""
    failed = 0
    with tempfile.TemporaryDirectory(prefix="bad-inputs-") as root:
        workplace = Workplace(Path(root))
        for case in CASES:
            seen = workplace.see(case)
            found = problems(case, seen)
            failed += bool(found)
            kept = "nothing kept" if seen.kept is None else f"{seen.kept} documents kept"
            print(f"- {case.name} (status {seen.status}, {kept}){': ' + '; '.join(found) if found else ''}")
            told = [
                line for line in seen.message.splitlines() if line.startswith(("error", "  expected", "  did", "- "))
            ]
            told += [
                line for line in seen.message.splitlines() if "left out" in line or line.startswith("             -")
            ]
            print("    " + "\n    ".join(told), flush=True)
    print(f"{len(CASES)} cases, {failed} not as they should be")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
