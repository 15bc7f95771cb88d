"""Labelled texts: read from JSON lines, split, checked. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import xxhash

from configs.errors import ConfigError, DataError, nearest
from finetune.tasks.classify_config import ClassifyData

if TYPE_CHECKING:
    from data_prep.reading.documents import Document

PARTS = ("train", "validation", "test")
_OWN_WORDS = (("--text-field", "data.text_field"), (", or damaged_files=skip", ""))
"""What the readers of data preparation advise -> what helps here: they have other options and settings."""


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
        parts: examples of `train`, `validation` and `test`.
        labels: all labels, in the order of their numbers.
        left_out: how many examples had another label.
    """

    parts: dict[str, list[LabelledText]]
    labels: list[str]
    left_out: int

    def counts(self) -> dict[str, dict[str, int]]:
        """Examples of each part by label."""
        found = {part: Counter(example.label for example in examples) for part, examples in self.parts.items()}
        return {part: {label: found[part][label] for label in self.labels} for part in self.parts}


def load_splits(config: ClassifyData, seed: int) -> Splits:
    """Read, split, choose labels, limit; the same for every process and every order of the lines.

    Raises:
        DataError: unreadable or malformed input, an empty text, a part without examples, fewer than two labels, a label
            that is in validation or test but not in training.
    """
    everything = read_examples(config.train, config, "data.train")
    own = {part: getattr(config, part) for part in ("validation", "test")}
    shares = {part: 0.0 if own.get(part) else share for part, share in zip(PARTS, config.split)}
    parts = split(everything, shares, seed)
    for part, paths in own.items():
        if paths:
            parts[part] = read_examples(paths, config, f"data.{part}")
    labels = _choose_labels(parts["train"] if any(own.values()) else everything, config)
    known = set(labels)
    chosen = config.labels is not None or config.min_label_count > 1
    total = sum(map(len, parts.values()))
    if chosen:
        parts = {part: [e for e in examples if e.label in known] for part, examples in parts.items()}
    left_out = total - sum(map(len, parts.values()))
    limits = (config.max_train_samples, config.max_eval_samples, config.max_eval_samples)
    parts = {part: limit(parts[part], count, seed) for part, count in zip(PARTS, limits)}
    splits = Splits(parts, labels, left_out)
    _check(splits)
    return splits


def read_examples(paths: Sequence[str], config: ClassifyData, where: str) -> list[LabelledText]:
    """All examples of some files, in their order.

    Raises:
        DataError: names the file or the text.
    """
    from data_prep.config import SourceConfig
    from data_prep.reading.documents import ReadCounts
    from data_prep.reading.inputs import find_files, work_units
    from data_prep.reading.readers import read_documents

    source = SourceConfig.model_validate({"input": list(paths), "text_field": config.text_field, "malformed": "stop"})
    files = find_files(source)
    for file in files:
        if file.kind != "jsonl":
            raise DataError("is not JSON lines", where=file.path, expected="a .jsonl file, also .gz or .zst")
    with _own_words():
        examples = [
            _example(document, config, unit.path)
            for unit in work_units(files, source)
            for document in read_documents(unit, source, ReadCounts())
        ]
    if not examples:
        raise DataError("holds no examples", where=where)
    return examples


def split(examples: Iterable[LabelledText], shares: dict[str, float], seed: int) -> dict[str, list[LabelledText]]:
    """Put each example where the hash of its group says: adding examples moves none of the others.

    Args:
        examples: in any order.
        shares: of `train`, `validation`, `test`; need not sum to 1.
        seed: decides, together with the group.
    """
    used = {part: share for part, share in shares.items() if share > 0}
    total = sum(used.values())
    parts: dict[str, list[LabelledText]] = {part: [] for part in PARTS}
    for example in examples:
        place = _unit_interval(f"split\0{seed}\0{example.group}") * total
        chosen = PARTS[0]
        for chosen, share in used.items():  # noqa: B007 - the last one takes what rounding leaves
            place -= share
            if place < 0:
                break
        parts[chosen].append(example)
    return parts


def limit(examples: list[LabelledText], count: int | None, seed: int) -> list[LabelledText]:
    """At most `count` examples, chosen by hash, in their order."""
    if count is None or len(examples) <= count:
        return examples
    order = sorted(range(len(examples)), key=lambda n: (_unit_interval(f"pick\0{seed}\0{examples[n].id}"), n))
    return [examples[n] for n in sorted(order[:count])]


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
    if not document.text.strip():
        raise DataError("has an empty text", where=where, expected="text to classify")
    label = _label(document.metadata, config.label_field, where)
    group = document.text if config.split_by is None else document.metadata.get(config.split_by)
    if group is None:
        raise _no_field(config.split_by or "", document.metadata, where, "data.split_by")
    return LabelledText(identity, document.text, label, str(group))


def _unit_interval(text: str) -> float:
    return xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass")) / 2**64


def _label(record: Any, field: str, where: str) -> str:
    if field not in record:
        raise _no_field(field, record, where, "data.label_field")
    value = record[field]
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, bool | int):
        return str(value).lower() if isinstance(value, bool) else str(value)
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
        raise DataError(f"the training texts have too few labels: {found}", where="data.train", expected="at least two")
    counts = splits.counts()
    for part, examples in splits.parts.items():
        if not examples:
            raise DataError("has no examples", where=f"data.{part}", expected="more texts, or another data.split")
        for label in {example.label for example in examples} - set(splits.labels):
            raise DataError(
                f"has the label {label!r}, which no training text has",
                where=f"data.{part}",
                expected=f"one of {', '.join(splits.labels[:20])}",
                nearest=nearest(label, splits.labels),
            )
    missing = [label for label in splits.labels if not counts["train"][label]]
    if missing:
        raise DataError(
            f"no text of the label {missing[0]!r} fell into the training part",
            where="data.train",
            expected="more texts of it, a larger data.max_train_samples, or data.min_label_count to leave it out",
        )
