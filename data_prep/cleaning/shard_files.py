"""Documents between phases and at the end: one file of JSON lines for each task, the same bytes every time."""

from __future__ import annotations

from typing import Any

from datatrove.data import Document
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter

from data_prep.cleaning.record_fields import COMPARED

_RENAMED = "original_"


class CleanedWriter(JsonlWriter):
    """Writes a task's documents to `RANK.jsonl`, `.zst` if compressed; a task without documents writes an empty file.

    datatrove's writer makes no file then, and its name may come from a document's metadata: a later phase, which
    counts files and documents, would take another task's.

    Args:
        folder: where to.
        compression: `zstd` or None.
        final: write the fields of the source beside the text, for users; else as later phases read it.
    """

    name = "shards"

    def __init__(self, folder: str, compression: str | None, final: bool) -> None:
        super().__init__(folder, "${rank}.jsonl", compression=compression, adapter=_flat if final else None)
        self.ending = ".jsonl.zst" if compression == "zstd" else ".jsonl"

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Any:
        """The same documents, written."""
        self.output_mg.get_file(self._get_output_filename(None, rank))
        yield from super().run(data, rank, world_size)

    def _get_output_filename(self, document: Document | None, rank: int | str = 0, **_: Any) -> str:
        return f"{str(rank).zfill(5)}{self.ending}"


class CleanedReader(JsonlReader):
    """Reads back what the task of the same number wrote in an earlier phase."""

    name = "shards"

    def __init__(self, folder: str) -> None:
        super().__init__(folder, compression="infer", add_file_path=False)

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Any:
        """The documents of this task."""
        yield from self.read_file(f"{rank:05d}.jsonl.zst")


def _flat(_: JsonlWriter, document: Document) -> dict[str, Any]:
    """A document as it is published: text, id, source, what the stages found, then the source's own fields.

    A field of the source whose name is taken gets another one, `original_` before it.
    """
    found = dict(document.metadata)
    found.pop(COMPARED, None)
    fields = found.pop("fields", {})
    record = {"text": document.text, "id": document.id, "source": found.pop("source"), **found}
    if record.keys().isdisjoint(fields):
        return record | fields
    taken = record.keys() | fields.keys()
    for name, value in fields.items():
        new = name
        while new in record or (new != name and new in taken):
            new = _RENAMED + new
        record[new] = value
    return record
