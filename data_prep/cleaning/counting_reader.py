"""What datatrove's readers lack: records and files that cannot be read are drops with a reason, never silence."""

from __future__ import annotations

import csv
import datetime
import lzma
import posixpath
import zlib
from collections.abc import Iterator
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.readers.base import BaseDiskReader

from configs.errors import DataError, nearest
from data_prep.cleaning.ledger import DAMAGED, MALFORMED, Sample, StageLedger, utf8_size
from data_prep.cleaning.plan import Unit, state_of

# pyarrow's exceptions for damaged files are ValueErrors.
_DAMAGE = (EOFError, OSError, zlib.error, lzma.LZMAError, csv.Error, ValueError)
_LOOK_FIRST = 100
_SHARE_AFTER = 1000
_PLAIN = (str, int, float, bool, type(None))


class CountingReader(BaseDiskReader):
    """What all readers share; comes before datatrove's reader in the order of base classes.

    Attributes that `configure` sets:
        source: name of the source.
        tasks: the units of each task.
        ledger: counts of the stage `read`.
        limits: share of malformed records, number of damaged files, characters of a document, samples for each
            reason, characters of a sample.
    """

    def configure(
        self,
        source: str,
        tasks: list[list[Unit]],
        ledger: StageLedger,
        limits: tuple[float, int, int, int, int],
        fields: list[str] | None,
    ) -> CountingReader:
        """Say what is read, and where and how far losses are counted."""
        self.source, self.tasks, self.ledger, self.fields = source, tasks, ledger, fields
        self.max_share, self.max_damaged, self.max_chars, self.sample_limit, self.sample_chars = limits
        self.records = self.malformed = self.damaged = 0
        self.unit: Unit | None = None
        return self

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """The documents of this task.

        Raises:
            DataError: if more is unreadable than the limits allow, or a file is not what it was when planned.
        """
        for unit in self.tasks[rank]:
            self.unit = unit
            try:
                yield from self.read_unit(unit)
            except DataError:
                self._check_unchanged(unit)
                raise
            except _DAMAGE as error:
                self._check_unchanged(unit)
                if isinstance(error, PermissionError | FileNotFoundError):
                    raise DataError(f"cannot be read: {error.strerror}", where=unit.path) from None
                self._count_damage(unit, error)
            else:
                self._check_unchanged(unit)

    def _check_unchanged(self, unit: Unit) -> None:
        system = self.data_folder.fs
        # Else a file system may tell what it has learned when the work was planned.
        system.invalidate_cache(posixpath.dirname(unit.path))
        try:
            now = state_of(system, unit.path)
        except FileNotFoundError:
            now = None
        if now != unit.state:
            size = f"{unit.state[0]:,} bytes when the work began, "
            found = "gone" if now is None else f"{now[0]:,} now" if now[0] != unit.state[0] else "now written anew"
            raise DataError(
                f"was changed while it was read: {size}{found}",
                where=unit.path,
                expected="input that stays as it is; the same command with --overwrite begins anew",
            )

    def read_unit(self, unit: Unit) -> Iterator[Document]:
        """The documents of one unit."""
        return self.read_file(unit.path)

    def get_document_from_dict(self, data: Any, source_file: str, id_in_file: int | str) -> Document | None:
        """The document in a record; None for a record without one, which is counted."""
        self.records += 1
        if not isinstance(data, dict):
            return self.refuse(f"a JSON {type(data).__name__} for an object", repr(data))
        if self.text_key not in data:
            keys = [str(key) for key in data]
            close = nearest(self.text_key, keys)
            hint = f"only {', '.join(keys[:8]) or 'nothing'}" + (f"; did you mean {close}?" if close else "")
            return self.refuse(f"no field {self.text_key!r}", repr(data), hint)
        text = data[self.text_key]
        if text is None or (isinstance(text, str) and not text.strip()):
            return self._drop("empty", "", id_in_file)
        if not isinstance(text, str):
            return self.refuse(f"{type(text).__name__} for text in field {self.text_key!r}", repr(text))
        if not text.isascii() and not _is_utf8(text):
            return self.refuse("bytes that are not UTF-8", text)
        if len(text) > self.max_chars:
            return self._drop("too_long", text, id_in_file)
        found = data.get(self.id_key)
        name = self.unit.name if self.unit is not None else source_file
        identity = str(found) if found is not None else f"{self.source}/{name}@{id_in_file}"
        return Document(text, identity, metadata={"source": self.source, "fields": _plain(self._kept(data))})

    def _kept(self, record: dict[str, Any]) -> dict[str, Any]:
        """The fields that are kept beside text and id.

        Those asked for by name are kept as they are. Else all are, and those of a nested `metadata` stand beside them,
        as with datatrove; what has the name of an outer one stays nested.
        """
        inner = record.get("metadata")
        nested = inner if isinstance(inner, dict) else {}
        if self.fields is not None:
            # The output has these under the same name.
            own = {key for key, name in ((self.text_key, "text"), (self.id_key, "id")) if key == name}
            both = nested | record
            return {name: both[name] for name in self.fields if name in both and name not in own}
        kept = {name: value for name, value in record.items() if name not in (self.text_key, self.id_key)}
        if isinstance(inner, dict):
            kept.pop("metadata", None)
        kept |= {name: value for name, value in nested.items() if name not in record}
        hidden = {name: value for name, value in nested.items() if name in record}
        return kept | {"metadata": hidden} if hidden else kept

    def refuse(self, problem: str, raw: str, hint: str = "") -> Document | None:
        """Count a malformed record: what is wrong (equal words for equal problems), the record, a hint.

        Raises:
            DataError: if nearly all records are, or more than the limit once enough were read.
        """
        self.malformed += 1
        self._drop(f"{MALFORMED}: {problem}", raw, self.records, hint)
        all_bad = self.malformed == self.records == _LOOK_FIRST
        too_many = self.records >= _SHARE_AFTER and self.malformed > self.max_share * self.records
        if self.max_share == 0 or (all_bad and self.max_share < 1) or too_many:
            raise DataError(
                f"{self.malformed} of {self.records} records are malformed; the last has {problem}"
                + (f", {hint}" if hint else ""),
                where=f"sources.{self.source}, {self.unit.path if self.unit else ''}",
                expected=f"max_malformed_share = {self.max_share} or less",
            )
        return None

    def _drop(self, reason: str, raw: str, place: int | str, detail: str = "") -> Document | None:
        size = utf8_size(raw)
        tally = self.ledger.tally(self.source)
        tally.documents_in += 1
        tally.bytes_in += size
        name = self.unit.name if self.unit is not None else ""
        shown = raw[: self.sample_chars].encode(errors="replace").decode()
        sample = Sample(f"{name}@{place}", self.source, shown, detail)
        self.ledger.drop(reason, size, sample, self.sample_limit)
        return None

    def _count_damage(self, unit: Unit, error: Exception) -> None:
        cause = str(error) or type(error).__name__
        self.damaged += 1
        if self.damaged > self.max_damaged:
            raise DataError(
                f"breaks off or is damaged: {cause}",
                where=unit.path,
                expected=f"a complete file; max_damaged_files = {self.max_damaged} would have to be higher to go on",
            ) from None
        sample = Sample(unit.name, self.source, f"{cause}; what came before was read")
        self.ledger.drop(DAMAGED, 0, sample, self.sample_limit)
        # A file is not a document: the ledger's balance of documents is kept.
        self.ledger.tally(self.source).documents_in += 1


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _plain(value: Any) -> Any:
    """`value` as JSON can hold it; what it cannot hold, such as bytes, is left out."""
    if isinstance(value, dict):
        kept = ((str(key), _plain(item)) for key, item in value.items() if not isinstance(item, bytes | bytearray))
        return dict(kept)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value if not isinstance(item, bytes | bytearray)]
    if isinstance(value, str):
        return value if value.isascii() or _is_utf8(value) else value.encode(errors="replace").decode()
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return str(value)
