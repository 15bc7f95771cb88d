"""Writing one shard: tokens stream to disk, the index and the final names come last."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
import xxhash

from data_prep.atomic import flush_to_disk, writing
from data_prep.shards import bin_path, idx_path, index_bytes

_CHUNK_BYTES = 32 * 2**20


class ShardWriter:
    """Writes `PREFIX.bin` and `PREFIX.idx`; both appear when the `with` block ends without an error, else neither.

    Args:
        prefix: path of the two files without `.bin` and `.idx`.
        dtype: integer type of the ids, normally `shards.token_dtype(vocab_size)`.

    Attributes:
        num_documents, num_tokens: what was added so far.
        bin_xxh3, idx_xxh3: hashes of the two files, known when the block has ended.

    Raises:
        MachineError: if the files cannot be written.
    """

    def __init__(self, prefix: Path, dtype: np.dtype) -> None:
        self.prefix = prefix
        self.dtype = np.dtype(dtype).newbyteorder("<")
        self.num_documents = 0
        self.num_tokens = 0
        self.bin_xxh3 = ""
        self.idx_xxh3 = ""
        self._lengths: list[np.ndarray] = []
        self._hash = xxhash.xxh3_128()
        self._stream: BinaryIO | None = None

    def __enter__(self) -> ShardWriter:
        with writing(self.prefix):
            self.prefix.parent.mkdir(parents=True, exist_ok=True)
            self._stream = self._temporary(bin_path(self.prefix)).open("wb")
        return self

    def add_document(self, tokens: np.ndarray) -> None:
        """Append one document, ids [tokens]."""
        self.add_documents(tokens, np.array([len(tokens)], dtype=np.int64))

    def add_documents(self, tokens: np.ndarray, lengths_tokens: np.ndarray) -> None:
        """Append documents that lie back to back in `tokens` [tokens], `lengths_tokens` [documents] long.

        Raises:
            ValueError: if the lengths do not add up to the tokens, or an id does not fit the shard's type.
        """
        assert self._stream is not None, "used outside of its with block"
        if int(lengths_tokens.sum()) != len(tokens):
            raise ValueError(f"lengths add up to {int(lengths_tokens.sum())}, there are {len(tokens)} tokens")
        if tokens.dtype != self.dtype:
            limits = np.iinfo(self.dtype)
            if len(tokens) and not limits.min <= int(tokens.min()) <= int(tokens.max()) <= limits.max:
                raise ValueError(f"token ids {int(tokens.min())} to {int(tokens.max())} do not fit {self.dtype}")
        step = _CHUNK_BYTES // self.dtype.itemsize
        with writing(self.prefix):
            for start in range(0, len(tokens), step):
                chunk = np.ascontiguousarray(tokens[start : start + step], dtype=self.dtype).data
                self._hash.update(chunk)
                self._stream.write(chunk)
        self._lengths.append(np.asarray(lengths_tokens, dtype=np.int64))
        self.num_documents += len(lengths_tokens)
        self.num_tokens += len(tokens)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._stream is not None
        bin_file, idx_file = bin_path(self.prefix), idx_path(self.prefix)
        try:
            with writing(self.prefix):
                self._stream.close()
                if kind is None:
                    lengths = np.concatenate(self._lengths) if self._lengths else np.empty(0, dtype=np.int64)
                    index = index_bytes(self.dtype, lengths)
                    self._temporary(idx_file).write_bytes(index)
                    self.bin_xxh3, self.idx_xxh3 = self._hash.hexdigest(), xxhash.xxh3_128_hexdigest(index)
                    for final in (bin_file, idx_file):
                        flush_to_disk(self._temporary(final))
                    # The index goes last: a .bin alone is not taken for a shard.
                    for final in (bin_file, idx_file):
                        self._temporary(final).replace(final)
        finally:
            for final in (bin_file, idx_file):
                self._temporary(final).unlink(missing_ok=True)

    @staticmethod
    def _temporary(path: Path) -> Path:
        return path.with_name(f".{path.name}.tmp")
