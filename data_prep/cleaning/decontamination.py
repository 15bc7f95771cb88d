"""Evaluation files -> the index of n-grams that datatrove's decontamination filter looks up."""

from __future__ import annotations

import codecs
import posixpath
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from datatrove.io import DataFolder
from datatrove.pipeline.decont import NGramsDecontConfig, NGramsDecontFilter, NGramsDecontIndexer
from fsspec.core import url_to_fs

from configs.errors import DataError, nearest
from data_prep.cleaning.config import CleanConfig
from data_prep.cleaning.ledger import StageLedger
from data_prep.cleaning.plan import format_of, protocol_of
from data_prep.cleaning.readers import LONGEST_FIELD, open_bytes, whole_system
from data_prep.cleaning.words import CountingSplitter, text_simplification, word_splitter
from data_prep.reading.table_rows import BrokenRowError, table_rows


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
    for system, path in evaluation_files(config):
        name = _unique(posixpath.basename(path).split(".")[0], step.evaluation_texts)
        texts = list(_texts(whole_system(protocol_of(system)), path, config.decontaminate.fields))
        if not any(step.compute_hashes(text) for text in texts):
            raise DataError(
                f"holds no text of {config.decontaminate.n_grams} words",
                where=f"decontaminate.files, {path}",
                expected=f"evaluation texts, or a smaller decontaminate.n_grams, or another word_language than "
                f"{config.word_language}",
            )
        step.evaluation_texts[name] = texts
    return step


def contamination_filter(config: CleanConfig, folder: Path, note: Any, stage: StageLedger) -> NGramsDecontFilter:
    """The filter that drops documents with an n-gram of the index in `folder`; `stage` gets the words that it saw."""
    words: Any = CountingSplitter(word_splitter(config.word_language), stage)
    return NGramsDecontFilter(str(folder), _ngrams(config), note, language=words)


def evaluation_files(config: CleanConfig) -> list[tuple[Any, str]]:
    """File system and path of each evaluation file.

    Raises:
        DataError: if a pattern means no file.
    """
    found = []
    for pattern in config.decontaminate.files:
        system, path = url_to_fs(pattern)
        paths = [path] if system.isfile(path) else [p for p in sorted(system.glob(path)) if system.isfile(p)]
        if not paths:
            raise DataError(
                f"there is no such file: {pattern}", where="decontaminate.files", expected="files with evaluation texts"
            )
        found += [(system, p) for p in paths]
    return found


def _texts(folder: DataFolder, path: str, fields: list[str] | None) -> Iterator[str]:
    try:
        with open_bytes(folder, path) as stream:
            kind = format_of(path)
            if kind == "text":
                yield stream.read().decode("utf-8-sig")
                return
            for record in _records(stream, path, kind):
                missing = [name for name in fields or [] if name not in record]
                if missing:
                    raise DataError(
                        f"has no field {missing[0]!r}, only {', '.join(map(str, record))}",
                        where=f"decontaminate.fields, {path}",
                        nearest=nearest(missing[0], map(str, record)),
                    )
                for name in fields if fields is not None else record:
                    yield from _strings(record[name])
    except (EOFError, OSError, ValueError, BrokenRowError) as error:
        raise DataError(f"cannot be read: {error}", where=f"decontaminate.files, {path}") from None


def _records(stream: Any, path: str, kind: str | None) -> Iterator[dict[str, Any]]:
    if kind == "jsonl":
        for number, line in enumerate(stream):
            if number == 0:
                line = line.removeprefix(codecs.BOM_UTF8)
            if line.strip():
                yield orjson.loads(line)
    elif kind == "csv":
        delimiter = "\t" if ".tsv" in path[-8:] else ","
        rows = table_rows(stream, delimiter, LONGEST_FIELD)
        header = next(rows, (0, []))[1]
        for line, row in rows:
            if len(row) != len(header):
                raise ValueError(f"line {line}: {len(row)} fields for {len(header)} columns")
            "".join(row).encode()  # what is no text shall not pass for one
            yield dict(zip(header, row))
    elif kind == "parquet":
        import pyarrow.parquet as pq

        yield from pq.read_table(stream).to_pylist()
    else:
        raise DataError(
            "is of an unknown kind",
            where=f"decontaminate.files, {path}",
            expected=".jsonl, .csv, .tsv, .parquet or .txt, also compressed",
        )


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
