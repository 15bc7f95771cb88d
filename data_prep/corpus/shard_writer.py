"""Writing one shard: tokens stream to disk, the index and the final names come last.

Memory does not grow with the shard: lengths wait in a file of their own until the index is written from it.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
import xxhash

from data_prep.corpus.shards import bin_path, dtype_code, idx_path, index_header
from data_prep.storage.durable import flush_to_disk, writing

_CHUNK_BYTES = 32 * 2**20
_CHUNK_ITEMS = 1 << 20


class ShardWriter:
    """Writes `PREFIX.bin` and `PREFIX.idx`; both appear when the `with` block ends without an error, else neither.

    Several writers of one prefix do not disturb each other: the last one's files stay.

    Args:
        prefix: path of the two files without `.bin` and `.idx`.
        dtype: integer type of the ids, normally `shards.token_dtype(vocab_size)`.

    Attributes:
        num_documents, num_sequences, num_tokens: what was added so far.
        bin_bytes, idx_bytes: sizes of the two files, known when the block has ended.
        bin_xxh3, idx_xxh3: hashes of the two files, known when the block has ended.

    Raises:
        MachineError: if the files cannot be written.
    """

    def __init__(self, prefix: Path, dtype: np.dtype) -> None:
        self.prefix = prefix
        self.dtype = np.dtype(dtype).newbyteorder("<")
        self.num_documents = self.num_sequences = self.num_tokens = 0
        self.bin_bytes = self.idx_bytes = 0
        self.bin_xxh3 = self.idx_xxh3 = ""
        self._hash = xxhash.xxh3_128()
        self._nonce = secrets.token_hex(4)
        self._files: dict[str, BinaryIO] = {}

    def __enter__(self) -> ShardWriter:
        with writing(self.prefix):
            self.prefix.parent.mkdir(parents=True, exist_ok=True)
            for part in ("bin", "lengths", "documents"):
                self._files[part] = self._temporary(part).open("w+b")
        return self

    def add_document(self, tokens: np.ndarray) -> None:
        """Append one document, ids [tokens]."""
        self.add_documents(tokens, np.array([len(tokens)], dtype=np.int64))

    def add_documents(
        self, tokens: np.ndarray, lengths_tokens: np.ndarray, sequences: np.ndarray | None = None
    ) -> None:
        """Append documents that lie back to back.

        Args:
            tokens: ids [tokens].
            lengths_tokens: length of each sequence [sequences].
            sequences: how many sequences each document has [documents]; None: one.

        Raises:
            ValueError: if the lengths do not add up, or an id or length does not fit the shard's format.
        """
        assert self._files, "used outside of its with block"
        if int(lengths_tokens.sum()) != len(tokens):
            raise ValueError(f"lengths add up to {int(lengths_tokens.sum())}, there are {len(tokens)} tokens")
        if sequences is not None and int(sequences.sum()) != len(lengths_tokens):
            raise ValueError(f"documents have {int(sequences.sum())} sequences, there are {len(lengths_tokens)}")
        if tokens.dtype != self.dtype:
            limits = np.iinfo(self.dtype)
            if len(tokens) and not limits.min <= int(tokens.min()) <= int(tokens.max()) <= limits.max:
                raise ValueError(f"token ids {int(tokens.min())} to {int(tokens.max())} do not fit {self.dtype}")
        if len(lengths_tokens) and int(lengths_tokens.max()) >= 2**31:
            raise ValueError(f"a sequence of {int(lengths_tokens.max())} tokens does not fit the format")
        step = _CHUNK_BYTES // self.dtype.itemsize
        with writing(self.prefix):
            for start in range(0, len(tokens), step):
                chunk = np.ascontiguousarray(tokens[start : start + step], dtype=self.dtype).data
                self._hash.update(chunk)
                self._files["bin"].write(chunk)
            self._files["lengths"].write(lengths_tokens.astype("<i4").data)
            if sequences is not None:
                assert self._files["documents"].tell() == 8 * self.num_documents, (
                    "sequences are counted always or never"
                )
                self._files["documents"].write(sequences.astype("<i8").data)
        self.num_documents += len(lengths_tokens) if sequences is None else len(sequences)
        self.num_sequences += len(lengths_tokens)
        self.num_tokens += len(tokens)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with writing(self.prefix):
                if kind is None:
                    self._write_index()
                    self.bin_bytes, self.bin_xxh3 = self.num_tokens * self.dtype.itemsize, self._hash.hexdigest()
                for stream in self._files.values():
                    stream.close()
                if kind is None:
                    for part in ("bin", "idx"):
                        flush_to_disk(self._temporary(part))
                    # The index goes last: a .bin alone is not taken for a shard.
                    self._temporary("bin").replace(bin_path(self.prefix))
                    self._temporary("idx").replace(idx_path(self.prefix))
        finally:
            for part, stream in self._files.items():
                stream.close()
                self._temporary(part).unlink(missing_ok=True)
            self._temporary("idx").unlink(missing_ok=True)
            self._files = {}

    def _write_index(self) -> None:
        digest = xxhash.xxh3_128()
        with self._temporary("idx").open("wb") as stream:
            for piece in self._index_pieces():
                digest.update(piece)
                stream.write(piece)
            self.idx_bytes = stream.tell()
        self.idx_xxh3 = digest.hexdigest()

    def _index_pieces(self) -> Iterator[bytes]:
        yield index_header(dtype_code(self.dtype), self.num_sequences, self.num_documents)
        for lengths in self._spooled("lengths", "<i4"):
            yield lengths.tobytes()
        at_bytes = 0
        for lengths in self._spooled("lengths", "<i4"):
            ends = np.cumsum(lengths, dtype="<i8") * self.dtype.itemsize + at_bytes
            yield np.concatenate(([at_bytes], ends[:-1])).astype("<i8").tobytes()
            at_bytes = int(ends[-1])
        yield np.zeros(1, dtype="<i8").tobytes()
        if self._files["documents"].tell() == 0:  # every document is one sequence
            for start in range(0, self.num_documents, _CHUNK_ITEMS):
                yield np.arange(start + 1, min(start + _CHUNK_ITEMS, self.num_documents) + 1, dtype="<i8").tobytes()
            return
        at = 0
        for counts in self._spooled("documents", "<i8"):
            bounds = np.cumsum(counts, dtype="<i8") + at
            yield bounds.tobytes()
            at = int(bounds[-1])

    def _spooled(self, part: str, dtype: str) -> Iterator[np.ndarray]:
        stream = self._files[part]
        stream.flush()
        stream.seek(0)
        while data := stream.read(_CHUNK_ITEMS * np.dtype(dtype).itemsize):
            yield np.frombuffer(data, dtype=dtype)

    def _temporary(self, part: str) -> Path:
        return self.prefix.with_name(f".{self.prefix.name}.{self._nonce}.{part}.tmp")
