"""Characters are compared by ranges of one category, and what differs is known of each that a text holds."""

import sys
import unicodedata
from functools import partial

import pytest
from data_prep_helpers import make_text

from data_prep.tokenizer import load_tokenizer
from data_prep.tokenizer.fast import byte_level
from data_prep.tokenizer.fast.compared_characters import ComparedCharacters
from data_prep.tokenizer.fast.equality import differing_characters
from tests.tokenizer_kinds import huggingface_bpe, tiktoken_ranks, with_scheme

TEXTS = [make_text(number) for number in range(300)]


class Comparison:
    """Says that some characters differ, and remembers what it was asked."""

    def __init__(self, differing=""):
        self.differing, self.asked = set(differing), []

    def __call__(self, chars):
        self.asked += chars
        return [char for char in chars if char in self.differing]


def test_the_ends_of_a_range_are_asked_once_for_all_in_it():
    comparison = Comparison()
    characters = ComparedCharacters(comparison)
    assert not len(characters.places("plain")) and not comparison.asked
    assert not len(characters.places("\u4e2d and \u4e01")) and not len(characters.places("\u4e02"))
    assert comparison.asked == ["\u4e00", "\u4eff"]
    assert not len(characters.places("\u4f10")) and comparison.asked[2:] == ["\u4f00", "\u4fff"]


@pytest.mark.parametrize("end", ["\u4e00", "\u4eff"])
def test_in_a_range_of_which_an_end_differs_each_is_asked(end):
    characters = ComparedCharacters(Comparison(end + "\u4e2d"))
    assert characters.places("a\u4e2d").tolist() == [1] and not len(characters.places("\u4e01"))
    assert characters.places(f"\u4e01{end}a{end}").tolist() == [1, 3]


def test_what_is_not_assigned_is_asked_by_itself():
    comparison = Comparison("\u0381")
    characters = ComparedCharacters(comparison)
    assert characters.places("x\u0381").tolist() == [1] and not len(characters.places("\u0380\u0382"))
    assert set(comparison.asked) == {"\u0380", "\u0381", "\u0382"}


def test_another_process_knows_the_same():
    comparison = Comparison("\u4e2d\u4eff\u0381")
    characters = ComparedCharacters(comparison)
    characters.compare_assigned()
    text = "é\u4e2d\u4f10\u0381\U0010ffff"
    found = characters.places(text).tolist()
    assert found == [1, 3]
    asked = len(comparison.asked)
    again = ComparedCharacters(comparison, characters.runs())
    assert again.places(text).tolist() == found and again.runs() == characters.runs()
    assert len(comparison.asked) == asked


def test_half_a_surrogate_pair_is_no_character():
    with pytest.raises(UnicodeEncodeError):
        ComparedCharacters(Comparison()).places("é\ud800")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["huggingface", "tiktoken"])
def test_every_assigned_character_is_as_its_range_says(tmp_path, kind, monkeypatch):
    """What stands on a range's ends, checked on all that is between them."""
    monkeypatch.setattr(byte_level, "_WORTH_CHARS", 0)
    make = {
        "huggingface": lambda: huggingface_bpe(tmp_path / "bpe", TEXTS),
        "tiktoken": lambda: with_scheme(tiktoken_ranks(tmp_path / "v.tiktoken", TEXTS)),
    }
    engine = load_tokenizer(make[kind]())._engine
    assert engine.why_not() is None
    assigned = [
        char
        for char in map(chr, range(0x80, sys.maxunicode + 1))
        if unicodedata.category(char) not in ("Cn", "Co", "Cs")
    ]
    differing = set(differing_characters(engine._reference.lists, partial(engine._lists, engine._encoder), assigned))
    found = {char for char in assigned if len(engine._characters.places(char))}
    assert len(assigned) > 140_000 and found == differing
