"""A mixture of objectives: each sample is read by one of them.

Shape letters: B samples in the micro-batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from pretrain.data.batch import MicroBatch
from pretrain.data.counter_random import CounterRandom
from pretrain.data.samples import Samples
from pretrain.objectives.mixed_batch import joined, part_of, rows_of
from pretrain.objectives.mixture_config import MixtureConfig
from pretrain.objectives.objective import EvaluatedObjective, Objective, ObjectiveContext

if TYPE_CHECKING:
    from pretrain.models.family import Output


_BLOCK_SAMPLES = 16
"""Of so many samples one after the other each part has its share, up to one sample."""


class MixtureObjective:
    """Micro-batches of the rows of several objectives; see `Objective`.

    Which objective a sample goes to is a function of (seed, sample number), drawn by the parts' shares: in a random
    order within every 16 samples, so that few global batches lack a part. A part's losses have its name in front,
    `causal/lm`, and are means over its own labels; the loss that is trained is the sum of the parts' by their shares,
    so that a part with few labels per sample has its share nevertheless. A step whose samples all went elsewhere trains
    without the part, whose losses are then 0.

    An evaluation reads each sample by every part.
    """

    def __init__(self, config: MixtureConfig, context: ObjectiveContext) -> None:
        self._shares = config.shares
        if context.model.is_encoder_decoder and getattr(context.model, "decoder_seq_length", 0) is None:
            # The targets of all parts are joined: they are as long as the longest.
            length = config.target_tokens(context.model)
            context = replace(context, model=context.model.model_copy(update={"decoder_seq_length": length}))
        self._is_evaluation = context.is_evaluation
        self._order = CounterRandom(context.seed, "order of a mixture's objectives")
        self._draws = CounterRandom(context.seed, "objective of a mixture")
        self._parts: dict[str, Objective] = {}
        for name, part in config.parts.items():
            # The draws of two parts of one kind differ, as their samples do.
            self._parts[name] = part.objective.implement()(part.objective, context)
        self.coefficients: Mapping[str, float] = {
            f"{name}/{loss}": self._shares[name] * coefficient
            for name, part in self._parts.items()
            for loss, coefficient in part.coefficients.items()
        }
        self._evaluated: dict[str, EvaluatedObjective] = dict(self._parts)

    @property
    def evaluation_names(self) -> tuple[str, ...]:
        """See `EvaluationSums`."""
        return tuple(f"{name}/{what}" for name, part in self._evaluated.items() for what in part.evaluation_names)

    def measure(self, wrap: Callable[[EvaluatedObjective], EvaluatedObjective]) -> None:
        """Have evaluations add to each part's figures what `wrap` adds to an objective's."""
        self._evaluated = {name: wrap(part) for name, part in self._evaluated.items()}

    def batch(self, samples: Samples, number: int) -> MicroBatch:
        """See `Objective`."""
        if self._is_evaluation:
            return joined({name: part.batch(samples, number) for name, part in self._parts.items()}, number)
        chosen_B = self._chosen(samples.numbers)
        batches = {}
        for place, (name, part) in enumerate(self._parts.items()):
            rows = np.flatnonzero(chosen_B == place)
            if len(rows):
                batches[name] = part.batch(_some(samples, rows), number)
        return joined(batches, number)

    def weights(self, batch: MicroBatch) -> dict[str, torch.Tensor]:
        """Those of the parts, each of its own rows."""
        found: dict[str, torch.Tensor] = {}
        for name, part in self._parts.items():
            rows = rows_of(batch, name)
            weights = {} if rows is None else part.weights(part_of(batch, rows))
            found |= {f"{name}/{loss}": weights.get(loss, _zero(batch)) for loss in part.coefficients}
        return found

    def losses(self, output: Output, batch: MicroBatch) -> dict[str, torch.Tensor]:
        """Those of the parts, each of its own rows."""
        found: dict[str, torch.Tensor] = {}
        for name, part in self._parts.items():
            rows = rows_of(batch, name)
            losses = {} if rows is None else part.losses(output.rows(rows), part_of(batch, rows))
            found |= {f"{name}/{loss}": losses.get(loss, _zero(batch)) for loss in part.coefficients}
        return found

    def evaluation_sums(self, output: Output, batch: MicroBatch) -> dict[str, torch.Tensor]:
        """Those of the parts, each of its own rows."""
        found: dict[str, torch.Tensor] = {}
        for name, part in self._evaluated.items():
            rows = rows_of(batch, name)
            sums = {} if rows is None else part.evaluation_sums(output.rows(rows), part_of(batch, rows))
            found |= {f"{name}/{what}": sums.get(what, _zero(batch)) for what in part.evaluation_names}
        return found

    def figures(self, sums: Mapping[str, float]) -> dict[str, float | None]:
        """Those of the parts, such as `causal/loss`; `loss`, and `unigram_loss` where all have one, by their shares."""
        parts = {
            name: part.figures({what: sums[f"{name}/{what}"] for what in part.evaluation_names})
            for name, part in self._evaluated.items()
        }
        together: dict[str, float | None] = {}
        for figure in ("loss", "unigram_loss"):
            values = {name: figures.get(figure) for name, figures in parts.items()}
            if all(value is not None for value in values.values()):
                together[figure] = sum(
                    self._shares[name] * value for name, value in values.items() if value is not None
                )
        named = {f"{name}/{figure}": value for name, figures in parts.items() for figure, value in figures.items()}
        return together | named

    def _chosen(self, numbers: np.ndarray) -> np.ndarray:
        """The place of the part that each sample goes to, int64 [B]."""
        blocks = numbers // _BLOCK_SAMPLES * _BLOCK_SAMPLES
        keys = self._order.bits(blocks[:, None] + np.arange(_BLOCK_SAMPLES), np.zeros((1, 1), dtype=np.int64))
        places = (keys < keys[np.arange(len(numbers)), numbers - blocks][:, None]).sum(axis=1)
        draws = (places + self._draws.uniform(numbers, np.zeros_like(numbers))) / _BLOCK_SAMPLES
        bounds = np.cumsum(list(self._shares.values()))[:-1]
        return np.searchsorted(bounds, draws, side="right")


def _some(samples: Samples, rows: np.ndarray) -> Samples:
    starts, joins, sentences = samples.document_starts, samples.joined, samples.sentence_starts
    return replace(
        samples,
        tokens=samples.tokens[rows],
        num_tokens=samples.num_tokens[rows],
        numbers=samples.numbers[rows],
        document_starts=None if starts is None else starts[rows],
        joined=None if joins is None else joins[rows],
        sentence_starts=None if sentences is None else sentences[rows],
        answers=None if samples.answers is None else samples.answers[rows],
        extras={name: values[rows] for name, values in samples.extras.items()},
    )


def _zero(batch: MicroBatch) -> torch.Tensor:
    return torch.zeros((), device=batch.tokens_BS.device)
