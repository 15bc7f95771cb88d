"""Evaluation files -> the index of n-grams that datatrove's decontamination filter looks up."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from datatrove.pipeline.decont import NGramsDecontConfig, NGramsDecontFilter, NGramsDecontIndexer

from configs.errors import DataError, nearest
from data_prep.cleaning.config import CleanConfig
from data_prep.cleaning.counts import StageCounts
from data_prep.cleaning.words import CountingSplitter, text_simplification, word_splitter
from data_prep.config import SourceConfig
from data_prep.reading.columnar import columnar_records
from data_prep.reading.files import open_stream
from data_prep.reading.inputs import InputFile, find_files
from data_prep.reading.json_layout import is_json_document
from data_prep.reading.kinds import COLUMNAR
from data_prep.reading.lines import line_blocks, lines_of
from data_prep.reading.records import parse_record
from data_prep.reading.separated import rows_of
from data_prep.reading.table_rows import BrokenRowError
from data_prep.reading.work_unit import Kind, WorkUnit


class EvaluationIndexer(NGramsDecontIndexer):
    """datatrove's indexer for files at hand.

    datatrove's own takes its tasks from lighteval, which loads them from the network; the n-grams, their hashes and
    the index are the same.
    """

    def __new__(cls, *args: object, **settings: object) -> EvaluationIndexer:
        """Past the question whether lighteval is installed."""
        return object.__new__(cls)

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        """Write one index for each evaluation file in the metadata-free way that the filter reads."""
        for name, texts in self.evaluation_texts.items():
            hashes = {value for text in texts for value in self.compute_hashes(text)}
            self.stat_update("ngrams", value=len(hashes))
            array = np.array(sorted(hashes), dtype=self.config.hash_config.np_descr)
            with self.output_folder.open(f"{name}.index.hashes", mode="wb") as stream:
                stream.write(array.tobytes())

    evaluation_texts: dict[str, list[str]]


def indexer(config: CleanConfig, folder: Path) -> EvaluationIndexer:
    """The step that writes the index of the recipe's evaluation files into `folder`.

    Raises:
        DataError: if a file is missing, is damaged, or holds no n-gram.
    """
    step = EvaluationIndexer(
        str(folder),
        config=_ngrams(config),
        language=word_splitter(config.word_language),  # type: ignore[arg-type]
    )
    step.evaluation_texts = {}
    for file in evaluation_files(config):
        name = _unique(posixpath.basename(file.path).split(".")[0], step.evaluation_texts)
        texts = list(_texts(file, config.decontaminate.fields))
        if not any(step.compute_hashes(text) for text in texts):
            raise DataError(
                f"holds no text of {config.decontaminate.n_grams} words",
                where=f"decontaminate.files, {file.path}",
                expected=f"evaluation texts, or a smaller decontaminate.n_grams, or another word_language than "
                f"{config.word_language}",
            )
        step.evaluation_texts[name] = texts
    return step


def contamination_filter(config: CleanConfig, folder: Path, note: Any, stage: StageCounts) -> NGramsDecontFilter:
    """The filter that drops documents with an n-gram of the index in `folder`; `stage` gets the words that it saw."""
    words: Any = CountingSplitter(word_splitter(config.word_language), stage)
    return NGramsDecontFilter(str(folder), _ngrams(config), note, language=words)


def evaluation_files(config: CleanConfig) -> list[InputFile]:
    """The evaluation files.

    Raises:
        DataError: if a pattern means no file, or one that is not read.
    """
    try:
        return find_files(SourceConfig.model_validate({"input": config.decontaminate.files}))
    except DataError as error:
        raise DataError(
            error.problem,
            where=f"decontaminate.files, {error.where}",
            expected=error.expected or "files with evaluation texts",
            nearest=error.nearest,
        ) from None


def _texts(file: InputFile, fields: list[str] | None) -> Iterator[str]:
    where = f"decontaminate.files, {file.path}"
    try:
        if file.kind == "text":
            with open_stream(file.path) as stream:
                yield stream.read().decode("utf-8-sig")
            return
        for record in _records(file):
            missing = [name for name in fields or [] if name not in record]
            if missing:
                raise DataError(
                    f"has no field {missing[0]!r}, only {', '.join(map(str, record))}",
                    where=f"decontaminate.fields, {file.path}",
                    nearest=nearest(missing[0], map(str, record)),
                )
            for name in fields if fields is not None else record:
                yield from _strings(record[name])
    except DataError as error:
        if str(error.where).startswith("decontaminate."):
            raise
        raise DataError(f"cannot be read: {error.problem}", where=f"decontaminate.files, {error.where}") from None
    except (EOFError, OSError, ValueError, BrokenRowError) as error:
        raise DataError(f"cannot be read: {error}", where=where) from None


def _records(file: InputFile) -> Iterator[dict[str, Any]]:
    if file.kind in COLUMNAR:
        yield from columnar_records(file.path, file.kind)
        return
    settings = SourceConfig.model_validate({"input": file.path})
    if file.kind in ("csv", "tsv"):
        with open_stream(file.path, settings) as stream:
            rows = rows_of(stream, file.kind, settings)
            header = next(rows, (0, []))[1]
            for line, row in rows:
                if len(row) != len(header):
                    raise ValueError(f"line {line}: {len(row)} fields for {len(header)} columns")
                "".join(row).encode()  # what is no text shall not pass for one
                yield dict(zip(header, row))
        return
    kind: Kind = "json" if is_json_document(file.path, settings) else "jsonl"
    unit = WorkUnit(file.path, kind, 0, None, file.state.size_bytes)

    def refuse(at: int) -> None:
        raise ValueError(f"the record at byte {at} is longer than {settings.max_document_bytes} bytes")

    for block in line_blocks(unit, settings.max_document_bytes, refuse, settings):
        for _, record in lines_of(block):
            if record.strip():
                yield parse_record(record)[0]


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)


def _ngrams(config: CleanConfig) -> NGramsDecontConfig:
    settings = config.decontaminate
    simplified = text_simplification(config.word_language, settings.ignore_numbers)
    return NGramsDecontConfig(n_grams=settings.n_grams, norm_config=simplified)


def _unique(name: str, taken: dict[str, list[str]]) -> str:
    number, unique = 2, name
    while unique in taken:
        unique, number = f"{name}-{number}", number + 1
    return unique
