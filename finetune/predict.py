"""Texts of files -> what a saved model says of them, as JSON lines or CSV, in the order of the files."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.errors import ConfigError, DataError
from data_prep.storage.publishing import staged_file
from finetune.predictors import Predictor

FORMATS = (".jsonl", ".csv")
_BATCHES_PER_WINDOW = 32
"""Batches whose texts are sorted by length together: less padding, and little is kept in memory."""


@dataclass(frozen=True)
class Predicted:
    """What was done.

    Attributes:
        texts: that were predicted.
        bad: records that were left out.
        first_bad: the first of them, for people.
    """

    texts: int
    bad: int
    first_bad: str


@dataclass(frozen=True)
class PredictInput:
    """Which texts are read.

    Attributes:
        files: files, directories or patterns; a plain text file has a text in each line.
        text_field: field of a record that holds its text; None: as in the model's recipe.
        id_field: field that names a record in the output; where it is missing, file and position do.
        max_bad_share: of the records that may be unusable: left out and counted.
    """

    files: Sequence[str]
    text_field: str | None = None
    id_field: str = "id"
    max_bad_share: float = 0.01


def check_predictions_file(path: Path, overwrite: bool) -> None:
    """Refuse an output that is there already, or of a format that is not written.

    Raises:
        ConfigError: names it.
    """
    if path.suffix not in FORMATS:
        raise ConfigError(f"is {path}", where="--output", expected=f"a file with the ending {' or '.join(FORMATS)}")
    if path.is_dir() or (path.exists() and not overwrite):
        expected = "the path of a file" if path.is_dir() else "a new file, or --overwrite to replace this one"
        raise ConfigError("exists already", where=path, expected=expected)


def predict_file(predictor: Predictor, given: PredictInput, output: Path, batch_size: int = 32) -> Predicted:
    """Write a line for each text, in the order of the input; the file appears when it is complete.

    Args:
        predictor: the saved model.
        given: which texts.
        output: `.jsonl` or `.csv`.
        batch_size: texts at a time.

    Raises:
        UserError: unreadable files, too many bad records, no text at all.
    """
    from data_prep.reading.documents import ReadCounts

    counts = ReadCounts()
    empty: list[str] = []
    number = 0
    with staged_file(output) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        write = _CsvLines(file) if output.suffix == ".csv" else _JsonLines(file)
        for window in _windows(_texts(predictor, given, counts, empty), batch_size * _BATCHES_PER_WINDOW):
            for line in _lines(predictor, window, batch_size):
                write(line)
            number += len(window)
        bad = counts.records + len(empty)
        first = next(iter([*counts.first, *empty]), "")
        if bad > given.max_bad_share * (number + bad):
            raise DataError(
                f"{bad:,} of {number + bad:,} records cannot be used, the first: {first}",
                where="--input",
                expected=f"at most {given.max_bad_share:.2%} of them, --max-bad-share",
            )
        if not number:
            raise DataError("holds no texts", where="--input", expected="at least one")
    return Predicted(number, bad, first)


def _texts(predictor: Predictor, given: PredictInput, counts: Any, empty: list[str]) -> Iterator[tuple[str, str]]:
    """The id and the text of each record."""
    from data_prep.config import SourceConfig
    from data_prep.reading.inputs import find_files, work_units
    from data_prep.reading.readers import read_documents

    field = given.text_field or predictor.text_field
    told = {"text_field": field, "text_documents": "line", "malformed": "skip"}
    source = SourceConfig.model_validate({"input": list(given.files), **told})
    for unit in work_units(find_files(source), source):
        for document in read_documents(unit, source, counts):
            name = document.metadata.get(given.id_field)
            identity = document.id if name is None else str(name)
            if document.text.strip():
                yield identity, document.text
            else:
                empty.append(f"{unit.path}, {identity}: no text")


def _windows(texts: Iterator[tuple[str, str]], size: int) -> Iterator[list[tuple[str, str]]]:
    window: list[tuple[str, str]] = []
    for each in texts:
        window.append(each)
        if len(window) == size:
            yield window
            window = []
    if window:
        yield window


def _lines(predictor: Predictor, window: Sequence[tuple[str, str]], batch_size: int) -> list[dict[str, Any]]:
    """A line for each text of a window, in order; texts of similar length go through the model together."""
    order = sorted(range(len(window)), key=lambda number: len(window[number][1]))
    found: dict[int, dict[str, Any]] = {}
    for start in range(0, len(order), batch_size):
        numbers = order[start : start + batch_size]
        said = predictor([window[number][1] for number in numbers])
        found |= dict(zip(numbers, said, strict=True))
    return [{"id": identity, **found[number]} for number, (identity, _) in enumerate(window)]


class _JsonLines:
    def __init__(self, file: Any) -> None:
        self.file = file

    def __call__(self, line: Mapping[str, Any]) -> None:
        self.file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")


class _CsvLines:
    """Rows with the columns of the first line; what is within a field gets columns of its own, such as `a.b`."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.writer: csv.DictWriter[str] | None = None

    def __call__(self, line: Mapping[str, Any]) -> None:
        flat: dict[str, Any] = {}
        for key, value in line.items():
            flat |= (
                {f"{key}.{name}": one for name, one in value.items()} if isinstance(value, Mapping) else {key: value}
            )
        if self.writer is None:
            self.writer = csv.DictWriter(self.file, list(flat), lineterminator="\n")
            self.writer.writeheader()
        self.writer.writerow(flat)
