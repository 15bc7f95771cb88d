"""Shards of tokens in Megatron's indexed format: `PREFIX.bin` holds the ids, `PREFIX.idx` where documents begin.

The layout of an `.idx` file, all little-endian: the magic bytes, version (u64), code of the id type (u8), number of
sequences (u64), number of document bounds (u64), then length of each sequence in tokens (i32), its byte offset in the
`.bin` (i64), and the document bounds as sequence numbers (i64, one more than there are documents). One mode byte per
sequence may follow (multimodal corpora).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from configs.errors import DataError

MAGIC = b"MMIDIDX\x00\x00"
VERSION = 1
DTYPE_CODES = {1: "uint8", 2: "int8", 3: "<i2", 4: "<i4", 5: "<i8", 8: "<u2"}
_HEADER = struct.Struct("<9sQBQQ")


def bin_path(prefix: Path) -> Path:
    """The file of token ids of the shard `prefix`."""
    return prefix.with_name(prefix.name + ".bin")


def idx_path(prefix: Path) -> Path:
    """The index file of the shard `prefix`."""
    return prefix.with_name(prefix.name + ".idx")


def metadata_path(prefix: Path) -> Path:
    """The metadata of the documents of the shard `prefix`, one JSON object per line; only where it was asked for."""
    return prefix.with_name(prefix.name + ".meta.jsonl")


def token_dtype(vocab_size: int) -> np.dtype:
    """The id type that Megatron chooses for a vocabulary: uint16 below 65,500 ids, else int32."""
    return np.dtype("<u2") if vocab_size < 65500 else np.dtype("<i4")


def dtype_code(dtype: np.dtype) -> int:
    """The code of an id type in an index."""
    return next(code for code, name in DTYPE_CODES.items() if np.dtype(name) == dtype)


def index_header(code: int, sequences: int, documents: int) -> bytes:
    """The first bytes of an `.idx` file."""
    return _HEADER.pack(MAGIC, VERSION, code, sequences, documents + 1)


@dataclass(frozen=True)
class _Index:
    dtype: np.dtype
    sequence_lengths: np.ndarray  # int32 [sequences], tokens
    sequence_offsets: np.ndarray  # int64 [sequences], bytes
    document_bounds: np.ndarray  # int64 [documents + 1], sequence numbers

    @property
    def bin_bytes(self) -> int:
        """Size that the `.bin` file must have."""
        if len(self.sequence_lengths) == 0:
            return 0
        return int(self.sequence_offsets[-1]) + int(self.sequence_lengths[-1]) * self.dtype.itemsize


class ShardReader:
    """One shard, mapped into memory; opening reads the header and checks sizes, not the tokens.

    A document may be several Megatron sequences: its tokens are those of all of them.

    Args:
        prefix: path of the two files without `.bin` and `.idx`.

    Raises:
        DataError: if a file is missing, not of this format, or not of the size that the index states.
    """

    def __init__(self, prefix: Path) -> None:
        self.prefix = prefix
        self._index = _read_index(idx_path(prefix))
        path = bin_path(prefix)
        found = _size_bytes(path)
        if found != self._index.bin_bytes:
            how = "truncated" if found < self._index.bin_bytes else "more than its index says"
            raise DataError(
                f"holds {found:,} bytes, {how}",
                where=path,
                expected=f"{self._index.bin_bytes:,} bytes, as {idx_path(prefix).name} says",
            )
        self.dtype: np.dtype = self._index.dtype
        self.num_documents: int = len(self._index.document_bounds) - 1
        self.num_tokens: int = found // self.dtype.itemsize

    @cached_property
    def tokens(self) -> np.ndarray:
        """All token ids of the shard, [num_tokens] of `dtype`, a read-only memory map."""
        if self.num_tokens == 0:
            return np.empty(0, dtype=self.dtype)
        return np.memmap(bin_path(self.prefix), dtype=self.dtype, mode="r", shape=(self.num_tokens,))

    @cached_property
    def document_offsets(self) -> np.ndarray:
        """Where each document begins in `tokens`, int64 [num_documents + 1]; the last entry is `num_tokens`.

        Raises:
            DataError: if sequences do not lie back to back, so that no flat view of the tokens exists.
        """
        index = self._index
        ends = index.sequence_offsets + index.sequence_lengths.astype(np.int64) * index.dtype.itemsize
        starts_ok = len(ends) == 0 or (
            index.sequence_offsets[0] == 0 and np.array_equal(ends[:-1], index.sequence_offsets[1:])
        )
        if not starts_ok or np.any(np.diff(index.document_bounds) < 0) or np.any(index.sequence_lengths < 0):
            raise DataError("is not a valid index: its sequences do not lie back to back", where=idx_path(self.prefix))
        all_offsets = np.append(index.sequence_offsets // index.dtype.itemsize, self.num_tokens)
        return all_offsets[index.document_bounds]

    @cached_property
    def document_lengths(self) -> np.ndarray:
        """Tokens of each document, int64 [num_documents]."""
        return np.diff(self.document_offsets)

    def document(self, number: int, offset: int = 0, length: int | None = None) -> np.ndarray:
        """Token ids of document `number` from token `offset` on, at most `length` of them: a view, [tokens].

        Raises:
            IndexError: if there is no such document.
        """
        if not 0 <= number < self.num_documents:
            raise IndexError(f"document {number} of {self.num_documents} in {self.prefix}")
        start, end = (int(x) for x in self.document_offsets[number : number + 2])
        first = min(start + offset, end)
        last = end if length is None else min(first + length, end)
        return self.tokens[first:last]


def _read_index(path: Path) -> _Index:
    size = _size_bytes(path)
    with path.open("rb") as stream:
        header = stream.read(_HEADER.size)
    if len(header) < _HEADER.size or not header.startswith(MAGIC):
        raise DataError("is not a Megatron index file", where=path, expected=f"the first bytes {MAGIC!r}")
    _, version, code, sequences, bounds = _HEADER.unpack(header)
    if version != VERSION:
        raise DataError(f"has index format version {version}", where=path, expected=f"version {VERSION}")
    if code not in DTYPE_CODES:
        raise DataError(f"has the token type code {code}", where=path, expected=f"one of {sorted(DTYPE_CODES)}")
    expected = _HEADER.size + sequences * 12 + bounds * 8
    if bounds < 1 or size not in (expected, expected + sequences):
        raise DataError(
            f"holds {size:,} bytes, {'truncated' if size < expected else 'not what its header says'}",
            where=path,
            expected=f"{expected:,} bytes for {sequences:,} sequences in {bounds - 1:,} documents",
        )
    raw = np.memmap(path, dtype=np.uint8, mode="r")
    lengths_end = _HEADER.size + sequences * 4
    offsets_end = lengths_end + sequences * 8
    index = _Index(
        dtype=np.dtype(DTYPE_CODES[code]),
        sequence_lengths=raw[_HEADER.size : lengths_end].view("<i4"),
        sequence_offsets=raw[lengths_end:offsets_end].view("<i8"),
        document_bounds=raw[offsets_end:expected].view("<i8"),
    )
    if index.document_bounds[0] != 0 or index.document_bounds[-1] != sequences:
        raise DataError("is not a valid index: its documents do not cover its sequences", where=path)
    return index


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        raise DataError("is missing", where=path, expected="both files of the shard, .bin and .idx") from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=path) from None
