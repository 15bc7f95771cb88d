"""Reviews -> sentiment; the Brown corpus -> parts of speech; tweets -> names."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from benchmarks.real_tasks.parts import GroupedExample

_SURE = 0.8
"""Mean rating, from -4 to 4, from which a text is taken to be good or bad."""
_RATED = ("amazonReviewSnippets", "movieReviewSnippets")
_LONGEST_REVIEW = 200


def chinese_reviews(good: str, bad: str) -> Iterator[GroupedExample]:
    """Reviews of web shops, a line each."""
    for text, label in ((good, "positive"), (bad, "negative")):
        for line in text.splitlines():
            review = " ".join(line.split())[:_LONGEST_REVIEW]
            if len(review) >= 6:
                yield GroupedExample(review, review, {"text": review, "label": label})


def rated_files(archive: Path) -> Iterator[tuple[str, str]]:
    """The names and texts of the rated reviews in the archive that vaderSentiment has."""
    with tarfile.open(archive) as opened:
        for kind in _RATED:
            member = opened.extractfile(next(name for name in opened.getnames() if f"{kind}_GroundTruth" in name))
            if member is not None:
                yield kind, member.read().decode("utf-8", "replace")


def english_reviews(kind: str, text: str) -> Iterator[GroupedExample]:
    """Snippets of reviews, those that people were sure of; the snippets of a product's review are one group."""
    for line in text.splitlines():
        number, rating, snippet = line.split("\t", 2)
        group = f"{kind} {number.partition('_')[0]}"
        if abs(float(rating)) >= _SURE:
            label = "positive" if float(rating) > 0 else "negative"
            yield GroupedExample(group, snippet, {"text": snippet.strip(), "label": label})


def brown(files: Iterable[tuple[str, str]]) -> Iterator[GroupedExample]:
    """Sentences with parts of speech, by the names and texts of the files; a file is a group."""
    for name, text in files:
        for line in text.splitlines():
            pairs = [word.rpartition("/") for word in line.split()]
            if pairs and all(word and tag for word, _, tag in pairs):
                words = [word for word, _, _ in pairs]
                record = {"tokens": words, "tags": [plain_tag(tag) for _, _, tag in pairs]}
                yield GroupedExample(name, " ".join(words), record)


def plain_tag(tag: str) -> str:
    """A tag of the Brown corpus without what it says of titles, headlines and contractions."""
    return re.split(r"[-+*]", tag)[0] if tag[0].isalpha() else tag


def tweets(text: str) -> Iterator[GroupedExample]:
    """Tweets with the names in them, in IOB2: a word and its tag in each line, an empty line after each tweet."""
    for block in re.split(r"\n[ \t]*\n", text):
        rows = [line.split("\t") for line in block.splitlines() if line.strip()]
        if rows and all(len(row) == 2 for row in rows):
            words, tags = [row[0] for row in rows], [row[1].strip() for row in rows]
            yield GroupedExample(" ".join(words), " ".join(words), {"tokens": words, "tags": tags})
