"""How text is written as bytes: names of encodings, streams of UTF-8 from any of them, and what bytes look like."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from encodings.aliases import aliases
from typing import Any, BinaryIO, Literal

from configs.errors import nearest
from data_prep.reading.byte_stream import ByteStream

UTF_8 = "utf-8"
_READ_BYTES, _LEAST_TOLD = 1 << 18, 1 << 10
# Python counts these among the encodings of text; no file is written in them.
_NO_FILE = ("idna", "punycode", "undefined", "unicode-escape", "raw-unicode-escape", "utf-7")
# What a declared or guessed name stands for in practice (https://encoding.spec.whatwg.org/#names-and-labels).
_READ_AS = {
    "ascii": "cp1252", "iso8859-1": "cp1252", "iso8859-9": "cp1254", "iso8859-11": "cp874", "tis-620": "cp874",
    "gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "shift_jis_2004": "cp932", "shift_jisx0213": "cp932",
    "euc_jis_2004": "euc_jp", "euc_jisx0213": "euc_jp", "euc_kr": "cp949", "johab": "cp949", "big5": "big5hkscs",
    "cp950": "big5hkscs", "utf-8-sig": UTF_8,
}  # fmt: skip
_COMMON_NAMES = {"cp932": "Shift-JIS", "cp949": "EUC-KR", "big5hkscs": "Big5", "euc_jp": "EUC-JP"}
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, UTF_8),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_META_CHARSET = re.compile(
    rb"""<meta[^>]{0,512}?charset\s*=\s*["']?\s*([\w.:-]+)|^\s*<\?xml[^>]{0,128}?encoding\s*=\s*["']([\w.:-]+)""", re.I
)
_META_BYTES = 4096
_HANGUL, _OTHER_LETTERS = re.compile("[가-힣]"), re.compile(r"[^\W\d_a-zA-Z가-힣]")
# Characters that a decoder placed for each that it could not: fewer, and the encoding is another.
_GOOD_PER_BAD = 4
# So few of all characters are damage, also where no letters tell the encoding, as on pages in English.
_DAMAGED_SHARE = 0.01
_LETTERS, _HIRAGANA = re.compile(r"[^\W\d_a-zA-Z]"), re.compile("[ぁ-ん]")
_CJK = re.compile("[ぁ-んァ-ヶー一-鿿]")
# Fewer bytes tell nothing.
_NOT_ASCII, _LEAST_LETTERS = re.compile(rb"[\x80-\xff]"), 4
# So many letters of several bytes are UTF-8 by chance in no other encoding.
_UTF_8_LEADS, _CERTAIN_LETTERS = re.compile(rb"[\xc2-\xf4]"), 12


def canonical_encoding(name: str) -> str:
    """Python's own name for an encoding; `utf-8` with or without a byte order mark is `utf-8`.

    Raises:
        ValueError: if Python knows none of that name; names the nearest.
    """
    if not _is_of_files(name):
        close = nearest(name.lower(), sorted(alias for alias in aliases if _is_of_files(alias)))
        hint = f"; did you mean {close}?" if close else ""
        raise ValueError(f"{name!r} is no text encoding that Python knows, such as gb18030 or utf-16{hint}")
    found = codecs.lookup(name).name
    return UTF_8 if found == "utf-8-sig" else found


def _is_of_files(name: str) -> bool:
    try:
        found = codecs.lookup(name)
    except (LookupError, ValueError):
        return False
    return found._is_text_encoding and found.name not in _NO_FILE


def _mark_bad_byte(error: UnicodeError) -> tuple[str, int]:
    # A lone surrogate is in no UTF-8: what could not be decoded is found by whoever looks at the line. One byte only is
    # passed over, so that a line break behind it stays one; code units of UTF-16 and UTF-32 stay whole.
    assert isinstance(error, UnicodeDecodeError)
    return chr(0xDC00 + error.object[error.start]), error.end if _is_wide(error.encoding) else error.start + 1


def _is_wide(encoding: str) -> bool:
    return encoding.lower().replace("-", "").startswith(("utf16", "utf32"))


def _with_byte_order(encoding: str, head: bytes) -> str:
    """The encoding of bytes that begin with `head`, by its byte order where it needs a mark and there is none."""
    if encoding not in ("utf-16", "utf-32") or _byte_order_mark(head) == encoding:
        return encoding
    width = 2 if encoding == "utf-16" else 4
    # The high byte of ASCII, or of all in UTF-32, is zero.
    big = head[::width].count(0) > head[width - 1 :: width].count(0)
    return f"{encoding}-be" if big else f"{encoding}-le"


