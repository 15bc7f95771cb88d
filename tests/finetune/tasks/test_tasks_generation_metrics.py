"""Figures of generated text: those of the libraries, and what they would get wrong by themselves."""

from __future__ import annotations

import pytest
from rouge_score.rouge_scorer import RougeScorer

from finetune.tasks.generation_metrics import counted_in, first_sentence, generation_figures

WRITTEN = ["the cat sat on the mat", "it returns 3 values, e.g. a tuple"]
REFERENCES = ["the cat sat on a mat", "It returns three values: a tuple"]


def test_words() -> None:
    figures = generation_figures(WRITTEN, REFERENCES, "words")
    theirs = RougeScorer(["rouge1", "rouge2", "rougeL"])
    for kind in ("rouge1", "rouge2", "rougeL"):
        scores = [theirs.score(*pair)[kind].fmeasure for pair in zip(REFERENCES, WRITTEN)]
        assert figures[kind] == pytest.approx(100 * sum(scores) / 2)
    # Of the first pair 5 of 6 words, each way.
    assert generation_figures(WRITTEN[:1], REFERENCES[:1], "words")["rouge1"] == pytest.approx(100 * 5 / 6)
    assert 0 < figures["bleu"] < 100 and 0 < figures["chrf"] < 100 and figures["exact_match"] == 0
    same = generation_figures(["a  b c d"], ["a b c d"], "words")
    assert same["bleu"] == pytest.approx(100) and same["exact_match"] == 100
    # rouge-score's own splitter drops every letter that is not ASCII.
    assert generation_figures(["мама мыла раму"], ["мама мыла раму"], "words")["rougeL"] == 100


def test_text_without_spaces() -> None:
    written, reference = ["今天天气很好我们去公园"], ["今天天气真好我们去公园"]
    figures = generation_figures(written, reference, "chinese")
    assert figures["rouge1"] == pytest.approx(100 * 10 / 11) and figures["bleu"] > 50
    assert "tok:zh" in figures["signatures"]["bleu"] and figures["signatures"]["rouge"] == "f1|chinese"
    # As words, the two are one word each, and not the same.
    assert generation_figures(written, reference, "words")["rouge1"] == 0
    assert "tok:char" in generation_figures(written, reference, "characters")["signatures"]["bleu"]


def test_what_is_counted_follows_the_scripts() -> None:
    assert counted_in(REFERENCES) == "words"
    assert counted_in(["今天天气很好", "Python 很好"]) == "chinese"
    assert counted_in(["きょうはいいてんきです"]) == "characters" == counted_in(["สวัสดีครับ"])


def test_the_first_sentence() -> None:
    assert first_sentence("It opens a file. Then more.") == "It opens a file."
    assert first_sentence("天气很好。我们去公园。") == "天气很好。"
    assert first_sentence("Title\n\nText.") == "Title" and first_sentence(" v1.5 is out") == "v1.5 is out"
