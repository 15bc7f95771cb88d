"""`ngram`: the loss of n-gram models on held-out documents of a corpus, the floor that a neural model must beat."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from configs.errors import DataError
from data_prep.corpus.corpus import Corpus
from data_prep.corpus.split import PartName
from data_prep.ngram.kneser_ney import OrderScore, Predictor
from data_prep.ngram.ngram_documents import Chosen, largest_id, read_part
from data_prep.parallel.progress import LINE_INTERVAL_S
from data_prep.storage.publishing import staged_file
from data_prep.tokenizer import load_tokenizer

NGRAM_FILE = "ngram.json"
METHOD = "modified Kneser-Ney"
MAX_ORDER = 9


@dataclass(frozen=True)
class NgramReport:
    """What `ngram` found; `ngram.json` holds it.

    Attributes:
        split: shares of the parts, as in pretraining's `data.split`.
        training, held_out: what was counted and what was predicted.
        held_out_bytes: UTF-8 bytes of the predicted tokens; None without a tokenizer.
        vocab_size: ids that share the probability.
        scores: of each order, from 1.
        elapsed_s: how long it took.
    """

    split: tuple[float, float, float]
    training: Chosen
    held_out: Chosen
    held_out_bytes: int | None
    vocab_size: int
    scores: list[OrderScore]
    elapsed_s: float

    @property
    def best(self) -> OrderScore:
        """The order with the lowest loss."""
        return min(self.scores, key=lambda score: score.loss_nats)

    def bits_per_byte(self, score: OrderScore) -> float | None:
        """Bits for each UTF-8 byte of text; None where the bytes are not known."""
        if not self.held_out_bytes:
            return None
        return score.loss_nats * self.held_out.tokens / math.log(2) / self.held_out_bytes

    def as_json(self) -> dict[str, Any]:
        """What `ngram.json` holds."""
        orders = [
            {
                "order": score.order,
                "loss_nats": score.loss_nats,
                "perplexity": math.exp(score.loss_nats),
                "bits_per_byte": self.bits_per_byte(score),
                "ngrams": score.ngrams,
                "discounts": score.discounts.values,
                "discounts_estimated": score.discounts.estimated,
            }
            for score in self.scores
        ]
        return {
            "format_version": 1,
            "method": METHOD,
            "split": self.split,
            "training": asdict(self.training),
            "held_out": asdict(self.held_out),
            "held_out_bytes": self.held_out_bytes,
            "vocab_size": self.vocab_size,
            "orders": orders,
            "best_order": self.best.order,
        }

    def lines(self) -> list[str]:
        """The table that the command prints."""
        lines = [
            f"counted    {self.training}",
            f"predicted  {self.held_out}",
            f"{'order':>5}  {'n-grams':>13}  {'loss':>7}  {'perplexity':>10}  {'bits/byte':>9}  discounts",
        ]
        for score in self.scores:
            per_byte = self.bits_per_byte(score)
            discounts = ", ".join(f"{value:.3f}" for value in score.discounts.values)
            if not score.discounts.estimated:
                discounts += " (fixed: too few n-grams to estimate them)"
            lines.append(
                f"{score.order:>5}  {score.ngrams:>13,}  {score.loss_nats:7.4f}  {math.exp(score.loss_nats):10,.2f}"
                f"  {'unknown' if per_byte is None else f'{per_byte:.4f}':>9}  {discounts}"
            )
        lines.append(f"best       order {self.best.order}, loss {self.best.loss_nats:.4f} nats per token")
        lines.append(f"took       {self.elapsed_s:.1f} s")
        return lines


def ngram_floor(
    corpus: Corpus,
    *,
    max_order: int,
    split: tuple[float, float, float],
    max_tokens: int,
    max_held_out_tokens: int,
    validation: Corpus | None = None,
    tokenizer: Path | None = None,
) -> NgramReport:
    """Estimate n-gram models on a corpus' training part, and score them on its validation part or another corpus.

    Args:
        corpus: what is counted.
        max_order: the longest n-grams.
        split: shares of the training, validation and test part, chosen as pretraining chooses them.
        max_tokens: about so many training tokens are counted at most, of documents picked by a hash of their number.
        max_held_out_tokens: likewise for those predicted.
        validation: a corpus that is predicted, all of it, instead of the validation part.
        tokenizer: tokenizer directory of a bare prefix; None: the corpus' own, if any.

    Raises:
        DataError: if a part has no documents, an index is damaged, or the two corpora have different tokenizers.
    """
    started_s = time.monotonic()
    if validation is not None:
        _check_same_tokenizer(corpus, validation)
        validation.check_index()
    corpus.check_index()
    decoder_path = tokenizer or corpus.tokenizer_path
    decoder = load_tokenizer(decoder_path) if decoder_path is not None else None
    vocab_size = corpus.vocab_size or (decoder.vocab_size if decoder is not None else None)
    if vocab_size is None:
        vocab_size = 1 + max(largest_id(read) for read in (corpus, validation) if read is not None)
    # As in pretraining: a training corpus that is named for validation means what is held out of it.
    own = validation is None or validation.fingerprint == corpus.fingerprint
    part: PartName = "validation" if own else "all"
    training, counted = read_part(corpus, "train", split, max_tokens, vocab_size)
    held_out, predicted = read_part(validation or corpus, part, split, max_held_out_tokens, vocab_size)
    scores = []
    told_s = time.monotonic()
    for score, _ in Predictor(training, held_out).predict(max_order):
        scores.append(score)
        if time.monotonic() - told_s >= LINE_INTERVAL_S:
            told_s = time.monotonic()
            said = f"ngram: order {score.order} of {max_order}, {score.ngrams:,} n-grams, loss {score.loss_nats:.4f}"
            print(said, file=sys.stderr, flush=True)
    held_out_bytes = None
    if decoder is not None:
        sizes = decoder.token_bytes()
        real = held_out.tokens[held_out.tokens < len(sizes)]
        held_out_bytes = int(sizes[real].sum(dtype=np.int64))
    elapsed_s = time.monotonic() - started_s
    return NgramReport(split, counted, predicted, held_out_bytes, vocab_size, scores, elapsed_s)


def write_report(report: NgramReport, path: Path) -> None:
    """Write `ngram.json`, atomically.

    Raises:
        MachineError: if it cannot be written.
    """
    with staged_file(path) as temporary:
        temporary.write_bytes(orjson.dumps(report.as_json(), option=orjson.OPT_INDENT_2) + b"\n")


def report_path(corpus: Corpus) -> Path:
    """Where the report of a corpus lies: in its directory, or beside a bare prefix."""
    if corpus.manifest is not None:
        return corpus.path / NGRAM_FILE
    return corpus.path.with_name(f"{corpus.path.name}.{NGRAM_FILE}")


@dataclass(frozen=True)
class NgramFloor:
    """The best figure of a report, and what it is a figure of.

    Attributes:
        order: the length of the n-grams.
        loss_nats: mean loss on the predicted tokens.
        split: shares of the parts.
        training_fingerprint, held_out_fingerprint: of the corpora counted and predicted.
        part: which part of the latter.
        counted_share: of the training part's tokens, how many were counted.
    """

    order: int
    loss_nats: float
    split: tuple[float, float, float]
    training_fingerprint: str
    held_out_fingerprint: str
    part: str
    counted_share: float


def read_floor(corpus: Corpus) -> NgramFloor | None:
    """The best figure that `ngram` wrote for a corpus; None where it was not run.

    Raises:
        DataError: if the file is damaged.
    """
    path = report_path(corpus)
    if not path.exists():
        return None
    try:
        report = orjson.loads(path.read_bytes())
        best = next(row for row in report["orders"] if row["order"] == report["best_order"])
        first, second, third = map(float, report["split"])
        return NgramFloor(
            order=int(best["order"]),
            loss_nats=float(best["loss_nats"]),
            split=(first, second, third),
            training_fingerprint=str(report["training"]["fingerprint"]),
            held_out_fingerprint=str(report["held_out"]["fingerprint"]),
            part=str(report["held_out"]["part"]),
            counted_share=report["training"]["tokens"] / report["training"]["available_tokens"],
        )
    except (OSError, ValueError, KeyError, TypeError, StopIteration, ZeroDivisionError) as error:
        problem = f"cannot be read: {type(error).__name__} {error}"
        raise DataError(problem, where=path, expected="a file that `python -m data_prep ngram` wrote") from None


def _check_same_tokenizer(corpus: Corpus, other: Corpus) -> None:
    known = (corpus.tokenizer_fingerprint, other.tokenizer_fingerprint)
    if None not in known and known[0] != known[1]:
        raise DataError(
            f"was made with the tokenizer {known[1]}, {corpus.path} with {known[0]}",
            where=other.path,
            expected="corpora that one tokenizer made",
        )