_MARK = "data_prep.mark_bad_byte"
codecs.register_error(_MARK, _mark_bad_byte)


class Utf8Stream(ByteStream):
    """The text of a stream of bytes in another encoding, as UTF-8.

    A byte that cannot be decoded becomes the three bytes of a lone surrogate, which UTF-8 forbids. In UTF-16 and UTF-32
    without a byte order mark, the zero bytes of the first characters tell the order.
    """

    def __init__(self, raw: BinaryIO, encoding: str) -> None:
        super().__init__(raw)
        self._encoding, self._ended = encoding, False
        self._decoder: codecs.IncrementalDecoder | None = None

    def _next_piece(self) -> bytes | None:
        if self._ended:
            return None
        chunk = self._read(_READ_BYTES)
        if self._decoder is None:
            while 0 < len(chunk) < _LEAST_TOLD and (more := self._read(_READ_BYTES)):
                chunk += more
            self._encoding = _with_byte_order(self._encoding, chunk)
            self._decoder = codecs.getincrementaldecoder(self._encoding)(_MARK)
        self._ended = not chunk
        pending = b"" if chunk or _is_wide(self._encoding) else self._decoder.getstate()[0]
        # Python's decoders of several bytes a letter lose what is behind the first bad byte when they are ended.
        text = pending.decode(self._encoding, _MARK) if pending else self._decoder.decode(chunk, not chunk)
        return text.encode(UTF_8, "surrogatepass")


def valid_bytes(data: bytes) -> int:
    """How many bytes there are before the first that is not UTF-8."""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return error.start
    return len(data)


def decoding_problem(data: bytes, encoding: str) -> str | None:
    """What keeps UTF-8, or what `Utf8Stream` made of another encoding, from being text; None: nothing."""
    start = valid_bytes(data)
    if start == len(data):
        return None
    column = start - (data.rfind(b"\n", 0, start) + 1)
    if encoding == UTF_8:
        return f"is not UTF-8: byte 0x{data[start]:02x} at byte {column + 1} of the line"
    byte = ord(data[start : start + 3].decode(UTF_8, "surrogatepass")) - 0xDC00
    return f"is not {encoding}: byte 0x{byte:02x} at byte {column + 1} of the line"


def encoding_shown(encoding: str) -> str:
    """The name of an encoding as people write it."""
    return _COMMON_NAMES.get(encoding, encoding.upper())


def said_guess(sample: bytes) -> str | None:
    """What bytes that are not UTF-8 look like and the setting that reads them, for a message; None: unknown."""
    encoding = guess_encoding(sample)
    return None if encoding is None else f"looks like {encoding_shown(encoding)}: encoding={encoding} reads it"


def guess_encoding(sample: bytes) -> str | None:
    """The encoding that a sample of a file looks to be in, by its canonical name; None: UTF-8, or unknown.

    Where more lines with other letters than ASCII's are UTF-8 than are not, the others are damage and no encoding.
    """
    marked = _byte_order_mark(sample)
    if marked is not None or (sample.isascii() and b"\0" not in sample):
        return None if marked in (None, UTF_8) else marked
    for at, wide in ((1, "utf-16-le"), (0, "utf-16-be")):
        # Of each line break and of all ASCII one byte is zero, always the same of the two.
        zeros = sample[at::2].count(0)
        if zeros > 1 and zeros > 8 * sample[1 - at :: 2].count(0) and _decodes(sample[: len(sample) & ~3], wide):
            return wide
    lines = [line for line in sample.split(b"\n") if not line.isascii()]
    other = [line for line in lines if not _decodes(line, UTF_8, final=len(line) < _META_BYTES)]
    data = b"\n".join(other)
    if (len(other) * 2 <= len(lines) and len(lines) > 1) or b"\0" in data:
        return None
    if len(_NOT_ASCII.findall(data)) < _LEAST_LETTERS:
        return None
    korean = data.decode("cp949", "ignore")
    if len(_HANGUL.findall(korean)) > 9 * len(_OTHER_LETTERS.findall(korean)) and _decodes(data, "cp949", final=False):
        return "cp949"  # which the library takes for Big5 in short texts
    import cchardet

    found = cchardet.detect(data)["encoding"]
    encoding = _in_practice(found) if found and _is_of_files(found) else UTF_8
    if encoding != UTF_8 and _decodes(data, encoding, final=False):
        return encoding
    # It weighs letters and may name one that cannot be; of those that can, the strictest.
    return next((name for name in ("cp932", "euc_jp", "big5hkscs", "gb18030") if _may_be(data, name)), None)


