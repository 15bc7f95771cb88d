"""Word and sentence splitting for the filters, by the blank spaCy pipelines that datatrove assigns to languages."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from datatrove.utils.word_tokenizers import SpaCyTokenizer, WordTokenizer, load_word_tokenizer, strip_strings

from configs.errors import ConfigError

MIXED = "xx"
# Japanese texts are cut into pieces that its splitter can take.
_ONLY_INNER = frozenset({"ja"})


class WordSplitter(WordTokenizer):
    """datatrove's splitter of a language, with the same words in less time.

    datatrove finds sentences, too, whenever it splits words; here words are split alone. Copies and pickles of it are
    a name, not the tables of the language.
    """

    def __init__(self, language: str) -> None:
        super().__init__(language)
        self.inner = SpaCyTokenizer(MIXED) if language == MIXED else load_word_tokenizer(language)
        self.plain = isinstance(self.inner, SpaCyTokenizer) and language not in _ONLY_INNER

    def word_tokenize(self, text: str) -> list[str]:
        """The words and punctuation marks of `text`."""
        if not self.plain:
            return self.inner.word_tokenize(text)
        pipeline = self.inner.tokenizer  # type: ignore[attr-defined]
        pipeline.max_length = max(pipeline.max_length, len(text) + 10)
        try:
            # Words live in the zone only; their texts are copied out of it.
            with pipeline.memory_zone():
                return strip_strings([token.text for token in pipeline.make_doc(text)])
        except Exception:
            # Some strings break spaCy's tables; datatrove knows which and goes around them.
            return self.inner.word_tokenize(text)

    def sent_tokenize(self, text: str) -> list[str]:
        """The sentences of `text`."""
        return self.inner.sent_tokenize(text)

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        """Where sentences begin and end."""
        return self.inner.span_tokenize(text)

    def __reduce__(self) -> tuple[Any, ...]:
        return word_splitter, (self.language,)

    def __deepcopy__(self, memo: dict[int, Any]) -> WordSplitter:
        return self


@lru_cache(maxsize=4)
def word_splitter(language: str) -> WordSplitter:
    """What splits words of `language`.

    Raises:
        ConfigError: for a language without a splitter, or whose splitter is not installed.
    """
    try:
        return WordSplitter(language)
    except ValueError:
        raise ConfigError(
            f"there is no word splitter for {language!r}",
            where="word_language",
            expected="an ISO 639 code such as en, de or zh, or xx for mixed languages",
        ) from None
    except ImportError as error:
        raise ConfigError(str(error), where="word_language") from None
