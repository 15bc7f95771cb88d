"""How a classification is told: what it reads, its tables, its picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.examples import Splits

if TYPE_CHECKING:
    from finetune.classifier import Encoded

MARKER = "classify.json"
"""The file that tells a classifier's directory; it holds all figures."""
PLOT = "confusion-test.png"


def describe_examples(splits: Splits, encoded: Mapping[str, Encoded], say: Callable[[str], None]) -> None:
    """Say what was read, before training: texts of each part by label, their lengths."""
    for part, counts in splits.counts().items():
        listed = ", ".join(f"{count:,} {label}" for label, count in list(counts.items())[:8])
        more = f" and {len(counts) - 8} labels more" if len(counts) > 8 else ""
        say(f"{part:<10}  {len(splits.parts[part]):>6,} texts: {listed}{more}")
    tokens = [len(row) for row in encoded["train"].rows]
    say(f"tokens      {sum(tokens) / len(tokens):.0f} a text, {max(tokens)} at most; {encoded['train'].cut:,} cut")
    if splits.left_out:
        say(f"left out    {splits.left_out:,} texts of other labels")


def show(test: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    """Print the tables of what every system did on the test part, and where the rest lies."""
    from rich.console import Console

    from finetune.metrics import comparison_table, confusion_table, label_table

    console = Console()
    figures = test["fine-tuned"]
    for table in (label_table(figures), confusion_table(figures), comparison_table(test, "test")):
        console.print(table)
    best = max(test, key=lambda name: test[name]["macro_f1"])
    if best != "fine-tuned":
        console.print(f"note: {best} has a better macro F1 than the fine-tuned model")
    print(f"classifier   {folder}")
    print(f"predictions  {folder / 'predictions-test.jsonl'}")
    written = [folder / name for name in (MARKER, PLOT)]
    print(f"figures      {', '.join(str(path) for path in written if path.exists())}", flush=True)


def plot(figures: Mapping[str, Any], path: Path, say: Callable[[str], None]) -> None:
    """Draw the confusion matrix; whatever goes wrong costs the picture, not the finished training."""
    from finetune.metrics import plot_confusion

    try:
        plot_confusion(figures, path)
    except Exception as error:
        path.unlink(missing_ok=True)
        reason = " ".join(str(error).split())[:200]
        say(f"warning: {path.name} was not drawn ({type(error).__name__}: {reason})")
