"""The quick word splitter gives datatrove's words; language identification keeps what it should."""

from __future__ import annotations

import copy
import pickle
import time
from pydoc_data.topics import topics

import pytest
from cleaning_inputs import GERMAN, prose
from datatrove.data import Document
from datatrove.pipeline.formatters import PIIFormatter

from configs.errors import ConfigError
from data_prep.cleaning.counting import RejectNote
from data_prep.cleaning.language import LinguaFilter
from data_prep.cleaning.masking import Masking
from data_prep.cleaning.sentences import UNSPACED_ENDS, sentence_spans
from data_prep.cleaning.stage_config import LanguageSettings
from data_prep.cleaning.words import WordSplitter, word_splitter

ODD = [
    "",
    "  \n ",
    "don't can't a.m. U.S.A. e.g. 3.5% (x) “quoted” http://host/x?y=1 ``code`` \t tabs\u00a0and\u2003spaces",
    "日本語のテキスト と English mixed; naïve café — dash… end",
    "One. Two! Three? four... 5.",
    "ends with spaces.  ",
]


@pytest.mark.parametrize("language", ["en", pytest.param("de", marks=pytest.mark.slow), "xx"])
def test_words_and_sentences_are_datatroves(language: str) -> None:
    splitter = WordSplitter(language)
    texts = [*ODD, *(topics[name] for name in sorted(topics)[:12])]
    for text in texts:
        assert splitter.word_tokenize(text) == splitter.inner.word_tokenize(text)
        for line in text.splitlines():
            assert splitter.span_tokenize(line) == splitter.inner.span_tokenize(line), line


def test_a_word_that_breaks_spacys_tables_is_one_word() -> None:
    text = "The constant IS_ALPHA of the table"
    assert WordSplitter("en").word_tokenize(text) == text.split()


@pytest.mark.parametrize("language", ["en", "xx", "zh"])
def test_sentences_end_in_runs_without_white_space(language: str) -> None:
    splitter = WordSplitter(language)
    for run in ("他说：“我们走吧。”", "大家都走了？！", "是的，明天。", "ここは静かです。", "走吧!"):
        text = run * 100
        assert splitter.sent_tokenize(text + "好")[:-1] == [run] * 100
        assert [text[begin:end] for begin, end in splitter.span_tokenize(text)] == [run] * 100


def test_parts_without_a_sign_inside_are_sentences_without_spacy() -> None:
    asked = []

    def split(text: str) -> list[tuple[int, int]]:
        asked.append(text)
        return [(0, len(text))]

    text = "他走了。 A part.\n我们。 end"
    spans = sentence_spans(text, split, UNSPACED_ENDS | {"."})
    assert [text[begin:end] for begin, end in spans] == ["他走了。", "A part.\n我们。", "end"]
    assert asked == ["A part.\n我们。"]


def test_sentences_of_burmese_khmer_and_tibetan_end_at_their_signs() -> None:
    for run in ("မြန်မာစာ။", "ភាសាខ្មែរ។", "བོད་ཡིག།"):
        assert WordSplitter("xx").sent_tokenize(run * 100) == [run] * 100


def test_a_long_piece_leaves_the_sentences_around_it() -> None:
    address, code = "http://host/" + "x" * 400, "y" * 300
    sentences = [f"See {address} now.", f"The code is {code}.", 'Then "that is it."', "The IS_ALPHA of it.", "The end."]
    splitter = WordSplitter("en")
    assert splitter.sent_tokenize(" ".join(sentences)) == sentences
    text = "  " + "\n".join(sentences)
    assert [text[begin:end].strip() for begin, end in splitter.span_tokenize(text)] == sentences


def test_pieces_after_a_shorter_text_are_split_without_datatrove(monkeypatch) -> None:
    splitter = WordSplitter("en")
    splitter.inner.sent_tokenize("a")
    monkeypatch.setattr(splitter.inner, "word_tokenize", None)
    assert splitter.word_tokenize("a considerably longer text.") == ["a", "considerably", "longer", "text", "."]


def test_text_that_is_no_text_takes_no_hours() -> None:
    splitter, masking = WordSplitter("en"), Masking()
    base64 = "".join(chr(33 + (i * i) % 90) for i in range(100_000)).replace("@", "A")
    began = time.process_time()
    for text in ("(" * 100_000 + "a", base64, "-/" * 50_000):
        assert "".join(splitter.word_tokenize(text)) == text
        assert len(splitter.span_tokenize(text)) == 1
        assert masking.format(text) == text
    assert time.process_time() - began < 100  # hours without the guards, two seconds with them


def test_addresses_are_masked_as_datatrove_masks_them() -> None:
    texts = ["mail a.b@host.org,c@d.de or (x+y@host.co.uk) \n\t no@ @no 8.8.8.8 10.0.0.1", "@", "a@b", *ODD]
    ours, theirs = Masking(), PIIFormatter()
    assert [ours.format(text) for text in texts] == [theirs.format(text) for text in texts]
    long = "x" * 5000 + ";joe@host.org;" + "y" * 5000 + ";jim@host.org"
    masked = ours.format(long)
    assert "joe" not in masked and "jim" not in masked and masked.startswith("x" * 5000)


def test_what_is_remembered_is_bounded(monkeypatch) -> None:
    monkeypatch.setattr("data_prep.cleaning.words._MAX_KNOWN", 30)
    splitter = WordSplitter("en")
    for number in range(50):
        text = " ".join(f"w{number}x{i}." for i in range(20))
        assert splitter.word_tokenize(text) == splitter.inner.word_tokenize(text)
        assert len(splitter._known) <= 30


def test_copies_are_the_splitter_itself() -> None:
    splitter = word_splitter("en")
    assert copy.deepcopy(splitter) is splitter and pickle.loads(pickle.dumps(splitter)) is splitter  # noqa: S301


def test_languages_are_kept_dropped_and_told() -> None:
    note = RejectNote()
    step = LinguaFilter(LanguageSettings(keep=["en"], candidates=["en", "de", "fr"]), note)
    documents = [Document(text, "x", metadata={}) for text in (prose(1), GERMAN, "12 34 !!")]
    kept = list(step.run(iter(documents), 0, 1))
    assert [d.metadata["language"] for d in documents] == ["en", "de", "unknown"]
    assert kept == documents[:1] and kept[0].metadata["language_score"] > 0.65
    assert step.filter(documents[1]) == (False, "language_de")
    telling = LinguaFilter(LanguageSettings(keep=[], candidates=["en", "de"]))
    assert all(telling.filter(document) is True for document in documents)


def test_candidates_have_to_hold_what_is_kept() -> None:
    with pytest.raises(ConfigError, match="'en' is kept and not among the candidates"):
        LinguaFilter(LanguageSettings(keep=["en"], candidates=["de", "fr"]))
    with pytest.raises(ConfigError, match="names one language"):
        LinguaFilter(LanguageSettings(keep=["de"], candidates=["de"]))
