"""The script of a text, as a language that is written in it: cheaper than to identify languages, and enough to warn."""

from __future__ import annotations

import re

_LOOKED_AT = 1000
_LEAST_SHARE = 0.2
_LEAST_KANA = 0.05
# A language for each script; which of the script's languages it is, nobody has to know to see that it is not English.
_CLASSES = {
    "zh": "\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff",
    "ja": "\u3040-\u30ff",
    "ko": "\u1100-\u11ff\uac00-\ud7af",
    "th": "\u0e00-\u0e7f",
    "lo": "\u0e80-\u0eff",
    "bo": "\u0f00-\u0fff",
    "my": "\u1000-\u109f",
    "km": "\u1780-\u17ff",
    "el": "\u0370-\u03ff",
    "ru": "\u0400-\u052f",
    "he": "\u0590-\u05ff",
    "ar": "\u0600-\u06ff\u0750-\u077f",
    "hi": "\u0900-\u097f",
}
_ANY = re.compile(f"[{''.join(_CLASSES.values())}]+")
_EACH = {code: re.compile(f"[{characters}]+") for code, characters in _CLASSES.items()}


def language_of_script(text: str) -> str:
    """A language in whose script a fifth or more of the beginning of `text` is; empty for Latin and other scripts.

    One for each script: Ukrainian is `ru`, Persian `ar`. Text with kana is `ja`; with Han characters alone, `zh`.
    """
    if text.isascii():
        return ""
    beginning = text[:_LOOKED_AT]
    found = "".join(_ANY.findall(beginning))
    if len(found) < _LEAST_SHARE * len(beginning):
        return ""
    counts = {code: sum(map(len, pattern.findall(found))) for code, pattern in _EACH.items()}
    if counts["ja"] >= _LEAST_KANA * (counts["zh"] + counts["ja"]) > 0:
        counts["ja"] += counts["zh"]
    return max(counts, key=lambda code: counts[code])
