"""Web pages, alone (.html) or in archives of crawlers (WARC, ARC, WET), as documents: HTML still, from which `clean`
takes the text; or text already, where the archive holds such.

The characters of a page are those of the encoding that it or its server declares, see `page_decoding.decode_page`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

from configs.errors import DataError
from data_prep.config import SourceConfig
from data_prep.reading.answers import Content, content_of, looks_like_html
from data_prep.reading.byte_stream import ByteStream
from data_prep.reading.decompression import MAGIC_BYTES, content_shown
from data_prep.reading.documents import NO_TEXT, Batch, DamagedFileError, ReadCounts, RecordError
from data_prep.reading.encodings import UTF_8, canonical_encoding
from data_prep.reading.files import open_stream, reading
from data_prep.reading.lines import whole
from data_prep.reading.page_decoding import decode_page
from data_prep.reading.records import metadata_of, too_long
from data_prep.reading.work_unit import WorkUnit

IS_TEXT = "is_text"
"""Field of a page whose text needs no extraction."""
_HTML = ("text/html", "application/xhtml+xml")
_SHOWN_BYTES = 1 << 12
_PIECE_BYTES = 1 << 16


def read_html(
    unit: WorkUnit, config: SourceConfig, counts: ReadCounts, fields: Sequence[str] | None
) -> Iterator[Batch]:
    """The page that a file is."""
    with open_stream(unit.path) as stream, reading(unit.path):
        raw = whole(stream, config.max_document_bytes)
    if raw is None:
        too_long(config, counts, unit.path, "byte", 0)
        return
    declared = None if config.encoding == UTF_8 else config.encoding
    text = _decoded(raw, declared, unit.path, 0, config, counts)
    if text is not None:
        yield _page(text, {}, unit, 0, fields)


def read_web_archive(
    unit: WorkUnit, config: SourceConfig, counts: ReadCounts, fields: Sequence[str] | None
) -> Iterator[Batch]:
    """The pages in an archive of a crawler, with `id`, `url` and `date`.

    Answers and resources that hold other things than pages are counted by their kind; requests and notes of the crawler
    are no pages.

    Raises:
        DamagedFileError: if it breaks off.
    """
    from warcio.archiveiterator import ArchiveIterator
    from warcio.exceptions import ArchiveLoadFailed

    # What is declared in the archive is meant for bytes as they are.
    with open_stream(unit.path) as stream:
        watched = _Watched(stream)
        archive: Any = ArchiveIterator(io.BufferedReader(watched, _PIECE_BYTES))
        headers_of = archive.loader.load_http_headers
        # The library breaks at an answer without an address; what it holds is then not looked at.
        archive.loader.load_http_headers = lambda kind, url, *others: headers_of(kind, url or "", *others)
        records = iter(archive)
        at = -1
        while True:
            try:
                with reading(unit.path):
                    record = next(records, None)
                    if record is None and watched.broken:
                        raise EOFError("a complete archive")
                    if record is None:
                        return
                    at += 1
                    if record.rec_type not in ("response", "resource", "conversion"):
                        continue
                    content = content_of(record, config.max_document_bytes)
            except ArchiveLoadFailed as error:
                raise DamagedFileError(f"is no archive of web pages: {error}", where=unit.path) from None
            document = _document(record, content, unit, at, config, counts)
            if document is not None:
                yield _page(*document, unit, at, fields)


class _Watched(ByteStream):
    """A stream whose break is remembered: the library takes one between records for the end."""

    broken = False

    def _next_piece(self) -> bytes | None:
        try:
            return self._read(_PIECE_BYTES) or None
        except EOFError:
            self.broken = True
            raise


def _document(
    record: Any, content: Content, unit: WorkUnit, at: int, config: SourceConfig, counts: ReadCounts
) -> tuple[str, dict[str, Any]] | None:
    """Text and fields of a record that holds a page; None for others, which are counted."""
    raw, where = content.raw, f"{unit.path}, record {at}"
    if len(raw) > config.max_document_bytes:
        too_long(config, counts, unit.path, "record", at)
        return None
    headers = record.rec_headers
    converted = record.rec_type == "conversion"
    # Answers in other protocols than HTTP have the headers of the archive alone.
    content_type = (record.http_headers or headers).get_header("Content-Type")
    media = _media(headers.get_header("WARC-Identified-Payload-Type")) or _media(content_type)
    is_text = converted and media not in _HTML
    problem = content.problem
    if not is_text and media not in _HTML and not (media in (None, "unk") and looks_like_html(raw)):
        problem = f"no page but {media or 'something unknown'}"
    if problem is not None:
        shown = raw[:_SHOWN_BYTES].decode(errors="replace")
        error = RecordError(f"holds {problem}", where=where, kind=problem, raw=shown, place=at)
        counts.leave_out(error, "other_content", config)
        return None
    text = _decoded(raw, content_type, where, at, config, counts)
    if text is None:
        return None
    fields = {
        "id": headers.get_header("WARC-Record-ID"),
        "url": headers.get_header("WARC-Target-URI") or headers.get_header("uri"),
        "date": headers.get_header("WARC-Date") or headers.get_header("archive-date"),
    }
    found = {name: value for name, value in fields.items() if value is not None}
    return text, found | ({IS_TEXT: True} if is_text else {})


def _decoded(
    raw: bytes, declared: str | None, where: str, at: int, config: SourceConfig, counts: ReadCounts
) -> str | None:
    if not raw.strip():
        counts.leave_out(RecordError("holds nothing", where=where, kind=NO_TEXT, place=at), "malformed", config)
        return None
    page = decode_page(raw, declared)
    shown = content_shown(raw[:MAGIC_BYTES]) if page.reason == "unreadable" else None
    if shown is not None:
        problem = f"no page but {shown}"
        error = RecordError(f"holds {problem}", where=where, kind=problem, raw=page.text[:_SHOWN_BYTES], place=at)
        counts.leave_out(error, "other_content", config)
        return None
    if page.reason == "unreadable":
        error = RecordError(
            "is in no encoding that is known",
            where=where,
            expected="a page whose encoding is declared",
            kind="bytes in no known encoding",
            raw=page.text,
            place=at,
        )
        counts.leave_out(error, "malformed", config)
        return None
    counts.replaced += page.replaced > 0
    return page.text


def _page(text: str, fields: dict[str, Any], unit: WorkUnit, at: int, wanted: Sequence[str] | None) -> Batch:
    if wanted is None:
        return Batch([text])
    return Batch([text], [metadata_of(fields, wanted, f"{unit.name}@{at}")], [at])


def _media(content_type: str | None) -> str | None:
    return content_type.split(";")[0].strip().lower() if content_type else None


def check_encoding_of_pages(config: SourceConfig, path: str) -> None:
    """See that the encoding of pages is not given for an archive, whose pages each have their own.

    Raises:
        DataError: if it is.
    """
    if canonical_encoding(config.encoding) != UTF_8:
        raise DataError(
            f"has pages of many encodings; encoding={config.encoding} cannot be meant for all",
            where=path,
            expected="no encoding for archives of web pages, which declare theirs",
        )
