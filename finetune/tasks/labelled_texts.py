"""Labelled texts: read from files with fields, split, checked. No torch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from configs.errors import ConfigError, DataError, nearest
from finetune.tasks.classify_config import ClassifyData, ProblemType, label_text
from finetune.tasks.example_files import ExampleReader, RecordForm, Records, field_value, group_of, identity
from finetune.tasks.example_parts import LeftOut, Repeated, limit_parts, read_parts, repeated_texts

if TYPE_CHECKING:
    from data_prep.reading.documents import Document

KINDS = frozenset(("jsonl", "json", "csv", "tsv", "parquet", "arrow"))
_EXPECTED = "JSON lines, CSV, TSV (.jsonl, .csv, .tsv, also .gz or .zst), Parquet or a dataset"


@dataclass(frozen=True, slots=True)
class LabelledText:
    """One labelled text, or a pair of texts.

    Attributes:
        id: names it in the predictions.
        first: what is classified.
        label: what it is; of several labels the first, empty where there is none; of a regression the field.
        group: examples of one group stay on one side of the split.
        second: the other text of a pair.
        labels: all of them, where there may be several.
        value: the number of a regression.
    """

    id: str
    first: str
    label: str
    group: str
    second: str | None = None
    labels: tuple[str, ...] = ()
    value: float | None = None

    @property
    def text(self) -> str:
        """All that is read of it."""
        return self.first if self.second is None else f"{self.first}\n{self.second}"


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
        malformed: records that were left out, by the part that names their files.
    """

    parts: dict[str, list[LabelledText]]
    labels: list[str]
    left_out: int
    empty: Sequence[str] = ()
    unlabelled: Sequence[str] = ()
    repeated: Sequence[Repeated] = ()
    malformed: Mapping[str, LeftOut] = field(default_factory=dict)

    def counts(self) -> dict[str, dict[str, int]]:
        """Examples of each part by label."""
        found = {
            part: Counter(label for example in examples for label in example.labels or (example.label,))
            for part, examples in self.parts.items()
        }
        return {part: {label: found[part][label] for label in self.labels} for part in self.parts}


def load_splits(config: ClassifyData, seed: int, problem_type: ProblemType = "single_label_classification") -> Splits:
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
        return _read(records, config, problem_type, empty, unlabelled)

    def keep(examples: list[LabelledText]) -> list[LabelledText]:
        everything.extend(examples)
        return examples

    parts, malformed = read_parts(config, seed, ExampleReader(config, form), read, keep)
    has_own_files = config.validation_texts is not None or config.test_texts is not None
    if problem_type == "regression":
        parts = limit_parts(parts, config, seed)
        splits = Splits(parts, [config.label_field], 0, empty, unlabelled, list(repeated_texts(parts)), malformed)
        _refuse_empty(splits)
        return splits
    labels = _choose_labels(parts["train"] if has_own_files else everything, config)
    known = set(labels)
    left_out = 0
    if config.labels is not None or config.min_label_count > 1:
        total = sum(map(len, parts.values()))
        if problem_type == "multi_label_classification":
            kept = {part: [_with_labels(e, known) for e in examples] for part, examples in parts.items()}
            left_out = sum(a != b for part in parts for a, b in zip(kept[part], parts[part]))
            parts = kept
        else:
            parts = {part: [e for e in examples if e.label in known] for part, examples in parts.items()}
            left_out = total - sum(map(len, parts.values()))
    parts = limit_parts(parts, config, seed)
    splits = Splits(parts, labels, left_out, empty, unlabelled, list(repeated_texts(parts)), malformed)
    _check(splits, fewest=1 if problem_type == "multi_label_classification" else 2)
    return splits


def _with_labels(example: LabelledText, known: set[str]) -> LabelledText:
    """A text with those of its labels that count."""
    labels = tuple(label for label in example.labels if label in known)
    return replace(example, labels=labels, label=labels[0] if labels else "")


