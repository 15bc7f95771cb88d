"""The weights that an adapter stands beside, read from their source at each start: no checkpoint holds them."""

from __future__ import annotations

import torch

from configs.errors import UserError
from pretrain.checkpoint.ranks import Problem, Ranks, raise_together
from pretrain.config import RunConfig
from pretrain.engine.processes import cores_of_this_rank
from pretrain.models.initial_values import InitialValues
from pretrain.models.parameter_table import ParameterSpec
from pretrain.parallel.sharded_shape import ShardedShape
from pretrain.starting.source import StartSource
from pretrain.starting.start import Start, refuse_damaged
from pretrain.starting.values import StartingValues


def frozen_weights(start: Start | None, config: RunConfig) -> FrozenWeights | None:
    """What fills the frozen weights of a run; None: it trains all of them, or draws those that it freezes. Collective.

    Raises:
        CheckpointError: on every rank: the source is damaged.
    """
    if start is None or start.source is None or not config.method.freezes:
        return None
    return FrozenWeights(start.source, config)


class FrozenWeights:
    """Fills what is not trained; see `Fill`. Collective.

    What goes wrong on one rank is kept until all can be told of it.

    Args:
        source: fits the model, see `check_model`.
        config: the run.

    Raises:
        CheckpointError: on every rank: the source is damaged.
    """

    def __init__(self, source: StartSource, config: RunConfig) -> None:
        self._ranks, self._source, self._where = Ranks(), source, f"start_from = {source.path}"
        self._problem: Problem | None = None
        refuse_damaged(source, self._ranks, self._where)
        drawn = InitialValues(config.seed, cores_of_this_rank())
        self._values = StartingValues(source, config.model, config.start_from_options, drawn)

    def __call__(self, spec: ParameterSpec, shape: ShardedShape, start: int, stop: int, target: torch.Tensor) -> None:
        """Write elements `start` to `stop` - 1 of a tensor rank's flattened shard into `target`, in place."""
        if self._problem is not None:
            return
        try:
            self._values(spec, shape, start, stop, target)
        except UserError as error:
            self._problem = Problem(str(error))

    def end(self) -> None:
        """Let go of the source. Collective.

        Raises:
            CheckpointError: on every rank: it could not be read.
        """
        self._source.close()
        raise_together(self._ranks.gather(self._problem), self._where)
