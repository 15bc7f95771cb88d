"""How a classification is told: the texts that it reads, the tables of its figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from finetune.tasks.base import FINE_TUNED
from finetune.tasks.encoded_texts import EncodedTexts
from finetune.tasks.labelled_texts import Splits


def describe_texts(splits: Splits, encoded: Mapping[str, EncodedTexts]) -> Iterator[str]:
    """Lines on what was read, before training: texts of each part by label, their lengths."""
    for part, counts in splits.counts().items():
        listed = ", ".join(f"{count:,} {label}" for label, count in list(counts.items())[:8])
        more = f" and {len(counts) - 8} labels more" if len(counts) > 8 else ""
        yield f"{part:<10}  {len(splits.parts[part]):>6,} texts: {listed}{more}"
    tokens = encoded["train"].lengths
    yield f"tokens      {sum(tokens) / len(tokens):.0f} a text, {max(tokens)} at most; {encoded['train'].cut:,} cut"
    if splits.left_out:
        yield f"left out    {splits.left_out:,} texts of other labels"


def result_tables(systems: Mapping[str, Mapping[str, Any]], part: str) -> Iterator[Any]:
    """Tables of what every system did on a part, and a note where another one did better."""
    from finetune.tasks.classification_metrics import comparison_table, confusion_table, label_table

    figures = systems[FINE_TUNED]
    yield from (label_table(figures), confusion_table(figures), comparison_table(systems, part))
    best = max(systems, key=lambda name: systems[name]["macro_f1"])
    if best != FINE_TUNED:
        yield f"note: {best} has a better macro F1 than the fine-tuned model"
