"""One record -> words and tags: CoNLL columns, lists of words and tags, a text with the spans of its entities."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from configs.errors import DataError
from finetune.tasks.example_files import field_value
from finetune.tasks.tag_config import TagData
from finetune.tasks.tag_schemes import OUTSIDE
from finetune.tasks.unspaced import gaps_before, words_in

if TYPE_CHECKING:
    from data_prep.reading.documents import Document

# In CoNLL-U, words that stand for several others, and words that are not in the text.
_NO_WORD = re.compile(r"\d+[-.]\d+")
_COLUMNS_OF_CONLLU = 10
_DOCUMENT = re.compile("^(-DOCSTART-|# newdoc)", re.MULTILINE)


def begins_document(text: str) -> bool:
    """Whether the lines of a text say that a document begins."""
    return _DOCUMENT.search(text) is not None


def columns_of(text: str, data: TagData, where: str, *, needs_tags: bool = True) -> tuple[list[str], list[str]] | None:
    """Words and tags of the lines of a text; None where there are nothing but comments.

    Args:
        text: the lines.
        data: which columns hold what.
        where: messages call it.
        needs_tags: whether lines have tags; else the tags are empty.

    Raises:
        DataError: a line has too few columns, or an empty word or tag.
    """
    lines = text.split("\n")
    has_tabs = any("\t" in line for line in lines)
    words: list[str] = []
    tags: list[str] = []
    for number, line in enumerate(lines, 1):
        is_comment = (has_tabs or data.word_column != 0) and line.startswith("#") and "\t" not in line
        if not line.strip() or is_comment or line.startswith("-DOCSTART-"):
            continue
        columns = line.split("\t") if has_tabs else re.split(" +", line.strip(" "))
        if data.word_column != 0 and len(columns) == _COLUMNS_OF_CONLLU and _NO_WORD.fullmatch(columns[0]):
            continue
        try:
            word = columns[data.word_column].strip(" ")
            tag = columns[data.tag_column].strip(" ") if needs_tags else ""
        except IndexError:
            word = tag = ""
        if not word or (needs_tags and (len(columns) < 2 or not tag)):
            raise DataError(
                f"its line {number} has {len(columns)} columns, {line[:60]!r}",
                where=where,
                expected="a word and a tag in the columns data.word_column and data.tag_column"
                f" ({data.word_column} and {data.tag_column})"
                if needs_tags
                else f"a word in the column data.word_column ({data.word_column})",
            )
        words.append(word)
        tags.append(tag)
    return (words, tags) if words else None


def words_of(document: Document, data: TagData, where: str) -> tuple[list[str], list[str]]:
    """Words and tags of a record that has them as lists.

    Raises:
        DataError: they are no lists of texts of the same length, or a number names no tag.
    """
    words = list_of_words(document, data, where)
    given = field_value(document, data.tags_field, "data.tags_field", where)
    if not isinstance(given, list) or len(given) != len(words):
        count = len(given) if isinstance(given, list) else "no list of"
        raise DataError(f"has {len(words)} words and {count} tags", where=where, expected="a tag for each word")
    return words, [_tag(tag, data, where) for tag in given]


def list_of_words(document: Document, data: TagData, where: str) -> list[str]:
    """Words of a record that has them as a list.

    Raises:
        DataError: they are no list of texts.
    """
    words = field_value(document, data.tokens_field, "data.tokens_field", where)
    if not isinstance(words, list) or not all(isinstance(word, str) and word.strip() for word in words):
        raise DataError(
            f"its field {data.tokens_field!r} is no list of words", where=where, expected="texts, not empty"
        )
    return words


def _tag(tag: Any, data: TagData, where: str) -> str:
    if isinstance(tag, str) and tag.strip():
        return tag
    names = data.tag_names
    if isinstance(tag, int) and not isinstance(tag, bool) and names is not None and 0 <= tag < len(names):
        return names[tag]
    known = "texts, or numbers with data.tag_names" if names is None else f"texts, or numbers up to {len(names) - 1}"
    raise DataError(f"its field {data.tags_field!r} holds {tag!r}", where=where, expected=known)


def spans_of(document: Document, data: TagData, where: str) -> tuple[list[str], list[str], list[str]]:
    """Words, IOB2 tags and gaps of a text whose entities are told as spans of characters.

    Raises:
        DataError: a span is none, overlaps with another, or begins or ends within a word.
    """
    found = words_in(document.text)
    if not found:
        raise DataError("holds no words", where=where, expected="a text")
    tags = [OUTSIDE] * len(found)
    starts = {match.start(): number for number, match in enumerate(found)}
    ends = {match.end(): number for number, match in enumerate(found)}
    given = field_value(document, data.spans_field, "data.spans_field", where)
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise DataError(f"its field {data.spans_field!r} is no list", where=where, expected="a list of spans")
    for span in given:
        start, end, kind = _span(span, where)
        if start not in starts or end not in ends or start >= end:
            raise DataError(
                f"its span {start} to {end}, {document.text[max(start, 0) : max(end, 0)][:40]!r}, begins or ends"
                " within a word or outside of the text",
                where=where,
                expected="characters counted from 0, end the one after the last",
            )
        first, last = starts[start], ends[end]
        if any(tag != OUTSIDE for tag in tags[first : last + 1]):
            raise DataError(f"its span {start} to {end} overlaps with another", where=where, expected="flat entities")
        tags[first : last + 1] = [f"B-{kind}"] + [f"I-{kind}"] * (last - first)
    return [match.group() for match in found], tags, gaps_before(document.text, found)


def _span(span: Any, where: str) -> tuple[int, int, str]:
    values: Any = span
    if isinstance(span, dict):
        values = [span.get("start"), span.get("end"), span.get("type", span.get("label"))]
    if isinstance(values, list) and len(values) == 3:
        start, end, kind = values
        numbers = all(isinstance(number, int) and not isinstance(number, bool) for number in (start, end))
        if numbers and isinstance(kind, str) and kind:
            return int(start), int(end), kind
    raise DataError(f"holds {span!r} as a span", where=where, expected="[start, end, type]")
