"""What a worker does: the units of one shard -> its token ids, index, metadata and record."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import orjson
import xxhash

from configs.errors import DataError
from data_prep.config import TokenizeConfig
from data_prep.corpus.shard_writer import ShardWriter
from data_prep.corpus.shards import metadata_path, token_dtype
from data_prep.reading.documents import ReadCounts
from data_prep.reading.files import FileState, file_state
from data_prep.reading.readers import read_batches
from data_prep.reading.work_unit import WorkUnit
from data_prep.sharding.held_tokenizer import held_tokenizer
from data_prep.sharding.shard_record import RECORDS, Pulse, ShardRecord, SourceCounts, lock_path
from data_prep.storage.durable import writing
from data_prep.storage.locks import locked
from data_prep.storage.publishing import staged_file
from data_prep.tokenizer import EngineName, Tokenizer

_BATCH_CHARS = 1 << 18


@dataclass(frozen=True)
class ShardTask:
    """One shard to make.

    Attributes:
        name: of its files, without endings.
        units: what is read, in order.
        states: how the files that are read looked when the work was planned, by path.
        config: how.
        engine: who makes the ids.
        tokenizer: the tokenizer directory.
        directory: of the corpus being made.
    """

    name: str
    units: tuple[WorkUnit, ...]
    states: dict[str, FileState]
    config: TokenizeConfig
    engine: EngineName
    tokenizer: Path
    directory: Path


@dataclass(frozen=True)
class Made:
    """What came of a task.

    Attributes:
        record: of the shard; None: another process is at work on it.
        worker: who made it; None: it was there already.
        began_s, ended_s: when, as `time.time()` tells it.
    """

    record: ShardRecord | None
    worker: str | None = None
    began_s: float = 0.0
    ended_s: float = 0.0


def make_shard(task: ShardTask) -> Made:
    """Make a shard, unless it is there already or another process is at work on it.

    Raises:
        DataError: for input that cannot be used.
        MachineError: if the shard cannot be written.
    """
    record = ShardRecord.read(task.directory, task.name)
    if record is not None:
        return Made(record)
    lock = lock_path(task.directory, task.name)
    with writing(lock), locked(lock) as mine:
        if not mine:
            return Made(None)
        # Perhaps it became ready between the two looks.
        record = ShardRecord.read(task.directory, task.name)
        if record is not None:
            return Made(record)
        # With the lock held, whatever lies there under this name is of a process that died.
        for leftover in task.directory.glob(f".{task.name}.*"):
            leftover.unlink(missing_ok=True)
        began_s = time.time()
        record = _make(task)
        return Made(record, _worker(), began_s, time.time())


def _worker() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def _make(task: ShardTask) -> ShardRecord:
    tokenizer = held_tokenizer(task.tokenizer, task.engine, task.directory / RECORDS)
    _check_unchanged(task)
    record = ShardRecord(task.name)
    counts = np.zeros(tokenizer.vocab_size, dtype=np.int64)
    left_out = ReadCounts()
    prefix = task.directory / task.name
    with ExitStack() as stack:
        writer = stack.enter_context(ShardWriter(prefix, token_dtype(tokenizer.vocab_size)))
        metadata = None
        if task.config.metadata_fields:
            temporary = stack.enter_context(staged_file(metadata_path(prefix)))
            metadata = stack.enter_context(temporary.open("wb"))
        try:
            digest = _encode(task, tokenizer, writer, metadata, record, counts, left_out)
        finally:
            # Also where reading failed: that the file changed is then the reason. Nothing has its name yet.
            _check_unchanged(task)
    record.documents, record.sequences, record.tokens = writer.num_documents, writer.num_sequences, writer.num_tokens
    record.malformed, record.too_long = left_out.malformed, left_out.too_long
    record.replaced = left_out.replaced
    record.damaged_files, record.first = left_out.damaged_files, left_out.first
    record.bin_bytes, record.idx_bytes = writer.bin_bytes, writer.idx_bytes
    record.bin_xxh3, record.idx_xxh3 = writer.bin_xxh3, writer.idx_xxh3
    record.metadata_xxh3 = digest
    record.write(task.directory, counts)
    return record


def _check_unchanged(task: ShardTask) -> None:
    for path, state in task.states.items():
        if file_state(path) != state:
            raise DataError("was changed while it is being read", where=path, expected="input that stays as it is")


def _encode(
    task: ShardTask,
    tokenizer: Tokenizer,
    writer: ShardWriter,
    metadata: BinaryIO | None,
    record: ShardRecord,
    counts: np.ndarray,
    left_out: ReadCounts,
) -> str | None:
    """Read, encode and write all batches; returns the hash of the metadata."""
    config = task.config
    end = tokenizer.role("end_of_document") if config.append_end_of_document else None
    begin = tokenizer.role("beginning_of_document") if config.prepend_beginning_of_document else None
    digest = xxhash.xxh3_128() if metadata is not None else None
    pulse = Pulse(task.directory, task.name, _worker())
    for texts in _batches(task, left_out, record):
        ids, lengths, sequences = _ids(tokenizer, texts.texts, end, config.sentences)
        _check_borders(tokenizer, texts, ids, lengths, [token for token in (end, begin) if token is not None], end)
        if begin is not None:
            ids, lengths = np.insert(ids, np.cumsum(lengths) - lengths, begin), lengths + 1
        tokens = ids.astype(writer.dtype, copy=False)
        counts += np.bincount(tokens, minlength=len(counts))
        with writing(writer.prefix):
            writer.add_documents(tokens, lengths, sequences)
            if metadata is not None and digest is not None:
                record.fields += _new_fields(texts.metadata, task.config.metadata_fields, record.fields)
                lines = b"".join(orjson.dumps(fields, default=str) + b"\n" for fields in texts.metadata)
                digest.update(lines)
                metadata.write(lines)
        _count_sources(record, texts, lengths, sequences)
        pulse.beat(record.text_bytes, writer.num_tokens, record.empty + left_out.records)
    pulse.end()
    return digest.hexdigest() if digest is not None else None


def _check_borders(
    tokenizer: Tokenizer, texts: _Texts, ids: np.ndarray, lengths: np.ndarray, borders: list[int], end: int | None
) -> None:
    """Refuse text that a vocabulary writes with a token that is to stand at the borders of documents only.

    Raises:
        DataError: names the file, the text and the token.
    """
    for token in borders:
        if tokenizer.is_special(token):
            continue
        found = np.flatnonzero(ids == token)
        if token == end:
            found = np.setdiff1d(found, np.cumsum(lengths) - 1)
        if len(found):
            at = int(found[0])
            paths = np.repeat([path for path, _ in texts.sources], [count for _, count in texts.sources])
            sequence = int(np.searchsorted(np.cumsum(lengths), at, "right"))
            raise DataError(
                f"a text holds {tokenizer.piece(token)!r}, which the vocabulary takes for the token {token} that is to"
                " stand between documents only",
                where=paths[sequence] if len(paths) == len(lengths) else ", ".join(dict.fromkeys(paths.tolist())),
                expected="a tokenizer whose end- and beginning-of-document tokens no text becomes: import-tokenizer"
                " with another token, or none",
            )


def _new_fields(metadata: list[dict[str, Any]], wanted: list[str], known: list[str]) -> list[str]:
    unseen = [field for field in wanted if field not in known]
    return [field for field in unseen if any(field in kept for kept in metadata)]


@dataclass
class _Texts:
    """Texts of one call of the tokenizer; `sources` says how many of them, one after the other, are of which file."""

    texts: list[str] = field(default_factory=list)
    metadata: list[dict[str, Any]] = field(default_factory=list)
    sources: list[tuple[str, int]] = field(default_factory=list)


def _batches(task: ShardTask, left_out: ReadCounts, record: ShardRecord) -> Iterator[_Texts]:
    """Texts in groups of about a quarter million characters, without the empty ones."""
    fields = task.config.metadata_fields or None
    held, chars = _Texts(), 0
    for unit in task.units:
        before = left_out.records
        for batch in read_batches(unit, task.config, left_out, fields):
            texts, metadata = batch.texts, batch.metadata or []
            if "" in texts:
                record.empty += texts.count("")
                metadata = [kept for text, kept in zip(texts, metadata) if text]
                texts = [text for text in texts if text]
            start = 0
            for stop, text in enumerate(texts, 1):
                chars += len(text)
                if chars >= _BATCH_CHARS:
                    _hold(held, unit, texts[start:stop], metadata[start:stop])
                    yield held
                    held, chars, start = _Texts(), 0, stop
            _hold(held, unit, texts[start:], metadata[start:])
        record.sources.setdefault(unit.path, SourceCounts()).left_out += left_out.records - before
    if held.texts:
        yield held


def _hold(held: _Texts, unit: WorkUnit, texts: list[str], metadata: list[dict[str, Any]]) -> None:
    if texts:
        held.texts += texts
        held.metadata += metadata
        held.sources.append((unit.path, len(texts)))


def _ids(
    tokenizer: Tokenizer, texts: list[str], end: int | None, sentences: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Ids [tokens], length of each sequence [sequences], and sequences of each document [documents] or None."""
    if sentences:
        from data_prep.sharding.sentences import split_sentences

        split = [split_sentences(text) for text in texts]
        sequences = np.array([len(parts) for parts in split], dtype=np.int64)
        texts = [part for parts in split for part in parts]
        ids, lengths = tokenizer.encode_flat(texts)
        if end is not None:
            last = np.cumsum(sequences) - 1
            ids = np.insert(ids, np.cumsum(lengths)[last], end)
            lengths[last] += 1
        return ids, lengths, sequences
    return *tokenizer.encode_flat(texts, append=end), None


def _count_sources(record: ShardRecord, texts: _Texts, lengths: np.ndarray, sequences: np.ndarray | None) -> None:
    if sequences is not None:
        lengths = np.add.reduceat(lengths, np.cumsum(sequences) - sequences)
    at = 0
    for path, documents in texts.sources:
        part = texts.texts[at : at + documents]
        text_bytes = sum(len(text) if text.isascii() else len(text.encode()) for text in part)
        found = record.sources.setdefault(path, SourceCounts())
        found.documents += documents
        found.tokens += int(lengths[at : at + documents].sum())
        found.text_bytes += text_bytes
        record.text_bytes += text_bytes
        at += documents
