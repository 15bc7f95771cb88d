"""How text is written as bytes: names of encodings, and streams of UTF-8 from any of them."""

from __future__ import annotations

import codecs
from encodings.aliases import aliases
from typing import BinaryIO

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


def canonical_encoding(name: str) -> str:
    """Python's own name for an encoding; `utf-8` with or without a byte order mark is `utf-8`.

    Raises:
        ValueError: if Python knows none of that name; names the nearest.
    """
    if not is_of_files(name):
        close = nearest(name.lower(), sorted(alias for alias in aliases if is_of_files(alias)))
        hint = f"; did you mean {close}?" if close else ""
        raise ValueError(f"{name!r} is no text encoding that Python knows, such as gb18030 or utf-16{hint}")
    found = codecs.lookup(name).name
    return UTF_8 if found == "utf-8-sig" else found


def is_of_files(name: str) -> bool:
    """Whether files of text are written in an encoding of that name."""
    try:
        found = codecs.lookup(name)
    except (LookupError, ValueError):
        return False
    return found._is_text_encoding and found.name not in _NO_FILE


def _mark_bad_byte(error: UnicodeError) -> tuple[str, int]:
    # A lone surrogate is in no UTF-8: what could not be decoded is found by whoever looks at the line. One byte only is
    # passed over, so that a line break behind it stays one; code units of UTF-16 and UTF-32 stay whole.
    assert isinstance(error, UnicodeDecodeError)
    return chr(0xDC00 + error.object[error.start]), error.end if is_wide(error.encoding) else error.start + 1


def is_wide(encoding: str) -> bool:
    """Whether each letter of an encoding is two bytes or four, of which one is zero in those of ASCII."""
    return encoding.lower().replace("-", "").startswith(("utf16", "utf32"))


def _with_byte_order(encoding: str, head: bytes) -> str:
    """The encoding of bytes that begin with `head`, by its byte order where it needs a mark and there is none."""
    if encoding not in ("utf-16", "utf-32") or byte_order_mark(head) == encoding:
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
        self._encoding, self._ended, self._held = encoding, False, b""
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
        if chunk:
            text = self._decoded(self._decoder, self._held + chunk)
        else:
            text = self._decoder.decode(b"", True) if is_wide(self._encoding) else self._rest(self._decoder)
        return text.encode(UTF_8, "surrogatepass")

    def _decoded(self, decoder: codecs.IncrementalDecoder, data: bytes) -> str:
        """The text of bytes up to an escape that has not ended, of which Python's decoders hold eight bytes at most."""
        before, at = decoder.getstate(), len(data)
        while True:
            try:
                self._held = data[at:]
                return decoder.decode(data[:at])
            except UnicodeError:
                decoder.setstate(before)
                at = max(0, data.rfind(b"\x1b", 0, at))

    def _rest(self, decoder: codecs.IncrementalDecoder) -> str:
        # Python's decoders of several bytes a letter lose what is behind the first bad byte when they are ended.
        text = ""
        (pending, state), held = decoder.getstate(), self._held
        while rest := pending + held:
            decoder.setstate((b"", state))
            text += chr(0xDC00 + rest[0]) + self._decoded(decoder, rest[1:])
            (pending, state), held = decoder.getstate(), self._held
        return text


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


def byte_order_mark(raw: bytes) -> str | None:
    """The encoding that the mark at the beginning of bytes tells; None: there is none."""
    return next((encoding for mark, encoding in _BYTE_ORDER_MARKS if raw.startswith(mark)), None)


def in_practice(name: str) -> str:
    """The canonical name of the encoding that a declared or guessed one stands for."""
    name = canonical_encoding(name)
    return _READ_AS.get(name, name)


def decodes(data: bytes, encoding: str, final: bool = True) -> bool:
    """Whether all of `data` is in an encoding; it may end within a letter unless `final`."""
    try:
        codecs.getincrementaldecoder(encoding)().decode(data, final)
    except UnicodeDecodeError:
        return False
    return True
