"""The masked objective: some tokens are hidden, say which they were.

Shape letters: B rows of the micro-batch, S positions in each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from configs.errors import ConfigError
from pretrain.data.batch import MicroBatch
from pretrain.data.counter_random import CounterRandom
from pretrain.data.samples import Samples
from pretrain.objectives import masking
from pretrain.objectives.figures import perplexity
from pretrain.objectives.masked_config import MaskedConfig
from pretrain.objectives.objective import ObjectiveContext
from pretrain.objectives.rows import Rows, SpecialIds, text_rows
from pretrain.objectives.token_loss import TokenLoss

if TYPE_CHECKING:
    from pretrain.models.family import Output

EVALUATION_SEED = 0
"""Decides the masks of evaluations, in every run."""
EVALUATION_SHARES = (0.8, 0.1)
"""Of the chosen tokens of evaluations, the share that reads the mask token, and the share that reads a random one."""


class MaskedObjective:
    """Micro-batches whose labels are the original tokens, counted at the chosen positions; see `Objective`.

    Which positions are chosen and what is read there is a function of (seed, sample number, position in the sample):
    of neither the step, nor the layout, nor the micro-batch. Special tokens and padding are never chosen, and no
    special token is drawn as a random replacement. Padding is a segment of its own, number -1.
    """

    evaluation_names: tuple[str, ...] = ("nats", "tokens", "correct")

    def __init__(self, config: MaskedConfig, context: ObjectiveContext) -> None:
        self._config, self._model, self._is_evaluation = config, context.model, context.is_evaluation
        self._loss = TokenLoss("mlm", config, context.tokens.vocab_size)
        self.coefficients: Mapping[str, float] = self._loss.coefficients
        seed = EVALUATION_SEED if context.is_evaluation else context.seed
        purposes = ("selection", "span lengths", "replacement", "random tokens")
        self._selection, self._spans, self._kinds, self._random = (CounterRandom(seed, "masks", p) for p in purposes)
        facts = context.tokens
        has_specials = config.add_special_tokens
        self._special = SpecialIds(
            pad=facts.roles.get("pad", 0),
            classification=facts.role("classification") if has_specials else None,
            separator=facts.role("separator") if has_specials else None,
        )
        self._is_special = np.zeros(facts.vocab_size, dtype=np.bool_)
        self._is_special[facts.special_ids] = True
        self._replacement = masking.Replacement(
            by_mask=EVALUATION_SHARES[0] if context.is_evaluation else config.replaced_by_mask,
            by_random=EVALUATION_SHARES[1] if context.is_evaluation else config.replaced_by_random,
            mask_id=facts.role("mask"),
            candidates=np.flatnonzero(~self._is_special),
        )
        self._word_starts = None
        self._selects = "token" if context.is_evaluation else config.selection
        if self._selects != "token":
            self._word_starts = facts.word_starts
            if self._word_starts is None:
                raise ConfigError(
                    f"is {config.selection}, and without a tokenizer nobody knows where words begin",
                    where="objective.selection",
                    expected="data.tokenizer, or selection token",
                )

    def batch(self, samples: Samples, number: int) -> MicroBatch:
        """See `Objective`. Where the length schedule says so, each sample becomes several rows."""
        full = self._model.seq_length
        length = full if self._is_evaluation else self._config.length_at(samples.batch_start, self._model)
        rows = text_rows(samples, length, full // length, self._special)
        return self._masked(rows, samples.numbers, number, {})

    def weights(self, batch: MicroBatch) -> dict[str, torch.Tensor]:
        """How many positions are to be predicted."""
        return self._loss.weights(batch.loss_mask_BS)

    def losses(self, output: Output, batch: MicroBatch) -> dict[str, torch.Tensor]:
        """The nats of all of them, and what is trained beside them; see `TokenLoss`."""
        return self._loss.losses(output, batch.labels_BS, batch.loss_mask_BS)

    def evaluation_sums(self, output: Output, batch: MicroBatch) -> dict[str, torch.Tensor]:
        """Nats of the masked positions, how many there are, and how many have their token as the likeliest."""
        correct = (output.is_top(batch.labels_BS) * batch.loss_mask_BS).sum()
        nats = (output.nll(batch.labels_BS) * batch.loss_mask_BS).sum()
        return {"nats": nats, "tokens": batch.loss_mask_BS.sum(), "correct": correct}

    def figures(self, sums: Mapping[str, float]) -> dict[str, float | None]:
        """Loss, its exponential, share of the masked positions whose token is the likeliest.

        `masked_perplexity` is exp(mean loss of the masked positions) at the fixed rate and masks of an evaluation. It
        compares models that were evaluated alike. It is not the pseudo-perplexity of Salazar et al. (2020, section
        2.3), whose pseudo-log-likelihood masks one token of a sample at a time, so that all others are seen.
        """
        loss = sums["nats"] / sums["tokens"] if sums["tokens"] else math.nan
        return {
            "loss": loss,
            "masked_perplexity": perplexity(loss),
            "masked_accuracy": sums["correct"] / sums["tokens"] if sums["tokens"] else None,
        }

    def _masked(self, rows: Rows, numbers: np.ndarray, number: int, extras: Mapping[str, torch.Tensor]) -> MicroBatch:
        """The micro-batch of rows, `len(rows) / len(numbers)` of which come from each of the samples `numbers`."""
        count, length = rows.tokens_RS.shape
        rows_per_sample = count // len(numbers)
        chosen, deciders = self._choose(rows, numbers, rows_per_sample)
        at_rows, at_columns = np.nonzero(chosen)
        samples, within = numbers[at_rows // rows_per_sample], (at_rows % rows_per_sample) * length
        kinds = self._kinds.uniform(samples, within + (at_columns if deciders is None else deciders[chosen]))
        which = self._random.uniform(samples, within + at_columns)
        tokens = rows.tokens_RS.copy()
        tokens[chosen] = self._replacement(tokens[chosen], kinds, which)
        segments = rows.segment_ids_RS
        return MicroBatch(
            tokens_BS=torch.from_numpy(tokens),
            labels_BS=torch.from_numpy(rows.tokens_RS),
            loss_mask_BS=torch.from_numpy(chosen.astype(np.float32)),
            position_ids_BS=torch.from_numpy(rows.position_ids_RS.astype(np.int64)),
            segment_ids_BS=None if segments is None else torch.from_numpy(segments),
            number=number,
            extras=extras,
        )

    def _choose(self, rows: Rows, numbers: np.ndarray, rows_per_sample: int) -> tuple[np.ndarray, np.ndarray | None]:
        """The chosen positions, bool, and the column whose draw decides what is read at each (None: its own)."""
        shape, text = rows.tokens_RS.shape, rows.tokens_RS
        maskable = rows.is_text_RS & ~self._is_special[text]
        budgets = masking.budgets(maskable, np.repeat(self._rates(numbers), rows_per_sample))
        counters = np.arange(rows_per_sample * shape[1])
        keys = self._selection.bits(numbers[:, None], counters).reshape(shape)
        if self._word_starts is None:
            return masking.choose_tokens(keys, maskable, budgets), None
        words = masking.Words.find(maskable, self._word_starts[text], rows.segment_ids_RS)
        if self._selects == "whole_word":
            return masking.choose_words(keys, words, budgets), None
        at = words.rows % rows_per_sample * shape[1] + words.firsts
        lengths = masking.span_lengths(self._spans.uniform(numbers[words.rows // rows_per_sample], at))
        return masking.choose_spans(keys, words, lengths, budgets)

    def _rates(self, numbers: np.ndarray) -> np.ndarray:
        """The mask rate of each sample, float64 [n]."""
        config = self._config
        if self._is_evaluation:
            return np.full(len(numbers), config.evaluation_mask_rate)
        stages = config.mask_rate_schedule or []
        rates = np.array([config.mask_rate, *(stage.rate for stage in stages)])
        return rates[np.searchsorted([stage.from_sample for stage in stages], numbers, side="right")]
