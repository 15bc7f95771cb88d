"""Encodings: their names, what bytes look like, streams of UTF-8, pages that declare theirs."""

import codecs
import io
import os
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.reading.encodings import (
    Utf8Stream,
    canonical_encoding,
    decoding_problem,
)
from data_prep.reading.guessing import guess_encoding, said_guess
from data_prep.reading.page_decoding import decode_page

CHINESE = (
    "这本书我读了很久，终于在昨天晚上读完了。作者的文笔很好，故事也很感人。\n"
    "酒店的位置很方便，离地铁站只有五分钟的路程。"
)
TAIWANESE = (
    "這本書我讀了很久，終於在昨天晚上讀完了。作者的文筆很好，故事也很感人。\n臺灣大學的研究人員發現，需要大量的語料。"
)
JAPANESE = (
    "この本をずっと読んでいましたが、昨日の夜やっと読み終わりました。\n作者の文章はとても良く、物語も感動的でした。"
)
KOREAN = (
    "이 책을 오랫동안 읽었는데 어젯밤에 드디어 다 읽었습니다.\n작가의 글솜씨가 아주 좋고 이야기도 감동적이었습니다."
)
RUSSIAN = "Эту книгу я читал очень долго, и вчера вечером наконец дочитал.\nУ автора прекрасный стиль."
FRENCH = "J'ai lu ce livre très longtemps, et hier soir je l'ai terminé.\nL'histoire est émouvante, déjà vu à souhait."
WRITTEN = [
    (CHINESE, "gb18030", "gb18030"),
    (CHINESE, "gbk", "gb18030"),
    (TAIWANESE, "big5", "big5hkscs"),
    (JAPANESE, "shift_jis", "cp932"),
    (JAPANESE, "euc_jp", "euc_jp"),
    (KOREAN, "euc_kr", "cp949"),
    (RUSSIAN, "cp1251", "cp1251"),
    (RUSSIAN, "koi8_r", "koi8-r"),
    (FRENCH, "latin_1", "cp1252"),
    (CHINESE, "utf-16", "utf-16"),
    (FRENCH, "utf-16-le", "utf-16-le"),
    (FRENCH, "utf-16-be", "utf-16-be"),
    (CHINESE, "utf-32", "utf-32"),
]


@pytest.mark.parametrize(("text", "written", "guessed"), WRITTEN)
def test_rows_of_a_table_look_like_their_encoding(text, written, guessed):
    rows = "".join(f"{line},{number}\n" for number in range(4) for line in text.split("\n"))
    assert guess_encoding(rows.encode(written)) == guessed


@pytest.mark.parametrize(("text", "written", "guessed"), WRITTEN)
def test_what_a_file_looks_like_is_said(text, written, guessed):
    raw = text.encode(written)
    assert guess_encoding(raw) == guessed
    assert raw.decode(guessed) == text
    assert f"encoding={guessed} reads it" in (said_guess(raw) or "")


def test_utf8_is_not_guessed_to_be_something_else():
    assert guess_encoding(CHINESE.encode()) is None
    assert guess_encoding(b"plain\nASCII") is None
    # One line of damage among good ones is no encoding; nor is a letter cut in two at the end of a sample.
    assert guess_encoding(CHINESE.encode() + b"\ncaf\xe9\n") is None
    assert guess_encoding(("中" * 5000).encode()[:-1]) is None
    assert guess_encoding(random.Random(0).randbytes(4000)) is None


def test_names_of_encodings():
    assert [canonical_encoding(name) for name in ("UTF8", "utf-8-sig", "GBK", "Latin-1")] == [
        *("utf-8", "utf-8", "gbk", "iso8859-1")
    ]
    with pytest.raises(ValueError, match="did you mean shiftjis"):
        canonical_encoding("shift-jsi")
    for name in ("rot13", "base64", "idna", "", "\0"):
        with pytest.raises(ValueError, match="is no text encoding"):
            canonical_encoding(name)


class Trickle(io.BytesIO):
    """Gives out a few bytes at a time, so that letters are cut."""

    def read1(self, size=-1):
        return self.read(3)


@pytest.mark.parametrize(("text", "written", "guessed"), WRITTEN)
def test_any_encoding_comes_out_as_utf8(text, written, guessed):
    del guessed
    assert Utf8Stream(Trickle(text.encode(written)), written).read().decode().removeprefix("\ufeff") == text


