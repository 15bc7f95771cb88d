"""Tag schemes: recognised, converted to strict IOB2, refused where they are broken."""

from __future__ import annotations

import pytest

from configs.errors import DataError
from finetune.tasks.tag_schemes import recognize, spans, to_iob2


@pytest.mark.parametrize(
    ("texts", "scheme"),
    [
        (["O B-X I-X O", "B-Y B-X"], "iob2"),
        (["O I-X I-X O", "I-X B-X I-Y"], "iob1"),
        (["B-X O B-Y", "O I-X"], "iob2"),
        (["B-X E-X O S-Y"], "iobes"),
        (["B-X L-X U-Y"], "iobes"),
        (["B-X M-X E-X"], "iobes"),
        (["DT NN VB", "NN-TL"], "none"),
        (["O O"], "none"),
        (["B-X O", "O"], "iob2"),
    ],
)
def test_what_tags_show(texts: list[str], scheme: str) -> None:
    assert recognize([text.split() for text in texts], "here") == scheme


def test_two_schemes_at_once_are_refused() -> None:
    with pytest.raises(DataError, match=r"1 entities as 'I-X' after another tag does, .* and 1 as 'B-Y' does"):
        recognize([["O", "I-X"], ["B-Y"]], "here")
    with pytest.raises(DataError, match=r"tags of entities, such as 'B-X', beside 'NN'[\s\S]*scheme=none"):
        recognize([["B-X", "NN"]], "here")


@pytest.mark.parametrize(
    ("tags", "scheme", "expected"),
    [
        ("I-X I-X B-X I-Y O I-Y", "iob1", "B-X I-X B-X B-Y O B-Y"),
        ("B-X I-X O B-Y B-Y", "iob2", "B-X I-X O B-Y B-Y"),
        ("B-X I-X E-X S-Y S-Y O", "iobes", "B-X I-X I-X B-Y B-Y O"),
        ("B-X M-X L-X U-Y", "iobes", "B-X I-X I-X B-Y"),
        ("B-X I-Q NN", "none", "B-X I-Q NN"),
    ],
)
def test_conversion(tags: str, scheme: str, expected: str) -> None:
    assert to_iob2(tags.split(), scheme) == expected.split()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tags", "scheme", "named"),
    [
        ("O I-X", "iob2", "word 2 has the tag 'I-X', and no X is before it"),
        ("B-X I-Y", "iob2", "word 2 has the tag 'I-Y'"),
        ("B-X O", "iobes", "the X before word 2 has no end"),
        ("B-X I-X", "iobes", "the X before word 3 has no end"),
        ("S-X E-X", "iobes", "word 2 has the tag 'E-X', and no X"),
        ("B-X S-X", "iob2", "'S-X', which is none of IOB2"),
        ("B-X NN", "iob1", "'NN', which is none of IOB1"),
    ],
)
def test_broken_tags_are_named(tags: str, scheme: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        to_iob2(tags.split(), scheme)  # type: ignore[arg-type]


def test_spans_are_strict() -> None:
    assert spans(["B-X", "I-X", "I-Y", "O", "I-X", "B-X", "B-X"]) == [(0, 2, "X"), (5, 6, "X"), (6, 7, "X")]
