"""A vocabulary whose text is cut at words of its own goes to its library: short strings of classes do not show them."""

import json

import pytest
from data_prep_helpers import make_text

from data_prep.tokenizer import load_tokenizer
from data_prep.tokenizer.fast.pattern_words import own_words, words_of_pattern
from tests.tokenizer_kinds import huggingface_bpe

GPT_2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
CL100K = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s"
LLAMA_3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DEEPSEEK = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"


@pytest.mark.parametrize("pattern", [GPT_2, CL100K, LLAMA_3, O200K, DEEPSEEK])
def test_patterns_of_classes_and_contractions_spell_nothing(pattern):
    assert words_of_pattern(pattern) is None


@pytest.mark.parametrize(("word", "pattern"), [("ab", "ab|"), ("ol", "(?:ol|xl)|"), ("→", "→|"), ("ELEC", "SELECT|")])
def test_words_and_signs_of_a_pattern_are_found(word, pattern):
    assert words_of_pattern(pattern + LLAMA_3) == word


@pytest.mark.parametrize(
    "cut",
    [
        {"type": "Split", "pattern": {"String": "odel"}, "behavior": "Isolated", "invert": False},
        {"type": "CharDelimiterSplit", "delimiter": "e"},
    ],
)
def test_a_vocabulary_that_is_cut_at_a_word_goes_to_its_library(tmp_path, cut):
    texts = [make_text(number) for number in range(300)]
    path = huggingface_bpe(tmp_path / "bpe", texts) / "tokenizer.json"
    content = json.loads(path.read_text())
    content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [cut, content["pre_tokenizer"]]}
    path.write_text(json.dumps(content))
    assert own_words(content["pre_tokenizer"]) is not None
    fast, reference = load_tokenizer(path.parent), load_tokenizer(path.parent, "reference")
    assert "tokenizers alone: its text is cut at" in fast.explain_engine()
    assert fast.encode_batch(texts) == reference.encode_batch(texts)
