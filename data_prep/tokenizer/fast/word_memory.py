"""An engine that splits each word into pieces once and then remembers its ids.

Most words of a text have been seen before, and looking one up costs a fifth of splitting it anew. Only for vocabularies
where text can be cut into words without a change of ids (`word_cuts`). Shape letters: W words, T ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from data_prep.tokenizer.engines import Engine
from data_prep.tokenizer.fast.word_table import MAX_WORD_BYTES, WordTable, distinct, word_keys
from data_prep.tokenizer.word_cuts import cut

_GROUP_WORDS = 1 << 16
_SMALL_CHARS = 2048  # below this, asking is quicker than remembering
_TELLING_BYTES = 1 << 16
_CALLS_TO_SKIP = 15


class WordMemory(Engine):
    """An engine that asks another one for each word once.

    Args:
        engine: the other one, of a vocabulary that `parts_words`.
        joined: what `joined_pairs` gave for it.
        place_bits: half of 2 to this power words are remembered; when there are more, all are forgotten.
    """

    def __init__(self, engine: Engine, joined: np.ndarray, place_bits: int = 19) -> None:
        self.name = engine.name
        self._engine = engine
        self._joined = joined
        self._place_bits = place_bits
        # Without an id of its own, a line break cannot part words for the other engine.
        line_break = engine.flat(["\n"])[0].tolist()
        self._line_break: int | None = line_break[0] if len(line_break) == 1 else None
        self._table: WordTable | None = None  # made when the first text comes
        # Text of mostly new or long words (in a script without spaces, say) gains nothing: it is encoded as it comes,
        # and looked at again every now and then.
        self._skip = 0

    def explain(self) -> str:
        """As `Engine.explain`."""
        return f"using {self.name} with a memory of words: what lies between two cuts has the same ids on its own"

    def lists(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text."""
        if self._passes(texts):
            return self._engine.lists(texts)
        ids, lengths = self._remember(texts)
        return [part.tolist() for part in np.split(ids, np.cumsum(lengths)[:-1])]

    def flat(self, texts: Sequence[str], append: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """As `Engine.flat`."""
        if self._passes(texts):
            return self._engine.flat(texts, append)
        ids, lengths = self._remember(texts)
        if append is not None:
            ids, lengths = np.insert(ids, np.cumsum(lengths), append), lengths + 1
        return ids, lengths

    def _passes(self, texts: Sequence[str]) -> bool:
        """Whether these texts go to the other engine as they are."""
        if sum(map(len, texts)) < _SMALL_CHARS:
            return True
        self._skip -= 1
        return self._skip >= 0

    def _remember(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        encoded = [text.encode() for text in texts]
        sizes = np.fromiter(map(len, encoded), np.int64, len(encoded))
        ends = np.cumsum(sizes)
        data = b"".join([*encoded, bytes(MAX_WORD_BYTES)])
        text_bytes = int(ends[-1])
        begins = cut(data, 0, text_bytes, self._joined)
        begins[(ends - sizes)[sizes > 0]] = True
        start_W = np.flatnonzero(begins)
        size_W = np.diff(start_W, append=text_bytes)
        # In groups, so that a long text needs little more memory than a short one.
        groups = [
            self._encode(data, start_W[at : at + _GROUP_WORDS], size_W[at : at + _GROUP_WORDS])
            for at in range(0, len(start_W), _GROUP_WORDS)
        ]
        self._judge(sum(group.asked_bytes for group in groups), text_bytes)
        ids_T = np.concatenate([group.ids_T for group in groups])
        end_W = np.cumsum(np.concatenate([group.count_W for group in groups]))
        ends = np.concatenate([[0], end_W])[np.searchsorted(start_W, ends)]
        return ids_T, np.diff(ends, prepend=0)

    def _judge(self, asked_bytes: int, all_bytes: int) -> None:
        is_warm = self._skip < -1
        if is_warm and all_bytes >= _TELLING_BYTES and 2 * asked_bytes > all_bytes:
            self._skip = _CALLS_TO_SKIP

    def _encode(self, data: bytes, start_W: np.ndarray, size_W: np.ndarray) -> _Encoded:
        table = self._table or self._new_table()
        keys_KW = word_keys(data, start_W, size_W)
        from_W, count_W, new = table.find(keys_KW, size_W)
        if not len(new):
            return _Encoded(table.ids[_ranges(from_W, count_W)], count_W, 0)
        # Each new word once. A long one is not in the keys as a whole, so nothing is said of two of them.
        is_short = size_W[new] <= MAX_WORD_BYTES
        short, long = new[is_short], new[~is_short]
        first, which_W = distinct(keys_KW[:, short], size_W[short])
        once = short[first]
        asked = np.concatenate([once, long])
        new_ids_T, begin_W, asked_count_W = self._ask(data, start_W[asked], size_W[asked])
        of_new_W = np.empty(len(new), np.int64)
        of_new_W[is_short], of_new_W[~is_short] = which_W, np.arange(len(once), len(asked))
        count_W[new] = asked_count_W[of_new_W]
        ids_T = table.ids.take(_ranges(from_W, count_W), mode="clip")  # anything for new words: theirs come now
        to_W = np.cumsum(count_W) - count_W
        ids_T[_ranges(to_W[new], count_W[new])] = new_ids_T[_ranges(begin_W[of_new_W], count_W[new])]
        once_ids_T = new_ids_T[_ranges(begin_W[: len(once)], count_W[once])]
        if not table.has_room(len(once), len(once_ids_T)):
            table = self._new_table()
        if table.has_room(len(once), len(once_ids_T)):
            table.add(keys_KW[:, once], size_W[once], once_ids_T, count_W[once])
        return _Encoded(ids_T, count_W, int(size_W[asked].sum()))

    def _ask(self, data: bytes, start_W: np.ndarray, size_W: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ids of words by the other engine; where each word's begin in them, and how many they are."""
        if self._line_break is None:
            words = [data[start:stop].decode() for start, stop in zip(start_W.tolist(), (start_W + size_W).tolist())]
            ids_T, count_W = self._engine.flat(words)
            return ids_T, np.cumsum(count_W) - count_W, count_W
        # One text of them all, a word a line: a text for each would take longer than the splitting.
        lines = np.frombuffer(data, np.uint8)[_ranges(start_W, size_W + 1)]
        lines[np.cumsum(size_W + 1) - 1] = ord("\n")
        ids_T, _ = self._engine.flat([lines[:-1].tobytes().decode()])
        stop_W = np.append(np.flatnonzero(ids_T == self._line_break), len(ids_T))
        assert len(stop_W) == len(start_W), "a word has the id of a line break, or none is where one should be"
        begin_W = np.concatenate([[0], stop_W[:-1] + 1])
        return ids_T, begin_W, stop_W - begin_W

    def _new_table(self) -> WordTable:
        self._table = table = WordTable(self._place_bits)
        if self._line_break is None:
            return table
        # No word that is asked for is a line break.
        size_W = np.ones(1, np.int64)
        keys_KW = word_keys(b"\n" + bytes(MAX_WORD_BYTES), np.zeros(1, np.int64), size_W)
        table.add(keys_KW, size_W, np.array([self._line_break], np.int32), size_W)
        return table


class _Encoded(NamedTuple):
    """Ids of some words, how many each has, and how many bytes of words were asked for."""

    ids_T: np.ndarray
    count_W: np.ndarray
    asked_bytes: int


def _ranges(from_W: np.ndarray, count_W: np.ndarray) -> np.ndarray:
    """The numbers from each of `from_W` on, `count_W` of them, one range after the other."""
    end_W = np.cumsum(count_W)
    return np.repeat(from_W - (end_W - count_W), count_W) + np.arange(end_W[-1] if len(end_W) else 0)
