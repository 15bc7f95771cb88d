"""Ways to break sharded optimizers that are silent and wrong when missed.

LAMB's ratios of one shard are nearly those of the whole where all weights are drawn alike, as here: that its norms are
summed is shown by `test_optimizers_shards`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from tests.pretrain.engine.broken_engine import Differs, Mutation, Saboteur
from tests.pretrain.engine.layout_cases import Case


def _data_sums_left_out(case: Case, saboteur: Saboteur) -> None:
    from pretrain.optimizers.parameter_slices import SliceRanks

    saboteur.replace(SliceRanks, "sum_over_data", lambda self, tensors: None)


def _tensor_sums_left_out(case: Case, saboteur: Saboteur) -> None:
    from pretrain.optimizers.parameter_slices import SliceRanks

    saboteur.replace(SliceRanks, "sum_over_tensor", lambda self, tensors: None)


def _shards_made_orthogonal(case: Case, saboteur: Saboteur) -> None:
    """Each rank makes its own part orthogonal, as if it were the matrix."""
    from pretrain.optimizers.matrix_exchange import MatrixExchange
    from pretrain.optimizers.muon import orthogonalized

    def apply(self: Any, flat: torch.Tensor, compute: Any) -> Any:
        for part in self._slices:
            if part.elements:
                rows_NC = part.as_rows(part.of(flat))
                yield part, part.from_rows(orthogonalized(rows_NC, 5) * 0.2 * max(rows_NC.shape) ** 0.5)

    saboteur.replace(MatrixExchange, "apply", apply)


def _gate_and_up_mixed(case: Case, saboteur: Saboteur) -> None:
    """The rows of a tensor rank's gated weight are taken for those of the whole one."""
    from pretrain.optimizers import matrix_exchange

    original = matrix_exchange.rectangles

    def rectangles(shape: Any, start: int, stop: int) -> Any:
        return original(replace(shape, blocks=1), start, stop)

    saboteur.replace(matrix_exchange, "rectangles", rectangles)


OPTIMIZER_MUTATIONS: dict[str, Mutation] = {
    "adafactor: means not summed over data ranks": Mutation(
        6, "adafactor, zero 3, data 2", _data_sums_left_out, Differs(loss=1e-3, norm=1e-3)
    ),
    "adafactor: means not summed over tensor ranks": Mutation(
        6, "adafactor, zero 0, tensor 2", _tensor_sums_left_out, Differs(loss=1e-3, norm=1e-3)
    ),
    "muon: shards made orthogonal each by itself": Mutation(
        6, "muon, zero 3, data 2", _shards_made_orthogonal, Differs(loss=1e-3, norm=1e-3)
    ),
    "muon: gate and up mixed": Mutation(6, "muon, zero 0, tensor 2", _gate_and_up_mixed, Differs(loss=1e-3, norm=1e-3)),
}
