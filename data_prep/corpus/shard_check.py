"""Everything that can be wrong with one shard, looked for in one pass over its files."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
import xxhash

from configs.errors import DataError
from data_prep.corpus.border_check import check_ends, check_starts
from data_prep.corpus.manifest import ShardEntry
from data_prep.corpus.shard_pieces import TOKENS_PER_PIECE, DocumentEnds, IndexPieces, read_tokens
from data_prep.corpus.shard_problems import Problems
from data_prep.corpus.shards import ShardReader, bin_path, idx_path, metadata_path

_SEQUENCES_PER_PIECE = 1 << 19


@dataclass(frozen=True)
class ShardCheck:
    """What one worker looks at: a shard, its index alone, or a stretch of its tokens.

    Attributes:
        prefix: the shard.
        entry: what the manifest says of it; None for a bare prefix, which has no hashes.
        dtype: type of the ids by the manifest; None: any.
        vocab_size: ids must be below it; None: not known.
        end_of_document: id that ends each document and occurs nowhere else; None: not checked.
        beginning_of_document: id that begins each document and occurs nowhere else; None: not checked.
        limit: problems of one kind that are put into words.
        size_bytes: how much there is to read, for the progress.
        index: whether the index and metadata are looked at.
        first_token, end_token: the stretch of tokens that is; None for the end: up to the last.
    """

    prefix: Path
    entry: ShardEntry | None
    dtype: str | None
    vocab_size: int | None
    end_of_document: int | None
    limit: int = 20
    beginning_of_document: int | None = None
    size_bytes: int = 0
    index: bool = True
    first_token: int = 0
    end_token: int | None = None


@dataclass
class ShardFindings:
    """What came out: problems, and ids counted, int64 [vocab_size] (empty where that is not known)."""

    problems: Problems
    counts: np.ndarray
    documents: int = 0
    sequences: int = 0
    tokens: int = 0
    checked_bytes: int = 0


def check_shard(check: ShardCheck) -> ShardFindings:
    """Look at everything that `check` names; never raises for what is wrong with the shard."""
    findings = ShardFindings(Problems(check.limit), np.zeros(check.vocab_size or 0, dtype=np.int64))
    cut = check.entry is not None and files_differ(check.prefix, check.entry, findings.problems)
    try:
        reader = ShardReader(check.prefix)
    except (DataError, OSError, ValueError) as error:
        # A file of the wrong size was named already.
        if not cut:
            where, problem = getattr(error, "where", check.prefix), getattr(error, "problem", str(error))
            findings.problems.add(Path(str(where or check.prefix)), "unreadable", problem)
        return findings
    try:
        _check_opened(check, reader, findings)
    except (DataError, OSError) as error:
        where, problem = getattr(error, "where", check.prefix), getattr(error, "problem", str(error))
        findings.problems.add(Path(str(where)), "unreadable", problem)
    return findings


def _check_opened(check: ShardCheck, reader: ShardReader, findings: ShardFindings) -> None:
    pieces = IndexPieces(reader)
    in_order = check_index(pieces, findings.problems) if check.index else True
    if check.index:
        findings.documents, findings.tokens = reader.num_documents, reader.num_tokens
        findings.sequences = pieces.num_sequences
        _check_counts(check, reader, findings.problems)
        _check_metadata(check, reader.num_documents, findings.problems)
    _check_tokens(check, reader, pieces if in_order else None, findings)


def files_differ(prefix: Path, entry: ShardEntry, problems: Problems) -> bool:
    """Compare sizes, and the index' hash, with the manifest; that of the tokens is made while they are read.

    Returns:
        Whether a file is missing or of another size.
    """
    cut = False
    expected = ((bin_path(prefix), entry.bin_bytes, None), (idx_path(prefix), entry.idx_bytes, entry.idx_xxh3))
    for path, size, digest in expected:
        try:
            found = path.stat().st_size
        except OSError as error:
            cut = True
            problems.add(path, "size", "is missing" if not path.exists() else f"cannot be read: {error.strerror}")
            continue
        if found != size:
            cut = True
            problems.add(path, "size", f"holds {found:,} bytes; the manifest says {size:,}")
        elif digest is not None:
            with path.open("rb") as stream:
                check_hash(path, hashlib.file_digest(stream, xxhash.xxh3_128).hexdigest(), digest, problems)
    return cut


def check_hash(path: Path, found: str, written: str, problems: Problems) -> None:
    """Compare the hash of a file with the manifest's."""
    if found != written:
        problems.add(path, "hash", f"has the hash {found}; the manifest says {written}")


def _check_counts(check: ShardCheck, reader: ShardReader, problems: Problems) -> None:
    if check.entry is None:
        return
    found = {"documents": reader.num_documents, "tokens": reader.num_tokens, "ids of type": reader.dtype.name}
    said = {"documents": check.entry.documents, "tokens": check.entry.tokens, "ids of type": check.dtype}
    for name, value in found.items():
        if value != said[name]:
            problems.add(idx_path(check.prefix), "counts", f"has {name} {value}; the manifest says {said[name]}")


