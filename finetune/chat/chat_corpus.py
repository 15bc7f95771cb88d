"""Encoded conversations as a corpus: a document each, whose sequences are by turns read and answered."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import numpy as np

from data_prep.corpus.manifest import TOKEN_COUNTS, TOKENIZER, CorpusManifest, ShardEntry, dtype_name, program
from data_prep.corpus.shard_writer import ShardWriter
from data_prep.corpus.shards import token_dtype
from data_prep.tokenizer import Tokenizer
from finetune.chat.encoding import EncodedConversation

_SHARD = "shard_00000"


class ChatCorpusWriter:
    """Writes one corpus directory; the manifest comes last, when the `with` block ends without an error.

    Args:
        directory: where to.
        tokenizer: that made the ids.

    Attributes:
        first_ids: with which conversations began.
    """

    def __init__(self, directory: Path, tokenizer: Tokenizer) -> None:
        self._directory, self._tokenizer = directory, tokenizer
        self._writer = ShardWriter(directory / _SHARD, token_dtype(tokenizer.vocab_size))
        self._counts = np.zeros(tokenizer.vocab_size, dtype=np.int64)
        self._text_bytes = 0
        self.first_ids: set[int] = set()

    def __enter__(self) -> ChatCorpusWriter:
        self._writer.__enter__()
        return self

    def add(self, conversation: EncodedConversation) -> None:
        """Append one conversation, of two tokens at least."""
        ids = conversation.ids
        borders = np.flatnonzero(np.diff(conversation.answers)) + 1
        lengths = np.diff(borders, prepend=0, append=len(ids))
        self._writer.add_documents(ids, lengths, np.array([len(lengths)]))
        self._counts += np.bincount(ids, minlength=len(self._counts))
        self._text_bytes += len(conversation.text.encode())
        self.first_ids.add(int(ids[0]))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, trace)
        if kind is None:
            self._finish()

    def _finish(self) -> None:
        writer, tokenizer = self._writer, self._tokenizer
        np.save(self._directory / TOKEN_COUNTS, self._counts)
        tokenizer.copy_to(self._directory / TOKENIZER)
        begin = tokenizer.role("beginning_of_document")
        entry = ShardEntry(
            name=_SHARD,
            documents=writer.num_documents,
            tokens=writer.num_tokens,
            bin_bytes=writer.bin_bytes,
            idx_bytes=writer.idx_bytes,
            bin_xxh3=writer.bin_xxh3,
            idx_xxh3=writer.idx_xxh3,
        )
        CorpusManifest(
            created_by=program(),
            dtype=dtype_name(tokenizer.vocab_size),
            vocab_size=tokenizer.vocab_size,
            end_of_document=None,
            beginning_of_document=begin if begin is not None and self.first_ids == {begin} else None,
            tokenizer_fingerprint=tokenizer.fingerprint,
            answers=True,
            text_bytes=self._text_bytes,
            shards=[entry],
        ).write(self._directory)