def _read(
    records: Records, config: ClassifyData, problem_type: ProblemType, empty: list[str], unlabelled: list[str]
) -> list[LabelledText]:
    """All examples of a part's files, in their order; the ids of those without text or label go into the lists.

    Raises:
        DataError: names the file or the text.
    """
    examples = []
    before = len(empty), len(unlabelled)
    for document, path in records:
        try:
            example = _example(document, config, problem_type, path)
        except DataError as error:
            records.leave_out(error)
            continue
        if not example.first.strip() or (example.second is not None and not example.second.strip()):
            empty.append(example.id)
        elif _is_unlabelled(example, problem_type):
            unlabelled.append(example.id)
        else:
            examples.append(example)
    if not examples:
        records.check()
        counts = len(empty) - before[0], len(unlabelled) - before[1]
        found = f": {counts[0]:,} without text, {counts[1]:,} without a label" if any(counts) else ""
        raise DataError(f"holds no examples{found}", where=records.where, expected="at least one text that has a label")
    return examples


def _is_unlabelled(example: LabelledText, problem_type: ProblemType) -> bool:
    """Whether nothing can be learnt of a text; of several labels, none is an answer, too."""
    if problem_type == "regression":
        return example.value is None
    return problem_type == "single_label_classification" and not example.label


def _example(document: Document, config: ClassifyData, problem_type: ProblemType, path: str) -> LabelledText:
    name, field = identity(document, config.id_field), config.label_field
    where = f"{path}, {name}"
    given = field_value(document, field, "data.label_field", where)
    second = None
    if config.text_pair_field is not None:
        second = field_value(document, config.text_pair_field, "data.text_pair_field", where)
        if not isinstance(second, str):
            raise DataError(f"its field {config.text_pair_field!r} holds {second!r}", where=where, expected="a text")
    example = LabelledText(name, document.text, "", group_of(document, config.split_by, where), second)
    if problem_type == "regression":
        return replace(example, value=_number(given, field, where), label=field)
    if problem_type == "multi_label_classification":
        if given is not None and not isinstance(given, list):
            raise DataError(f"its field {field!r} holds {given!r}", where=where, expected="a list of labels")
        labels = tuple(dict.fromkeys(filter(None, (_label(each, field, where) for each in given or []))))
        return replace(example, labels=labels, label=labels[0] if labels else "")
    return replace(example, label=_label(given, field, where))


def _number(value: Any, field: str, where: str) -> float | None:
    """The number that a field holds, from a table also as text; None if it holds none."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"its field {field!r} holds {value!r}", where=where, expected="a number")
    return number


def _label(value: Any, field: str, where: str) -> str:
    """The label that a field holds; empty if it holds none."""
    if value is None or isinstance(value, str):
        return value if value and value.strip() else ""
    if isinstance(value, bool | int):
        return str(label_text(value))
    raise DataError(f"its field {field!r} holds {value!r}", where=where, expected="a label: a string or a whole number")


def _choose_labels(examples: list[LabelledText], config: ClassifyData) -> list[str]:
    counts = Counter(label for example in examples for label in example.labels or (example.label,) if label)
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


def _refuse_empty(splits: Splits) -> None:
    for part, examples in splits.parts.items():
        if not examples:
            raise DataError("has no examples", where=f"data.{part}_texts", expected="more texts, or another data.split")


def _check(splits: Splits, fewest: int) -> None:
    if len(splits.labels) < fewest:
        found = ", ".join(map(repr, splits.labels)) or "none"
        raise DataError(
            f"the training texts have too few labels: {found}",
            where="data.train_texts",
            expected="at least two" if fewest == 2 else "at least one",
        )
    _refuse_empty(splits)
    counts = splits.counts()
    for part, examples in splits.parts.items():
        found_labels = {label for example in examples for label in example.labels or (example.label,) if label}
        for label in sorted(found_labels - set(splits.labels)):
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
