"""The bytes of a web page -> its characters, by what declares their encoding or else by a guess."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from typing import Any, Literal

from data_prep.reading.encodings import UTF_8, byte_order_mark, canonical_encoding, decodes, in_practice, is_wide
from data_prep.reading.guessing import guess_encoding, is_western_at_sight

_META_CHARSET = re.compile(
    rb"""<meta[^>]{0,512}?charset\s*+=\s*+["']?\s*+([\w.:-]+)|^\s*<\?xml[^>]{0,128}?encoding\s*=\s*["']([\w.:-]+)""",
    re.I,
)
_META_BYTES = 4096
# Characters that a decoder placed for each that it could not: fewer, and the encoding is another.
_GOOD_PER_BAD = 4
# So few of all characters are damage, also where no letters tell the encoding, as on pages in English.
_DAMAGED_SHARE = 0.01
# So many letters of several bytes are UTF-8 by chance in no other encoding.
_NO_UTF_8_LEADS, _CERTAIN_LETTERS = bytes([*range(0xC2), *range(0xF5, 0x100)]), 12
_LETTERS_PER_DAMAGE = 10  # of what is UTF-8 but for damage, such as a letter that the end cuts
_PIECE_BYTES = 1 << 12


@dataclass(frozen=True, slots=True)
class DecodedText:
    """A text that was bytes.

    Attributes:
        text: the text; U+FFFD for what could not be decoded.
        encoding: the canonical name of its encoding.
        reason: what told the encoding: a byte order mark, the declaration in the header or in the page, that it is
            UTF-8, that it is UTF-8 but for a few bytes, a guess; `unreadable`: nothing fits, and the text is none.
        replaced: how many characters could not be decoded.
    """

    text: str
    encoding: str
    reason: Literal["mark", "header", "page", "utf-8", "nearly utf-8", "guess", "unreadable"]
    replaced: int


def decode_page(raw: bytes, declared: str | None = None) -> DecodedText:
    """Decode a page of HTML, or of text.

    In this order: a byte order mark; the declared charset of the header; that of `<meta>` or of an XML declaration;
    UTF-8; a guess. An encoding in which a good part of the letters cannot be decoded is passed over; where that leaves
    none, the first in which few of all characters cannot be decoded is taken, or else Windows-1252 where few bytes that
    are not ASCII tell nothing. What is declared to be another encoding and can only be UTF-8 is that, also with a
    letter that the end cuts: many servers declare Latin-1 for all they have.

    Args:
        raw: its bytes.
        declared: the charset that the HTTP header names, or that whole header (`text/html; charset=gbk`).
    """
    meta = _META_CHARSET.search(raw[:_META_BYTES])
    in_header = _charset(declared)
    if in_header is not None and is_wide(in_header) and b"\0" not in raw:
        in_header = None  # no tag is in it
    candidates: list[tuple[Any, Any]] = [(byte_order_mark(raw), "mark"), (in_header, "header")]
    if meta is not None:
        in_page = _charset((meta[1] or meta[2]).decode())
        # Who can read this declaration byte by byte does not read UTF-16.
        candidates.append((UTF_8 if in_page and is_wide(in_page) else in_page, "page"))
    candidates += [(UTF_8, "utf-8"), (None, "guess")]
    surely = _is_surely_utf_8(raw)
    is_utf8 = surely or (not raw.isascii() and decodes(raw, UTF_8))
    damaged: DecodedText | None = None
    for encoding, reason in candidates:
        if is_utf8 and encoding is not None and reason != "mark" and (surely or _is_8_bit(encoding)):
            encoding, reason = UTF_8, reason if encoding == UTF_8 else "utf-8"
        if reason == "guess":
            encoding = guess_encoding(raw)
        if encoding is None:
            continue
        text = raw.decode(encoding, "replace").removeprefix("\ufeff")
        replaced = _replaced(text, raw, encoding)
        if encoding == UTF_8 and replaced and reason == "utf-8":
            reason = "nearly utf-8"
        found = DecodedText(text, encoding, reason, replaced)
        if replaced == 0 or replaced * _GOOD_PER_BAD <= sum(map(len, re.findall(r"[^\x00-\x7f\ufffd]+", text))):
            return found
        if damaged is None and replaced <= _DAMAGED_SHARE * len(text):
            damaged = found
    if damaged is not None:
        return damaged
    if is_western_at_sight(raw):
        return DecodedText(raw.decode("cp1252"), "cp1252", "guess", 0)
    text = raw.decode(UTF_8, "replace")
    return DecodedText(text, UTF_8, "unreadable", text.count("\ufffd"))


def _is_surely_utf_8(raw: bytes) -> bool:
    """Whether bytes are UTF-8 by many letters, of which few are damaged; of others the beginning tells."""
    leads = len(raw.translate(None, _NO_UTF_8_LEADS))
    if leads < _CERTAIN_LETTERS:
        return False
    decoder = codecs.getincrementaldecoder(UTF_8)("replace")
    replaced = _replaced("", raw, UTF_8)
    for at in range(0, len(raw), _PIECE_BYTES):
        piece = raw[at : at + _PIECE_BYTES]
        replaced += decoder.decode(piece, at + _PIECE_BYTES >= len(raw)).count("\ufffd")
        if replaced * _LETTERS_PER_DAMAGE > leads:
            return False
    return True


def _replaced(text: str, raw: bytes, encoding: str) -> int:
    # The character itself may stand in the text: what counts is what was not there as bytes.
    return text.count("\ufffd") - (raw.count(b"\xef\xbf\xbd") if encoding == UTF_8 else 0)


def _charset(declared: str | None) -> str | None:
    """The encoding that a declared charset means in practice; None if it is none or unknown."""
    if not declared:
        return None
    named = re.search(r"charset\s*=\s*[\"']?([^\s;\"']+)", declared, re.I)
    name = named[1] if named else declared.strip().strip("\"'")
    if not named and ("/" in name or ";" in name):
        return None
    try:
        return in_practice(canonical_encoding({"x-sjis": "shift_jis", "x-gbk": "gbk", "x-euc-jp": "euc_jp"}.get(
            name.lower(), name)))  # fmt: skip
    except ValueError:
        return None


def _is_8_bit(encoding: str) -> bool:
    return encoding.startswith(("cp125", "cp437", "cp85", "cp86", "iso8859", "koi8", "mac-", "cp874"))
