"""Which documents an n-gram model counts and which it predicts, read into memory as one stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from configs.errors import DataError
from data_prep.corpus.corpus import Corpus
from data_prep.corpus.shard_pieces import IndexPieces, read_shard_documents
from data_prep.corpus.shards import bin_path
from data_prep.corpus.split import PARTS, PartName, part_of_documents, uniform
from data_prep.ngram.ngram_counts import Stream
from data_prep.parallel.progress import WorkProgress
from data_prep.parallel.tally import TaskTally

Keep = Callable[[np.ndarray], np.ndarray]
"""Which of the documents with these numbers, int64 [n], are taken, bool [n]."""
_LARGEST_ID = 1 << 24


@dataclass(frozen=True)
class Chosen:
    """Documents that were read.

    Attributes:
        corpus: where they are from.
        fingerprint: of the corpus.
        part: which part of it.
        documents, tokens: how many were read.
        available_tokens: how many the part has; more than `tokens` where a limit made a sample of it.
    """

    corpus: str
    fingerprint: str
    part: str
    documents: int
    tokens: int
    available_tokens: int

    def __str__(self) -> str:
        part = "all" if self.part == "all" else f"the {self.part} part"
        said = f"{self.tokens:,} tokens in {self.documents:,} documents: {part} of {self.corpus}"
        if self.tokens < self.available_tokens:
            share = self.tokens / self.available_tokens
            said += f", an even sample of {share:.1%} of its {self.available_tokens:,} tokens"
        return said


def read_part(
    corpus: Corpus, part: PartName, split: tuple[float, float, float], max_tokens: int, vocab_size: int
) -> tuple[Stream, Chosen]:
    """The documents of a part of a corpus, or an even sample of them of about `max_tokens`.

    Raises:
        DataError: if the part has no tokens, or an id is not in the vocabulary.
    """
    wanted = None if part == "all" else PARTS.index(part)

    def in_part(numbers: np.ndarray) -> np.ndarray:
        return np.full(len(numbers), True) if wanted is None else part_of_documents(numbers, split) == wanted

    documents, available = _count(corpus, in_part)
    if not available:
        raise DataError(
            f"its {part} part has no tokens ({documents} of {corpus.num_documents} documents)",
            where=corpus.path,
            expected=f"a larger {part} share in --split (now {split}), or --validation CORPUS",
        )
    share, keep = max_tokens / available, in_part
    if share < 1:
        # A second hash, so that a part is sampled evenly.
        def keep(numbers: np.ndarray) -> np.ndarray:
            return in_part(numbers) & (uniform(numbers ^ (1 << 40)) < share)

        documents, tokens = _count(corpus, keep)
    else:
        tokens = available
    if not tokens:
        raise DataError(f"no document fits {max_tokens:,} tokens", where=corpus.path, expected="a higher limit")
    stream = Stream(np.empty(tokens + documents, dtype=np.int32), vocab_size, documents)
    _fill(stream, corpus, keep)
    return stream, Chosen(str(corpus.path), corpus.fingerprint, part, documents, tokens, available)


def _count(corpus: Corpus, keep: Keep) -> tuple[int, int]:
    """Documents with tokens, and their tokens, that `keep` takes."""
    documents = tokens = before = 0
    for shard in corpus.shards:
        for first, starts in IndexPieces(shard).document_pieces():
            lengths = np.diff(starts)
            taken = lengths[keep(np.arange(len(lengths)) + before + first)]
            documents += int(np.count_nonzero(taken))
            tokens += int(taken.sum())
        before += shard.num_documents
    return documents, tokens


def _fill(stream: Stream, corpus: Corpus, keep: Keep) -> None:
    """Copy the documents that `keep` takes into a stream, a begin token in front of each."""
    at = before = 0
    tally = TaskTally()
    with WorkProgress("read", sum(shard.num_tokens * shard.dtype.itemsize for shard in corpus.shards), tally.look):
        for shard in corpus.shards:
            for piece in read_shard_documents(shard):
                lengths = np.diff(piece.starts)
                taken = keep(np.arange(len(lengths)) + before + piece.first) & (lengths > 0)
                tokens = piece.tokens[np.repeat(taken, lengths)].astype(np.int32)
                if len(tokens) and not 0 <= int(tokens.min()) <= int(tokens.max()) < stream.vocab_size:
                    raise DataError(
                        f"holds the id {int(tokens.max() if tokens.min() >= 0 else tokens.min())}",
                        where=bin_path(shard.prefix),
                        expected=f"ids from 0 to {stream.vocab_size - 1}",
                    )
                ends = np.cumsum(lengths[taken])
                with_begins = np.insert(tokens, ends - lengths[taken], stream.vocab_size)
                stream.tokens[at : at + len(with_begins)] = with_begins
                at += len(with_begins)
                tally.advance(piece.tokens.nbytes, len(tokens))
            before += shard.num_documents


def largest_id(corpus: Corpus) -> int:
    """The largest id that occurs, read piece by piece; -1 without tokens.

    Raises:
        DataError: if it is beyond any vocabulary.
    """
    largest = -1
    for shard in corpus.shards:
        for piece in read_shard_documents(shard):
            if len(piece.tokens):
                largest = max(largest, int(piece.tokens.max()))
        if largest > _LARGEST_ID:
            expected = f"ids up to {_LARGEST_ID:,}, or --tokenizer to say which there are"
            raise DataError(f"holds the id {largest}", where=bin_path(shard.prefix), expected=expected)
    return largest
