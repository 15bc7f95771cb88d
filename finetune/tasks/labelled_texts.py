"""Labelled texts: read from files with fields, split, checked. No torch."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from configs.errors import ConfigError, DataError, nearest
from finetune.tasks.classify_config import ClassifyData, label_text
from finetune.tasks.splitting import PARTS, LabelledText, limit, split

if TYPE_CHECKING:
    from data_prep.reading.documents import Document
    from data_prep.reading.inputs import InputFile

_OWN_WORDS = (("--text-field", "data.text_field"), ("quoting=", "data.quoting="), (", or damaged_files=skip", ""))
"""What the readers of data preparation advise -> what helps here: they have other options and settings."""


@dataclass(frozen=True)
class Repeated:
    """Texts of one part that stand word for word in another, white space aside.

    Attributes:
        part: which part.
        other: in which other one they stand.
        count: how many of `part`.
        first: the id of the first.
    """

    part: str
    other: str
    count: int
    first: str


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
    own = {part: paths for part in PARTS if (paths := getattr(config, f"{part}_texts"))}
    files = {part: _find(paths, config) for part, paths in own.items()}
    _refuse_trained_files(files)
    read = {part: _read(found, config, f"data.{part}_texts") for part, found in files.items()}
    empty = [name for _, names, _ in read.values() for name in names]
    unlabelled = [name for _, _, names in read.values() for name in names]
    everything = read["train"][0]
    shares = {part: 0.0 if part in own and part != "train" else share for part, share in zip(PARTS, config.split)}
    parts = split(everything, shares, seed) | {part: read[part][0] for part in own if part != "train"}
    if "test" not in own and not config.split[2]:
        del parts["test"]
    labels = _choose_labels(parts["train"] if len(own) > 1 else everything, config)
    known = set(labels)
    total = sum(map(len, parts.values()))
    if config.labels is not None or config.min_label_count > 1:
        parts = {part: [e for e in examples if e.label in known] for part, examples in parts.items()}
    left_out = total - sum(map(len, parts.values()))
    parts = {
        part: limit(examples, config.max_train_samples, seed, each_label=True)
        if part == "train"
        else limit(examples, config.max_eval_samples, seed)
        for part, examples in parts.items()
    }
    splits = Splits(parts, labels, left_out, empty, unlabelled, list(_repeated(parts)))
    _check(splits)
    return splits


def _find(paths: Sequence[str], config: ClassifyData) -> list[InputFile]:
    """The files of a part."""
    from data_prep.reading.inputs import find_files

    files = find_files(_source(paths, config))
    for file in files:
        if file.kind == "text":
            raise DataError(
                "is text without labels",
                where=file.path,
                expected="JSON lines, CSV, TSV (.jsonl, .csv, .tsv, also .gz or .zst), Parquet or a dataset",
            )
    return files


def _read(files: list[InputFile], config: ClassifyData, where: str) -> tuple[list[LabelledText], list[str], list[str]]:
    """All examples of some files, in their order, the ids of those without text, and of those with an empty label.

    Raises:
        DataError: names the file or the text.
    """
    from data_prep.reading.documents import ReadCounts
    from data_prep.reading.inputs import work_units
    from data_prep.reading.readers import read_documents

    source = _source([file.path for file in files], config)
    examples, empty, unlabelled = [], [], []
    with _own_words():
        for unit in work_units(files, source):
            for document in read_documents(unit, source, ReadCounts()):
                example = _example(document, config, unit.path)
                if not example.text.strip():
                    empty.append(example.id)
                elif not example.label:
                    unlabelled.append(example.id)
                else:
                    examples.append(example)
    if not examples:
        found = f": {len(empty):,} without text, {len(unlabelled):,} without a label" if empty or unlabelled else ""
        raise DataError(f"holds no examples{found}", where=where, expected="at least one text that has a label")
    return examples, empty, unlabelled


def _source(paths: Sequence[str], config: ClassifyData) -> Any:
    from data_prep.config import SourceConfig

    told = {"text_field": config.text_field, "quoting": config.quoting, "malformed": "stop"}
    return SourceConfig.model_validate({"input": list(paths), **told})


def _refuse_trained_files(files: dict[str, list[InputFile]]) -> None:
    """Refuse to measure on a file that is trained on."""
    trained = {os.path.realpath(file.path) for file in files["train"]}
    for part in ("validation", "test"):
        both = next((file.path for file in files.get(part, []) if os.path.realpath(file.path) in trained), None)
        if both is not None:
            raise DataError(
                f"is {both}, which data.train_texts names, too",
                where=f"data.{part}_texts",
                expected="texts that are not trained on; or null: then data.split shares out data.train_texts",
            )


def _repeated(parts: dict[str, list[LabelledText]]) -> Iterator[Repeated]:
    """Which texts stand in another part; of the test part, those of train are not counted again for validation."""
    words = {part: {" ".join(e.text.split()) for e in examples} for part, examples in parts.items()}
    for part, other in (("validation", "train"), ("test", "train"), ("test", "validation")):
        if part not in parts:
            continue
        spent = words["train"] if other == "validation" else set()
        found = [e.id for e in parts[part] if (text := " ".join(e.text.split())) in words[other] and text not in spent]
        if found:
            yield Repeated(part, other, len(found), found[0])


@contextmanager
def _own_words() -> Iterator[None]:
    try:
        yield
    except DataError as error:
        expected = error.expected or ""
        for theirs, ours in _OWN_WORDS:
            expected = expected.replace(theirs, ours)
        raise DataError(error.problem, where=error.where, expected=expected or None, nearest=error.nearest) from None


def _example(document: Document, config: ClassifyData, path: str) -> LabelledText:
    name = document.metadata.get(config.id_field)
    identity = str(name) if name is not None else document.id
    where = f"{path}, {identity}"
    label = _label(document.metadata, config.label_field, where)
    group = document.text if config.split_by is None else document.metadata.get(config.split_by)
    if group is None:
        raise _no_field(config.split_by or "", document.metadata, where, "data.split_by")
    return LabelledText(identity, document.text, label, str(group))


def _label(record: Any, field: str, where: str) -> str:
    """The label of a record; empty if it has none."""
    if field not in record:
        raise _no_field(field, record, where, "data.label_field")
    value = record[field]
    if value is None or isinstance(value, str):
        return value if value and value.strip() else ""
    if isinstance(value, bool | int):
        return str(label_text(value))
    raise DataError(f"its field {field!r} holds {value!r}", where=where, expected="a label: a string or a whole number")


def _no_field(field: str, record: Any, where: str, key: str) -> DataError:
    keys = [str(name) for name in record]
    return DataError(
        f"has no field {field!r}, only {', '.join(keys[:12])}",
        where=where,
        expected=f"a field that {key} names",
        nearest=nearest(field, keys),
    )


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
