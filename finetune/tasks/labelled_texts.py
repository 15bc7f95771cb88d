"""Labelled texts: read from files with fields, split, checked. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from configs.errors import ConfigError, DataError, nearest
from finetune.tasks.classify_config import ClassifyData, label_text
from finetune.tasks.example_files import ExampleReader, RecordForm, Records, field_value, group_of, identity
from finetune.tasks.example_parts import Repeated, limit_parts, read_parts, repeated_texts

if TYPE_CHECKING:
    from data_prep.reading.documents import Document

KINDS = frozenset(("jsonl", "json", "csv", "tsv", "parquet", "arrow"))
_EXPECTED = "JSON lines, CSV, TSV (.jsonl, .csv, .tsv, also .gz or .zst), Parquet or a dataset"


@dataclass(frozen=True, slots=True)
class LabelledText:
    """One labelled text.

    Attributes:
        id: names it in the predictions.
        text: what is classified.
        label: what it is.
        group: examples of one group stay on one side of the split.
    """

    id: str
    text: str
    label: str
    group: str


@dataclass(frozen=True)
class Splits:
    """What trains, what chooses, what is reported.

    Attributes:
        parts: examples of `train`, `validation` and, if there is such a part, `test`.
        labels: all labels, in the order of their numbers.
        left_out: how many examples had another label.
        empty: ids of the examples that were left out because there is no text in them.
        unlabelled: likewise, because their label is empty.
        repeated: texts that are known from another part.
    """

    parts: dict[str, list[LabelledText]]
    labels: list[str]
    left_out: int
    empty: Sequence[str] = ()
    unlabelled: Sequence[str] = ()
    repeated: Sequence[Repeated] = ()

    def counts(self) -> dict[str, dict[str, int]]:
        """Examples of each part by label."""
        found = {part: Counter(example.label for example in examples) for part, examples in self.parts.items()}
        return {part: {label: found[part][label] for label in self.labels} for part in self.parts}


def load_splits(config: ClassifyData, seed: int) -> Splits:
    """Read, split, choose labels, limit; the same for every process and every order of the lines.

    Raises:
        DataError: unreadable or malformed input, a file that trains and is measured, a part without examples, fewer
            than two labels, a label that is in validation or test but not in training.
    """
    form = RecordForm(config.text_field, KINDS, _EXPECTED, settings={"quoting": config.quoting})
    empty: list[str] = []
    unlabelled: list[str] = []
    everything: list[LabelledText] = []

    def read(records: Records) -> list[LabelledText]:
        return _read(records, config, empty, unlabelled)

    def keep(examples: list[LabelledText]) -> list[LabelledText]:
        everything.extend(examples)
        return examples

    parts = read_parts(config, seed, ExampleReader(config, form), read, keep)
    has_own_files = config.validation_texts is not None or config.test_texts is not None
    labels = _choose_labels(parts["train"] if has_own_files else everything, config)
    known = set(labels)
    total = sum(map(len, parts.values()))
    if config.labels is not None or config.min_label_count > 1:
        parts = {part: [e for e in examples if e.label in known] for part, examples in parts.items()}
    left_out = total - sum(map(len, parts.values()))
    parts = limit_parts(parts, config, seed)
    splits = Splits(parts, labels, left_out, empty, unlabelled, list(repeated_texts(parts)))
    _check(splits)
    return splits


def _read(records: Records, config: ClassifyData, empty: list[str], unlabelled: list[str]) -> list[LabelledText]:
    """All examples of a part's files, in their order; the ids of those without text or label go into the lists.

    Raises:
        DataError: names the file or the text.
    """
    examples = []
    before = len(empty), len(unlabelled)
    for document, path in records:
        try:
            example = _example(document, config, path)
        except DataError as error:
            records.leave_out(error)
            continue
        if not example.text.strip():
            empty.append(example.id)
        elif not example.label:
            unlabelled.append(example.id)
        else:
            examples.append(example)
    records.check()
    if not examples:
        counts = len(empty) - before[0], len(unlabelled) - before[1]
        found = f": {counts[0]:,} without text, {counts[1]:,} without a label" if any(counts) else ""
        raise DataError(f"holds no examples{found}", where=records.where, expected="at least one text that has a label")
    return examples


def _example(document: Document, config: ClassifyData, path: str) -> LabelledText:
    name = identity(document, config.id_field)
    where = f"{path}, {name}"
    label = _label(field_value(document, config.label_field, "data.label_field", where), config.label_field, where)
    return LabelledText(name, document.text, label, group_of(document, config.split_by, where))


def _label(value: Any, field: str, where: str) -> str:
    """The label that a field holds; empty if it holds none."""
    if value is None or isinstance(value, str):
        return value if value and value.strip() else ""
    if isinstance(value, bool | int):
        return str(label_text(value))
    raise DataError(f"its field {field!r} holds {value!r}", where=where, expected="a label: a string or a whole number")


def _choose_labels(examples: list[LabelledText], config: ClassifyData) -> list[str]:
    counts = Counter(example.label for example in examples)
    if config.labels is not None:
        for label in config.labels:
            if label not in counts:
                raise ConfigError(
                    f"{label!r} is the label of no training text",
                    where="data.labels",
                    expected=f"labels of {', '.join(sorted(counts)[:20])}",
                    nearest=nearest(label, counts),
                )
        if len(set(config.labels)) < len(config.labels):
            raise ConfigError("names a label twice", where="data.labels")
        return [label for label in config.labels if counts[label] >= config.min_label_count]
    return sorted(label for label, count in counts.items() if count >= config.min_label_count)


def _check(splits: Splits) -> None:
    if len(splits.labels) < 2:
        found = ", ".join(map(repr, splits.labels)) or "none"
        raise DataError(
            f"the training texts have too few labels: {found}", where="data.train_texts", expected="at least two"
        )
    counts = splits.counts()
    for part, examples in splits.parts.items():
        if not examples:
            raise DataError("has no examples", where=f"data.{part}_texts", expected="more texts, or another data.split")
        for label in {example.label for example in examples} - set(splits.labels):
            raise DataError(
                f"has the label {label!r}, which no training text has",
                where=f"data.{part}_texts",
                expected=f"one of {', '.join(splits.labels[:20])}",
                nearest=nearest(label, splits.labels),
            )
    missing = [label for label in splits.labels if not counts["train"][label]]
    if missing:
        raise DataError(
            f"no text of the label {missing[0]!r} fell into the training part",
            where="data.train_texts",
            expected="more texts of it, a larger data.max_train_samples, or data.min_label_count to leave it out",
        )
