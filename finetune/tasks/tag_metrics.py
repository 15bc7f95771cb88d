"""Figures of tags: whole entities by strict IOB2 (seqeval), plain tags by label (scikit-learn), and the baseline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from finetune.tasks import bootstrap
from finetune.tasks.classification_metrics import classification_figures
from finetune.tasks.tag_schemes import spans

Tags = Sequence[str]


def entity_figures(gold: Sequence[Tags], predicted: Sequence[Tags], seed: int | None = None) -> dict[str, Any]:
    """Precision, recall and F1 of entities: right are those whose first word, last word and type are.

    Args:
        gold: IOB2 tags of each text.
        predicted: likewise; an `I-` that continues no entity of its type counts for nothing.
        seed: of the interval's resamples of texts; None: no interval.

    Returns:
        `micro_...` (over all entities) and `macro_...` (mean over the types that occur) `precision`, `recall` and `f1`,
        `micro_f1_interval` (95 %), `accuracy` of the words, `samples` (texts), `labels` (by type: precision, recall,
        f1, support).
    """
    from seqeval.metrics import accuracy_score
    from seqeval.metrics.v1 import precision_recall_fscore_support
    from seqeval.scheme import IOB2

    found = [(set(spans(right)), set(spans(given))) for right, given in zip(gold, predicted, strict=True)]
    kinds = sorted({kind for pair in found for _, _, kind in pair[0] | pair[1]})
    figures: dict[str, Any] = {}
    lists = ([list(tags) for tags in gold], [list(tags) for tags in predicted])
    for name in ("micro", "macro"):
        values = (0.0, 0.0, 0.0)
        if kinds:
            values = precision_recall_fscore_support(*lists, average=name, scheme=IOB2, zero_division=0)[:3]
        figures |= {f"{name}_{key}": float(value) for key, value in zip(("precision", "recall", "f1"), values)}
    if seed is not None:
        counts = [[len(right & given), len(given), len(right)] for right, given in found]
        figures["micro_f1_interval"] = bootstrap.interval(counts, bootstrap.micro_f1, seed)
    figures |= {"accuracy": float(accuracy_score(*lists)), "samples": len(gold)}
    columns = (
        precision_recall_fscore_support(*lists, average=None, scheme=IOB2, zero_division=0) if kinds else ((),) * 4
    )
    rows = zip(kinds, *columns, strict=True)
    figures["labels"] = {
        kind: {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(n)}
        for kind, p, r, f, n in rows
    }
    return figures


def plain_figures(
    gold: Sequence[Tags], predicted: Sequence[Tags], labels: Sequence[str], seed: int | None = None
) -> dict[str, Any]:
    """Figures of tags that are no entities: those of `classification_figures`, a word counting as a text does there.

    Args:
        gold: tags of each text.
        predicted: likewise.
        labels: what training saw; tags of `gold` beside them are always wrong, and come last.
        seed: of the interval's resamples of texts; None: no interval.

    Returns:
        besides, `accuracy_interval` (95 %), and `micro_f1`, which is the accuracy.
    """
    unknown = sorted({tag for tags in gold for tag in tags} - set(labels))
    numbers = {label: number for number, label in enumerate([*labels, *unknown])}
    flat = [[numbers[tag] for tags in side for tag in tags] for side in (gold, predicted)]
    figures = classification_figures(flat[0], flat[1], list(numbers))
    figures["micro_f1"] = figures["accuracy"]
    if seed is not None:
        hits = [[sum(a == b for a, b in zip(right, given)), len(right)] for right, given in zip(gold, predicted)]
        figures["accuracy_interval"] = bootstrap.interval(hits, bootstrap.mean, seed)
    return figures


class FrequentTags:
    """The most frequent tag of each word in training; of a word that it never saw, the most frequent one of all.

    Args:
        words: of each text.
        tags: of these words.
    """

    def __init__(self, words: Sequence[Sequence[str]], tags: Sequence[Tags]) -> None:
        counts: dict[str, Counter[str]] = {}
        for text, its_tags in zip(words, tags, strict=True):
            for word, tag in zip(text, its_tags, strict=True):
                counts.setdefault(word, Counter())[tag] += 1
        self.usual = _most_frequent(_total(counts))
        self.of_word = {word: _most_frequent(found) for word, found in counts.items()}

    def tags(self, words: Sequence[str]) -> list[str]:
        """A tag for each word of a text."""
        return [self.of_word.get(word, self.usual) for word in words]


def _most_frequent(counts: Counter[str]) -> str:
    return min(counts, key=lambda tag: (-counts[tag], tag))


def _total(counts: Mapping[str, Counter[str]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for found in counts.values():
        total.update(found)
    return total
