"""Sentences -> pairs of text parts, for next-sentence prediction and for sentence order; numpy only.

A document's sentences are taken in runs, from its first sentence to its last. A run ends at the sentence with which
it reaches its target length: the room of a sample, or for a share of the runs (`short_rate`) a length drawn uniformly
between 2 and the room (Devlin et al. 2019; the short ones and what follows are in `create_pretraining_data.py` of
google-research/bert). A run is split at a random sentence border into a first part and the text that follows it.

- `next_sentence`: with probability 1/2 the second part is instead a run of sentences of another document, drawn at
  random, and the sentences after the first part go back to be the next run's.
- `sentence_order`: the two parts change places with probability 1/2 (Lan et al. 2020, section 3.1). Half of the
  documents are taken from their last sentence to their first: a run tends to begin with a long sentence, one that had
  no room in the run before, and the longer part would tell which comes first.

Otherwise than in the published program, which cuts tokens from what is longer than the room (with sentences of 25
tokens and samples of 128 that loses one token in eight, and whole sentences), sentences stay whole: a part ends before
the sentence that would not fit, and a first part gives sentences back where a random second part would not fit beside
it. Each part keeps one sentence. The target is drawn for each run, not for each document.
A sentence longer than half of the room stands in the table as several, of drawn lengths (`DrawnCuts`), so that any two
have room: pieces of equal length, side by side, would show that the second part is the true one.

A run takes two sentences where there are two, and under `sentence_order` leaves no single one over where it can take
it or leave it company. A sentence that is alone gets a random second part (`next_sentence`), or none and no label
(`sentence_order`: there is no order to tell, and a random part would let the topic tell it).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields

import numpy as np

from pretrain.config.sampling import PairKind
from pretrain.data.counter_random import CounterRandom
from pretrain.data.sentences import SentenceTable

NO_LABEL = -1
PAIR_ARRAYS = ("first_source", "first_tokens", "second_source", "second_tokens", "label")
_BLOCK_DOCUMENTS = 1 << 14
_LONGEST_SENTENCES = 1 << 10
"""A document of more sentences is cut as if it were several, so that all are cut side by side."""
_Columns = list[np.ndarray]


@dataclass(frozen=True)
class PairCounts:
    """What became of the sentences in one cutting.

    Attributes:
        samples: pairs, those without a second part included.
        random_seconds: samples whose second part comes from another document.
        forced_seconds: those of them whose first part had nothing after it.
        alone: samples without a second part.
        random_tokens: tokens of the random second parts: text that is read besides.
    """

    samples: int = 0
    random_seconds: int = 0
    forced_seconds: int = 0
    alone: int = 0
    random_tokens: int = 0

    def __add__(self, other: PairCounts) -> PairCounts:
        return PairCounts(**{name: value + getattr(other, name) for name, value in asdict(self).items()})

    @classmethod
    def from_array(cls, values: np.ndarray) -> PairCounts:
        """From the numbers of `as_array`."""
        return cls(*values.tolist())

    def as_array(self) -> np.ndarray:
        """The counts in the order of the attributes, int64."""
        return np.array([getattr(self, field.name) for field in fields(self)], dtype=np.int64)


@dataclass(frozen=True)
class _Ranges:
    """The sentences of both parts of some pairs, int64 [pairs] each.

    Attributes:
        first, first_stop: sentences of the first part, from and to.
        second, second_stop: of the second part.
        label: see `SentencePairs`.
        is_alone: whether the run is one sentence, bool.
    """

    first: np.ndarray
    first_stop: np.ndarray
    second: np.ndarray
    second_stop: np.ndarray
    label: np.ndarray
    is_alone: np.ndarray


@dataclass(frozen=True)
class PairCutter:
    """Cuts all documents of a table into pairs.

    Attributes:
        table: the sentences, none longer than half of the room.
        kind: what second parts are.
        room_tokens: the most tokens of both parts together, at least 2.
        short_rate: share of the runs with a target drawn between 2 and the room.
        random: decides everything that is drawn, by the number of a run's first sentence.
    """

    table: SentenceTable
    kind: PairKind
    room_tokens: int
    short_rate: float
    random: CounterRandom

    def blocks(self) -> Iterator[tuple[_Columns, PairCounts]]:
        """The pairs of some documents after the other: `PAIR_ARRAYS`, int64 [pairs] each, and their counts."""
        for begin in range(0, self.table.num_documents, _BLOCK_DOCUMENTS):
            documents = np.arange(begin, min(begin + _BLOCK_DOCUMENTS, self.table.num_documents))
            sizes = self.table.bounds[documents + 1] - self.table.bounds[documents]
            parts = -(-sizes // _LONGEST_SENTENCES)
            of_part = np.repeat(np.arange(len(documents)), parts)
            part = np.arange(len(of_part)) - np.repeat(np.cumsum(parts) - parts, parts)
            first = self.table.bounds[documents[of_part]]
            starts = first + part * sizes[of_part] // parts[of_part]
            ends = first + (part + 1) * sizes[of_part] // parts[of_part]
            yield self._columns(self._ranges(documents[of_part], starts, ends))

    def _ranges(self, document: np.ndarray, at: np.ndarray, end: np.ndarray) -> _Ranges:
        """The parts of the sentences [at, end) of each document; a run of every document in each turn."""
        turns = []
        backward = (self.random.uniform(at, np.array([8])) < 0.5) & (self.kind == "sentence_order")
        while len(at):
            draws = self.random.uniform(np.where(backward, end - 1, at)[:, None], np.arange(6))
            begin, stop, target = self._runs(at, end, backward, draws)
            split = begin + 1 + (draws[:, 2] * (stop - begin - 1)).astype(np.int64)
            is_alone, half = stop - begin == 1, draws[:, 3] < 0.5
            if self.kind == "next_sentence":
                is_random = is_alone | half
                shorter, other, other_stop = self._with_other_document(document, begin, split, target, draws)
                first_stop = np.where(is_random, shorter, split)
                second, second_stop = np.where(is_random, other, split), np.where(is_random, other_stop, stop)
                turns.append((begin, first_stop, second, second_stop, is_random.astype(np.int64), is_alone))
                at = np.where(is_random, first_stop, stop)
            else:
                swapped = half & ~is_alone
                first, first_stop = np.where(swapped, split, begin), np.where(swapped, stop, split)
                second, second_stop = np.where(swapped, begin, split), np.where(swapped, split, stop)
                label = np.where(is_alone, NO_LABEL, swapped.astype(np.int64))
                turns.append((first, first_stop, second, second_stop, label, is_alone))
                at, end = np.where(backward, at, stop), np.where(backward, begin, end)
            goes_on = at < end
            document, at, end, backward = document[goes_on], at[goes_on], end[goes_on], backward[goes_on]
        return _Ranges(*(np.concatenate(column) for column in zip(*turns)))

    def _runs(
        self, at: np.ndarray, end: np.ndarray, backward: np.ndarray, draws: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The next run of the sentences [at, end), from their front or their end: from, to, its target in tokens."""
        room = self.room_tokens
        short = 2 + (draws[:, 1] * (room - 1)).astype(np.int64)
        target = np.where(draws[:, 0] < self.short_rate, short, room)
        start = self.table.start
        count = np.where(
            backward,
            end + 1 - start.searchsorted(start[end] - target, side="right"),
            start.searchsorted(start[at] + target) - at,
        )
        count = np.minimum(count, end - at)
        tokens = np.where(backward, start[end] - start[end - count], start[at + count] - start[at])
        count -= (tokens > room) & (count > 1)
        count = np.minimum(np.maximum(count, 2), end - at)
        if self.kind == "sentence_order":
            leaves_one = count == end - at - 1
            fits = start[end] - start[at] <= room
            count = count + (leaves_one & fits) - (leaves_one & ~fits & (count > 2))
        return np.where(backward, end - count, at), np.where(backward, end, at + count), target

    def _with_other_document(
        self, document: np.ndarray, at: np.ndarray, split: np.ndarray, target: np.ndarray, draws: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where first parts end that have a random second part, and that part's sentences, from and to."""
        start, bounds, room = self.table.start, self.table.bounds, self.room_tokens
        other = (draws[:, 4] * (self.table.num_documents - 1)).astype(np.int64)
        other += other >= document
        first = bounds[other] + (draws[:, 5] * (bounds[other + 1] - bounds[other])).astype(np.int64)
        left = room - (start[first + 1] - start[first])
        split = np.clip(start.searchsorted(start[at] + left, side="right") - 1, at + 1, split)
        wanted = np.maximum(target - (start[split] - start[at]), 1)
        stop = np.minimum(start.searchsorted(start[first] + wanted), bounds[other + 1])
        too_long = start[stop] - start[first] > room - (start[split] - start[at])
        return split, first, stop - (too_long & (stop > first + 1))

    def _columns(self, ranges: _Ranges) -> tuple[_Columns, PairCounts]:
        """The pairs of some ranges, and what became of the sentences."""
        start = self.table.start
        first_tokens = start[ranges.first_stop] - start[ranges.first]
        second_tokens = start[ranges.second_stop] - start[ranges.second]
        is_random = (ranges.label == 1) & (self.kind == "next_sentence")
        counts = PairCounts(
            samples=len(first_tokens),
            random_seconds=int(is_random.sum()),
            forced_seconds=int((ranges.is_alone & is_random).sum()),
            alone=int((second_tokens == 0).sum()),
            random_tokens=int(second_tokens[is_random].sum()),
        )
        places = self._places(ranges.first, first_tokens), self._places(ranges.second, second_tokens)
        return [places[0], first_tokens, places[1], second_tokens, ranges.label], counts

    def _places(self, first: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """Place in the corpus of each part by its first sentence; 0 where it has no tokens."""
        source = self.table.source
        # A part without sentences may begin behind the last one.
        return np.where(tokens > 0, source[np.minimum(first, len(source) - 1)], 0)
