"""Changes of words and texts: how much of them, in which scripts, and that the seed alone decides."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
from pydantic import ValidationError

from configs.errors import DataError
from finetune.augmentation.changes import TextChanges, random_of
from finetune.augmentation.config import AugmentationConfig
from finetune.augmentation.noise import ALIKE, NEIGHBOURS, misread, mistyped
from finetune.augmentation.synonyms import SynonymFile, WordNet
from finetune.augmentation.words import Segmenter, joined

TEXT = "The quick brown fox, as ever, jumps over  the lazy dog."
CHINESE = "今天天气很好，我们去公园。"


def changes(**fields: Any) -> TextChanges:
    config = AugmentationConfig.model_validate(fields)
    return TextChanges(config, SynonymFile(config.synonym_file) if config.synonym_file is not None else None)


@pytest.mark.parametrize("text", [TEXT, CHINESE, "東京に行く now", "", "  ", "a\n b\t", "𝒳 é"])
@pytest.mark.parametrize("chinese", ["characters", "jieba"])
def test_words_and_what_is_between_them_are_the_text(text: str, chinese: Any) -> None:
    assert joined(Segmenter(chinese).split(text)) == text


def test_chinese_words_are_characters_or_those_of_jieba() -> None:
    assert [word for _, word in Segmenter().split("天气很好")] == list("天气很好")
    assert "我们" in [word for _, word in Segmenter("jieba").split(CHINESE)]
    assert [word for _, word in Segmenter(known=("天气", "很好")).split("天气很好啊")] == ["天气", "很好", "啊"]


def test_words_are_left_out_and_change_places() -> None:
    words = Counter(TEXT.split())
    kept = [changes(deletion=0.3).text(TEXT, Random(seed)) for seed in range(200)]
    assert all(text.strip() for text in kept)
    share = sum(len(text) for text in kept) / (200 * len(TEXT))
    assert 0.63 < share < 0.77
    assert changes(deletion=0.5).text("word", Random(0)) == "word"
    swapped = changes(swap=0.5).text(TEXT, Random(1))
    assert swapped != TEXT and sorted(swapped) == sorted(TEXT) and words != Counter(swapped)
    chinese = changes(swap=0.5, deletion=0.2).text(CHINESE, Random(1))
    assert chinese != CHINESE and not set(chinese) - set(CHINESE) and " " not in chinese


def test_letters_are_mistyped_and_misread() -> None:
    assert set(NEIGHBOURS["g"]) == set("tyfhvb") and "1" not in NEIGHBOURS["q"]
    typed = mistyped("Keyboard 123 键盘", 1.0, Random(0))
    assert typed[9:] == "123 键盘" and all(a.lower() in NEIGHBOURS[b.lower()] for a, b in zip(typed[:8], "Keyboard"))
    assert typed[0].isupper() and mistyped("Keyboard", 0.0, Random(0)) == "Keyboard"
    assert misread("burn", 1.0, Random(0))[-1] == "m" and misread("己", 1.0, Random(0)) in ("已", "巳")
    assert all(other in ALIKE for others in ALIKE.values() for other in others)
    rate = sum(a != b for a, b in zip(mistyped("a" * 5000, 0.1, Random(0)), "a" * 5000)) / 5000
    assert 0.08 < rate < 0.12


def test_synonyms_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "synonyms.txt"
    path.write_text("# groups\nquick, fast, rapid\n\n天气，气候\n公园, 花园\n", "utf-8")
    made = changes(synonyms=1.0, synonym_file=path)
    assert made.text("Quick as ever", Random(0)) in ("Fast as ever", "Rapid as ever")
    assert made.text(CHINESE, Random(0)) == "今天气候很好，我们去花园。"
    path.write_text("alone\n")
    with pytest.raises(DataError, match="its line 1 has 1 words"):
        SynonymFile(path)


def test_synonyms_come_from_wordnet_or_it_is_said_how(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)holds no index\.noun.*nltk\.downloader"):
        WordNet(tmp_path)


def test_an_example_has_its_own_random_numbers_in_each_epoch() -> None:
    def drawn(*of: Any) -> float:
        return random_of(*of).random()

    assert drawn(1, 0, "n1", TEXT) == drawn(1, 0, "n1", TEXT)
    others = [(2, 0, "n1", TEXT), (1, 1, "n1", TEXT), (1, 0, "n2", TEXT), (1, 0, "n1", CHINESE)]
    assert len({drawn(1, 0, "n1", TEXT), *(drawn(*of) for of in others)}) == 5


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({}, "changes nothing"),
        ({"synonyms": 0.1}, "expected one of them where synonyms is above 0"),
        ({"swap": 0.1, "synonym_file": "a.txt"}, "expected one of them where synonyms is above 0"),
        ({"back_translation": 0.1, "translate_there": "a"}, "expected translate_there and translate_back"),
        ({"swap": 0.9}, "less than or equal to 0.5"),
    ],
)
def test_contradictions_are_refused(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        AugmentationConfig.model_validate(fields)
