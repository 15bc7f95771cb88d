"""Rows of CSV and TSV files, for `tokenize` and `clean` alike: in bounded memory, what a quote swallows counted."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import BinaryIO

from configs.errors import DataError

# A row of several fields may be longer than one field.
_LINE_FIELDS = 4
# A field of so many lines that would all be rows is one whose quote was closed by that of another row; one of which
# nearly all would be may be a list.
_SWALLOWED_LINES = 10
_LINES_LOOKED_AT = 200
_ROWS_AMONG_THEM = 0.9
# So many columns more than one in the lines within a field, all together, are seldom those of prose.
_DOUBTFUL_DELIMITERS = 3


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
    """A row with a field of several lines that may be text, or rows that a quote swallowed.

    Attributes:
        lines: how many lines of the file it takes.
    """

    def __init__(self, row: list[str], lines: int) -> None:
        super().__init__(row)
        self.lines = lines


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
    stream: BinaryIO, delimiter: str, max_field_chars: int, quoting: bool | None = True
) -> Iterator[tuple[int, list[str]]]:
    """The line that each row begins in, and its fields; the header first, rows without any field left away.

    Where text follows a closing quote, or a quoted field holds line after line that would be rows, quotes do not mean
    what they mean elsewhere: in place of what was read so stands a `BrokenRow`. Where that is not sure, it is a
    `DoubtfulRow`.

    Bytes that are not UTF-8 become lone surrogates, which no UTF-8 text holds: so they are found row by row.

    Args:
        stream: the bytes of the file, decompressed.
        delimiter: what lies between two fields.
        max_field_chars: no longer field is held in memory.
        quoting: whether double quotes may enclose a field; None: if they enclose each field of the first line.

    Raises:
        BrokenRowError: for a field that is longer, or whose quote is still open at the end of the file.
    """
    csv.field_size_limit(max_field_chars)
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
    lines = _Lines(text, _LINE_FIELDS * max_field_chars)
    quoted = lines.are_quoted(delimiter) if quoting is None else quoting
    rows = csv.reader(lines, delimiter=delimiter, strict=True, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE)
    columns = 0
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
        taken = rows.line_num - begin + 1
        share = max((_share_of_rows(value, delimiter, columns) for value in row), default=0.0) if taken > 2 else 0.0
        if share == 1 and taken > _SWALLOWED_LINES:
            row = BrokenRow("has a quoted field that holds rows; is its quote closed?", taken)
        elif not row:
            continue
        elif share >= _ROWS_AMONG_THEM or (taken > 2 and any(_may_hold_rows(v, delimiter, columns) for v in row)):
            row = DoubtfulRow(row, taken)
        yield begin, row


def _share_of_rows(value: str, delimiter: str, columns: int) -> float:
    """Which share of the lines of a long field would be rows; 0 for a short one."""
    # Not the first and the last line, which are parts of rows.
    lines = value.splitlines()[1:-1][:_LINES_LOOKED_AT]
    if columns < 2 or len(lines) + 2 < _SWALLOWED_LINES:
        return 0.0
    return sum(len(row) == columns for row in csv.reader(lines, delimiter=delimiter)) / len(lines)


def _may_hold_rows(value: str, delimiter: str, columns: int) -> bool:
    # Not the first and the last line, as above. Of one column each line is a row, but an empty one.
    lines = value.splitlines()[1:-1][:_LINES_LOOKED_AT]
    if columns < 2:
        return len(lines) + 2 >= _SWALLOWED_LINES and all(lines)
    if not lines or len(lines) * (columns - 1) < _DOUBTFUL_DELIMITERS:
        return False
    return all(len(row) == columns for row in csv.reader(lines, delimiter=delimiter))


def check_distinct(path: str, header: list[str]) -> None:
    """See that no two columns have one name; several without a name do no harm.

    Raises:
        DataError: if two have.
    """
    for column in header:
        if column and header.count(column) > 1:
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
