"""The sentences of one part of a corpus that was tokenized with `sentences=true`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from configs.errors import DataError
from pretrain.data.documents import Documents
from pretrain.data.index_file import Allocate
from pretrain.data.long_sentences import SentenceCuts

if TYPE_CHECKING:
    from data_prep.corpus import Corpus


@dataclass(frozen=True)
class SentenceTable:
    """Sentences that have tokens, document after document. The end-of-document id belongs to none of them.

    A sentence longer than a limit (a table, a listing, text without full stops) stands as several; where it is cut
    is said by the `SentenceCuts` that the table is read with.

    Attributes:
        source: place of each sentence's first token in the corpus, int64 [sentences].
        start: tokens of all sentences before each, int64 [sentences + 1].
        bounds: number of each document's first sentence, int64 [documents + 1]; documents without any are left out.
    """

    source: np.ndarray
    start: np.ndarray
    bounds: np.ndarray

    @classmethod
    def read(cls, corpus: Corpus, documents: Documents, cuts: SentenceCuts) -> SentenceTable:
        """The sentences of `documents`.

        Args:
            corpus: where they are.
            documents: which of its documents.
            cuts: how long ones are cut.

        Raises:
            DataError: if the corpus does not keep sentences.
        """
        if corpus.manifest is None or not corpus.manifest.sentences:
            raise DataError(
                "has no sentence boundaries", where=corpus.path, expected="a corpus made by `tokenize sentences=true`"
            )

        def build(allocate: Allocate) -> None:
            _fill(corpus, documents, cuts, allocate)

        return cls(**documents.built("sentences", f"its sentences, {cuts.identity}", build))

    @property
    def num_documents(self) -> int:
        """Documents with a sentence."""
        return len(self.bounds) - 1


def _fill(corpus: Corpus, documents: Documents, cuts: SentenceCuts, allocate: Allocate) -> None:
    counts = [(len(source), len(per_document)) for source, _, per_document in _by_shard(corpus, documents, cuts)]
    num_sentences, num_documents = (sum(column) for column in zip(*counts)) if counts else (0, 0)
    arrays = allocate({"source": num_sentences, "start": num_sentences + 1, "bounds": num_documents + 1})
    arrays["start"][0] = arrays["bounds"][0] = 0
    sentence = document = 0
    for source, lengths, per_document in _by_shard(corpus, documents, cuts):
        end, last = sentence + len(source), document + len(per_document)
        arrays["source"][sentence:end] = source
        arrays["start"][sentence + 1 : end + 1] = arrays["start"][sentence] + np.cumsum(lengths)
        arrays["bounds"][document + 1 : last + 1] = sentence + np.cumsum(per_document)
        sentence, document = end, last


def _by_shard(
    corpus: Corpus, documents: Documents, cuts: SentenceCuts
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Place and tokens of each sentence, and sentences of each document that has any, a shard at a time."""
    from data_prep.corpus.shard_pieces import IndexPieces

    assert corpus.manifest is not None
    end_tokens = 0 if corpus.manifest.end_of_document is None else 1
    first_token = 0
    for shard in corpus.shards:
        index = IndexPieces(shard)
        lengths = index.lengths(0, index.num_sequences).astype(np.int64)
        offsets = index.offsets(0, index.num_sequences) // index.token_bytes
        offsets, lengths = offsets[lengths > 0], lengths[lengths > 0]
        begin, end = documents.source.searchsorted([first_token, first_token + shard.num_tokens]).tolist()
        places = documents.source[begin:end] - first_token
        firsts = offsets.searchsorted(places)
        per_document = offsets.searchsorted(places + documents.length[begin:end]) - firsts
        number_of_document = np.repeat(np.arange(end - begin), per_document)
        lasts = np.cumsum(per_document)
        chosen = np.arange(len(number_of_document)) + np.repeat(firsts - (lasts - per_document), per_document)
        lengths = lengths[chosen]
        lengths[lasts - 1] -= end_tokens
        keep = lengths > 0
        places = first_token + offsets[chosen][keep]
        lengths, parts = cuts.pieces(places, lengths[keep])
        within = np.cumsum(lengths) - lengths
        begins = np.cumsum(parts) - parts
        sources = np.repeat(places - within[begins], parts) + within
        per_document = np.bincount(number_of_document[keep], weights=parts, minlength=end - begin).astype(np.int64)
        yield sources, lengths, per_document[per_document > 0]
        first_token += shard.num_tokens
