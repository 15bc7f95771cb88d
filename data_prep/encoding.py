"""What a worker does: one task of work units -> one part, token ids and document lengths in files of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from configs.errors import DataError
from data_prep.config import TokenizeConfig
from data_prep.documents import ReadCounts
from data_prep.readers import read_documents
from data_prep.shards import token_dtype
from data_prep.tokenizer import Tokenizer
from data_prep.work_unit import WorkUnit

_BATCH_CHARS = 1 << 18
MAX_DOCUMENT_TOKENS = 2**31 - 1


@dataclass(frozen=True)
class EncodeTask:
    """One task: what to read, how, and where the part goes."""

    units: tuple[WorkUnit, ...]
    config: TokenizeConfig
    tokenizer: Path
    part: Path


@dataclass(frozen=True)
class Part:
    """What a task made.

    Attributes:
        path: the part; its ids lie in `path.tokens`, document lengths in `path.npy`.
        documents, tokens, text_bytes: what is in it.
        empty, malformed: records left out.
        token_counts: how often each id occurs, int64 [vocab_size].
    """

    path: Path
    documents: int
    tokens: int
    text_bytes: int
    empty: int
    malformed: int
    token_counts: np.ndarray


def encode_task(task: EncodeTask) -> Part:
    """Read, encode and write one part.

    Raises:
        DataError: for input that cannot be used.
        OSError: if the part cannot be written.
    """
    tokenizer = _tokenizer(task.tokenizer)
    dtype = token_dtype(tokenizer.vocab_size)
    end = tokenizer.role("end_of_document") if task.config.append_end_of_document else None
    suffix = [] if end is None else [end]
    counts = np.zeros(tokenizer.vocab_size, dtype=np.int64)
    lengths: list[int] = []
    left_out = ReadCounts()
    text_bytes = empty = 0
    with task.part.with_suffix(".tokens").open("wb") as stream:
        for texts in _batches(task, left_out):
            full = [text for text in texts if text]
            empty += len(texts) - len(full)
            flat: list[int] = []
            for ids in tokenizer.encode_batch(full):
                flat += ids
                flat += suffix
                lengths.append(len(ids) + len(suffix))
            tokens = np.array(flat, dtype=dtype)
            counts += np.bincount(tokens, minlength=len(counts))
            text_bytes += sum(len(text) if text.isascii() else len(text.encode()) for text in full)
            stream.write(tokens.data)
    if lengths and max(lengths) > MAX_DOCUMENT_TOKENS:
        raise DataError("holds a document too long for the shard format", where=task.units[0].path)
    np.save(task.part.with_suffix(".npy"), np.array(lengths, dtype=np.int64), allow_pickle=False)
    return Part(task.part, len(lengths), sum(lengths), text_bytes, empty, left_out.malformed, counts)


def read_part(part: Part, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Token ids [tokens] and document lengths [documents] of a part."""
    lengths = np.load(part.path.with_suffix(".npy"), allow_pickle=False)
    if part.tokens == 0:
        return np.empty(0, dtype=dtype), lengths
    return np.memmap(part.path.with_suffix(".tokens"), dtype=dtype, mode="r"), lengths


def remove_part(part: Part) -> None:
    """Delete a part's files."""
    part.path.with_suffix(".npy").unlink()
    part.path.with_suffix(".tokens").unlink()


def _batches(task: EncodeTask, left_out: ReadCounts) -> Iterator[list[str]]:
    """Texts in groups of about a quarter million characters: one call of the tokenizer each."""
    texts: list[str] = []
    chars = 0
    for unit in task.units:
        for document in read_documents(unit, task.config, left_out):
            texts.append(document.text)
            chars += len(document.text)
            if chars >= _BATCH_CHARS:
                yield texts
                texts, chars = [], 0
    if texts:
        yield texts


@lru_cache(maxsize=1)
def _tokenizer(path: Path) -> Tokenizer:
    return Tokenizer.load(path)
