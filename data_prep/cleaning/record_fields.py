"""What is taken of a record beside its text: the fields that are kept, the one that is compared, and which it has."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

from configs.errors import DataError, nearest
from data_prep.cleaning.config import CleanConfig, CleanSource
from data_prep.cleaning.counts import StageCounts
from data_prep.reading.pages import IS_TEXT
from data_prep.reading.records import MAX_DEPTH, NESTED_TOO_DEEP, field_names, field_of

COMPARED = "url_dedup_value"
"""In the metadata of a document, until it is published: the value of `url_dedup.field`, if that is not kept."""
_PLAIN = (str, int, float, bool, type(None))
_LOOK_FIRST = 100
_MOST_NAMES = 200


class FieldCounter:
    """Counts, in the counts of the stage `read`, which fields the records of a source have.

    Args:
        config: the recipe.
        source: name of the source.
        stage: of the stage `read`.
    """

    def __init__(self, config: CleanConfig, source: str, stage: StageCounts) -> None:
        self.wanted = wanted_fields(config, source)
        self.counts = stage.fields.setdefault(source, {}) if self.wanted else {}
        self.records = 0

    def see(self, record: dict[str, Any]) -> None:
        """Count the record's fields: those that the recipe names, and others in the first records, for messages."""
        if not self.wanted:
            return
        names = set(self.wanted)
        self.records += 1
        if self.records <= _LOOK_FIRST and len(self.counts) < _MOST_NAMES:
            names |= {*field_names(record)} - {IS_TEXT}
        for name in names:
            found = value_of(_nested(record) | record, name)
            self.counts[name] = self.counts.get(name, 0) + (not _is_empty(found))


def wanted_fields(config: CleanConfig, source: str) -> frozenset[str]:
    """The fields beside text and id that a recipe names for a source."""
    named = set(config.sources[source].metadata_fields or ())
    return frozenset(named | ({config.url_dedup.field} if "url_dedup" in config.stages else set()))


def warnings_of_fields(config: CleanConfig, stage: StageCounts) -> Iterator[str]:
    """One line for each field that the recipe names and no record of a source has; `stage` is `read`."""
    for source, counts in stage.fields.items():
        for name in sorted(wanted_fields(config, source)):
            if not counts or counts.get(name):
                continue
            if name in (config.sources[source].metadata_fields or ()):
                where = f"sources.{source}.metadata_fields"
            else:
                where = f"url_dedup.field, sources.{source}"
            like = _nearest(name, counts)
            hint = f"; did you mean {like!r}?" if like else ""
            yield f"{where}: no record has a value in the field {name!r}{hint}"


def check_compared_field(config: CleanConfig, stage: StageCounts) -> None:
    """See that some record has the field by which `url_dedup` tells documents apart.

    Args:
        config: the recipe.
        stage: the merged counts of the stage `read`.

    Raises:
        DataError: if none of any source has; names the fields that there are.
    """
    name = config.url_dedup.field
    counts: dict[str, int] = {}
    for of_source in stage.fields.values():
        for other, records in of_source.items():
            counts[other] = counts.get(other, 0) + records
    if "url_dedup" not in config.stages or not counts or counts.get(name):
        return
    there = sorted(other for other, records in counts.items() if records)
    raise DataError(
        f"no record has a value in the field {name!r}, so that no two documents can have the same",
        where="url_dedup.field",
        expected=f"a field of the records ({', '.join(there[:12])}{', ...' if len(there) > 12 else ''})"
        " or a recipe without the stage url_dedup; with --overwrite, for the texts were read with this one",
        nearest=_nearest(name, counts),
    )


def _nearest(name: str, counts: dict[str, int]) -> str | None:
    """The field most like `name` that records have, in whatever case; within others, its last part counts, too."""
    there = [other for other, records in counts.items() if records]
    folded = {other.rpartition(".")[2].casefold(): other for other in reversed(there)}
    folded |= {other.casefold(): other for other in reversed(there)}
    found = nearest(name.casefold(), folded)
    return folded[found] if found else None


