"""A recipe -> phases: pipelines that run one after the other, each over all its tasks.

Deduplication has to see all documents before it can drop one, so each of its stages ends a phase: documents and
signatures are written, the signatures of all tasks compared, and the next phase reads the documents back.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.extractors import Trafilatura

from data_prep.cleaning.comparison import COMPARING, OlderDocuments, comparison
from data_prep.cleaning.config import CleanConfig
from data_prep.cleaning.counting import Counted, Heartbeat, RejectNote, SaveCounts
from data_prep.cleaning.counts import CleaningCounts, StageCounts, utf8_size
from data_prep.cleaning.decontamination import contamination_filter, indexer
from data_prep.cleaning.hashing import accept_strings
from data_prep.cleaning.plan import CleaningPlan
from data_prep.cleaning.shard_files import CleanedReader, CleanedWriter
from data_prep.cleaning.source_reader import SourceReader
from data_prep.cleaning.steps import StableSampler, document_step
from data_prep.cleaning.workspace import DOCUMENTS
from data_prep.reading.pages import IS_TEXT


@dataclass
class Phase:
    """One pipeline.

    Attributes:
        name: of its folders.
        what: for people.
        steps: datatrove's pipeline.
        tasks: in how many parts it runs.
        spent: folders that nobody needs once the phase is done.
    """

    name: str
    what: str
    steps: list[Any]
    tasks: int
    spent: list[Path] = field(default_factory=list)


class PhaseBuilder:
    """Puts the phases of a recipe together.

    Args:
        config: the recipe.
        plan: what is read.
        root: the directory of the unfinished output.
    """

    def __init__(self, config: CleanConfig, plan: CleaningPlan, root: Path) -> None:
        accept_strings()
        self.config, self.plan, self.root = config, plan, root
        self.phases: list[Phase] = []
        self.samples = (config.samples_per_reason, config.sample_chars)
        self.counts = CleaningCounts()
        self.steps: list[PipelineStep] = []
        self.spent: list[Path] = []

    def build(self) -> list[Phase]:
        """All phases in their order.

        Raises:
            DataError: if an evaluation file cannot be used.
            ConfigError: if a setting means what is not there (a language, a splitter).
        """
        if "decontaminate" in self.config.stages:
            step = indexer(self.config, self._work("evaluation"))
            self._add_phase("evaluation", "index of evaluation files", [step], 1)
        self._begin("read", ReadSources(self.config, self.plan, self.counts, self.samples))
        for stage in self.config.stages:
            if stage in COMPARING:
                self._compare(stage)
            else:
                self._document_stage(stage)
        compression = None if self.config.compression == "none" else "zstd"
        writer = CleanedWriter(str(self.root / DOCUMENTS), compression, final=True)
        self._end("documents", [self._counted("write", writer)], final=True)
        return self.phases

    def _document_stage(self, stage: str) -> None:
        note = RejectNote()
        step: PipelineStep
        if stage == "decontaminate":
            step = contamination_filter(self.config, self._work("evaluation"), note, self.counts.stage(stage))
            self.spent.append(self._work("evaluation"))
        else:
            step = document_step(stage, self.config, note)
        self.steps.append(self._counted(stage, step, note))

    def _compare(self, stage: str) -> None:
        """End the phase with signatures, compare them, begin the next phase with the filter."""
        documents = self._work(stage, "documents")
        made = comparison(stage, self.config, self._work(stage), self.counts.stage(stage))
        writer = CleanedWriter(str(documents), "zstd", final=False)
        self._end(f"{stage}_signatures", [self._counted("write", writer), self._timed(stage, made.signature)])
        if made.index is not None:
            folders, signature, index, tasks = made.index
            self._find(stage, "older_signatures", [OlderDocuments(folders), signature], self.config.tasks)
            self._find(stage, "older_index", [index], tasks)
        for name, step, tasks in made.finders:
            self._find(stage, name, [step], tasks)
        self.counts = CleaningCounts()
        self._begin("reread", CleanedReader(str(documents)))
        self.steps.append(self._counted(stage, made.last, made.note, made.reason))
        self.spent += [documents, *made.folders]

    def _find(self, stage: str, name: str, steps: list[PipelineStep], tasks: int) -> None:
        self.counts = CleaningCounts()
        self._add_phase(name, name.replace("_", " "), [*steps[:-1], self._timed(stage, steps[-1])], tasks)

    def _begin(self, key: str, reader: PipelineStep) -> None:
        raw = isinstance(reader, ReadSources)
        first = reader if raw else self._counted(key, reader)
        beats = self.root / "progress" / str(len(self.phases))
        self.steps = [first, Heartbeat(beats, self.counts, "raw" if raw else None)]

    def _end(self, name: str, last: list[PipelineStep], final: bool = False) -> None:
        self._add_phase(name, name.replace("_", " "), [*self.steps, *last], self.config.tasks, final)
        self.steps = []

    def _add_phase(self, name: str, what: str, steps: list[Any], tasks: int, final: bool = False) -> None:
        folder = f"{len(self.phases)}_{name}"
        saving = SaveCounts(self.root / "counts" / folder, self.counts, "clean" if final else None)
        self.phases.append(Phase(folder, what, [*steps, saving], tasks, self.spent))
        self.spent = []

    def _counted(
        self,
        key: str,
        step: PipelineStep,
        note: RejectNote | None = None,
        reason: str | None = None,
        counts: bool = True,
    ) -> Counted:
        return Counted(key, step, self.counts, self.samples, note, reason, counts_documents=counts)

    def _timed(self, key: str, step: PipelineStep) -> Counted:
        return self._counted(key, step, counts=False)

    def _work(self, *names: str) -> Path:
        return self.root.joinpath("work", *names)


class ReadSources(PipelineStep):
    """Reads one source after the other; sampling and extraction are for their sources alone."""

    type, name = "READER", "sources"

    def __init__(
        self, config: CleanConfig, plan: CleaningPlan, counts: CleaningCounts, samples: tuple[int, int]
    ) -> None:
        super().__init__()
        self.chains: list[list[PipelineStep]] = []
        # Seen by the report in this order, also where nothing is dropped.
        for stage in ("read", "sample", "extract"):
            counts.stage(stage)
        for part in plan.parts:
            reader = SourceReader(part, config, counts.stage("read"))
            chain: list[PipelineStep] = [Counted("read", reader, counts, samples)]
            rate = config.sources[part.source].rate
            if rate < 1:
                sampler = StableSampler(rate, config.seed)
                chain.append(Counted("sample", sampler, counts, (0, 0), RejectNote(), "not_sampled"))
            if part.pages:
                settings = config.extraction
                extractor = Trafilatura(settings.favour_precision, False, settings.timeout_s, settings.deduplicate)
                counted = Counted("extract", extractor, counts, samples, reason="no_text", wall=True)
                chain.append(TextOfPages(counted, counts.stage("extract")))
            self.chains.append(chain)

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """The documents of this task."""
        for chain in self.chains:
            documents: Any = None
            for step in chain:
                documents = step.run(documents, rank, world_size)
            yield from documents


class TextOfPages(PipelineStep):
    """Takes the text out of pages; documents of archives that hold text already pass by, and are counted.

    Args:
        extraction: the step for HTML.
        counts: its stage.
    """

    type, name = "EXTRACT", "pages"

    def __init__(self, extraction: Counted, counts: StageCounts) -> None:
        super().__init__()
        self.extraction, self.counts = extraction, counts

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """The texts of this task."""
        for is_text, group in itertools.groupby(data or (), key=lambda document: IS_TEXT in document.metadata):
            if not is_text:
                yield from self.extraction.run(group, rank, world_size)
                continue
            for document in group:
                del document.metadata[IS_TEXT]
                tally, size = self.counts.tally(document.metadata["source"]), utf8_size(document.text)
                tally.documents_in += 1
                tally.documents_out += 1
                tally.bytes_in += size
                tally.bytes_out += size
                yield document
