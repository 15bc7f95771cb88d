"""What stands around a character that libraries treat differently is cut out before spaces, where no id changes."""

import numpy as np
import pytest
from data_prep_helpers import make_text

from data_prep.tokenizer import load_tokenizer
from data_prep.tokenizer.fast import byte_level
from data_prep.tokenizer.fast.byte_level import ByteLevelEngine
from data_prep.tokenizer.fast.space_cuts import is_cut_before_spaces, joins_spaces, parts_around
from tests.fake_engines import Fake, FakeGigatoken
from tests.tokenizer_kinds import huggingface_bpe, tiktoken_ranks, with_scheme

TEXTS = [make_text(number) for number in range(300)]


@pytest.fixture(params=["huggingface", "tiktoken"])
def pair(request, tmp_path, monkeypatch):
    monkeypatch.setattr(byte_level, "_WORTH_CHARS", 0)
    make = {
        "huggingface": lambda: huggingface_bpe(tmp_path / "bpe", TEXTS),
        "tiktoken": lambda: with_scheme(tiktoken_ranks(tmp_path / "v.tiktoken", TEXTS)),
    }
    path = make[request.param]()
    return load_tokenizer(path, "reference"), load_tokenizer(path)


def test_parts_join_to_the_text_and_hold_the_places():
    text = " one two-x \u0378 y\n  z\u0379 \u0378 last one"
    places = [at for at, char in enumerate(text) if char in "\u0378\u0379"]
    parts = parts_around(text, places)
    assert "".join(part for part, _ in parts) == text
    assert [holds for _, holds in parts] == [False, True, False]
    # White space behind a line break is no place to cut, nor is a space behind U+0379.
    assert parts[1][0] == " \u0378 y\n  z\u0379 \u0378 last"
    assert parts_around("\u0378", [0]) == [("\u0378", True)] and parts_around("a b", []) == [("a b", False)]


def test_vocabularies_of_both_kinds_may_be_cut(pair):
    reference, _ = pair
    assert is_cut_before_spaces(reference.encode_batch)
    assert not joins_spaces([b"a", b" a", b"  ", b"\n ", "é ".encode()]) and joins_spaces([b"of course", b"\x80x "])


def test_only_what_stands_around_a_character_that_differs_goes_to_the_library():
    reference = Fake()
    engine = ByteLevelEngine(reference, [lambda: FakeGigatoken("\u0378")], list)
    assert engine.why_not() is None
    engine.flat(["\u0378"])
    reference.asked.clear()
    texts = ["a b \u0378c, d \u0378 e", "\u0378", " \u0378é f", "é g \u0378"]
    ids, lengths = engine.flat(texts, append=7)
    assert reference.asked == [" \u0378c,", " \u0378 e", "\u0378", " \u0378é f", " \u0378"]
    expected, expected_lengths = Fake().flat(texts, 7)
    assert np.array_equal(ids, expected) and np.array_equal(lengths, expected_lengths)


def test_where_a_piece_or_the_cuts_join_spaces_the_whole_text_goes_to_the_library():
    class Lookahead(Fake):
        """Tells apart what follows a comma at the end of a text."""

        def lists(self, texts):
            self.asked += texts
            return [[*map(ord, text), *([1] if text.endswith("/") else [])] for text in texts]

    class Other(FakeGigatoken):
        def __init__(self):
            self.fake = Lookahead("\u0378")

        def encode_batch_list(self, texts, parallel):
            return [[0] if "\u0378" in text else ids for text, ids in zip(texts, self.fake.lists(texts))]

    for reference, make, pieces in (
        (Fake(), lambda: FakeGigatoken("\u0378"), [b"one", b"of course"]),
        (Lookahead(), Other, []),
    ):
        engine = ByteLevelEngine(reference, [make], lambda pieces=pieces: pieces)
        assert engine.why_not() is None
        engine.flat(["\u0378"])
        reference.asked.clear()
        engine.flat(["a b \u0378 c d/ e"])
        assert reference.asked == ["a b \u0378 c d/ e"]


def test_characters_newer_than_the_tables_have_the_ids_of_the_library(pair):
    reference, fast = pair
    # Assigned since Unicode 15, 15.1, 16: which of them a library knows depends on its version.
    points = [0x11F00, 0x11F02, 0x11F50, 0x1E4D0, 0x1FA75, 0x2EBF0, 0x10D50, 0x10D4A, 0x1C89, 0xA7CB, 0x1CC00, 0x0378]
    for around in ("see ({}, 'M', '{}'),\n", "{} {}", "a{} b", " {}1 {}'s ", "x  {}\n\n {}", "中{}文 {}."):
        texts = [around.format(chr(point), chr(point)) for point in points]
        assert fast.encode_batch([*texts, "".join(texts)]) == reference.encode_batch([*texts, "".join(texts)])
