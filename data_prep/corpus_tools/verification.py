"""`verify`: whether a corpus is still what was written, and every place where it is not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from configs.errors import DataError
from data_prep.corpus.corpus import Corpus
from data_prep.corpus.manifest import MANIFEST, TOKEN_COUNTS, TOKENIZER, CorpusManifest
from data_prep.corpus.shard_check import ShardCheck, ShardFindings, check_shard
from data_prep.corpus.shard_problems import Problems
from data_prep.corpus.shards import ShardReader, bin_path, idx_path
from data_prep.parallel.executor import available_cores, open_executor, run_tasks
from data_prep.parallel.progress import WorkProgress
from data_prep.parallel.tally import TaskTally

_STRETCH_TOKENS = 1 << 27
_SHOWN_SHARDS = 20


@dataclass
class Verification:
    """What `verify_corpus` found.

    Attributes:
        shards: a line for each shard without a problem.
        notes: what was seen and is no problem.
        problems: what is wrong.
        documents, tokens, checked_bytes: what was read.
        elapsed_s, workers: how long it took, on how many processes.
    """

    problems: Problems
    shards: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    documents: int = 0
    tokens: int = 0
    checked_bytes: int = 0
    elapsed_s: float = 0.0
    workers: int = 1

    def lines(self) -> Iterator[str]:
        """What was found, problems last."""
        if len(self.shards) <= _SHOWN_SHARDS:
            yield from self.shards
        else:
            yield f"{len(self.shards):,} shards without a problem"
        yield from self.notes
        yield from (f"problem: {problem}" for problem in self.problems.found)
        yield from (f"problem: {line}" for line in self.problems.left_out())
        rate = self.checked_bytes / 1e6 / max(1e-9, self.elapsed_s)
        yield (
            f"{self.documents:,} documents, {self.tokens:,} tokens read in {self.elapsed_s:.1f} s"
            f" on {self.workers} process{'es' if self.workers != 1 else ''}, {rate:.0f} MB/s:"
            f" {'all as it should be' if not self.problems.count else f'{self.problems.count:,} problems'}"
        )


def verify_corpus(
    path: Path,
    *,
    tokenizer: Path | None = None,
    end_of_document: int | None = None,
    workers: int | None = None,
    limit: int = 20,
) -> Verification:
    """Read a whole corpus and check hashes, index, ids, ends of documents, counts, tokenizer and metadata.

    Args:
        path: a corpus directory or a Megatron prefix.
        tokenizer: for a bare prefix: whose vocabulary the ids must be in, and whose end-of-document id, if it occurs,
            must end each document.
        end_of_document: for a bare prefix: the id that must end each document.
        workers: processes; None: one for each core.
        limit: problems of one kind in one file that are put into words.

    Raises:
        DataError: if there is no such corpus, or its manifest cannot be read.
    """
    started_s = time.monotonic()
    result = Verification(Problems(limit))
    if path.is_dir() and (path / MANIFEST).is_file():
        manifest = CorpusManifest.read(path)
        if check_tokenizer(path, manifest, result.problems):
            result.notes.append("tokenizer: fingerprint as written")
        checks = [
            ShardCheck(
                prefix=path / entry.name,
                entry=entry,
                dtype=manifest.dtype,
                vocab_size=manifest.vocab_size,
                end_of_document=manifest.end_of_document,
                beginning_of_document=manifest.beginning_of_document,
                limit=limit,
                size_bytes=entry.bin_bytes,
            )
            for entry in manifest.shards
        ]
    else:
        manifest, checks = None, _bare_checks(path, tokenizer, end_of_document, limit)
    result.workers = max(1, min(workers or available_cores(), len(checks)))
    findings = _run(checks, result.workers)
    counts = np.zeros(checks[0].vocab_size or 0 if checks else 0, dtype=np.int64)
    for check, found in zip(checks, findings):
        if not found.problems.count:
            result.shards += _said(check, found)
        result.problems.take(found.problems)
        is_parted = manifest is not None and (manifest.sentences or manifest.answers)
        if manifest is not None and not is_parted and found.sequences != found.documents:
            text = (
                f"has {found.sequences:,} sequences in {found.documents:,} documents; the manifest knows no sentences"
            )
            result.problems.add(idx_path(check.prefix), "sentences", text)
        result.documents += found.documents
        result.tokens += found.tokens
        result.checked_bytes += found.checked_bytes
        counts += found.counts
    if manifest is not None:
        if check_token_counts(path, counts, result.problems):
            used = np.count_nonzero(counts)
            result.notes.append(f"token counts: as written, {used:,} of {len(counts):,} ids occur")
        _check_sources(path, manifest, result)
        _note_strangers(path, manifest, result)
    result.elapsed_s = time.monotonic() - started_s
    return result


def _run(checks: list[ShardCheck], workers: int) -> list[ShardFindings]:
    findings: dict[int, ShardFindings] = {}
    total = sum(check.size_bytes for check in checks)
    tally = TaskTally()
    with (
        WorkProgress("verify", total, tally.look),
        open_executor(workers, ["data_prep.corpus.shard_check"]) as executor,
    ):
        assert executor is not None, "no MPI ranks here"
        for number, found in run_tasks(executor, check_shard, checks, in_flight=2 * workers if workers > 1 else 1):
            findings[number] = found
            tally.advance(checks[number].size_bytes, found.tokens)
    return [findings[number] for number in range(len(checks))]


def _said(check: ShardCheck, found: ShardFindings) -> list[str]:
    if not check.index:
        return []
    hashes = "hashes as written" if check.entry is not None else "index in order"
    return [f"{check.prefix.name}: {found.documents:,} documents, {found.tokens:,} tokens, {hashes}"]


def _bare_checks(path: Path, tokenizer: Path | None, end_of_document: int | None, limit: int) -> list[ShardCheck]:
    prefix = path.with_suffix("") if path.suffix in (".bin", ".idx") else path
    if not bin_path(prefix).exists() and not idx_path(prefix).exists():
        Corpus.open(path)  # raises, and says which corpus is near
    vocab_size = None
    if tokenizer is not None:
        from data_prep.tokenizer import load_tokenizer

        loaded = load_tokenizer(tokenizer)
        vocab_size = loaded.vocab_size
        end_of_document = loaded.role("end_of_document") if end_of_document is None else end_of_document
    whole = ShardCheck(prefix, None, None, vocab_size, end_of_document, limit)
    try:
        reader = ShardReader(prefix)
    except DataError:
        return [whole]
    tokens, width = reader.num_tokens, reader.dtype.itemsize
    if tokens <= _STRETCH_TOKENS:
        return [replace(whole, size_bytes=tokens * width)]
    # One huge shard is looked at by several processes: its index by one, its tokens in stretches.
    stretches = [(first, min(first + _STRETCH_TOKENS, tokens)) for first in range(0, tokens, _STRETCH_TOKENS)]
    return [
        replace(whole, end_token=0),
        *(
            replace(whole, index=False, first_token=first, end_token=end, size_bytes=(end - first) * width)
            for first, end in stretches
        ),
    ]


def check_tokenizer(directory: Path, manifest: CorpusManifest, problems: Problems) -> bool:
    """Whether the tokenizer of a corpus can be loaded and is the one that its manifest names."""
    from data_prep.tokenizer import load_tokenizer

    path = directory / TOKENIZER
    try:
        tokenizer = load_tokenizer(path)
    except DataError as error:
        problems.add(Path(str(error.where or path)), "tokenizer", error.problem)
        return False
    found = {"fingerprint": tokenizer.fingerprint, "number of ids": tokenizer.vocab_size}
    said = {"fingerprint": manifest.tokenizer_fingerprint, "number of ids": manifest.vocab_size}
    for name, value in found.items():
        if value != said[name]:
            problems.add(path, "tokenizer", f"has the {name} {value}; the manifest says {said[name]}")
    return found == said


def check_token_counts(directory: Path, counts: np.ndarray, problems: Problems) -> bool:
    """Whether the file of counts of a corpus says how often each id was found, int64 [vocab_size]."""
    path = directory / TOKEN_COUNTS
    try:
        written = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        problems.add(path, "token counts", f"cannot be read: {error}")
        return False
    if written.shape != counts.shape:
        problems.add(path, "token counts", f"holds {written.size:,} ids; the vocabulary has {counts.size:,}")
        return False
    wrong = np.flatnonzero(written != counts)
    texts = [f"says {int(written[i]):,} of the id {i}; there are {int(counts[i]):,}" for i in wrong.tolist()]
    problems.add_many(path, "token counts", texts[: problems.limit], len(wrong))
    return not len(wrong)


def _check_sources(directory: Path, manifest: CorpusManifest, result: Verification) -> None:
    """Where the manifest counts each source file, the counts must add up."""
    for name, total in (
        ("documents", manifest.documents),
        ("tokens", manifest.tokens),
        ("text_bytes", manifest.text_bytes),
        ("malformed", manifest.malformed_records + manifest.too_long_records),
    ):
        found = sum(getattr(source, name) for source in manifest.sources)
        if found and found != total:
            text = f"its sources have {found:,} {name} in all; the corpus has {total:,}"
            result.problems.add(directory / MANIFEST, "sources", text)


def _note_strangers(directory: Path, manifest: CorpusManifest, result: Verification) -> None:
    known = {entry.name for entry in manifest.shards}
    for file in sorted(directory.iterdir()):
        if file.suffix in (".bin", ".idx") and file.stem not in known:
            result.notes.append(f"note: {file} is not in the manifest; nothing reads it")
