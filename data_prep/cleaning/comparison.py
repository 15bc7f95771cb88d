"""datatrove's deduplications as the stages of a recipe: what signs documents, what compares, what drops."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup import (
    ExactDedupConfig,
    ExactDedupFilter,
    ExactDedupSignature,
    ExactFindDedups,
    MinhashBuildIndex,
    MinhashConfig,
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
    SentDedupConfig,
    SentenceDedupFilter,
    SentenceDedupSignature,
    SentenceFindDedups,
)
from datatrove.pipeline.dedup.exact_dedup import ExactDedupBuildIndex
from datatrove.pipeline.dedup.sentence_dedup import SentenceDedupBuildIndex
from datatrove.pipeline.readers import JsonlReader

from configs.errors import DataError
from data_prep.cleaning.config import CleanConfig
from data_prep.cleaning.counting import RejectNote
from data_prep.cleaning.counts import StageCounts
from data_prep.cleaning.record_fields import COMPARED, comparable, value_of
from data_prep.cleaning.words import CountingSplitter, text_simplification, word_splitter

COMPARING = ("url_dedup", "exact_dedup", "sentence_dedup", "minhash_dedup")
_TASKS_PER_FINDER = 8
_LOOK_FIRST = 100
_MOST_UNITS = 65_535  # datatrove keeps a sentence's number in two bytes, and an exact duplicate's priority


@dataclass
class Comparison:
    """The steps of one deduplication.

    Attributes:
        signature: signs the documents of a task.
        finders: name, step and number of tasks of what compares the signatures.
        last: drops what was found; `note` learns why, `reason` is said where the step does not.
        folders: what is no longer needed once the documents have passed `last`.
        index: for older corpora, what signs their documents and what makes an index of the signatures, else None.
    """

    signature: PipelineStep
    finders: list[tuple[str, PipelineStep, int]]
    last: PipelineStep
    note: RejectNote | None
    reason: str
    folders: list[Path]
    index: tuple[list[Path], PipelineStep, PipelineStep, int] | None = field(default=None)


def comparison(stage: str, config: CleanConfig, work: Path, seen: StageCounts) -> Comparison:
    """The deduplication `stage` of a recipe, which works in the folder `work`; `seen` gets what it saw.

    Raises:
        DataError: for an older corpus that is none.
        ConfigError: for a language whose words cannot be told.
    """
    if stage == "minhash_dedup":
        return _near(config, work, seen)
    if stage == "sentence_dedup":
        return _sentences(config, work, seen)
    if stage == "url_dedup":
        longest = config.url_dedup.keep == "longest"
        exact = ExactDedupConfig(FieldValue(config.url_dedup.field), _length if longest else None)
    else:
        exact = ExactDedupConfig(_without_whitespace if config.exact_dedup.ignore_whitespace else _text)
    exact.only_dedup_in_index = False
    older = _older(stage, config)
    signatures, found, signed, index = (work / name for name in ("signatures", "found", "signed", "index"))
    finders = max(1, config.tasks // _TASKS_PER_FINDER)
    note = RejectNote()
    find = ExactFindDedups(
        str(signatures), str(found), exact, index_folder=str(index) if older else None, lines_to_buffer=1000
    )
    build = ExactDedupBuildIndex(str(signed), str(index), "older", exact, lines_to_buffer=1000)
    return Comparison(
        ExactDedupSignature(str(signatures), exact, finders),
        [(f"{stage}_find", find, finders)],
        ExactDedupFilter(str(found), exact, note),  # type: ignore[arg-type]
        note,
        "duplicate",
        [signatures, found, signed, index],
        (older, ExactDedupSignature(str(signed), exact), WithoutEmpty(signed, build), 1) if older else None,
    )


def _near(config: CleanConfig, work: Path, seen: StageCounts) -> Comparison:
    settings = config.minhash_dedup
    minhash = MinhashConfig(
        settings.n_grams,
        settings.buckets,
        settings.hashes_per_bucket,
        settings.seed,
        text_simplification(config.word_language, settings.ignore_numbers),
    )
    splitter = word_splitter(config.word_language)
    words: Any = CountingSplitter(splitter, seen)
    older, note = _older("minhash_dedup", config), RejectNote()
    names = ("signatures", "pairs", "removed", "signed", "index")
    signatures, pairs, removed, signed, index = (work / name for name in names)
    buckets = MinhashDedupBuckets(
        str(signatures),
        str(pairs),
        index_folder=str(index) if older else None,  # type: ignore[arg-type]
        config=minhash,
        only_dedup_in_index=False,
        lines_to_buffer=1000,
    )
    clusters = MinhashDedupCluster(str(pairs), str(removed), minhash, lines_to_buffer=1000)
    sign_older = MinhashDedupSignature(str(signed), minhash, language=splitter)  # type: ignore[arg-type]
    build = MinhashBuildIndex(str(signed), str(index), "older", minhash, lines_to_buffer=1000)
    return Comparison(
        MinhashDedupSignature(str(signatures), minhash, language=words),
        [("minhash_buckets", buckets, settings.buckets), ("minhash_clusters", clusters, 1)],
        MinhashDedupFilter(str(removed), note, lines_to_buffer=1000),  # type: ignore[arg-type]
        note,
        "near_duplicate",
        [signatures, pairs, removed, signed, index],
        (older, sign_older, build, settings.buckets) if older else None,
    )


def _sentences(config: CleanConfig, work: Path, seen: StageCounts) -> Comparison:
    settings = config.sentence_dedup
    sentences = SentDedupConfig(
        n_sentences=settings.span,
        split_sentences=settings.unit == "sentence",
        only_dedup_in_index=False,
        min_doc_words=settings.min_doc_words,
        min_num_sentences=settings.min_num_sentences,
        norm_config=text_simplification(config.word_language, settings.ignore_numbers),
    )
    words: Any = word_splitter(config.word_language)
    counting: Any = CountingSplitter(words, seen)
    older = _older("sentence_dedup", config)
    signatures, found, signed, index = (work / name for name in ("signatures", "found", "signed", "index"))
    finders = max(1, config.tasks // _TASKS_PER_FINDER)
    find = SentenceFindDedups(
        str(signatures),
        str(found),
        str(index) if older else None,  # type: ignore[arg-type]
        sentences,
        lines_to_buffer=1000,
    )
    build = SentenceDedupBuildIndex(str(signed), str(index), "older", sentences, lines_to_buffer=1000)
    return Comparison(
        UnitSignature(str(signatures), finders, sentences, language=counting),
        [("sentence_find", find, finders)],
        SentenceDedupFilter(str(found), sentences, language=words),
        None,
        "too_little_left",
        [signatures, found, signed, index],
        (older, UnitSignature(str(signed), 1, sentences, language=words), WithoutEmpty(signed, build), 1)
        if older
        else None,
    )


class UnitSignature(SentenceDedupSignature):
    """datatrove's, for documents of any number of sentences: those beyond what it can count stay in the text."""

    def get_hashes(self, doc: Document, doc_idx: int) -> list[Any]:
        """Hash, document and sentence of each span."""
        if not self.config.split_sentences and isinstance(self.tokenizer, CountingSplitter):
            self.tokenizer.count_units(doc.text, len(doc.text.splitlines()))
        return super().get_hashes(doc, doc_idx)[: _MOST_UNITS + 1]


