"""Tables: what quotes mean in them, what a quote swallows, other delimiters, no header."""

import csv
import time

import pytest
from test_reading_formats import read

from configs.errors import DataError
from data_prep.reading.documents import ReadCounts
from data_prep.reading.table_rows import BrokenRow, check_distinct

ROWS = 300


def table(delimiter: str, first: str, last: str) -> tuple[bytes, list[str]]:
    """Rows of an id and a text, of which one begins with a quote and one holds another."""
    texts = [f"text number {n}" for n in range(ROWS)]
    texts[10], texts[250] = first, last
    return f"id{delimiter}text\n".encode() + b"".join(
        f"{n}{delimiter}{text}\n".encode() for n, text in enumerate(texts)
    ), texts


@pytest.mark.parametrize("last", ['a nail of 6"', 'a 6" nail'])
def test_quotes_are_letters_in_tsv(tmp_path, last):
    data, texts = table("\t", '"unmatched', last)
    (tmp_path / "t.tsv").write_bytes(data)
    counts = ReadCounts()
    assert read(tmp_path / "t.tsv", counts=counts) == texts
    assert counts.records == 0


@pytest.mark.parametrize(("name", "delimiter"), [("t.csv", ","), ("t.tsv", "\t")])
@pytest.mark.parametrize(
    ("last", "problem"),
    [
        ('a nail of 6"', "has a quoted field that holds rows; is its quote closed?: 241 lines"),
        ('a 6" nail', "has text after a closing quote: 241 lines"),
    ],
)
def test_what_a_quote_swallows_is_counted_in_lines(tmp_path, name, delimiter, last, problem):
    data, texts = table(delimiter, '"unmatched', last)
    (tmp_path / name).write_bytes(data)
    counts = ReadCounts()
    assert read(tmp_path / name, counts=counts, quoting="double") == texts[:10] + texts[251:]
    assert counts.malformed == 241 and counts.first == [f"{tmp_path / name}, line 12: {problem}"]
    with pytest.raises(DataError, match="line 12: has "):
        read(tmp_path / name, quoting="double", malformed="stop")


