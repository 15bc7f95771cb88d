"""Texts of files -> what a saved model says of them, as JSON lines or CSV, in the order of the files."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import ConfigError, DataError
from data_prep.storage.publishing import staged_file
from finetune.batches import by_length
from finetune.predictors import TextPredictor, TextRecord

if TYPE_CHECKING:
    from data_prep.reading.documents import ReadCounts

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


def predict_file(predictor: TextPredictor, given: PredictInput, output: Path, batch_size: int = 32) -> Predicted:
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
    unusable: list[str] = []
    number = 0
    with staged_file(output) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        write = _CsvLines(file) if output.suffix == ".csv" else _JsonLines(file)
        for window in _windows(_records(predictor, given, counts, unusable), batch_size * _BATCHES_PER_WINDOW):
            for line in _lines(predictor, window, batch_size):
                write(line)
            number += len(window)
        bad = counts.records + len(unusable)
        first = next(iter([*counts.first, *unusable]), "")
        if bad > given.max_bad_share * (number + bad):
            raise DataError(
                f"{bad:,} of {number + bad:,} records cannot be used, the first: {first}",
                where="--input",
                expected=f"at most {given.max_bad_share:.2%} of them, --max-bad-share",
            )
        if not number:
            raise DataError("holds no texts", where="--input", expected="at least one")
    return Predicted(number, bad, first)


def _records(predictor: TextPredictor, given: PredictInput, counts: ReadCounts, bad: list[str]) -> Iterator[TextRecord]:
    """The records that can be predicted."""
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
            second = None if predictor.second_field is None else document.metadata.get(predictor.second_field)
            if not document.text.strip():
                if unit.kind == "text":  # an empty line is no record
                    continue
                bad.append(f"{unit.path}, {identity}: no text")
            elif predictor.second_field is not None and not (isinstance(second, str) and second.strip()):
                bad.append(f"{unit.path}, {identity}: no text in the field {predictor.second_field!r}")
            else:
                yield TextRecord(identity, document.text, second)


def _windows(records: Iterator[TextRecord], size: int) -> Iterator[list[TextRecord]]:
    window: list[TextRecord] = []
    for record in records:
        window.append(record)
        if len(window) == size:
            yield window
            window = []
    if window:
        yield window


def _lines(predictor: TextPredictor, window: Sequence[TextRecord], batch_size: int) -> list[dict[str, Any]]:
    """A line for each record of a window, in order; texts of similar length go through the model together."""
    found: dict[int, dict[str, Any]] = {}
    for numbers in by_length([len(record.text) for record in window], batch_size):
        found |= dict(zip(numbers, predictor([window[number] for number in numbers]), strict=True))
    return [{"id": record.id, **found[number]} for number, record in enumerate(window)]


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
