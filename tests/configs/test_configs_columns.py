"""Columns of a terminal: Chinese letters are two wide."""

from __future__ import annotations

from configs.columns import shorten, shorten_left, to_left, to_right, widest, width

NAMES = ["ab", "新闻", "e\u0301x", "", "한국어"]


def test_widths() -> None:
    assert [width(name) for name in NAMES] == [2, 4, 2, 0, 6]
    assert widest([["a", "新闻"], ["abc", "x"]]) == [3, 4]


def test_padded_names_are_equally_wide() -> None:
    for name in NAMES:
        for padded in (to_left(name, 8), to_right(name, 8)):
            assert width(padded) == 8 and padded.strip() == name
    assert to_left("ab", 4) == "ab  " and to_right("ab", 4) == "  ab" and to_left("abc", 2) == "abc"


def test_shortened_names_fit() -> None:
    assert shorten("abcdef", 4) == "abc…" and shorten_left("abcdef", 4) == "…def" and shorten("abcd", 4) == "abcd"
    assert shorten("新闻报道", 8) == "新闻报道"
    for columns in range(2, 8):
        for cut in (shorten("新闻报道", columns), shorten_left("新闻报道", columns)):
            assert columns - 1 <= width(cut) <= columns and "…" in cut