def test_a_long_list_within_a_field_is_text_and_told(tmp_path, capsys):
    """As of sites that a program reads: all but a few of hundreds of lines hold one comma."""
    text = "\n".join(["A list.", *(f"It holds what comes here{'.' * n}" for n in range(5)), *["a.com,"] * 400, "ends"])
    with (tmp_path / "t.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["id", "text"], ["1", text], *[["2", "next"]] * 60])
    counts = ReadCounts()
    assert read(tmp_path / "t.csv", counts=counts) == [text, *["next"] * 60] and counts.records == 0
    assert "1 of 61 rows hold 407 lines, which may be rows behind a quote" in capsys.readouterr().err


def test_a_long_field_of_other_lines_is_text(tmp_path):
    text = "\n".join(f"A line of a poem, of which this is number {n}, and more" for n in range(100))
    with (tmp_path / "t.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["id", "text"], ["1", text], ["2", "next"]])
    counts = ReadCounts()
    assert read(tmp_path / "t.csv", counts=counts) == [text, "next"] and counts.records == 0


def test_tsv_that_a_program_quoted(tmp_path, capsys):
    (tmp_path / "all.tsv").write_text('"id"\t"text"\n"1"\t"a ""b""\nc"\n')
    assert read(tmp_path / "all.tsv") == ['a "b"\nc']
    assert read(tmp_path / "all.tsv", quoting="none", text_field='"text"') == ['"a ""b""']
    capsys.readouterr()
    (tmp_path / "some.tsv").write_text('id\ttext\n1\t"a ""b"" c"\n2\t"said he"\n')
    assert read(tmp_path / "some.tsv") == ['"a ""b"" c"', '"said he"']
    assert capsys.readouterr().err.endswith(
        "some.tsv: its quotes are read as text; quoting=double takes them as marks\n"
    )
    (tmp_path / "some.tsv").write_text('id\ttext\n2\t"said he"\n')
    assert read(tmp_path / "some.tsv") == ['"said he"'] and capsys.readouterr().err == ""


def test_other_delimiters_and_no_header(tmp_path):
    (tmp_path / "t.csv").write_text('1|"one, two"\n2|three\n')
    assert read(tmp_path / "t.csv", delimiter="|", header=["id", "text"]) == ["one, two", "three"]
    with pytest.raises(DataError, match=r"has no column 'text', only id, txt(.|\n)*`header`(.|\n)*did you mean: txt"):
        read(tmp_path / "t.csv", delimiter="|", header=["id", "txt"])


@pytest.mark.parametrize(("name", "delimiter"), [("t.csv", ","), ("t.tsv", "\t")])
def test_tables_in_other_encodings(tmp_path, name, delimiter):
    texts = ["这本书我读了很久，终于在昨天晚上读完了。", "作者的文笔很好，故事也很感人。"] * 4
    rows = f"text{delimiter}标题\n" + "".join(f"{text}{delimiter}{n}\n" for n, text in enumerate(texts))
    for encoding, guess in (("gbk", "gb18030"), ("utf-16", "utf-16")):
        path = tmp_path / f"{encoding}-{name}"
        path.write_bytes(rows.encode(encoding))
        assert read(path, encoding=encoding) == texts
        with pytest.raises(DataError, match=f"encoding={guess} reads it"):
            read(path, malformed="stop")
    (tmp_path / name).write_bytes(rows.encode())
    with pytest.raises(DataError, match=r"is not gbk: byte 0x(.|\n)*looks like UTF-8: encoding=utf-8"):
        read(tmp_path / name, encoding="gbk", malformed="stop")


def test_a_broken_row_is_no_row():
    assert list(BrokenRow("is broken", 1)) == [] and BrokenRow("is broken", 1).problem == "is broken"


SWALLOWED = {
    "one column": (["text"], [[f"text number {n}"] for n in range(600)], (10, 510), "1 of 100 rows hold 501 lines"),
    "three columns": (
        ["n", "m", "text"],
        [[n, n, f"text {n}"] for n in range(60)],
        (10, 13),
        "1 of 57 rows hold 4 lines",
    ),
}


@pytest.mark.parametrize("name", SWALLOWED)
def test_what_a_quote_may_have_swallowed_is_said(tmp_path, capsys, name):
    header, rows, (first, last), said = SWALLOWED[name]
    rows[first][-1], rows[last][-1] = '"unmatched', 'a nail of 6"'
    path = tmp_path / "t.csv"
    path.write_text("".join(",".join(map(str, row)) + "\n" for row in [header, *rows]))
    counts = ReadCounts()
    assert len(read(path, counts=counts)) == len(rows) - (last - first) and counts.records == 0
    assert capsys.readouterr().err.startswith(f"{path}: {said}, which may be rows behind a quote")
    assert read(path, quoting="none") == [row[-1] for row in rows] and capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("header", "text"),
    [
        (["text"], "\n".join(f"line {n}" for n in range(9))),
        (["text"], "\n\n".join(f"paragraph {n}" for n in range(30))),
        (["n", "text"], "Dear reader,\nfirst, second\nthird, fourth\nYours"),
        (["n", "m", "text"], "A poem\nof lines, with commas\nand more, of course, and more, too\nends"),
    ],
)
def test_texts_of_several_lines_are_read_without_a_word(tmp_path, capsys, header, text):
    with (tmp_path / "t.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([header, [*map(str, range(len(header) - 1)), text]])
        csv.writer(stream).writerows([["x"] * len(header)] * 50)
    assert read(tmp_path / "t.csv")[0] == text and capsys.readouterr().err == ""


def test_a_table_of_long_texts_is_read_without_a_word(tmp_path, capsys):
    text = "\n".join(f"line {n}" for n in range(40))
    with (tmp_path / "t.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["text"], *([[text], ["short"], ["short"], ["short"]] * 9)])
    assert read(tmp_path / "t.csv").count(text) == 9 and capsys.readouterr().err == ""


def swallowed(rows: int, spans: list[tuple[int, int]], row: str = "{},text {}") -> bytes:
    """Rows of which some begin with a quote that only the last line of their span closes."""
    lines = ["id,text", *(row.format(n, n) for n in range(rows))]
    for first, last in spans:
        lines[first + 1] = lines[first + 1].replace(",", ',"')
        lines[last + 1] += '"'
    return "\n".join([*lines, ""]).encode()


LIKE_ROWS = {
    "few rows": (b'id,text\n1,"foo\n2,bar\n3,baz\n4,qux"\n5,ok\n', "1 of 2 rows hold 4 lines"),
    "two rows": (b'a,b,c,d,text\n1,2,3,4,"foo\n2,2,3,4,baz"\n5,2,3,4,ok\n', "1 of 2 rows hold 2 lines"),
    "blank lines": (b'id,text\n1,"foo\n\n\n2,bar\n\n3,baz\n\n4,q"\n5,ok\n', "1 of 2 rows hold 8 lines"),
    "text before": (b'text,label\n"foo,pos\nbar,neg\nbaz",pos\nx,neg\n', "1 of 2 rows hold 3 lines"),
    "text between": (b'id,text,n\na1,"foo,1\na2,bar,2\na3,baz",3\na4,x,4\n', "1 of 2 rows hold 3 lines"),
    "titles": (b'title,text\nA b,"foo\nB c,bar\nC d,baz"\nD e,x\n', "1 of 2 rows hold 3 lines"),
    "all rows": (swallowed(100, [(n, n + 4) for n in range(0, 100, 5)]), "20 of 20 rows hold 100 lines"),
    "two of few": (swallowed(20, [(2, 8), (10, 16)]), "2 of 8 rows hold 14 lines"),
    "old Macs": (swallowed(30, [(3, 6)]).replace(b"\n", b"\r"), "1 of 27 rows hold 4 lines"),
    "another number of fields": (
        swallowed(30, [(3, 26)]).replace(b"text 8", b"te,xt").replace(b"text 16", b"te,xt"),
        "1 of 7 rows hold 24 lines",
    ),
    "a long list": (
        b"id,text\n" + b'1,"Roses are red, I said\n%s"\n' % (b"and so are you, I said\n" * 10) * 9,
        "9 of 9 rows hold 108 lines",
    ),
}


@pytest.mark.parametrize("name", LIKE_ROWS)
def test_lines_like_rows_within_a_field_are_said_however_many(tmp_path, capsys, name):
    data, said = LIKE_ROWS[name]
    path = tmp_path / "t.csv"
    path.write_bytes(data)
    counts = ReadCounts()
    rows = int(said.split()[2])
    assert len(read(path, counts=counts)) == rows and counts.records == 0
    assert capsys.readouterr().err.startswith(f"{path}: {said}, which may be rows behind a quote")


@pytest.mark.parametrize("sign", ["\u2028", "\x85", "\f", "\v"])
def test_lines_within_a_field_end_where_those_of_the_file_do(tmp_path, sign):
    data = swallowed(300, [(20, 269)]).replace(b"text 3", f"te{sign}xt".encode())
    (tmp_path / "t.csv").write_bytes(data)
    counts = ReadCounts()
    assert len(read(tmp_path / "t.csv", counts=counts)) == 50 and counts.malformed == 250


@pytest.mark.parametrize("between", [0, 1, 6, 106])
@pytest.mark.parametrize("spoiled", [b"2,bar,y\n", b"2,bar\n", b"2,b\xe9r,y\n"])
def test_swallowed_lines_in_a_row_of_another_length_are_counted(tmp_path, capsys, between, spoiled):
    rows = b"2,bar,y\n" * (between - 1) + spoiled if between else b""
    for header, first in (([], b"id,text,u\n"), (["id", "text", "u"], b"")):
        (tmp_path / "t.csv").write_bytes(first + b'1,"foo,x\n' + rows + b'3,baz,z"\n9,ok,w\n')
        counts = ReadCounts()
        assert read(tmp_path / "t.csv", counts=counts, header=header) == ["ok"]
        assert counts.malformed == between + 2 and capsys.readouterr().err == ""


def test_swallowed_lines_with_a_byte_of_no_text_are_counted(tmp_path, capsys):
    (tmp_path / "t.csv").write_bytes(b'id,text\n1,"foo\n2,b\xe9r\n3,baz"\n9,"a\nb\xe9"\n')
    counts = ReadCounts()
    assert read(tmp_path / "t.csv", counts=counts) == []
    assert counts.malformed == 3 + 1 and capsys.readouterr().err == ""


PROSE = "Dear Anna, how are you?\nWell, I hope\n\nIt is 1,000 miles from here\nOf course, you knew\nRegards,\nBob"


@pytest.mark.parametrize("other", ["17", "anna_1", "2026-01-02", "A title of words", "http://a.com/1,2"])
@pytest.mark.parametrize("text", [PROSE, "Hi,\nthanks\nRegards,\nAnna", "one\ntwo", "f(a, b)\n  return a,b\n\n\nend"])
def test_a_table_of_letters_is_read_without_a_word(tmp_path, capsys, other, text):
    for row in ([other, text], [text, other], [other, text, other]):
        with (tmp_path / "t.csv").open("w", newline="") as stream:
            header = ["text" if value == text else f"n{n}" for n, value in enumerate(row)]
            csv.writer(stream).writerows([header, *[row] * 20])
        counts = ReadCounts()
        assert read(tmp_path / "t.csv", counts=counts) == [text] * 20
        assert counts.records == 0 and capsys.readouterr().err == ""


@pytest.mark.parametrize("written", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("header", [[], ["text"]])
def test_a_table_of_two_bytes_a_letter_is_told_its_encoding(tmp_path, written, header):
    (tmp_path / "t.csv").write_bytes("text\nhello\nworld\n".encode(written))
    with pytest.raises(DataError, match=rf"looks like {written.upper()}: encoding={written} reads it") as error:
        read(tmp_path / "t.csv", header=header, malformed="stop")
    assert error.value.render().replace("\n", "").isprintable() and error.value.nearest is None


@pytest.mark.parametrize(
    ("name", "delimiter", "setting"),
    [
        ("t.csv", ";", "delimiter=';'"),
        ("t.csv", "|", "delimiter='|'"),
        ("t.csv", "\t", "'delimiter=\"\\t\"'"),
        ("t.tsv", ",", "delimiter=','"),
    ],
)
def test_what_lies_between_the_fields_is_named(tmp_path, name, delimiter, setting):
    for row in (
        ["id", "text", "n"], ["id", "text"], ["id", "body"], ["id", '"a, long name"', "text"], ['"id"', '"text"'],
    ):  # fmt: skip
        (tmp_path / name).write_text(f"{delimiter.join(row)}\n{delimiter.join(['a'] * len(row))}\n")
        if delimiter == "," and "," in row[1]:
            continue
        with pytest.raises(DataError, match="has no column 'text'") as error:
            read(tmp_path / name)
        assert error.value.nearest == setting


def test_a_table_of_very_many_columns_is_read_at_once(tmp_path):
    names = [f"gene_{number}" for number in range(20_000)]
    begin = time.process_time()
    check_distinct("t.csv", names)
    with pytest.raises(DataError, match="two columns 'gene_7'"):
        check_distinct("t.csv", [*names, "gene_7", ""])
    (tmp_path / "t.csv").write_bytes(b"id,text\n1," + b'"a\nb",' * 5_000 + b'\n2,"c\nd"\n')
    counts = ReadCounts()
    assert read(tmp_path / "t.csv", counts=counts) == ["c\nd"] and counts.malformed == 5_001
    assert time.process_time() - begin < 1


def test_what_a_quote_may_have_swallowed_is_said_of_a_damaged_table_too(tmp_path, capsys):
    data, said = LIKE_ROWS["few rows"]
    path = tmp_path / "t.csv"
    path.write_bytes(data + b'6,"open\n')
    counts = ReadCounts()
    assert len(read(path, counts=counts, damaged_files="skip")) == 2 and counts.damaged_files == 1
    assert f"{path}: {said}" in capsys.readouterr().err
