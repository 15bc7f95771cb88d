"""The People's Daily of January 1998 with words and parts of speech -> tags, names, headlines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from benchmarks.real_tasks.parts import GroupedExample

ENTITIES = {"nr": "PER", "ns": "LOC", "nt": "ORG"}
"""Parts of speech of Peking University's tag set that are names. The organisations are those of one word: the brackets
around longer ones are not in the file."""
_SENTENCE_END = re.compile(r"[。！？；：…]|[”』」）]$")
_NO_HEADLINE = re.compile("附图片|图片|记者|（|新华社|本报|电$|摄$")
_DATELINE = re.compile("(据|本报|新华社).{0,24}?(讯|电|报道)")
_HEADLINE_CHARACTERS = range(6, 36)
_SHORTEST_ARTICLE = 60
_MAX_WORDS = 80

Words = list[tuple[str, str]]


def lines_of(text: str) -> Iterator[Words]:
    """The lines of the newspaper, each a list of words with their tags."""
    for line in text.splitlines():
        words = [tuple(word.rsplit("/", 1)) for word in line.split()]
        if words and all(len(word) == 2 and all(word) for word in words):
            yield words  # type: ignore[misc]


def articles_of(text: str) -> Iterator[list[Words]]:
    """Articles: a line that looks like a headline, after one that does not, begins one."""
    article: list[Words] = []
    was_body = False
    for words in lines_of(text):
        is_body = bool(_SENTENCE_END.search(joined(words))) or len(joined(words)) not in _HEADLINE_CHARACTERS
        if was_body and not is_body:
            yield article
            article = []
        article.append(words)
        was_body = is_body
    if article:
        yield article


def joined(words: Words) -> str:
    """The running text."""
    return "".join(word for word, _ in words)


def parts_of_speech(articles: Iterable[list[Words]]) -> Iterator[GroupedExample]:
    """Sentences as words with their parts of speech."""
    for group, sentence in _sentences(articles):
        words, tags = [word for word, _ in sentence], [tag for _, tag in sentence]
        yield GroupedExample(group, "".join(words), {"tokens": words, "tags": tags})


def named_entities(articles: Iterable[list[Words]]) -> Iterator[GroupedExample]:
    """Sentences as characters with the names in them, in IOB2."""
    for group, sentence in _sentences(articles):
        characters, tags = character_tags(sentence)
        yield GroupedExample(group, "".join(characters), {"tokens": characters, "tags": tags})


def character_tags(sentence: Words) -> tuple[list[str], list[str]]:
    """Characters and their tags. A family name and the given name after it are two words and one person."""
    characters: list[str] = []
    tags: list[str] = []
    before, parts = "", 0
    for word, tag in sentence:
        kind = ENTITIES.get(tag)
        goes_on = kind == "PER" and before == "nr" and parts == 1
        parts = 2 if goes_on else 1
        for at, character in enumerate(word):
            characters.append(character)
            tags.append("O" if kind is None else f"{'B' if at == 0 and not goes_on else 'I'}-{kind}")
        before = tag
    return characters, tags


def headlines(articles: Iterable[list[Words]]) -> Iterator[GroupedExample]:
    """The first lines of an article, and its headline."""
    for article in articles:
        headline, lines = joined(article[0]), [joined(words) for words in article[1:]]
        lines = [line for line in lines if _SENTENCE_END.search(line) and len(line) > 20]
        # A second dateline begins an article whose headline did not look like one.
        ends = next((at for at, line in enumerate(lines) if at and _DATELINE.match(line)), len(lines))
        source = "".join(lines[:ends])[:300]
        if _NO_HEADLINE.search(headline) or len(headline) not in _HEADLINE_CHARACTERS:
            continue
        if len(source) >= _SHORTEST_ARTICLE:
            yield GroupedExample(_group(article), source, {"source": source, "target": headline})


def _sentences(articles: Iterable[list[Words]]) -> Iterator[tuple[str, Words]]:
    for article in articles:
        for words in article:
            sentence: Words = []
            for word, tag in words:
                sentence.append((word, tag))
                if word in "。！？" or len(sentence) == _MAX_WORDS:
                    yield _group(article), sentence
                    sentence = []
            if sentence:
                yield _group(article), sentence


def _group(article: list[Words]) -> str:
    return "".join(joined(words) for words in article[:2])
