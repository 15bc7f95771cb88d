"""Synonyms of words: from a file of groups, or from WordNet."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Protocol

import xxhash

from configs.errors import DataError

_WORDNET = ("index.noun", "data.noun", "noun.exc", "lexnames", "index.sense")
"""Files without which a directory holds no WordNet that nltk reads."""


class Synonyms(Protocol):
    """Words that may stand for a word."""

    known: Collection[str]
    """Words of scripts without spaces that are one wherever they stand."""
    fingerprint: str
    """Of all that decides what is said."""

    def of(self, word: str) -> Sequence[str]:
        """The synonyms of a word, always in the same order, without itself; empty where there are none."""
        ...


class SynonymFile:
    """Groups of words that may stand for each other, one in each line, parted by commas.

    Args:
        path: the file, in UTF-8; empty lines and those that begin with `#` are skipped.

    Raises:
        DataError: it cannot be read, or a line has one word only.
    """

    def __init__(self, path: Path) -> None:
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot be read ({error})", where=path, expected="a text file in UTF-8") from None
        self._groups: dict[str, list[str]] = {}
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip() or line.startswith("#"):
                continue
            words = list(dict.fromkeys(word.strip() for word in line.replace("，", ",").split(",") if word.strip()))
            if len(words) < 2:
                raise DataError(
                    f"its line {number} has {len(words)} words, {line[:60]!r}",
                    where=path,
                    expected="words that may stand for each other, parted by commas",
                )
            for word in words:
                others = self._groups.setdefault(word.lower(), [])
                others += [other for other in words if other != word and other not in others]
        if not self._groups:
            raise DataError("holds no synonyms", where=path, expected="a group of words in each line")
        self.known: Collection[str] = frozenset(self._groups)
        self.fingerprint = xxhash.xxh3_64_hexdigest(text.encode())

    def of(self, word: str) -> Sequence[str]:
        """See `Synonyms`."""
        return self._groups.get(word.lower(), ())


class WordNet:
    """The words of all WordNet's senses of an English word (Miller 1995), read by nltk.

    Args:
        directory: WordNet's own files, or nltk's data directory that has them in `corpora/wordnet`.

    Raises:
        DataError: it holds no WordNet.
    """

    known: Collection[str] = ()

    def __init__(self, directory: Path) -> None:
        root = next((p for p in (directory, directory / "corpora" / "wordnet") if (p / "index.noun").is_file()), None)
        missing = [name for name in _WORDNET if root is None or not (root / name).is_file()]
        if root is None or missing:
            raise DataError(
                f"holds no {', '.join(missing)}",
                where=directory,
                expected="WordNet's files: `python -m nltk.downloader -d DIR wordnet` where there is a network, and"
                " unpack it; or augmentation.synonym_file in place of augmentation.wordnet_dir",
            )
        from nltk.corpus.reader.wordnet import WordNetCorpusReader
        from nltk.data import FileSystemPathPointer

        self._reader: Any = WordNetCorpusReader(FileSystemPathPointer(str(root)), None)
        self._said: dict[str, list[str]] = {}
        sizes = [(name, (root / name).stat().st_size) for name in _WORDNET]
        self.fingerprint = xxhash.xxh3_64_hexdigest(repr(sizes).encode())

    def of(self, word: str) -> Sequence[str]:
        """See `Synonyms`."""
        plain = word.lower()
        if plain not in self._said:
            names = {
                lemma.name().replace("_", " ")
                for sense in self._reader.synsets(plain)
                for lemma in sense.lemmas()
                if plain.isascii() and plain.isalpha()
            }
            self._said[plain] = sorted(name for name in names if name.lower() != plain)
        return self._said[plain]
