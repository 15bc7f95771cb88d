"""Samples of whole conversations: what `Conversations` finds sample number n with, and which tokens are answers.

A corpus of conversations has each as a document, whose sequences are by turns what is only read and what the model is
to say (`CorpusManifest.answers`). None is cut and none reaches over the end of a sample: with packing a sample holds
those that fit best, without it one.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING

import numpy as np

from configs.errors import DataError
from pretrain.config.sampling import ConversationCutting, SampleCutting
from pretrain.data.corpus_tokens import BEGINS_DOCUMENT, Stretch
from pretrain.data.documents import Documents
from pretrain.data.epoch_cuttings import EpochCuttings
from pretrain.data.index_file import Allocate, Arrays
from pretrain.data.permutation import Permutation
from pretrain.data.samples import Origin, Samples

if TYPE_CHECKING:
    from data_prep.corpus import Corpus


class Conversations(EpochCuttings):
    """Samples of one part of one corpus, by number: conversations, each in one sample an epoch.

    Args:
        corpus: where the tokens are; its sequences are by turns read and answered.
        documents: the part.
        sampling: `stride_tokens` is the room; `packing`, whether several share it.
        seed: decides which share a sample, and the order of the samples.
        endless: whether epoch follows epoch; if not, the same one epoch comes again and again.

    Raises:
        DataError: if the corpus is not one of conversations, or one of them has no room.
        ValueError: if there is none.
    """

    def __init__(
        self, corpus: Corpus, documents: Documents, sampling: SampleCutting, seed: int, *, endless: bool
    ) -> None:
        super().__init__(corpus, documents, sampling, "conversations", seed, endless=endless)
        if corpus.manifest is None or not corpus.manifest.answers:
            raise DataError(
                "does not say which of its tokens are answers",
                where=corpus.path,
                expected="conversations that `python -m finetune instruct` prepared",
            )
        if not len(documents):
            raise ValueError("a sample needs a conversation")
        self._room = sampling.stride_tokens
        self._packing = isinstance(sampling, ConversationCutting) and sampling.packing
        longest = int(documents.length.max())
        if longest > self._room:
            raise DataError(
                f"has a conversation of {longest:,} tokens, and a sample has room for {self._room:,}",
                where=corpus.path,
                expected=f"model.seq_length={longest} or more, or conversations prepared for {self._room}",
            )
        answers = documents.built("answers", "which of its tokens are answers", lambda room: _fill(corpus, room))
        self._begin, self._end = answers["begin"], answers["end"]

    def num_samples(self, cutting: Arrays) -> int:
        """See the base class."""
        return len(cutting["first"]) - 1

    def notes(self) -> list[str]:
        """How full the samples of the first epoch are."""
        samples = self.num_samples(self.cutting(0))
        filled = self.documents.num_tokens / (samples * self._room)
        return [
            f"{self.corpus.path}: {len(self.documents):,} conversations in {samples:,} samples in the first epoch,"
            f" {filled:.0%} of their room is text"
        ]

    def read_into(self, numbers: np.ndarray, samples: Samples, rows: np.ndarray) -> None:
        """Read samples `numbers`, int64 [n], into `rows`, int64 [n], of `samples`."""
        for row, stretches in zip(rows.tolist(), self._stretches(numbers)):
            self.tokens.fill(samples, row, stretches)
            if samples.answers is not None:
                self._mark_answers(samples.answers[row], stretches)

    def origins(self, number: int) -> list[Origin]:
        """Where the tokens of sample `number` come from, in order."""
        return [self.tokens.origin(source, length) for source, length, _ in self._stretches(np.array([number]))[0]]

    def make_cutting(self, number: int) -> Arrays:
        """See the base class: the documents in the order of the samples, and the first one of each sample."""
        how = "packed" if self._packing else "alone"
        what = f"conversations {how} up to {self._room} tokens, cutting {number} of {' '.join(map(str, self.key))}"
        return self.documents.built("conversations", what, lambda allocate: self._pack(number, allocate))

    def _pack(self, number: int, allocate: Allocate) -> None:
        count = len(self.documents)
        order = Permutation(count, "documents", *self.key, number)(np.arange(count))
        if self._packing:
            # Longest first; those of one length in the cutting's own order, so that others share a sample each time.
            order = order[np.argsort(-self.documents.length[order], kind="stable")]
            samples = best_fit(self.documents.length[order], self._room)
            order = order[np.argsort(samples, kind="stable")]
        else:
            samples = np.arange(count)
        arrays = allocate({"order": count, "first": int(samples.max()) + 2})
        arrays["order"][:] = order
        arrays["first"][0] = 0
        np.cumsum(np.bincount(samples), out=arrays["first"][1:])

    def _stretches(self, numbers: np.ndarray) -> list[list[Stretch]]:
        found: list[list[Stretch]] = [[]] * len(numbers)
        source, length = self.documents.source, self.documents.length
        for rows, cutting, places in self.located(numbers):
            for row, place in zip(rows.tolist(), places.tolist()):
                begin, end = cutting["first"][place : place + 2].tolist()
                chosen = cutting["order"][begin:end]
                pairs = zip(source[chosen].tolist(), length[chosen].tolist())
                found[row] = [(begin_token, tokens, BEGINS_DOCUMENT) for begin_token, tokens in pairs]
        return found

    def _mark_answers(self, answers_W: np.ndarray, stretches: list[Stretch]) -> None:
        filled = 0
        for source, length, _ in stretches:
            first, behind = self._begin.searchsorted([source, source + length]).tolist()
            for begin, end in zip(self._begin[first:behind].tolist(), self._end[first:behind].tolist()):
                answers_W[begin - source + filled : end - source + filled] = True
            filled += length


def best_fit(lengths: np.ndarray, room: int) -> np.ndarray:
    """Which bin each item goes to: the fullest that has room for it, a new one where none has.

    Args:
        lengths: of the items, int64 [n], each from 1 to `room`; longest first fills bins best.
        room: of a bin.

    Returns:
        int64 [n], bins numbered from 0.
    """
    bins = np.empty(len(lengths), dtype=np.int64)
    spaces: list[int] = []  # that some bin has left, rising
    having: dict[int, list[int]] = {}
    opened = 0
    for item, length in enumerate(lengths.tolist()):
        at = bisect_left(spaces, length)
        if at == len(spaces):
            chosen, left = opened, room - length
            opened += 1
        else:
            space = spaces[at]
            chosen = having[space].pop()
            if not having[space]:
                del spaces[at], having[space]
            left = space - length
        bins[item] = chosen
        if left and left not in having:
            insort(spaces, left)
        if left:
            having.setdefault(left, []).append(chosen)
    return bins


def answer_bounds(corpus: Corpus) -> tuple[np.ndarray, np.ndarray]:
    """Place of each answer's first token in the corpus and of the one behind its last, int64 [answers] each, rising."""
    from data_prep.corpus.shard_pieces import IndexPieces

    begins, ends, first_token = [], [], 0
    for shard in corpus.shards:
        index = IndexPieces(shard)
        lengths = index.lengths(0, index.num_sequences).astype(np.int64)
        bounds = index.bounds(0, index.num_documents + 1)
        within = np.arange(index.num_sequences) - np.repeat(bounds[:-1], np.diff(bounds))
        behind = np.cumsum(lengths) + first_token
        begins.append((behind - lengths)[within % 2 == 1])
        ends.append(behind[within % 2 == 1])
        first_token += shard.num_tokens
    return np.concatenate(begins), np.concatenate(ends)


def _fill(corpus: Corpus, allocate: Allocate) -> None:
    begins, ends = answer_bounds(corpus)
    arrays = allocate({"begin": len(begins), "end": len(ends)})
    arrays["begin"][:], arrays["end"][:] = begins, ends