@pytest.mark.parametrize("encoding", ["gb18030", "gbk", "big5", "shift_jis", "euc_jp", "euc_kr", "cp1252"])
@given(data=st.lists(st.binary(max_size=6), max_size=6))
def test_a_byte_that_is_no_letter_spoils_its_line_only(encoding, data):
    """As many lines come out as went in, whatever stands in them, and those that can be decoded are whole."""
    raw = b"\n".join(data)
    lines = Utf8Stream(io.BytesIO(raw), encoding).read().split(b"\n")
    for line, given_line in zip(lines, raw.split(b"\n"), strict=True):
        try:
            assert line == given_line.decode(encoding).encode()
            assert decoding_problem(line, encoding) is None
        except UnicodeDecodeError:
            assert f"is not {encoding}: byte 0x" in (decoding_problem(line, encoding) or "")


def test_the_byte_that_is_no_letter_is_named():
    raw = CHINESE.encode("gbk") + b"\nab\xff"
    line = Utf8Stream(io.BytesIO(raw), "gbk").read().split(b"\n")[-1]
    assert decoding_problem(line, "gbk") == "is not gbk: byte 0xff at byte 3 of the line"
    odd = "a\ud800b".encode("utf-16-le", "surrogatepass")
    assert Utf8Stream(io.BytesIO(odd + b"\n\0"), "utf-16-le").read()[-2:] == b"b\n"
    assert decoding_problem(b"caf\xe9", "utf-8") == "is not UTF-8: byte 0xe9 at byte 4 of the line"


META = '<html><head><meta charset="{}"></head><body>{}</body></html>'
HTTP_EQUIV = '<meta http-equiv="Content-Type" content="text/html; charset={}">{}'


@pytest.mark.parametrize(
    ("declared", "page", "written", "encoding", "reason"),
    [
        ("ISO-8859-1", "Café déjà vu naïve.", "latin-1", "cp1252", "header"),
        ("text/html; charset=GB2312", "镕" + CHINESE, "gbk", "gb18030", "header"),
        ("text/html", META.format("gb2312", CHINESE), "gbk", "gb18030", "page"),
        (None, META.format("shift_jis", "①" + JAPANESE), "cp932", "cp932", "page"),
        (None, HTTP_EQUIV.format("windows-1251", RUSSIAN), "cp1251", "cp1251", "page"),
        (None, f'<?xml version="1.0" encoding="euc-jp"?><html>{JAPANESE}', "euc_jp", "euc_jp", "page"),
        ("big5", META.format("gbk", TAIWANESE), "big5", "big5hkscs", "header"),
        ("iso-8859-1", "\ufeff" + CHINESE, "utf-16", "utf-16", "mark"),
        ("gbk", "\ufeff" + CHINESE, "utf-8", "utf-8", "mark"),
        # Servers declare Latin-1 by default; declarations that cannot be, or that nobody knows.
        ("iso-8859-1", CHINESE, "utf-8", "utf-8", "utf-8"),
        ("gbk", CHINESE, "utf-8", "utf-8", "utf-8"),
        ("utf-8", CHINESE, "gbk", "gb18030", "guess"),
        ("none", CHINESE, "utf-8", "utf-8", "utf-8"),
        (None, META.format("utf-16", CHINESE), "utf-8", "utf-8", "page"),
        (None, RUSSIAN, "koi8-r", "koi8-r", "guess"),
    ],
)
def test_pages_are_read_as_they_declare(declared, page, written, encoding, reason):
    found = decode_page(page.encode(written), declared)
    assert (found.text, found.encoding, found.reason, found.replaced) == (
        page.removeprefix("\ufeff"),
        encoding,
        reason,
        0,
    )


