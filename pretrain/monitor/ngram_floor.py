"""Losses of n-gram models on a run's validation sets, where `python -m data_prep ngram` has measured them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import UserError
from pretrain.config import DataConfig

if TYPE_CHECKING:
    from data_prep.ngram.ngram import NgramFloor

LEARN_MORE = "train longer (training.duration), with a higher optimizer.lr or on smaller batches"
"""What to do with a model that a simpler one is better than."""


def ngram_rows(
    config: DataConfig, evaluated: Mapping[str, Mapping[str, Any]] | None = None
) -> Iterator[tuple[str, str]]:
    """Rows for the summary: a figure that can be held against the validation loss of this run, or nothing.

    Args:
        config: what the run reads.
        evaluated: the run's own last evaluation of each set, with its `loss`: where counting n-grams does better, the
            next row says what to do.

    It can where the run trains on one corpus, and the figure is of that corpus as it is now and of the same held-out
    documents. One of other documents is not shown, but how to get one that is; a file that cannot be read is said.
    """
    from data_prep.corpus import Corpus
    from data_prep.ngram.ngram import METHOD, read_floor

    if len(config.train) != 1:
        return
    try:
        corpus = Corpus.open(config.train[0].corpus)
    except UserError:
        return  # the run is over, and its summary needs no corpus
    try:
        floor = read_floor(corpus)
        if floor is None:
            return
        name = _held_out_set(config, floor, corpus.fingerprint)
    except UserError as error:
        yield "n-gram", f"not known: {error.where}: {error.problem}"
        return
    if name is None:
        yield "n-gram", f"not known for these documents; {_command(config)} finds it out"
        return
    about = METHOD if name == "validation" else f"{METHOD}, on {name}"
    if floor.counted_share < 1:
        about += f", from {floor.counted_share:.1%} of the training tokens"
    yield f"{floor.order}-gram", f"loss {floor.loss_nats:.4f} ({about})"
    own = ((evaluated or {}).get(name) or {}).get("loss")
    if own is not None and own > floor.loss_nats:
        yield (
            "",
            f"which is better than this model's {own:.4f}: {LEARN_MORE}, then with more layers; below that loss it has"
            " learnt more than phrases",
        )


def _held_out_set(config: DataConfig, floor: NgramFloor, training_fingerprint: str) -> str | None:
    """The validation set whose documents the figure is of; None: there is none."""
    if floor.split != config.split or floor.training_fingerprint != training_fingerprint:
        return None
    if not config.validation:
        own = floor.held_out_fingerprint == training_fingerprint and floor.part == "validation"
        return "validation" if own else None
    for name, mixture in config.validation.items():
        if len(mixture) == 1 and floor.held_out_fingerprint == _fingerprint(mixture[0].corpus):
            return name
    return None


def _fingerprint(path: Path) -> str:
    from data_prep.corpus import Corpus

    return Corpus.open(path).fingerprint


def _command(config: DataConfig) -> str:
    """What counts n-grams of this run's documents."""
    words = ["python -m data_prep ngram", shlex.quote(str(config.train[0].corpus))]
    words += ["--split", *(f"{share:g}" for share in config.split)]
    single = [mixture[0].corpus for mixture in config.validation.values() if len(mixture) == 1]
    if single:
        words += ["--validation", shlex.quote(str(single[0]))]
    return " ".join(words)