def compared_value(record: dict[str, Any], kept: dict[str, Any], name: str) -> str | None:
    """The value of the field `name` of a record as text, where `kept` does not have it; None: it has, or there is none.

    Args:
        record: as it was read.
        kept: its fields that stay with the document.
        name: the field.
    """
    here = value_of(kept, name)
    if isinstance(here, _PLAIN) and here is not None:
        return None
    # Bytes are not published, nor those within lists and objects.
    compared = comparable(value_of(_nested(record) | record, name))
    return None if compared == comparable(here) else compared


def comparable(value: Any) -> str | None:
    """The value of a field as the text by which documents are told apart; None where there is none or an empty one.

    Raises:
        OverflowError: if it has more than `MAX_DEPTH` values within one another.
    """
    return None if _is_empty(value) else str(plain(value, keeps_bytes=True))


def _is_empty(value: Any) -> bool:
    """Whether a value is none: null, not a number, blank, or a list or an object without an item."""
    if isinstance(value, str | bytes | bytearray):
        return not value.strip()
    return value is None or value != value or (isinstance(value, dict | list | tuple) and not value)


def kept_fields(record: dict[str, Any], source: CleanSource, pages: bool, id_field: str) -> dict[str, Any]:
    """The fields that are kept beside text and id.

    Those asked for by name are kept as they are. Else all are, and those of a nested `metadata` stand beside them,
    as with datatrove; what has the name of an outer one stays nested.

    Args:
        record: as it was read.
        source: its source's settings.
        pages: whether the record is a web page.
        id_field: the field of its id.
    """
    text_fields = () if pages else tuple(source.text_field)
    if source.metadata_fields is None:
        for name in text_fields:
            record = _without(record, name)
    inner = record.get("metadata")
    nested = inner if isinstance(inner, dict) else {}
    if source.metadata_fields is not None:
        # The output has these under the same name.
        own = {"text"} if text_fields == ("text",) else set()
        own |= {"id"} if id_field == "id" else set()
        both = nested | record
        wanted = {name: value_of(both, name) for name in source.metadata_fields if name not in own}
        return {name: value for name, value in wanted.items() if value is not None or name in both}
    left_off = (id_field, *((IS_TEXT,) if pages else ()))
    kept = {name: value for name, value in record.items() if name not in left_off}
    if isinstance(inner, dict):
        kept.pop("metadata", None)
    kept |= {name: value for name, value in nested.items() if name not in record}
    hidden = {name: value for name, value in nested.items() if name in record}
    return kept | {"metadata": hidden} if hidden else kept


def _nested(record: dict[str, Any]) -> dict[str, Any]:
    inner = record.get("metadata")
    return inner if isinstance(inner, dict) else {}


def _without(record: dict[str, Any], name: str) -> dict[str, Any]:
    """A copy without a field, which may lie within others, as `field_of` finds it; without it, the record itself."""
    if name in record:
        return {key: value for key, value in record.items() if key != name}
    outer, _, rest = name.partition(".")
    inner = record.get(outer)
    return record | {outer: _without(inner, rest)} if rest and isinstance(inner, dict) else record


def value_of(record: dict[str, Any], name: str) -> Any:
    """The value of a field, which may lie within others; None: there is none."""
    try:
        return field_of(record, name)
    except (KeyError, TypeError, IndexError):
        return None


def plain(value: Any, depth: int = 0, *, keeps_bytes: bool = False) -> Any:
    """`value` as JSON can hold it; bytes, which it cannot hold, are left out.

    Args:
        value: any value.
        depth: how many others it lies within.
        keeps_bytes: whether bytes become text instead, other bytes another one.

    Raises:
        OverflowError: if it has more than `MAX_DEPTH` values within one another.
    """
    if depth > MAX_DEPTH:
        raise OverflowError(NESTED_TOO_DEEP)
    if isinstance(value, dict):
        there = ((key, item) for key, item in value.items() if keeps_bytes or not isinstance(item, bytes | bytearray))
        return {str(key): plain(item, depth + 1, keeps_bytes=keeps_bytes) for key, item in there}
    if isinstance(value, list | tuple):
        items = (item for item in value if keeps_bytes or not isinstance(item, bytes | bytearray))
        return [plain(item, depth + 1, keeps_bytes=keeps_bytes) for item in items]
    if isinstance(value, bytes | bytearray):
        return bytes(value).decode(errors="backslashreplace")
    if isinstance(value, str):
        return value if value.isascii() else value.encode(errors="replace").decode()
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return str(value)
