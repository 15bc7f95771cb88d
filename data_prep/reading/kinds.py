"""What is in a file: by its ending or, where the ending does not tell, by its first bytes."""

from __future__ import annotations

import io
import re
from pathlib import PurePosixPath

from configs.errors import DataError
from data_prep.reading.archives import ARCHIVES, is_archive
from data_prep.reading.decompression import COMPRESSIONS
from data_prep.reading.encodings import UTF_8, Utf8Stream, valid_bytes
from data_prep.reading.files import open_stream, reading
from data_prep.reading.guessing import guess_encoding
from data_prep.reading.work_unit import Format

KINDS: dict[str, Format] = {
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".rst": "text",
    ".jsonl": "jsonl",
    ".jsonlines": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".warc": "warc",
    ".arc": "warc",
    ".wet": "warc",
}
COLUMNAR = ("parquet", "arrow")
PAGES = ("html", "warc")
"""Kinds whose text has to be extracted first, which `clean` does."""
_HEAD_BYTES = 1 << 16
# What programs that write in parallel call their parts, often without an ending.
_PART = re.compile(r"part-[\w-]*\d")
_CONTENT = (
    (re.compile(rb"PAR1"), "parquet"),
    (re.compile(rb"ARROW1"), "arrow"),
    (re.compile(rb"WARC/\d"), "warc"),
    (re.compile(rb'\s*(\{\s*["}]|\[\s*\{)'), "jsonl"),
    (re.compile(rb"\s*(<\?xml[^>]*>\s*)?(<!doctype\s+html|<html[\s>])", re.I), "html"),
)
_MARK = b"\xef\xbb\xbf"


def shown_endings(pages: bool) -> str:
    """What the names of input files end in, for messages."""
    endings = [ending for ending, kind in KINDS.items() if pages or kind not in PAGES]
    return (
        f"files ending in {', '.join(endings)}, all but tables of columns also with {', '.join(COMPRESSIONS)}; "
        f"or such files in {', '.join(ARCHIVES)}"
    )


def kind_by_name(path: str) -> Format | None:
    """What the ending of a file tells, compression and the query of an address aside; None: nothing."""
    for name in (path, re.split(r"[?#]", path, maxsplit=1)[0]):
        suffixes = PurePosixPath(name.lower()).suffixes
        if suffixes and suffixes[-1] in COMPRESSIONS:
            suffixes.pop()
        if suffixes and suffixes[-1] in KINDS:
            return KINDS[suffixes[-1]]
    return None


def may_have_no_ending(path: str) -> bool:
    """Whether the name of a file is one that does not tell what is in it."""
    name = PurePosixPath(path.lower())
    stem = PurePosixPath(name.stem) if name.suffix in COMPRESSIONS else name
    return not stem.suffix or _PART.match(stem.name) is not None


def kind_of(path: str, encoding: str = UTF_8) -> Format | None:
    """What is in a file, by its ending or its first bytes, text being in `encoding`; None: nothing that is read.

    Raises:
        DataError: if the ending does not tell and the file cannot be opened.
    """
    kind = kind_by_name(path)
    if kind is not None or is_archive(path) or not may_have_no_ending(path):
        return kind
    return kind_by_content(path, _PART.match(PurePosixPath(path.lower()).name) is not None, encoding)


def kind_by_content(path: str, may_be_text: bool, encoding: str = UTF_8) -> Format | None:
    """What the first bytes of a file show; None: nothing that is read.

    Args:
        path: the file.
        may_be_text: take text that is nothing else for text.
        encoding: of text, JSON and tables.

    Raises:
        DataError: if it cannot be opened.
    """
    with open_stream(path) as stream, reading(path):
        head = stream.read(_HEAD_BYTES)
    # Tables of columns, archives and pages are as they are, whatever the encoding of text.
    heads = [head] if encoding == UTF_8 else [head, Utf8Stream(io.BytesIO(head), encoding).read()]
    for content, kind in _CONTENT:
        if any(content.match(shown.removeprefix(_MARK)) for shown in heads):
            return kind  # type: ignore[return-value]
    is_text = bool(head) and any(b"\0" not in shown and valid_bytes(shown) > len(shown) - 4 for shown in heads)
    return "text" if may_be_text and (is_text or guess_encoding(head) is not None) else None


def check_columns_are_plain(path: str, kind: Format) -> None:
    """See that a table of columns, which compresses its parts itself, is not compressed as a whole.

    Raises:
        DataError: if it is.
    """
    if kind in COLUMNAR and PurePosixPath(path.lower()).suffix in COMPRESSIONS:
        raise DataError(f"is compressed {kind.capitalize()}", where=path, expected=f"a .{kind} file, unpacked")