class WithoutEmpty(PipelineStep):
    """Runs a step that makes an index, without the files of tasks that signed nothing, at which datatrove's stops."""

    type, name = "DEDUP", "index"

    def __init__(self, folder: Path, step: PipelineStep) -> None:
        super().__init__()
        self.folder, self.step = folder, step

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        """Make the index."""
        for path in self.folder.rglob("*"):
            if path.is_file() and not path.stat().st_size:
                path.unlink()
        self.step.run(data, rank, world_size)


class OlderDocuments(PipelineStep):
    """Reads the documents of finished outputs of `clean`."""

    type, name = "READER", "older documents"

    def __init__(self, folders: list[Path]) -> None:
        super().__init__()
        self.readers = [JsonlReader(str(folder), glob_pattern="*.jsonl*") for folder in folders]

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """The documents of this task."""
        for reader in self.readers:
            yield from reader.run(None, rank, world_size)


class FieldValue:
    """What tells documents apart: a field's value; where there is none, the document itself."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, document: Document) -> str:
        """The text whose hash is compared."""
        found = document.metadata.get(COMPARED)
        if found is not None:
            return str(found)
        value = comparable(value_of(document.metadata.get("fields", document.metadata), self.name))
        return value if value is not None else f"\0{document.id}\0{document.text}"


def warnings_of_older(config: CleanConfig) -> Iterator[str]:
    """One line for each older corpus whose first documents lack the field by which `url_dedup` compares."""
    for folder in _older("url_dedup", config) if "url_dedup" in config.stages else ():
        first = list(islice(OlderDocuments([folder]).run(), _LOOK_FIRST))
        name = config.url_dedup.field
        if first and all(comparable(value_of(document.metadata, name)) is None for document in first):
            yield (
                f"url_dedup.against, {folder.parent}: none of the first {len(first)} documents has a value in the "
                f"field {name!r}; what has none is no copy of anything"
            )


def _older(stage: str, config: CleanConfig) -> list[Path]:
    folders = []
    for path in getattr(config, stage).against:
        if not (path / "report.json").is_file() or not any((path / "documents").glob("*.jsonl*")):
            raise DataError(
                "is no output of `clean`",
                where=f"{stage}.against, {path}",
                expected="the directory that a `clean` has finished, with report.json and documents/",
            )
        folders.append((path / "documents").absolute())
    return folders


def _text(document: Document) -> str:
    return document.text


def _without_whitespace(document: Document) -> str:
    return "".join(document.text.split())


def _length(document: Document) -> int:
    return max(1, min(_MOST_UNITS, len(document.text)))
