"""datatrove's reader of each format, with its losses counted."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Any

import orjson
from datatrove.data import Document
from datatrove.io import DataFolder
from datatrove.pipeline.readers import CSVReader, IpcReader, JsonlReader, ParquetReader, WarcReader
from fsspec import filesystem

from configs.errors import DataError, nearest
from data_prep.cleaning.counting_reader import CountingReader
from data_prep.cleaning.plan import Unit
from data_prep.reading.table_rows import check_distinct, table_rows

# Longer documents than `max_document_chars` are counted as such; beyond this a field is one whose quote is not closed.
LONGEST_FIELD = 16 * 2**20


class JsonLines(CountingReader, JsonlReader):
    """JSON lines; ids are positions in bytes, so that a divided file has the same ones."""

    def read_unit(self, unit: Unit) -> Iterator[Document]:
        """The documents whose line begins in the unit."""
        with open_bytes(self.data_folder, unit.path) as stream:
            at = unit.start
            if at:
                stream.seek(at - 1)
                at += len(stream.readline()) - 1
            while unit.stop is None or at < unit.stop:
                line = stream.readline()
                if not line:
                    return
                if line.strip():
                    document = self._document(line, at)
                    if document is not None:
                        yield document
                at += len(line)

    def _document(self, line: bytes, at: int) -> Document | None:
        try:
            record = orjson.loads(line.removeprefix(b"\xef\xbb\xbf") if at == 0 else line)
        except orjson.JSONDecodeError as error:
            self.records += 1
            text = line.decode("utf-8", "replace").rstrip("\n")
            return self.refuse("bytes that are not UTF-8" if "�" in text else f"no JSON ({_kind(error)})", text)
        return self.get_document_from_dict(record, "", at)


class CsvRows(CountingReader, CSVReader):
    """Rows of CSV or, by their ending, TSV files."""

    def read_file(self, filepath: str) -> Iterator[Document]:
        """The documents of one file."""
        with open_bytes(self.data_folder, filepath) as stream:
            delimiter = "\t" if ".tsv" in filepath.lower()[-8:] else ","
            rows = table_rows(stream, delimiter, max(self.max_chars, LONGEST_FIELD))
            header = next(rows, (0, []))[1]
            check_distinct(filepath, header)
            for number, (line, row) in enumerate(rows):
                if len(row) != len(header):
                    self.records += 1
                    # No text is guessed from it: it may be part of one that holds the delimiter.
                    self.refuse(f"{len(row)} fields for {len(header)} columns", delimiter.join(row), f"line {line}")
                    continue
                document = self.get_document_from_dict(dict(zip(header, row)), filepath, number)
                if document is not None:
                    yield document


class ParquetRows(CountingReader, ParquetReader):
    """Rows of Parquet files."""

    def read_file(self, filepath: str) -> Iterator[Document]:
        """The documents of one file.

        Raises:
            DataError: if there is no text column.
        """
        import pyarrow.parquet as pq

        with self.data_folder.open(filepath, "rb") as stream:
            columns = list(pq.read_schema(stream).names)
        if self.text_key not in columns:
            raise DataError(
                f"has no column {self.text_key!r}",
                where=filepath,
                expected=f"one of {', '.join(columns)} as sources.{self.source}.text_field",
                nearest=nearest(self.text_key, columns),
            )
        yield from super().read_file(filepath)


class DatasetRows(CountingReader, IpcReader):
    """Rows of the Arrow files that Hugging Face's `save_to_disk` writes."""


class WarcPages(CountingReader, WarcReader):
    """Pages of WARC, ARC and WET files, still as HTML where they are."""

    def read_file(self, filepath: str) -> Iterator[Document]:
        """The pages of one file.

        Raises:
            EOFError: if it breaks off.
        """
        with contextlib.suppress(ImportError):
            # Brings the library behind python-magic to machines that lack it.
            import pylibmagic  # noqa: F401
        from warcio.exceptions import ArchiveLoadFailed

        self.text_key, self.id_key = "text", "id"
        try:
            yield from super().read_file(filepath)
        except ArchiveLoadFailed as error:
            raise EOFError(str(error)) from None


class WholeFiles(CountingReader):
    """Each file is one document: plain text, or HTML that is extracted next."""

    name = "whole files"

    def read_file(self, filepath: str) -> Iterator[Document]:
        """The file."""
        with open_bytes(self.data_folder, filepath) as stream:
            raw = stream.read()
        text = raw.decode("utf-8-sig", "surrogateescape")
        document = self.get_document_from_dict({self.text_key: text}, filepath, 0)
        if document is not None:
            yield document


class _WholeSystem(DataFolder):
    """A file system whose paths are taken as it gives them; those of HTTP are whole addresses."""

    def _join(self, path: Any) -> Any:
        return path


def whole_system(protocol: str) -> DataFolder:
    """The root of a file system, from which files are opened by their full paths."""
    local = protocol in ("file", "local")
    return _WholeSystem("/" if local else f"{protocol}://", fs=filesystem(protocol))


def open_bytes(folder: DataFolder, path: str) -> Any:
    """The bytes of a file, decompressed as its ending says; truncated archives raise an error at their end."""
    if path.lower().endswith(".zst"):
        from data_prep.reading.decompression import DecompressedStream

        return io.BufferedReader(DecompressedStream(folder.open(path, "rb"), "zstd"), 1 << 20)
    return folder.open(path, "rb", compression="infer")


def _kind(error: orjson.JSONDecodeError) -> str:
    # Without the position, so that equal problems are one reason.
    return str(error).split(":")[0]