def check_index(pieces: IndexPieces, problems: Problems) -> bool:
    """Whether sequences lie back to back and documents follow each other, from the first byte to the last."""
    before, expected = problems.count, 0
    for first in range(0, pieces.num_sequences, _SEQUENCES_PER_PIECE):
        end = min(first + _SEQUENCES_PER_PIECE, pieces.num_sequences)
        lengths, offsets = pieces.lengths(first, end).astype(np.int64), pieces.offsets(first, end)
        begins = np.append(expected, offsets[:-1] + lengths[:-1] * pieces.token_bytes)
        expected = int(offsets[-1]) + int(lengths[-1]) * pieces.token_bytes
        for bad, kind, text in (
            (np.flatnonzero(lengths < 0), "negative length", "sequence {} has the length {}"),
            (np.flatnonzero(offsets != begins), "offset", "sequence {} begins at byte {}, not where the last ends"),
        ):
            values = lengths if kind == "negative length" else offsets
            texts = [text.format(first + i, int(values[i])) for i in bad[: problems.limit].tolist()]
            problems.add_many(pieces.path, kind, texts, len(bad))
    if pieces.num_sequences and expected != pieces.num_tokens * pieces.token_bytes:
        problems.add(pieces.path, "end", f"the last sequence ends at byte {expected:,}, not at the end of the tokens")
    last = 0
    for first in range(0, pieces.num_documents + 1, _SEQUENCES_PER_PIECE):
        bounds = pieces.bounds(first, min(first + _SEQUENCES_PER_PIECE, pieces.num_documents + 1))
        bad = np.flatnonzero(np.diff(bounds, prepend=last) < 0)
        last = int(bounds[-1])
        texts = [f"document {first + i - 1} ends at sequence {int(bounds[i])}, before it begins" for i in bad.tolist()]
        problems.add_many(pieces.path, "document bounds", texts[: problems.limit], len(bad))
    return problems.count == before


def _check_metadata(check: ShardCheck, documents: int, problems: Problems) -> None:
    path, written = metadata_path(check.prefix), check.entry.metadata_xxh3 if check.entry is not None else None
    if not path.exists():
        if written is not None:
            problems.add(path, "size", "is missing")
        return
    number, digest = 0, xxhash.xxh3_128()
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            digest.update(line)
            try:
                right = isinstance(orjson.loads(line), dict)
            except orjson.JSONDecodeError:
                right = False
            if not right:
                problems.add(path, "line", f"line {number} is not a JSON object")
    if number != documents:
        problems.add(path, "lines", f"has {number:,} lines for {documents:,} documents")
    if written is not None:
        check_hash(path, digest.hexdigest(), written, problems)


def _check_tokens(check: ShardCheck, reader: ShardReader, pieces: IndexPieces | None, findings: ShardFindings) -> None:
    path, end = bin_path(check.prefix), reader.num_tokens if check.end_token is None else check.end_token
    asked = check.end_of_document is not None or check.beginning_of_document is not None
    ends = DocumentEnds(pieces, check.first_token) if pieces and asked else None
    starts_here = True
    digest = xxhash.xxh3_128()
    for begin in range(check.first_token, end, TOKENS_PER_PIECE):
        tokens = read_tokens(reader, begin, min(begin + TOKENS_PER_PIECE, end))
        if check.entry is not None:
            digest.update(tokens.data)
        findings.checked_bytes += tokens.nbytes
        count_ids(tokens, begin, path, findings)
        if ends is not None:
            first, stops = ends.take(begin + len(tokens))
            if check.end_of_document is not None:
                check_ends(tokens, begin, first, stops, check.end_of_document, path, findings.problems)
            if check.beginning_of_document is not None:
                starts = np.append(begin, stops) if starts_here else stops
                own = starts[starts < begin + len(tokens)]
                check_starts(tokens, begin, own, check.beginning_of_document, path, findings.problems)
            starts_here = bool(len(stops)) and int(stops[-1]) == begin + len(tokens)
    if check.entry is not None and check.entry.bin_bytes == findings.checked_bytes:
        check_hash(path, digest.hexdigest(), check.entry.bin_xxh3, findings.problems)


def count_ids(tokens: np.ndarray, begin: int, path: Path, findings: ShardFindings) -> None:
    """Count ids; those outside of the vocabulary (without one: negative ones) are problems."""
    if not len(tokens):
        return
    vocab_size, limit = len(findings.counts), findings.problems.limit
    low, high = int(tokens.min()), int(tokens.max())
    if low < 0 or (vocab_size and high >= vocab_size):
        bad = np.flatnonzero((tokens < 0) | (tokens >= vocab_size if vocab_size else False))
        texts = [f"token {begin + i:,} is the id {int(tokens[i])}, not in the vocabulary" for i in bad[:limit].tolist()]
        findings.problems.add_many(path, "id", texts, len(bad))
        tokens = np.delete(tokens, bad)
    if vocab_size:
        findings.counts += np.bincount(tokens, minlength=vocab_size)
