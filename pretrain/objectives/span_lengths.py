"""How long the input and the target of span corruption are: the arithmetic of T5's own program.

It is that of random_spans_helper and random_spans_noise_mask (Raffel et al. 2020, section 3.1.4), in Python's
floats and with its rounding of halves to even. Where it draws the spans, the published program rounds in single
precision.
"""

from __future__ import annotations

from dataclasses import dataclass

ENDS_PER_ROW = 1
"""The end-of-text token behind an input, and behind a target."""


@dataclass(frozen=True)
class SpanNoise:
    """How much of a text is dropped, in spans of which length.

    Attributes:
        density: share of the tokens that is dropped.
        mean_span_length: tokens of a span on average; None: all that is dropped is one span, at the end.
    """

    density: float
    mean_span_length: float | None

    def counts(self, length: int) -> tuple[int, int]:
        """Tokens that are dropped of a text of `length`, and the spans that they are in.

        At least one token is dropped and one is kept; of fewer than two, none is. Before each span is a kept token.
        """
        if length < 2:
            return 0, 0
        tokens = min(max(round(length * self.density), 1), length - 1)
        wanted = 1 if self.mean_span_length is None else round(tokens / self.mean_span_length)
        return tokens, min(max(wanted, 1), tokens, length - tokens)

    def input_length(self, length: int) -> int:
        """Tokens of the input: what is kept, a sentinel for each span, the end of the text."""
        tokens, spans = self.counts(length)
        return length - tokens + spans + ENDS_PER_ROW

    def target_length(self, length: int, *, final_sentinel: bool) -> int:
        """Tokens of the target: what is dropped, a sentinel before each span (and a final one), the end of the text."""
        tokens, spans = self.counts(length)
        return tokens + spans + int(final_sentinel) + ENDS_PER_ROW

    def raw_length(self, seq_length: int) -> int:
        """Tokens of text whose input has `seq_length` tokens; 0 where there is no room for two.

        As random_spans_helper: the most that have room; at a density of exactly one half, one less where the target
        would be the longer of the two.
        """
        if seq_length < 2 + ENDS_PER_ROW:
            return 0
        # Another token makes an input longer by one or not at all: the most is found by halving.
        low, high = seq_length - ENDS_PER_ROW, 2 * seq_length
        while self._planned(high)[0] <= seq_length:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._planned(middle)[0] <= seq_length else (low, middle)
        planned_input, planned_target = self._planned(low)
        if self.density == 0.5 and planned_target > planned_input:
            low -= 1
        # Where less than half a token or half a span is planned, there is one all the same.
        while low > 1 and self.input_length(low) > seq_length:
            low -= 1
        return low if low > 1 else 0

    def _planned(self, length: int) -> tuple[int, int]:
        """Lengths of input and target as random_spans_helper has them: there may be no token or span to drop."""
        tokens = round(length * self.density)
        spans = min(tokens, 1) if self.mean_span_length is None else round(tokens / self.mean_span_length)
        return length - tokens + spans + ENDS_PER_ROW, tokens + spans + ENDS_PER_ROW
