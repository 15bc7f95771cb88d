"""`merge`: the same documents in fewer or other shards, streamed from file to file.

Training reads a corpus of many shards as one, so this is for tools that want a single file. Tokens are copied as
bytes; documents, their sequences and their metadata stay as they are and in their order.
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
import xxhash

from configs.errors import DataError
from data_prep.atomic import check_replaceable, staged_directory, writing
from data_prep.corpus import Corpus
from data_prep.manifest import MANIFEST, TOKEN_COUNTS, TOKENIZER, ShardEntry
from data_prep.progress import Progress
from data_prep.shard_pieces import IndexPieces, metadata_path
from data_prep.shards import DTYPE_CODES, MAGIC, VERSION, ShardReader, bin_path, idx_path

_COPY_BYTES = 1 << 22
_ITEMS = 1 << 18


@dataclass(frozen=True)
class Piece:
    """Documents [first, end) of a shard, their sequences and their tokens, as ranges."""

    shard: ShardReader
    index: IndexPieces
    first: int
    end: int
    sequences: tuple[int, int]
    tokens: tuple[int, int]


def merge_corpus(corpus: Corpus, output: Path, max_shard_bytes: int, overwrite: bool = False) -> list[ShardEntry]:
    """Write the corpus `output`, which has the documents of `corpus` in shards of at most `max_shard_bytes`.

    A document longer than that has a shard of its own. The output appears when it is whole.

    Returns:
        The new shards.

    Raises:
        DataError: if `corpus` has no manifest or cannot be merged, or the output is in the way.
        MachineError: if the output cannot be written.
    """
    manifest = corpus.manifest
    if manifest is None:
        raise DataError("is a bare prefix", where=corpus.path, expected="a corpus directory; one prefix is one shard")
    if output.resolve() == corpus.path.resolve():
        raise DataError("is the corpus that is merged", where=output, expected="another directory")
    check_replaceable(output, MANIFEST, overwrite)
    groups = list(_groups(corpus, max_shard_bytes))
    total = corpus.num_tokens * np.dtype(manifest.dtype).itemsize
    with staged_directory(output, MANIFEST, overwrite) as directory, Progress("merge", total) as progress:
        shutil.copytree(corpus.path / TOKENIZER, directory / TOKENIZER)
        shutil.copyfile(corpus.path / TOKEN_COUNTS, directory / TOKEN_COUNTS)
        entries = [
            _write_shard(directory / f"shard_{number:05d}", group, np.dtype(manifest.dtype), progress)
            for number, group in enumerate(groups)
        ]
        manifest.model_copy(update={"shards": entries}).write(directory)
    return entries


def _groups(corpus: Corpus, max_shard_bytes: int) -> Iterator[list[Piece]]:
    """What goes into each new shard: as many documents as fit, at least one."""
    group: list[Piece] = []
    held = 0
    for shard in corpus.shards:
        index = IndexPieces(shard)
        if index.has_modes:
            raise DataError("has a mode for each sequence (multimodal), which merging does not keep", where=index.path)
        room, begin = max_shard_bytes // index.token_bytes, 0
        for first, starts in index.document_pieces():
            done, count = 0, len(starts) - 1
            while done < count:
                stop = int(np.searchsorted(starts, starts[done] + max(0, room - held), side="right")) - 1
                if stop == done and held == 0:
                    stop = done + 1  # a document longer than a shard
                held += int(starts[stop] - starts[done])
                done = stop
                if done < count:
                    if first + done > begin:
                        group.append(_piece(shard, index, begin, first + done))
                    yield group
                    group, held, begin = [], 0, first + done
        if begin < index.num_documents:
            group.append(_piece(shard, index, begin, index.num_documents))
    if group:
        yield group


def _piece(shard: ShardReader, index: IndexPieces, first: int, end: int) -> Piece:
    bounds = (int(index.bounds(first, first + 1)[0]), int(index.bounds(end, end + 1)[0]))
    starts = (int(index.document_starts(first, first + 1)[0]), int(index.document_starts(end - 1, end)[1]))
    return Piece(shard, index, first, end, bounds, starts)


def _write_shard(prefix: Path, pieces: list[Piece], dtype: np.dtype, progress: Progress) -> ShardEntry:
    with writing(prefix):
        with _hashed(bin_path(prefix)) as tokens_out:
            for piece in pieces:
                _copy_tokens(piece, dtype, tokens_out, progress)
        with _hashed(idx_path(prefix)) as index_out:
            for part in _index_parts(pieces, dtype):
                index_out.write(part)
        if any(metadata_path(piece.shard.prefix).exists() for piece in pieces):
            with metadata_path(prefix).open("wb") as stream:
                for piece in pieces:
                    _copy_metadata(piece, stream)
        sizes = [path(prefix).stat().st_size for path in (bin_path, idx_path)]
    return ShardEntry(
        name=prefix.name,
        documents=sum(piece.end - piece.first for piece in pieces),
        tokens=sum(piece.tokens[1] - piece.tokens[0] for piece in pieces),
        bin_bytes=sizes[0],
        idx_bytes=sizes[1],
        bin_xxh3=tokens_out.digest.hexdigest(),
        idx_xxh3=index_out.digest.hexdigest(),
    )


class _Hashed:
    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.digest = xxhash.xxh3_128()

    def write(self, data: bytes) -> None:
        self.digest.update(data)
        self._stream.write(data)


@contextmanager
def _hashed(path: Path) -> Iterator[_Hashed]:
    with path.open("wb") as stream:
        yield _Hashed(stream)


def _copy_tokens(piece: Piece, dtype: np.dtype, output: _Hashed, progress: Progress) -> None:
    path = bin_path(piece.shard.prefix)
    with path.open("rb") as stream:
        stream.seek(piece.tokens[0] * dtype.itemsize)
        left = (piece.tokens[1] - piece.tokens[0]) * dtype.itemsize
        while left:
            data = stream.read(min(_COPY_BYTES, left))
            if not data:
                raise DataError(f"ends {left:,} bytes early, while it was read", where=path)
            output.write(data)
            progress.advance(len(data), len(data) // dtype.itemsize)
            left -= len(data)


def _index_parts(pieces: list[Piece], dtype: np.dtype) -> Iterator[bytes]:
    """A whole `.idx` file, some megabytes at a time."""
    code = next(code for code, name in DTYPE_CODES.items() if np.dtype(name) == dtype)
    sequences = sum(piece.sequences[1] - piece.sequences[0] for piece in pieces)
    documents = sum(piece.end - piece.first for piece in pieces)
    yield struct.pack("<9sQBQQ", MAGIC, VERSION, code, sequences, documents + 1)
    for piece in pieces:
        for low, high in _ranges(*piece.sequences):
            yield piece.index.lengths(low, high).tobytes()
    before = 0
    for piece in pieces:
        shift = (before - piece.tokens[0]) * dtype.itemsize
        for low, high in _ranges(*piece.sequences):
            yield (piece.index.offsets(low, high) + shift).astype("<i8").tobytes()
        before += piece.tokens[1] - piece.tokens[0]
    yield struct.pack("<q", 0)
    before = 0
    for piece in pieces:
        # The end of each document; its begin is the end of the one before.
        for low, high in _ranges(piece.first + 1, piece.end + 1):
            yield (piece.index.bounds(low, high) + (before - piece.sequences[0])).astype("<i8").tobytes()
        before += piece.sequences[1] - piece.sequences[0]


def _ranges(first: int, end: int) -> Iterator[tuple[int, int]]:
    for begin in range(first, end, _ITEMS):
        yield begin, min(begin + _ITEMS, end)


def _copy_metadata(piece: Piece, output: BinaryIO) -> None:
    path = metadata_path(piece.shard.prefix)
    wanted = piece.end - piece.first
    if not path.exists():
        raise DataError("is missing, other shards have theirs", where=path, expected="metadata of all shards or none")
    found = 0
    with path.open("rb") as stream:
        for line in islice(stream, piece.first, piece.end):
            output.write(line if line.endswith(b"\n") else line + b"\n")
            found += 1
    if found != wanted:
        raise DataError(f"ends before document {piece.end - 1}", where=path, expected="a line for each document")