@pytest.mark.parametrize("written", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("text", [CHINESE, FRENCH, "", "a", "語\n" * 700])
def test_wide_text_is_read_without_a_byte_order_mark(text, written):
    stream = Utf8Stream(io.BytesIO(text.encode(written)), written[:6])
    assert b"".join(iter(lambda: stream.read1(), b"")).decode() == text
    assert Utf8Stream(io.BytesIO(f"\ufeff{text}".encode(written)), written[:6]).read().decode() == text


def test_a_bad_byte_in_a_page_costs_one_letter():
    raw = JAPANESE.encode().replace("夜".encode(), b"\xff", 1)
    for declared, reason in ((None, "nearly utf-8"), ("utf-8", "header")):
        found = decode_page(raw, declared)
        assert (found.text, found.reason, found.replaced) == (JAPANESE.replace("夜", "\ufffd", 1), reason, 1)
    spelled = "\ufffd" + JAPANESE
    assert decode_page(spelled.encode()).replaced == 0


@pytest.mark.parametrize("bad", [b"\x92", b"\xe2\x80", "é".encode() + b" \xff"])
@pytest.mark.parametrize(("declared", "reason"), [("text/html; charset=utf-8", "header"), (None, "nearly utf-8")])
def test_a_bad_byte_in_a_page_of_ascii_costs_one_character(bad, declared, reason):
    page = "<p>The book took me a week to read, and it was worth it.</p>\n" * 50
    raw = page.encode().replace(b"week", b"week" + bad, 1)
    found = decode_page(raw, declared)
    assert (found.text, found.encoding, found.reason, found.replaced) == (
        raw.decode(errors="replace"),
        "utf-8",
        reason,
        1,
    )


def test_what_is_no_text_is_said_to_be_unreadable():
    assert decode_page(random.Random(1).randbytes(2000)).reason == "unreadable"
    assert decode_page(os.urandom(0)).reason == "utf-8"


def test_every_guess_can_be_set():
    for _, _, guessed in WRITTEN:
        assert canonical_encoding(guessed) == codecs.lookup(guessed).name == guessed


@pytest.mark.parametrize("declared", ["utf-16", "text/html; charset=utf-16le", "UTF-16BE", "utf-32le"])
@pytest.mark.parametrize("page", ["<p>Only ASCII in it.</p>", "<p>Grüße</p>"])
def test_a_page_without_a_zero_byte_is_in_no_two_bytes_a_letter(declared, page):
    found = decode_page(page.encode(), declared)
    assert (found.text, found.encoding, found.reason) == (page, "utf-8", "utf-8")
    wide = page.encode("utf-16-le")
    assert decode_page(wide, "utf-16le").text == decode_page(codecs.BOM_UTF16_LE + wide).text == page


@pytest.mark.parametrize("declared", ["iso-8859-1", "text/html; charset=windows-1251", "gbk", "shift_jis"])
@pytest.mark.parametrize(
    "text", ["Les élèves de l’école ont été à la fête. ", "Вчера вечером шёл дождь. ", "你好世界 "]
)
def test_a_damaged_page_that_can_only_be_utf8_is_that(declared, text):
    page = f"<p>{text * 9}é"
    cut = decode_page(page.encode()[:-1], declared)
    assert (cut.text, cut.reason, cut.replaced) == (page[:-1] + "\ufffd", "nearly utf-8", 1)
    within = decode_page(page.encode() + b"\xff" + page.encode(), declared)
    assert (within.text, within.reason) == (f"{page}\ufffd{page}", "nearly utf-8")
    page = "Les élèves de l’école ont été à la fête. " * 9
    assert decode_page(page.encode("cp1252"), "iso-8859-1").text == page


@pytest.mark.parametrize("at", [0, 4095, 4096, 8190])
def test_whether_a_page_can_only_be_utf8_does_not_depend_on_where_its_damage_is(at):
    letters = "ab" * 1500 + "é" * 600 + "cd" * 2500 + "\ufffdé" * 30
    for damage, expected in ((66, "nearly utf-8"), (67, "header")):
        page = letters[:at].encode() + b"\xff" * damage + letters[at:].encode()
        assert decode_page(page, "iso-8859-1").reason == expected


def test_that_a_page_is_in_another_encoding_is_seen_at_its_beginning():
    page = ("<p>" + "这本书我读了很久。" * 100_000).encode("gb18030")
    begin = time.process_time()
    page.decode("gb18030")
    once = time.process_time() - begin
    assert decode_page(page, "gbk").encoding == "gb18030"
    assert time.process_time() - begin - once < 6 * once


@pytest.mark.parametrize("encoding", ["iso2022_jp", "iso2022_kr"])
@pytest.mark.parametrize("tail", [b"\x1b$)1234567890", b"\x1b$)12345678\x1b9", b"\x1b" * 20])
def test_an_escape_that_does_not_end_is_a_bad_byte(encoding, tail):
    for behind in (b"", b"\nsome more text, and a line\n"):
        for size in (1, 3, 1 << 10):
            stream = Utf8Stream(Pieces(b"text " * 300 + tail + behind, size), encoding)
            text = io.BufferedReader(stream).read().decode("utf-8", "surrogatepass")
            assert text.replace("\udc1b", "\x1b").encode() == b"text " * 300 + tail + behind


def test_a_letter_that_the_end_cuts_is_a_bad_byte_and_no_other_letter():
    cut = "日本".encode("iso2022_jp")[:6]
    assert (
        cut.isascii()
        and io.BufferedReader(Utf8Stream(io.BytesIO(cut), "iso2022_jp")).read().decode("utf-8", "surrogatepass")
        == f"日{chr(0xDC00 + cut[-1])}"
    )


class Pieces(io.BytesIO):
    """Gives few bytes at once."""

    def __init__(self, data: bytes, size: int) -> None:
        super().__init__(data)
        self._size = size

    def read1(self, size: int | None = -1, /) -> bytes:
        return super().read1(self._size)
