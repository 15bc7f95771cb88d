"""A shard's index and tokens read piece by piece, so that memory stays flat however large the shard is.

Mapped pages count as memory of the process until something else wants it; plain reads of a few megabytes do not pile
up. What every tool reads that goes through a whole corpus comes from here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from configs.errors import DataError
from data_prep.corpus.shards import ShardReader, bin_path, idx_path

DOCUMENTS_PER_PIECE = 1 << 16
TOKENS_PER_PIECE = 1 << 22
_HEADER_BYTES = 34


class IndexPieces:
    """The sections of a shard's `.idx` file, read range by range.

    Args:
        reader: the opened shard, whose header is known to be right.

    Attributes:
        path: the `.idx` file.
        num_sequences, num_documents, num_tokens: of the shard.
        token_bytes: bytes of one id in the `.bin` file.
        has_modes: whether a byte per sequence follows the document bounds (multimodal corpora).
    """

    def __init__(self, reader: ShardReader) -> None:
        self.path = idx_path(reader.prefix)
        self.token_bytes: int = reader.dtype.itemsize
        self.num_documents = reader.num_documents
        self.num_tokens = reader.num_tokens
        self.num_sequences = int(_read(self.path, "<u8", 1, 18)[0])
        self._offsets_at = _HEADER_BYTES + 4 * self.num_sequences
        self._bounds_at = self._offsets_at + 8 * self.num_sequences
        self.has_modes = self.path.stat().st_size > self._bounds_at + 8 * (self.num_documents + 1)

    def lengths(self, first: int, end: int) -> np.ndarray:
        """Tokens of sequences [first, end), int32 [end - first]."""
        return _read(self.path, "<i4", end - first, _HEADER_BYTES + 4 * first)

    def offsets(self, first: int, end: int) -> np.ndarray:
        """Where sequences [first, end) begin in the `.bin` file, in bytes, int64 [end - first]."""
        return _read(self.path, "<i8", end - first, self._offsets_at + 8 * first)

    def bounds(self, first: int, end: int) -> np.ndarray:
        """Document bounds [first, end) as sequence numbers, int64 [end - first]; there are num_documents + 1."""
        return _read(self.path, "<i8", end - first, self._bounds_at + 8 * first)

    def document_starts(self, first: int, end: int) -> np.ndarray:
        """Where documents [first, end) begin in the shard's tokens, and where the last of them ends.

        Returns:
            int64 [end - first + 1].

        Raises:
            DataError: if the document bounds are not in order.
        """
        bounds = self.bounds(first, end + 1)
        if np.any(np.diff(bounds) < 0) or int(bounds[0]) < 0 or int(bounds[-1]) > self.num_sequences:
            raise DataError(f"has document bounds out of order around document {first}", where=self.path)
        low, high = int(bounds[0]), min(int(bounds[-1]) + 1, self.num_sequences)
        starts = self.offsets(low, high) // self.token_bytes
        if int(bounds[-1]) == self.num_sequences:
            starts = np.append(starts, self.num_tokens)
        starts = starts[bounds - low]
        # The first and the last of what is in order bound all between them.
        if np.any(np.diff(starts) < 0) or int(starts[0]) < 0 or int(starts[-1]) > self.num_tokens:
            raise DataError(f"has document offsets out of order around document {first}", where=self.path)
        return starts

    def document_pieces(self, first: int = 0, end: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
        """`document_starts` of documents [first, end), some ten thousand at a time, each with its first document."""
        stop = self.num_documents if end is None else end
        for begin in range(first, stop, DOCUMENTS_PER_PIECE):
            yield begin, self.document_starts(begin, min(begin + DOCUMENTS_PER_PIECE, stop))


@dataclass(frozen=True)
class ShardDocuments:
    """Documents that lie one after the other.

    Attributes:
        first: number of the first one in the shard.
        starts: where each begins in `tokens`, and where the last ends, int64 [documents + 1].
        tokens: ids [tokens] of the shard's type.
    """

    first: int
    starts: np.ndarray
    tokens: np.ndarray

    def __iter__(self) -> Iterator[np.ndarray]:
        for begin, end in zip(self.starts[:-1].tolist(), self.starts[1:].tolist()):
            yield self.tokens[begin:end]


def read_tokens(reader: ShardReader, first: int, end: int) -> np.ndarray:
    """Token ids [first, end) of a shard, read into memory.

    Raises:
        DataError: if the file cannot be read that far.
    """
    width = reader.dtype.itemsize
    return _read(bin_path(reader.prefix), reader.dtype, end - first, first * width)


def read_shard_documents(
    reader: ShardReader, first: int = 0, end: int | None = None, max_tokens: int = TOKENS_PER_PIECE
) -> Iterator[ShardDocuments]:
    """Documents [first, end) of a shard in groups of about `max_tokens`; a longer document comes alone and whole."""
    for begin, starts in IndexPieces(reader).document_pieces(first, end):
        done = 0
        while done < len(starts) - 1:
            # At least one document, and as many as fit.
            stop = max(done + 1, int(np.searchsorted(starts, starts[done] + max_tokens, side="right")) - 1)
            tokens = read_tokens(reader, int(starts[done]), int(starts[stop]))
            yield ShardDocuments(begin + done, starts[done : stop + 1] - starts[done], tokens)
            done = stop


class DocumentEnds:
    """The ends of a shard's documents, taken stretch of tokens after stretch.

    Args:
        pieces: the index, known to be in order.
        first_token: where the first stretch begins.
    """

    def __init__(self, pieces: IndexPieces, first_token: int) -> None:
        self._pieces = pieces
        self._first = self._next = self._first_document_ending_after(first_token)
        self._ends = np.empty(0, dtype=np.int64)

    def take(self, end_token: int) -> tuple[int, np.ndarray]:
        """The documents that end in the stretch up to `end_token`, empty ones at its end included.

        Returns:
            Number of the first of them; where in the tokens each of them ends (exclusive), int64 [documents].
        """
        total = self._pieces.num_documents
        while self._next < total and (not len(self._ends) or self._ends[-1] <= end_token):
            stop = min(self._next + DOCUMENTS_PER_PIECE, total)
            self._ends = np.append(self._ends, self._pieces.document_starts(self._next, stop)[1:])
            self._next = stop
        count = int(np.searchsorted(self._ends, end_token, side="right"))
        first, taken = self._first, self._ends[:count]
        self._ends, self._first = self._ends[count:], first + count
        return first, taken

    def _first_document_ending_after(self, token: int) -> int:
        low, high = 0, self._pieces.num_documents
        while low < high and token:
            middle = (low + high) // 2
            if int(self._pieces.document_starts(middle, middle + 1)[1]) <= token:
                low = middle + 1
            else:
                high = middle
        return low


def _read(path: Path, dtype: str | np.dtype, count: int, offset_bytes: int) -> np.ndarray:
    """Numbers of a file.

    Raises:
        DataError: if it cannot be read, or has become shorter since it was opened.
    """
    try:
        found = np.fromfile(path, dtype=dtype, count=count, offset=offset_bytes)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", where=path) from None
    if len(found) != count:
        raise DataError(f"ends after {offset_bytes + found.nbytes:,} bytes, while it was read", where=path)
    return found
