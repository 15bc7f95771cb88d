"""How a classification is told: the texts that it reads, the tables of its figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from finetune.tasks.base import FINE_TUNED, FROM_SCRATCH
from finetune.tasks.classification_baselines import MAJORITY, MEAN
from finetune.tasks.classify_config import ClassifyConfig
from finetune.tasks.encoded_texts import EncodedTexts
from finetune.tasks.example_parts import told_left_out, told_repeated
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
    if splits.empty:
        yield f"left out    {len(splits.empty):,} without text, the first {splits.empty[0]}"
    if splits.unlabelled:
        yield f"left out    {len(splits.unlabelled):,} without a label, the first {splits.unlabelled[0]}"
    yield from told_left_out(splits.malformed)
    yield from told_repeated(splits.repeated, {part: len(examples) for part, examples in splits.parts.items()})


def result_tables(systems: Mapping[str, Mapping[str, Any]], part: str, config: ClassifyConfig) -> Iterator[Any]:
    """Tables of what every system did on a part; and of each that did better than the fine-tuned one, what to try."""
    from finetune.tasks.classification_metrics import comparison_table, confusion_table, label_table

    figures = systems[FINE_TUNED]
    judged = "macro_f1"
    if config.problem_type == "regression":
        judged = "pearson"
        yield comparison_table(systems, part, ("pearson", "spearman", "mse", "mae"))
    elif config.problem_type == "multi_label_classification":
        yield label_table(figures)
        yield comparison_table(systems, part, ("micro_f1", "macro_f1", "accuracy", "auroc"))
    else:
        yield from (label_table(figures), confusion_table(figures), comparison_table(systems, part))
    for name, found in systems.items():
        if found[judged] > figures[judged]:
            better = f"{found[judged]:.3f} against {figures[judged]:.3f}"
            called = judged.replace("_f1", " F1")
            yield f"note: {name} has a better {called} than the fine-tuned model, {better}."
            yield f"  {_advice(name, config)}"


def _advice(better: str, config: ClassifyConfig) -> str:
    """What to try where another system is better."""
    rate, duration = (
        f"optimizer.lr (now {config.optimizer.lr:g})",
        f"training.duration (now {config.training.duration})",
    )
    if better == FROM_SCRATCH:
        return (
            "What was pretrained did not help. Try to keep more of it, with a smaller "
            f"{rate} or a longer optimizer.warmup; or pretrain for longer, on text like this."
        )
    if better in (MAJORITY, MEAN):
        return f"Next to nothing was learnt. Try another {rate}, a longer {duration}, class_weights=balanced."
    scratch = "" if "scratch" in config.baselines else " baselines=[scratch] shows if the pretraining helped."
    return (
        f"Which words there are tells these labels. Try a longer {duration}, data.max_tokens (now "
        f"{config.data.max_tokens}) where texts were cut, pretraining for longer on text like this.{scratch}"
    )
