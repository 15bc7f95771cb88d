"""Rows of CSV and TSV files, for `tokenize` and `clean` alike: in bounded memory, what a quote swallows counted."""

from __future__ import annotations

import csv
import enum
import io
from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO

from configs.errors import DataError

# A row of several fields may be longer than one field.
_LINE_FIELDS = 4
# So many lines within a field, all like rows of the table, are rows; fewer may be a part of a text, such as a list.
_SWALLOWED_LINES = 10
_LINES_LOOKED_AT = 200
# Where more of the lines are like rows, they are likely to be rows: some of those may be malformed themselves.
_LIKELY_SHARE = 0.5
# Lines that only have as many fields as the table has columns are seldom prose if they are nearly all, and have so many
# delimiters together.
_ROWS_AMONG_THEM, _DOUBTFUL_DELIMITERS = 0.9, 4


class _Held(enum.IntEnum):
    """What the lines within a field are."""

    TEXT, POSSIBLY_ROWS, LIKELY_ROWS, ROWS = range(4)


class BrokenRow(list[str]):
    """In place of a row: what was read as one and is none.

    Attributes:
        problem: what is wrong with it.
        kind: the same without a number, equal for equal problems.
        lines: how many lines of the file were taken for it.
    """

    def __init__(self, problem: str, lines: int) -> None:
        super().__init__()
        self.kind = problem
        self.problem = problem if lines == 1 else f"{problem}: {lines:,} lines"
        self.lines = lines


class DoubtfulRow(list[str]):
    """A row of several lines that may be text, or rows that a quote swallowed; or one of another length than the first.

    Attributes:
        lines: how many lines of the file it takes.
        likely: whether the lines are like rows of this table, not only of as many fields.
    """

    def __init__(self, row: list[str], lines: int, likely: bool) -> None:
        super().__init__(row)
        self.lines, self.likely = lines, likely


class BrokenRowError(csv.Error):
    """A row that does not end, after which nothing of the file can be trusted.

    Attributes:
        line: where it begins, from 1.
        problem: what is wrong there.
    """

    def __init__(self, line: int, problem: str) -> None:
        self.line, self.problem = line, problem
        super().__init__(f"line {line}: {problem}")


def table_rows(
    stream: BinaryIO, delimiter: str, max_field_chars: int, quoting: bool | None = True, columns: int = 0
) -> Iterator[tuple[int, list[str]]]:
    """The line that each row begins in, and its fields; the header first, rows without any field left away.

    Where text follows a closing quote, or a quoted field holds line after line that is like the rows of the table,
    quotes do not mean what they mean elsewhere: in place of what was read so stands a `BrokenRow`. Where that is not
    sure, it is a `DoubtfulRow`; `_held_within` says what is noticed.

    Bytes that are not UTF-8 become lone surrogates, which no UTF-8 text holds: so they are found row by row.

    Args:
        stream: the bytes of the file, decompressed.
        delimiter: what lies between two fields.
        max_field_chars: no longer field is held in memory.
        quoting: whether double quotes may enclose a field; None: if they enclose each field of the first line.
        columns: how many there are; 0: as many as the first row has fields.

    Raises:
        BrokenRowError: for a field that is longer, or whose quote is still open at the end of the file.
    """
    csv.field_size_limit(max_field_chars)
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
    lines = _Lines(text, _LINE_FIELDS * max_field_chars)
    quoted = lines.are_quoted(delimiter) if quoting is None else quoting
    rows = csv.reader(lines, delimiter=delimiter, strict=True, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE)
    while True:
        begin = rows.line_num + 1
        try:
            row = next(rows, None)
        except csv.Error as error:
            taken = rows.line_num - begin + 1
            if "expected after" in str(error):
                yield begin, BrokenRow("has text after a closing quote", taken)
                continue
            problem = f"a field that begins here is longer than {max_field_chars} characters; is its quote closed?"
            if lines.ended:
                problem = f"a quoted field that begins here does not end: {taken:,} lines are in it"
            elif not quoted:
                problem = f"a field that begins here is longer than {max_field_chars} characters"
            raise BrokenRowError(begin, problem) from None
        if row is None:
            return
        columns = columns or len(row)
        if row:
            taken = rows.line_num - begin + 1
            yield begin, _judged(row, taken, columns, delimiter) if taken > 1 else row


