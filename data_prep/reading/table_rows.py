"""Rows of CSV and TSV files, for `tokenize` and `clean` alike: in bounded memory, and never past a quote left open."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import BinaryIO

from configs.errors import DataError

# A row of several fields may be longer than one field.
_LINE_FIELDS = 4


class BrokenRowError(csv.Error):
    """A row that does not end, after which nothing of the file can be trusted.

    Attributes:
        line: where it begins, from 1.
        problem: what is wrong there.
    """

    def __init__(self, line: int, problem: str) -> None:
        self.line, self.problem = line, problem
        super().__init__(f"line {line}: {problem}")


def table_rows(stream: BinaryIO, delimiter: str, max_field_chars: int) -> Iterator[tuple[int, list[str]]]:
    """The line that each row begins in, and its fields; the header first, rows without any field left away.

    Where text follows a closing quote, quotes do not mean what they mean elsewhere, and several rows may have been
    taken for one: what was read so is given out as a row without fields.

    Bytes that are not UTF-8 become lone surrogates, which no UTF-8 text holds: so they are found row by row.

    Args:
        stream: the bytes of the file, decompressed.
        delimiter: what lies between two fields.
        max_field_chars: no longer field is held in memory.

    Raises:
        BrokenRowError: for a field that is longer, or whose quote is still open at the end of the file.
    """
    csv.field_size_limit(max_field_chars)
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
    lines = _Lines(text, _LINE_FIELDS * max_field_chars)
    rows = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        begin = rows.line_num + 1
        try:
            row = next(rows, None)
        except csv.Error as error:
            if "expected after" in str(error):
                yield begin, []
                continue
            problem = f"a field that begins here is longer than {max_field_chars} characters; is its quote closed?"
            if lines.ended:
                problem = "a quoted field that begins here does not end"
            raise BrokenRowError(begin, problem) from None
        if row is None:
            return
        if row:
            yield begin, row


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
        self.text, self.max_chars, self.ended = text, max_chars, False

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self.text.readline(self.max_chars + 1)
        if not line:
            self.ended = True
            raise StopIteration
        if len(line) > self.max_chars:
            raise csv.Error("line too long")
        return line
