"""What a way of cutting text spells out, which short strings of classes of characters do not tell of.

`equality` compares strings of the classes that patterns tell apart and the usual contractions. A cut at a word of its
own (`Split` at a string, a delimiter, a pattern with letters in it) would show in texts with that word alone.
"""

from __future__ import annotations

import re
from typing import Any

_KNOWN_TYPES = ("Sequence", "ByteLevel", "Split")
# Classes by name, escapes, options of groups, and ranges of a class.
_CLASSES = re.compile(r"\\[pP]\{[^}]*\}|\\[pP][A-Z]|\\[a-zA-Z]|\(\?[a-z]*:|.-.")
_CONTRACTIONS = re.compile(r"'?\(?(?:\?:)?(?:'?(?:\[[sdmt]+\]|ll|ve|re|s|d|m|t)\|?)+\)?", re.IGNORECASE)
_LETTERS = re.compile(r"(?:[^\W\d_]|[^\x00-\x7f])+")


def own_words(pre_tokenizer: object) -> str | None:
    """The first thing that a pre-tokenizer of Hugging Face's library cuts at by its spelling; None: there is none."""
    if not isinstance(pre_tokenizer, dict):
        return None
    kind = str(pre_tokenizer.get("type"))
    if kind not in _KNOWN_TYPES:
        return kind
    members: list[Any] = pre_tokenizer.get("pretokenizers") or []
    for member in members:
        found = own_words(member)
        if found is not None:
            return found
    pattern = pre_tokenizer.get("pattern")
    if kind != "Split" or not isinstance(pattern, dict):
        return None
    return words_of_pattern(pattern["Regex"]) if "Regex" in pattern else str(pattern.get("String"))


def words_of_pattern(pattern: str) -> str | None:
    """The first letters, or signs beyond ASCII, that a pattern spells; ranges and contractions do not count."""
    found = _LETTERS.search(_CONTRACTIONS.sub(" ", _CLASSES.sub(" ", pattern)))
    return None if found is None else found.group()
