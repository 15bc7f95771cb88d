"""A task's examples in parts: from files of their own or by a split, limited, and what stands in two of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from finetune.tasks.example_files import ExampleReader, Records, refuse_trained_files
from finetune.tasks.examples_config import ExamplesData
from finetune.tasks.splitting import PARTS, AnyExample, Example, limit, split


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
class LeftOut:
    """Records of a part that cannot be used.

    Attributes:
        count: how many.
        first: what is wrong with the first of them.
    """

    count: int
    first: str


def read_parts(
    data: ExamplesData,
    seed: int,
    reader: ExampleReader,
    read: Callable[[Records], list[AnyExample]],
    prepare: Callable[[list[AnyExample]], list[AnyExample]] = lambda examples: examples,
) -> tuple[dict[str, list[AnyExample]], dict[str, LeftOut]]:
    """The examples of `train`, `validation` and, if there is such a part, `test`; the same on every process.

    Beside them, by the part that names the files, the records that were left out.

    Args:
        data: which files, and the split.
        seed: of the split.
        reader: of the files.
        read: makes examples of the records of a part's files.
        prepare: changes what `train_texts` holds before it is split.

    Raises:
        DataError: unreadable or malformed input, or a file that trains and is measured.
    """
    own = {part: paths for part in PARTS if (paths := getattr(data, f"{part}_texts"))}
    files = {part: reader.find(paths) for part, paths in own.items()}
    refuse_trained_files(files)
    found, left_out = {}, {}
    for part in own:
        records = reader.records(files[part], part)
        found[part] = read(records)
        records.check()
        if records.counts.records:
            left_out[part] = LeftOut(records.counts.records, records.counts.first[0])
    shares = {part: 0.0 if part in own and part != "train" else share for part, share in zip(PARTS, data.split)}
    parts = split(prepare(found["train"]), shares, seed) | {part: found[part] for part in own if part != "train"}
    if "test" not in own and not data.split[2]:
        del parts["test"]
    return parts, left_out


def limit_parts(parts: Mapping[str, list[AnyExample]], data: ExamplesData, seed: int) -> dict[str, list[AnyExample]]:
    """At most as many examples of each part as the settings say, in training one of each label first."""
    return {
        part: limit(examples, data.max_train_samples, seed, each_label=True)
        if part == "train"
        else limit(examples, data.max_eval_samples, seed)
        for part, examples in parts.items()
    }


def repeated_texts(parts: Mapping[str, Iterable[Example]]) -> Iterator[Repeated]:
    """Which texts stand in another part; of the test part, those of train are not counted again for validation."""
    words = {part: {" ".join(e.text.split()) for e in examples} for part, examples in parts.items()}
    for part, other in (("validation", "train"), ("test", "train"), ("test", "validation")):
        if part not in parts:
            continue
        spent = words["train"] if other == "validation" else set()
        found = [e.id for e in parts[part] if (text := " ".join(e.text.split())) in words[other] and text not in spent]
        if found:
            yield Repeated(part, other, len(found), found[0])


def told_left_out(left_out: Mapping[str, LeftOut]) -> Iterator[str]:
    """Lines for the console on records that cannot be used."""
    for part, found in left_out.items():
        yield f"left out    {found.count:,} records of data.{part}_texts that cannot be used, the first: {found.first}"


def told_repeated(repeated: Iterable[Repeated], counts: Mapping[str, int], what: str = "texts") -> Iterator[str]:
    """Lines for the console on texts that stand in two parts.

    Args:
        repeated: from `repeated_texts`.
        counts: examples of each part.
        what: the examples are called.
    """
    for found in repeated:
        of = f"{found.count:,} of {counts[found.part]:,} {found.part} {what}"
        yield f"note: {of} stand in the {found.other} part word for word, the first {found.first}"