def _may_be(data: bytes, encoding: str) -> bool:
    if not _decodes(data, encoding, final=False):
        return False
    text = data.decode(encoding, "ignore")
    letters = len(_LETTERS.findall(text))
    japanese = encoding in ("cp932", "euc_jp")
    return (
        letters > 0
        and len(_CJK.findall(text)) > 0.9 * letters
        and (not japanese or len(_HIRAGANA.findall(text)) > 0.1 * letters)
    )


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
    none, the first in which few of all characters cannot be decoded is taken. What is declared to be another encoding
    and can only be UTF-8 is that: many servers declare Latin-1 for all they have.

    Args:
        raw: its bytes.
        declared: the charset that the HTTP header names, or that whole header (`text/html; charset=gbk`).
    """
    meta = _META_CHARSET.search(raw[:_META_BYTES])
    candidates: list[tuple[Any, Any]] = [(_byte_order_mark(raw), "mark"), (_charset(declared), "header")]
    if meta is not None:
        in_page = _charset((meta[1] or meta[2]).decode())
        # Who can read this declaration byte by byte does not read UTF-16.
        candidates.append((UTF_8 if in_page and in_page.startswith(("utf-16", "utf-32")) else in_page, "page"))
    candidates += [(UTF_8, "utf-8"), (None, "guess")]
    is_utf8 = not raw.isascii() and _decodes(raw, UTF_8)
    surely = is_utf8 and len(_UTF_8_LEADS.findall(raw)) >= _CERTAIN_LETTERS
    damaged: DecodedText | None = None
    for encoding, reason in candidates:
        if is_utf8 and encoding is not None and reason != "mark" and (surely or _is_8_bit(encoding)):
            encoding, reason = UTF_8, reason if encoding == UTF_8 else "utf-8"
        if reason == "guess":
            encoding = guess_encoding(raw)
        if encoding is None:
            continue
        text = raw.decode(encoding, "replace").removeprefix("\ufeff")
        # The character itself may stand in the text: what counts is what was not there as bytes.
        replaced = text.count("\ufffd") - (raw.count(b"\xef\xbf\xbd") if encoding == UTF_8 else 0)
        if encoding == UTF_8 and replaced and reason == "utf-8":
            reason = "nearly utf-8"
        found = DecodedText(text, encoding, reason, replaced)
        if replaced == 0 or replaced * _GOOD_PER_BAD <= sum(map(len, re.findall(r"[^\x00-\x7f\ufffd]+", text))):
            return found
        if damaged is None and replaced <= _DAMAGED_SHARE * len(text):
            damaged = found
    if damaged is not None:
        return damaged
    text = raw.decode(UTF_8, "replace")
    return DecodedText(text, UTF_8, "unreadable", text.count("\ufffd"))


def _byte_order_mark(raw: bytes) -> str | None:
    return next((encoding for mark, encoding in _BYTE_ORDER_MARKS if raw.startswith(mark)), None)


def _charset(declared: str | None) -> str | None:
    """The encoding that a declared charset means in practice; None if it is none or unknown."""
    if not declared:
        return None
    named = re.search(r"charset\s*=\s*[\"']?([^\s;\"']+)", declared, re.I)
    name = named[1] if named else declared.strip().strip("\"'")
    if not named and ("/" in name or ";" in name):
        return None
    try:
        return _in_practice(canonical_encoding({"x-sjis": "shift_jis", "x-gbk": "gbk", "x-euc-jp": "euc_jp"}.get(
            name.lower(), name)))  # fmt: skip
    except ValueError:
        return None


def _in_practice(name: str) -> str:
    name = canonical_encoding(name)
    return _READ_AS.get(name, name)


def _is_8_bit(encoding: str) -> bool:
    return encoding.startswith(("cp125", "cp437", "cp85", "cp86", "iso8859", "koi8", "mac-", "cp874"))


def _decodes(data: bytes, encoding: str, final: bool = True) -> bool:
    try:
        codecs.getincrementaldecoder(encoding)().decode(data, final)
    except UnicodeDecodeError:
        return False
    return True
