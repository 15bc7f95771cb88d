"""Word and sentence splitting for the filters, by the blank spaCy pipelines that datatrove assigns to languages."""

from __future__ import annotations

import logging
import sys
import warnings
from functools import lru_cache
from typing import Any

from datatrove.utils.text import TextNormConfig
from datatrove.utils.word_tokenizers import SpaCyTokenizer, WordTokenizer, load_word_tokenizer, strip_strings

from data_prep.cleaning.counts import StageCounts
from data_prep.cleaning.language_codes import MIXED, check_splitter, written_language
from data_prep.cleaning.sentences import LONGEST_PIECE, UNSPACED, UNSPACED_ENDS, sentence_spans

_MAX_KNOWN = 200_000


class WordSplitter(WordTokenizer):
    """datatrove's splitter of a language, with the same words in a fraction of the time.

    spaCy's rules see the text between two white spaces only, and most such pieces come again and again: here each is
    split once and remembered; pieces above 256 characters, which are no words, are cut first. datatrove's splitter also
    looks for sentences each time, and forgets all it knows after every document. Copies and pickles of this object are
    a name, not the tables of the language.
    """

    def __init__(self, language: str) -> None:
        self.written = check_splitter(language)
        super().__init__(self.written.key)
        if self.written.splitter == "SpaCyTokenizer zh":
            _import_jieba()
        self.inner = SpaCyTokenizer(MIXED) if self.language == MIXED else load_word_tokenizer(self.written.key)
        self._known: dict[str, list[str]] = {}
        self._splits_pieces: bool | None = None
        self._enders: frozenset[str] | None = None

    def word_tokenize(self, text: str) -> list[str]:
        """The words and punctuation marks of `text`."""
        if self._splits_pieces is None:
            self._splits_pieces = self._is_rule_based()
        if not self._splits_pieces:
            return self.inner.word_tokenize(text)
        known, pieces = self._known, _pieces(text)
        new = [piece for piece in dict.fromkeys(pieces) if piece not in known]
        if len(known) + len(new) > _MAX_KNOWN:
            self.forget()
            new = list(dict.fromkeys(pieces))
        if new:
            self._learn(new)
        return [word for piece in pieces for word in known[piece]]

    def forget(self) -> None:
        """Drop the pieces that are remembered."""
        self._known.clear()

    def _learn(self, pieces: list[str]) -> None:
        pipeline = self.inner.tokenizer  # type: ignore[attr-defined]
        try:
            # What spaCy notes about words is freed with the zone; their texts are copied out of it. Its tokenizer is
            # called itself: the pipeline refuses texts longer than the last one that datatrove gave it.
            with pipeline.memory_zone():
                for piece in pieces:
                    self._known[piece] = strip_strings([token.text for token in pipeline.tokenizer(piece)])
        except AssertionError:
            # spaCy refuses the name of one of its own attributes, `IS_ALPHA`; datatrove goes around it.
            for piece in pieces:
                self._known[piece] = self.inner.word_tokenize(piece)

    def _is_rule_based(self) -> bool:
        """Whether words never reach over white space: so for spaCy's own rules, not for Chinese or Thai splitters."""
        if not isinstance(self.inner, SpaCyTokenizer):
            return False
        import_spacy()
        from spacy.tokenizer import Tokenizer

        return type(self.inner.tokenizer.tokenizer) is Tokenizer

    def sent_tokenize(self, text: str) -> list[str]:
        """The sentences of `text`, as many as `span_tokenize` finds that are not white space."""
        return strip_strings([text[begin:end] for begin, end in self.span_tokenize(text)])

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        """Where sentences begin and end."""
        import_spacy()
        if self._enders is None:
            self._enders = self._sentence_enders()
        if not self._splits_pieces:
            # Splitters of a language's own need no guard against long pieces: words are told from such text, too.
            return self.inner.span_tokenize(text)
        # Only after such a sign can a second sentence begin, be it of white space; most lines have one at their end.
        if self._enders and text and not text[-1].isspace() and self._enders.isdisjoint(text[:-1]):
            return [(0, len(text))]
        return sentence_spans(text, self._spans, self._enders)

    def _spans(self, text: str) -> list[tuple[int, int]]:
        # datatrove leaves out the word that spaCy refuses, and places after it would be wrong.
        return self.inner.span_tokenize(text.replace("IS_ALPHA", "IS_ALPHX"))

    def _sentence_enders(self) -> frozenset[str]:
        if self._splits_pieces is None:
            self._splits_pieces = self._is_rule_based()
        if not self._splits_pieces:
            return frozenset()
        from spacy.pipeline import Sentencizer

        return UNSPACED_ENDS.union(Sentencizer.default_punct_chars)

    def __reduce__(self) -> tuple[Any, ...]:
        return word_splitter, (self.language,)

    def __deepcopy__(self, memo: dict[int, Any]) -> WordSplitter:
        return self


def _pieces(text: str) -> list[str]:
    pieces = text.split()
    if not _has_long_piece(text, pieces):
        return pieces
    return [piece[i : i + LONGEST_PIECE] for piece in pieces for i in range(0, len(piece), LONGEST_PIECE)]


def _has_long_piece(text: str, pieces: list[str] | None = None) -> bool:
    return len(text) > LONGEST_PIECE and max(map(len, pieces or text.split()), default=0) > LONGEST_PIECE


def import_spacy() -> None:
    """Import spaCy without torch, which it imports where it can: two seconds and 300 MB for each worker."""
    if "spacy" in sys.modules:
        return
    hidden = "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        import spacy  # noqa: F401
    finally:
        if hidden:
            del sys.modules["torch"]


def _import_jieba() -> None:
    """Import jieba without what it prints about its dictionary and about setuptools."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import jieba
    jieba.setLogLevel(logging.WARNING)


def word_splitter(language: str) -> WordSplitter:
    """What splits words of `language`; the same one for all codes of it.

    Raises:
        ConfigError: for a language without a splitter, or whose splitter is not installed.
    """
    return _word_splitter(check_splitter(language).key)


@lru_cache(maxsize=4)
def _word_splitter(key: str) -> WordSplitter:
    return WordSplitter(key)


class CountingSplitter(WordTokenizer):
    """Splits text as another splitter does, and counts words, sentences and the characters that they were found in.

    Args:
        splitter: what splits.
        stage: gets the counts.
    """

    def __init__(self, splitter: WordSplitter, stage: StageCounts) -> None:
        super().__init__(splitter.language)
        self.splitter, self.stage = splitter, stage

    def word_tokenize(self, text: str) -> list[str]:
        """The words and punctuation marks of `text`."""
        words = self.splitter.word_tokenize(text)
        self.stage.words += len(words)
        self._count(text)
        return words

    def sent_tokenize(self, text: str) -> list[str]:
        """The sentences of `text`."""
        sentences = self.splitter.sent_tokenize(text)
        self.count_units(text, len(sentences))
        return sentences

    def count_units(self, text: str, units: int) -> None:
        """Count the sentences or lines that `text` was divided into."""
        self.stage.units += units
        self._count(text)

    def _count(self, text: str) -> None:
        self.stage.characters += len(text)
        if not text.isascii():
            self.stage.unspaced += sum(map(len, UNSPACED.findall(text)))

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        """Where sentences begin and end."""
        return self.splitter.span_tokenize(text)


def text_simplification(language: str, ignore_numbers: bool) -> TextNormConfig:
    """What texts are compared without: case, punctuation and, where they are accents, marks; numbers if asked."""
    return TextNormConfig(norm_numbers=ignore_numbers, norm_unicode_diacritics=written_language(language).has_accents)
