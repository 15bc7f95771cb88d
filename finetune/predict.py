"""Texts of files -> what a saved model says of them, as JSON lines or CSV, in the order of the files."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.errors import ConfigError
from data_prep.storage.publishing import staged_file
from finetune.batches import by_length
from finetune.prediction_input import InputForm, InputRecords, PredictInput
from finetune.predictors import TextPredictor

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
    form = predictor.form(given)
    records = InputRecords(form, given)
    number = 0
    with staged_file(output) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        write = _CsvLines(file) if output.suffix == ".csv" else _JsonLines(file)
        for window in _windows(iter(records), batch_size * _BATCHES_PER_WINDOW):
            for line in _lines(predictor, form, window, batch_size):
                write(line)
            number += len(window)
        records.check(number)
    return Predicted(number, records.bad, records.first_bad)


def _windows(records: Iterator[Any], size: int) -> Iterator[list[Any]]:
    window: list[Any] = []
    for record in records:
        window.append(record)
        if len(window) == size:
            yield window
            window = []
    if window:
        yield window


def _lines(predictor: TextPredictor, form: InputForm, window: Sequence[Any], batch_size: int) -> list[dict[str, Any]]:
    """A line for each record of a window, in order; texts of similar length go through the model together."""
    found: dict[int, dict[str, Any]] = {}
    for numbers in by_length([form.length(record) for record in window], batch_size):
        found |= dict(zip(numbers, predictor([window[number] for number in numbers]), strict=True))
    return [{"id": record.id, **found[number]} for number, record in enumerate(window)]


class _JsonLines:
    def __init__(self, file: Any) -> None:
        self.file = file

    def __call__(self, line: Mapping[str, Any]) -> None:
        self.file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")


class _CsvLines:
    """Rows with the columns of the first line; what is within a field gets columns of its own, such as `a.b`.

    A list stands as JSON.
    """

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
        self.writer.writerow({key: _cell(value) for key, value in flat.items()})


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False, allow_nan=False) if isinstance(value, list) else value
