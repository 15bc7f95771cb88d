"""Adafactor, exact over ZeRO's and tensor-parallel shards: sums of rows and columns go over the ranks.

The row and column moments are small: each data rank keeps those of its whole tensor-parallel shard.

Shape letters: R rows and C columns of a tensor rank's shard, N rows of a slice, M matrices that a parameter packs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from pretrain.optimizers.adafactor_config import COLUMN, ELEMENT, MOMENTUM, ROW, AdafactorConfig
from pretrain.optimizers.parameter_optimizer import ParameterOptimizer
from pretrain.optimizers.parameter_slices import ParameterSlice


class Adafactor:
    """Second moments of rows and columns; see `OptimizerKind`."""

    def build(self, groups: list[dict[str, Any]], config: AdafactorConfig) -> torch.optim.Optimizer:
        """See `OptimizerKind.build`."""
        return _Adafactor(groups, config)


class _Adafactor(ParameterOptimizer):
    config: AdafactorConfig

    def update(
        self, group: dict[str, Any], flat: torch.Tensor, slices: Sequence[ParameterSlice], state: dict[str, Any]
    ) -> None:
        """See the base class."""
        decay = 1.0 - float(state["step"]) ** -self.config.decay_rate
        update = self._factored(flat, slices, state, decay) if ROW.name in state else self._whole(flat, state, decay)
        means = self._mean_squares(slices, update, flat)
        for part, (of_update_M, of_weights_M) in zip(slices, means):
            scale_M = 1.0 / (of_update_M.sqrt() / self.config.clip_threshold).clamp(min=1.0)
            if self.config.relative_step:
                scale_M = scale_M * of_weights_M.sqrt().clamp(min=self.config.epsilon_scale)
            if part.elements:
                rows_NC = part.as_rows(part.of(update)) * part.spread(scale_M)
                part.of(update).copy_(part.from_rows(rows_NC))
        if self.config.beta1 is not None:
            update = state[MOMENTUM.name].lerp_(update, 1 - self.config.beta1)
        if group["weight_decay"]:
            flat.mul_(1 - group["lr"] * group["weight_decay"])
        flat.add_(update, alpha=-group["lr"])

    def _whole(self, flat: torch.Tensor, state: dict[str, Any], decay: float) -> torch.Tensor:
        """The gradient by the root of its second moment, each element by itself."""
        assert flat.grad is not None
        second = state[ELEMENT.name].lerp_(flat.grad.square() + self.config.epsilon, 1 - decay)
        return flat.grad * second.rsqrt()

    def _factored(
        self, flat: torch.Tensor, slices: Sequence[ParameterSlice], state: dict[str, Any], decay: float
    ) -> torch.Tensor:
        """The gradient by the root of the second moment that row and column give together."""
        assert flat.grad is not None
        rows = [state[ROW.name][part.spec.name] for part in slices]
        columns = [state[COLUMN.name][part.spec.name] for part in slices]
        self._add_squares(flat.grad, slices, rows, columns, decay)
        totals = [part.sums_by_matrix(row_R, 0, len(row_R)) for part, row_R in zip(slices, rows)]
        self.ranks.sum_over_tensor([total for part, total in zip(slices, totals) if _cuts(part, 0)])
        update = torch.zeros_like(flat)
        for part, row_R, column_MC, total_M in zip(slices, rows, columns, totals):
            if not part.elements:
                continue
            first, end = part.rows
            which_N = part.matrix_of_row[first:end].to(flat.device)
            mean_N = (total_M / _rows_of_matrices(part, flat.device))[which_N]
            by_row_N1 = (row_R[first:end] / mean_N).rsqrt().float().unsqueeze(1)
            by_column_NC = column_MC.rsqrt()[which_N]
            rows_NC = part.as_rows(part.of(flat.grad)) * by_row_N1 * by_column_NC
            part.of(update).copy_(part.from_rows(rows_NC))
        return update

    def _add_squares(
        self,
        gradient: torch.Tensor,
        slices: Sequence[ParameterSlice],
        rows: list[torch.Tensor],
        columns: list[torch.Tensor],
        decay: float,
    ) -> None:
        """Take the mean squared gradient of each row and each column into its moment."""
        row_sums = [torch.zeros_like(row_R) for row_R in rows]
        column_sums = [torch.zeros_like(column_MC) for column_MC in columns]
        for part, row_R, column_MC in zip(slices, row_sums, column_sums):
            if part.elements:
                first, end = part.rows
                squares_NC = part.as_rows(part.of(gradient).square() + self.config.epsilon)
                row_R[first:end] = squares_NC.sum(1)
                column_MC.index_add_(0, part.matrix_of_row[first:end].to(gradient.device), squares_NC)
        self.ranks.sum_over_data([*row_sums, *column_sums])
        whole_rows = [found for part, found in zip(slices, row_sums) if _cuts(part, 1)]
        whole_columns = [found for part, found in zip(slices, column_sums) if _cuts(part, 0)]
        self.ranks.sum_over_tensor([*whole_rows, *whole_columns])
        for part, row_R, column_MC, row_sum_R, column_sum_MC in zip(slices, rows, columns, row_sums, column_sums):
            row_R.lerp_(row_sum_R / part.spec.shape[1], 1 - decay)
            heights_M1 = _rows_of_matrices(part, gradient.device).float().unsqueeze(1)
            column_MC.lerp_(column_sum_MC / heights_M1, 1 - decay)

    def _mean_squares(
        self, slices: Sequence[ParameterSlice], update: torch.Tensor, weights: torch.Tensor
    ) -> list[torch.Tensor]:
        """Of each slice the mean square of the update and of the weights, of each packed matrix: fp64 [2, M]."""
        sums = [torch.stack([part.square_sums(part.of(values)) for values in (update, weights)]) for part in slices]
        self.ranks.sum_over_data(sums)
        self.ranks.sum_over_tensor([found for part, found in zip(slices, sums) if part.is_cut])
        per_row = [math.prod(part.spec.shape[1:]) for part in slices]
        heights = [_rows_of_matrices(part, update.device) for part in slices]
        return [found / (height_M * count) for found, height_M, count in zip(sums, heights, per_row)]


def _cuts(part: ParameterSlice, axis: int) -> bool:
    return part.is_cut and part.spec.tensor_axis == axis


def _rows_of_matrices(part: ParameterSlice, device: torch.device) -> torch.Tensor:
    """Rows of each packed matrix of the whole parameter, fp64 [M]; a vector is rows of one column."""
    rows, pattern = part.spec.shape[0], part.spec.row_pattern or (1,)
    return torch.tensor([rows // sum(pattern) * count for count in pattern], dtype=torch.float64, device=device)