def _judged(row: list[str], taken: int, columns: int, delimiter: str) -> list[str]:
    """A row of several lines, or what stands in its place."""
    held = max(_held_within(row, at, columns, delimiter) for at in range(len(row)))
    if held == _Held.ROWS:
        return BrokenRow("has a quoted field that holds rows; is its quote closed?", taken)
    if held == _Held.TEXT and len(row) == columns:
        return row
    return DoubtfulRow(row, taken, held == _Held.LIKELY_ROWS)


def _held_within(row: list[str], at: int, columns: int, delimiter: str) -> _Held:
    """What the lines within a field of a row are.

    Lines are like rows if they have as many fields as there are columns, some text, no blank before it, as prose has
    after a comma, and at their other end what the row has there: a number, a word, or anything where the row has text.
    Of a table of one column each line is a row: there, many lines without an empty one between them are noticed.
    Nobody can tell rows from a list within a text that looks like them; nor are rows noticed that begin otherwise, of
    which there are few.
    """
    lines = row[at].replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if len(lines) == 1:
        return _Held.TEXT
    if columns == 1:
        many = len(lines) >= _SWALLOWED_LINES and all(lines[1:-1])
        return _Held.POSSIBLY_ROWS if many else _Held.TEXT
    # The first line ends the row that the field begins in, and the last begins the one that it ends in.
    fields = [line.split(delimiter) for line in [*lines[:-1][:_LINES_LOOKED_AT], lines[-1]]]
    delimiters = sum(map(len, fields)) - len(fields)
    # Only where they are as many: a row may have very many fields of several lines.
    before, behind = at, len(row) - at - 1
    if before:
        fields[0] = row[:at] + fields[0] if before + len(fields[0]) == columns else []
    if behind:
        fields[-1] = fields[-1] + row[at + 1 :] if len(fields[-1]) + behind == columns else []
    # Text alone, as the first line is of a field in the last column, does not tell.
    fields = fields[at + 1 == columns : len(fields) - (at == 0)]
    end = 0 if at else -1
    expected = _look_of(row[end])
    full = [line for line in fields if len(line) == columns]
    like = [line for line in full if _looks("".join(line[at : at + 1]), "text") and _looks(line[end], expected)]
    filled = sum(line != [""] for line in fields)
    if len(like) == filled >= _SWALLOWED_LINES:
        return _Held.ROWS
    # A text may end with a line break.
    ended = len(fields) - (not lines[-1])
    if len(like) > _LIKELY_SHARE * filled or len(full) >= max(ended, _SWALLOWED_LINES):
        return _Held.LIKELY_ROWS
    possible = full and len(full) >= _ROWS_AMONG_THEM * ended and delimiters >= _DOUBTFUL_DELIMITERS
    return _Held.POSSIBLY_ROWS if possible else _Held.TEXT


def _looks(value: str, expected: str) -> bool:
    look = _look_of(value)
    return look == expected or (expected == "text" and look != "blank")


def _look_of(value: str) -> str:
    if not value or value[0].isspace():
        return "blank"
    if any(map(str.isspace, value)):
        return "text"
    return "word" if any(map(str.isalpha, value)) else "number"


def check_distinct(path: str, header: list[str]) -> None:
    """See that no two columns have one name; several without a name do no harm.

    Raises:
        DataError: if two have.
    """
    for column, times in Counter(header).items():
        if column and times > 1:
            raise DataError(
                f"has two columns {column!r}", where=path, expected="a first row that names each column once"
            )


class _Lines:
    """The lines of a text, none longer than can be held; knows whether somebody asked for one after the last."""

    def __init__(self, text: io.TextIOWrapper, max_chars: int) -> None:
        self.text, self.max_chars, self.ended, self.first = text, max_chars, False, ""

    def are_quoted(self, delimiter: str) -> bool:
        """Whether each field of the first line is enclosed in quotes."""
        self.first = self.text.readline(self.max_chars + 1)
        fields = self.first.rstrip("\r\n").split(delimiter)
        return all(len(field) > 1 and field[0] == field[-1] == '"' for field in fields)

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line, self.first = self.first or self.text.readline(self.max_chars + 1), ""
        if not line:
            self.ended = True
            raise StopIteration
        if len(line) > self.max_chars:
            raise csv.Error("line too long")
        return line
