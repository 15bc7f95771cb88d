"""Where sentences end: as spaCy's rules say, and in runs without white space, which they cannot divide."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable

LONGEST_PIECE = 256
"""Characters without white space beyond which spaCy's rules take too long: their time grows with the square."""
# Thai, Lao, Tibetan, Burmese, Khmer, Kana, Han: scripts that put no space between words.
_UNSPACED = "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"
UNSPACED = re.compile(f"[{_UNSPACED}]+")
# Of Chinese and Japanese, Tibetan, Burmese and Khmer.
UNSPACED_ENDS = frozenset("。！？｡‼⁇⁈⁉།༎။។៕")
_ENDS = "".join(sorted(UNSPACED_ENDS))
# Marks and quotes that follow a sign belong to its sentence. A Latin sign ends one only between unspaced characters.
_END = re.compile(f"(?:[{_ENDS}]|(?<=[{_UNSPACED}])[!?](?=[{_UNSPACED}]))[{_ENDS}!?.…”’」』）】》〉\"')]*")
_LONG = re.compile(rf"\S{{{LONGEST_PIECE + 1},}}")
# For a longer piece, code or an address, spaCy sees letters and the signs at its end, which may end a sentence.
_LETTERS = "xxxxxxxx"
_LAST_SIGNS = re.compile(r"\W{0,4}\Z")

Spans = list[tuple[int, int]]


def sentence_spans(text: str, split: Callable[[str], Spans], enders: frozenset[str]) -> Spans:
    """Where the sentences of `text` begin and end.

    Divided at the signs of scripts without spaces, whatever `split` takes for words; what is between them is given to
    `split`, where letters stand for each piece of more than `LONGEST_PIECE` characters.

    Args:
        text: any text.
        split: spaCy's rules: text to spans, in time that grows with the square of the longest piece.
        enders: the signs at which `split` divides; a part without one inside is one sentence.

    Returns:
        Begin and end of each sentence, in characters; white space between two belongs to neither.
    """
    signs = [found.span() for found in _END.finditer(text)] if not text.isascii() else []
    if not signs:
        return split(text) if text.isspace() else _split_shortened(text, split)
    if signs[-1][1] < len(text):
        signs.append((len(text), len(text)))
    spans: Spans = []
    end = 0
    for sign, stop in signs:
        part = text[end:stop].lstrip()
        begin, end = stop - len(part), stop
        if not part:
            continue
        if not part[-1].isspace() and enders.isdisjoint(text[begin:sign]):
            spans.append((begin, end))
        else:
            spans += [(begin + first, begin + last) for first, last in _split_shortened(part, split)]
    return spans or split(text)


def _split_shortened(text: str, split: Callable[[str], Spans]) -> Spans:
    """What `split` says, which sees letters for each long piece."""
    if len(text) <= LONGEST_PIECE:
        return split(text)
    # Places in the shortened text after which so many characters are left out, in all.
    places, missing, shown, last = [-1], [0], [], 0
    for found in _LONG.finditer(text):
        signs = _LAST_SIGNS.search(text, max(0, found.end() - 4), found.end())
        begin, end = found.start() + len(_LETTERS), signs.start() if signs else found.end()
        shown += [text[last : found.start()], _LETTERS]
        last = end
        places.append(begin - missing[-1])
        missing.append(missing[-1] + end - begin)
    if not shown:
        return split(text)
    shortened = "".join([*shown, text[last:]])

    def at(place: int) -> int:
        return place + missing[bisect_right(places, place) - 1]

    return [(at(begin), at(end)) for begin, end in split(shortened)]
