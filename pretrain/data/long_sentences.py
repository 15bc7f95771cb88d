"""How a sentence is cut that is too long for its place in a sample: a table, a listing, text without full stops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from data_prep.corpus.split import hash_numbers
from pretrain.data.counter_random import CounterRandom


class SentenceCuts(Protocol):
    """Cuts sentences into pieces of at most `longest_tokens`; what is not longer stays whole."""

    @property
    def identity(self) -> str:
        """Says the rule and all that it depends on; text that other cuttings were made with differs."""
        ...

    def pieces(self, place: np.ndarray, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The pieces of some sentences.

        Args:
            place: of each sentence's first token in the corpus, int64 [sentences].
            tokens: of each sentence, at least 1, int64 [sentences].

        Returns:
            tokens of each piece, sentence after sentence, int64 [pieces]; pieces of each sentence, int64 [sentences].
        """
        ...


@dataclass(frozen=True)
class EvenCuts:
    """As few pieces as can be, as equal as can be: they leave little room empty in rows of whole sentences."""

    longest_tokens: int

    @property
    def identity(self) -> str:
        """See `SentenceCuts`."""
        return f"up to {self.longest_tokens} tokens, the rest of a split one anywhere"

    def pieces(self, place: np.ndarray, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `SentenceCuts`. A hash of the place decides which pieces are one token longer."""
        parts = -(-tokens // self.longest_tokens)
        number = _number_within(parts)
        whole, count, place = (np.repeat(values, parts) for values in (tokens, parts, place))
        turned = (number + (hash_numbers(place) % count.astype(np.uint64)).astype(np.int64)) % count
        return whole * (turned + 1) // count - whole * turned // count, parts


@dataclass(frozen=True)
class DrawnCuts:
    """Pieces of lengths drawn between a quarter of the longest and the longest, in an order drawn besides.

    For pairs of parts: pieces of equal length would tell that one part follows the other in the text, and a shorter
    last piece which of them comes first.
    """

    longest_tokens: int
    seed: int

    @property
    def identity(self) -> str:
        """See `SentenceCuts`."""
        return f"up to {self.longest_tokens} tokens, longer ones cut at places drawn with seed {self.seed}"

    def pieces(self, place: np.ndarray, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `SentenceCuts`. A function of the sentence's place, its length and the seed."""
        is_long = tokens > self.longest_tokens
        parts = np.ones(len(tokens), dtype=np.int64)
        sizes_of_long, parts[is_long] = self._drawn(place[is_long], tokens[is_long])
        sizes = np.repeat(tokens, parts)
        sizes[np.repeat(is_long, parts)] = sizes_of_long
        return sizes, parts

    def _drawn(self, place: np.ndarray, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        longest, shortest = self.longest_tokens, max(1, self.longest_tokens // 4)
        random = CounterRandom("long sentences", self.seed)
        # More lengths than can be needed are drawn; those count that end before the sentence does.
        drawn = -(-tokens // shortest)
        number, of = _number_within(drawn), np.repeat(np.arange(len(tokens)), drawn)
        sizes = shortest + random.below(longest - shortest + 1, place[of], number)
        ends = np.cumsum(sizes)
        ends -= np.repeat((ends - sizes)[number == 0], drawn)
        inside = ends < tokens[of]
        sizes, number, of, ends = sizes[inside], number[inside], of[inside], ends[inside]
        # The last of them and what it leaves are one piece where there is room for both, else two, cut anew: what is
        # left may be a single token.
        parts = np.bincount(of, minlength=len(tokens))
        last = np.cumsum(parts) - 1
        rest = tokens - ends[last] + sizes[last]
        is_two = rest > longest
        low, high = np.maximum(shortest, rest - longest), np.minimum(longest, rest - shortest)
        front = low + random.below(np.maximum(high - low + 1, 1), place, np.array([-1]))
        sizes[last] = np.where(is_two, front, rest)
        sizes = np.concatenate([sizes, (rest - front)[is_two]])
        of = np.concatenate([of, np.flatnonzero(is_two)])
        number = np.concatenate([number, parts[is_two]])
        parts = parts + is_two
        order = np.lexsort((random.bits(place[of], -2 - number), of))
        return sizes[order], parts


def _number_within(parts: np.ndarray) -> np.ndarray:
    """0, 1, ... for the parts of each of some wholes, int64 [sum of parts]."""
    return np.arange(int(parts.sum())) - np.repeat(np.cumsum(parts) - parts, parts)
