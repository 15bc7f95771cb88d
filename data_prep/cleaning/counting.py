"""Steps around datatrove's steps: they count what goes in and comes out, take the time, and keep samples of drops."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep

from data_prep.cleaning.counts import CleaningCounts, Sample, StageCounts, utf8_size
from data_prep.storage.publishing import write_whole

Documents = Iterator[Document]
HEARTBEAT_S = 2.0


class RejectNote:
    """Stands where datatrove's filters take a writer for dropped documents, and notes why the last one was dropped."""

    def __init__(self) -> None:
        self.reason: str | None = None

    def __enter__(self) -> RejectNote:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def write(self, document: Document, rank: int = 0, **_: object) -> None:
        """Note the reason that the filter left in the metadata."""
        self.reason = document.metadata.pop("filter_reason", None)


class Counted(PipelineStep):
    """Runs a step and keeps its counts.

    Works for every step that handles one document at a time: a document that the step takes and does not give back
    before it takes the next one was dropped.

    Args:
        key: the stage's name in the counts; several steps may share one.
        step: datatrove's step.
        counts: the task's counts.
        samples: dropped documents to keep for each reason, and how many characters of each.
        note: what the step was given as exclusion writer.
        reason: why a document was dropped, where the step does not say.
        counts_documents: false: only the time is taken.
        wall: take wall time, for a step whose work another process does.
    """

    type = "counted"

    def __init__(
        self,
        key: str,
        step: PipelineStep,
        counts: CleaningCounts,
        samples: tuple[int, int] = (0, 0),
        note: RejectNote | None = None,
        reason: str | None = None,
        counts_documents: bool = True,
        wall: bool = False,
    ) -> None:
        super().__init__()
        self.key, self.name, self.step, self.stats = key, key, step, step.stats
        self.counts, self.note, self.reason = counts, note, reason or key
        self.sample_limit, self.sample_chars = samples
        self.counts_documents = counts_documents
        self.clock: Callable[[], float] = time.perf_counter if wall else time.process_time

    def run(self, data: Documents | None = None, rank: int = 0, world_size: int = 1) -> Documents:
        """The documents that the step gives back."""
        stage = self.counts.stage(self.key)
        flow = _Flow(self, stage)
        began = self.clock()
        result = self.step.run(flow.entering(data) if data is not None else None, rank, world_size)
        stage.seconds += self.clock() - began
        if result is None:
            flow.settle()
            return
        result = iter(result)
        while True:
            began = self.clock()
            document = next(result, None)
            stage.seconds += self.clock() - began
            if document is None:
                break
            flow.leaving(document, is_new=data is None)
            yield document
        flow.settle()


class _Flow:
    """The document that is inside the step."""

    def __init__(self, owner: Counted, stage: StageCounts) -> None:
        self.owner, self.stage = owner, stage
        self.inside: Document | None = None
        self.text, self.size, self.known = "", 0, 0

    def entering(self, data: Documents) -> Documents:
        clock = self.owner.clock
        source = iter(data)
        while True:
            began = clock()
            document = next(source, None)
            # What the steps before take is theirs.
            self.stage.seconds -= clock() - began
            self.settle()
            if document is None:
                return
            if self.owner.counts_documents:
                self.inside, self.text, self.known = document, document.text, len(document.metadata)
                self.size = utf8_size(document.text)
                tally = self.stage.tally(document.metadata["source"])
                tally.documents_in += 1
                tally.bytes_in += self.size
            yield document

    def leaving(self, document: Document, is_new: bool) -> None:
        if not self.owner.counts_documents:
            return
        same = self.inside is not None and document.text == self.text
        size = self.size if same else utf8_size(document.text)
        tally = self.stage.tally(document.metadata["source"])
        if is_new:
            tally.documents_in += 1
            tally.bytes_in += size
        tally.documents_out += 1
        tally.bytes_out += size
        tally.changed += not same and not is_new
        self._count_language(document)
        self.inside = None

    def settle(self) -> None:
        """If the last document did not come back, it was dropped."""
        document, self.inside = self.inside, None
        if document is None:
            return
        note = self.owner.note
        reason = (note.reason if note is not None else None) or self.owner.reason
        if note is not None:
            note.reason = None
        found = list(document.metadata.items())[self.known :]
        detail = ", ".join(f"{key.replace('_', ' ')}: {value}" for key, value in found)
        text = self.text[: self.owner.sample_chars]
        sample = Sample(document.id, document.metadata["source"], text, detail)
        self.stage.drop(reason, self.size, sample, self.owner.sample_limit)
        self._count_language(document)

    def _count_language(self, document: Document) -> None:
        if self.owner.key == "language":
            languages = self.owner.counts.languages
            code = document.metadata["language"]
            languages[code] = languages.get(code, 0) + 1


class Heartbeat(PipelineStep):
    """Lets documents through, counts their lengths and scripts, and tells every few seconds how far the task is.

    Args:
        folder: where the files of all tasks of the phase lie.
        counts: gets the histogram of lengths and, of raw documents, the scripts.
        kind: the name of the histogram, None: none.
    """

    type, name = "progress", "heartbeat"

    def __init__(self, folder: Path, counts: CleaningCounts, kind: str | None) -> None:
        super().__init__()
        self.folder, self.counts, self.kind = folder, counts, kind

    def run(self, data: Documents | None = None, rank: int = 0, world_size: int = 1) -> Documents:
        """The same documents."""
        documents = size = 0
        path = self.folder / f"{rank:05d}.json"
        told = 0.0
        for document in data or ():
            documents += 1
            size += utf8_size(document.text)
            if self.kind is not None:
                self.counts.count_length(self.kind, len(document.text))
            if self.kind == "raw":
                self.counts.count_script(document.text)
            if time.monotonic() - told >= HEARTBEAT_S:
                told = time.monotonic()
                write_whole(path, orjson.dumps([documents, size]), durable=False)
            yield document
        write_whole(path, orjson.dumps([documents, size]), durable=False)


class SaveCounts(PipelineStep):
    """The last step: drains the pipeline, then writes the counts.

    Args:
        folder: where the counts of the phase's tasks lie.
        counts: what the steps before filled.
        kind: the histogram in which the lengths of arriving documents are counted, None: none.
    """

    type, name = "report", "counts"

    def __init__(self, folder: Path, counts: CleaningCounts, kind: str | None = None) -> None:
        super().__init__()
        self.folder, self.counts, self.kind = folder, counts, kind

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        """Consume `data`."""
        if data is not None and self.kind is not None:
            for document in data:
                self.counts.count_length(self.kind, len(document.text))
        elif data is not None:
            deque(data, maxlen=0)
        self.counts.save(self.folder / f"{rank:05d}.json")
