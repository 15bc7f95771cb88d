"""Where each parameter lies in an optimizer's flat tensors, as a matrix, and sums over the ranks that share it.

Shape letters: R rows and C columns of this tensor rank's shard, N rows that a slice touches, M matrices that a
parameter packs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
import torch.distributed as dist

from pretrain.checkpoint.manifest import STATE_MARK
from pretrain.checkpoint.state_shards import as_matrix
from pretrain.config.optimizer import StateSpec
from pretrain.models.parameter_table import ParameterSpec
from pretrain.parallel.sharded_shape import ShardedShape


@dataclass(frozen=True)
class ParameterSlice:
    """The part of one parameter that this rank updates: a flat range of its tensor-parallel shard.

    Attributes:
        spec: the parameter's row in the table.
        shape: the shard.
        start: first element of the range in the flattened shard.
        stop: one past the last; equal to `start` where other ranks have all of it.
        offset: where the range begins in the flat tensor.
    """

    spec: ParameterSpec
    shape: ShardedShape
    start: int
    stop: int
    offset: int

    @property
    def elements(self) -> int:
        """Elements of the slice."""
        return self.stop - self.start

    @property
    def is_cut(self) -> bool:
        """Whether tensor ranks have different parts of the parameter."""
        return self.spec.tensor_axis is not None and self.shape.tensor_size > 1

    @property
    def num_matrices(self) -> int:
        """How many matrices the parameter packs along its rows."""
        return max(1, len(self.spec.row_pattern))

    @property
    def local_size(self) -> tuple[int, int]:
        """R and C; a vector is R rows of one column."""
        return as_matrix(self.shape.local_shape)

    @property
    def rows(self) -> tuple[int, int]:
        """The first row of the shard that the slice touches, and one past the last."""
        columns = self.local_size[1]
        return self.start // columns, -(-self.stop // columns)

    def of(self, flat: torch.Tensor) -> torch.Tensor:
        """The slice of a flat tensor, a view."""
        return flat[self.offset : self.offset + self.elements]

    def as_rows(self, values: torch.Tensor) -> torch.Tensor:
        """The slice's values as whole rows [N, C], zeros where they belong to other ranks.

        Args:
            values: [elements], in the order of the slice.
        """
        columns = self.local_size[1]
        first, end = self.rows
        if self.start == first * columns and self.stop == end * columns:
            return values.view(end - first, columns)
        rows_NC = values.new_zeros((end - first, columns))
        self.from_rows(rows_NC).copy_(values)
        return rows_NC

    def from_rows(self, rows_NC: torch.Tensor) -> torch.Tensor:
        """The slice's own values of whole rows, [elements]: a view, for contiguous rows."""
        before = self.start - self.rows[0] * self.local_size[1]
        return rows_NC.reshape(-1)[before : before + self.elements]

    @cached_property
    def matrix_of_row(self) -> torch.Tensor:
        """Which of the packed matrices each row of the shard belongs to, int64 [R]."""
        rows = self.local_size[0]
        if self.num_matrices == 1:
            return torch.zeros(rows, dtype=torch.int64)
        pattern = list(self.spec.row_pattern)
        if self.spec.blocks > 1:
            pattern = [count // self.shape.tensor_size for count in pattern]
        one = torch.repeat_interleave(torch.arange(len(pattern)), torch.tensor(pattern))
        repeats, left = divmod(rows, len(one))
        if left:
            raise ValueError(f"{self.spec.name}: {rows} rows are not a multiple of the pattern {pattern}")
        return one.repeat(repeats)

    def sums_by_matrix(self, values_R: torch.Tensor, first: int, end: int) -> torch.Tensor:
        """The sum of what each row has over the rows of each packed matrix, [M], in the format of `values_R`.

        Args:
            values_R: [end - first], a number of each of these rows of the shard.
            first: the first of them.
            end: one past the last.
        """
        if self.num_matrices == 1:
            return values_R.sum().reshape(1)
        which = self.matrix_of_row[first:end].to(values_R.device)
        return values_R.new_zeros(self.num_matrices).index_add_(0, which, values_R)

    def square_sums(self, values: torch.Tensor) -> torch.Tensor:
        """The sum of squares of the slice's part of each packed matrix, fp64 [M]."""
        first, end = self.rows
        squares_N = self.as_rows(values).square().sum(1, dtype=torch.float64)
        return self.sums_by_matrix(squares_N, first, end)

    def spread(self, by_matrix: torch.Tensor) -> torch.Tensor:
        """What holds for each packed matrix, [M], for each row that the slice touches: [N, 1], fp32."""
        first, end = self.rows
        which = self.matrix_of_row[first:end].to(by_matrix.device)
        return by_matrix.float()[which].unsqueeze(1)

    def state_shape(self, state: StateSpec) -> ShardedShape:
        """The tensor rank's part of a state that has a number per row or column; a checkpoint's name of it."""
        spec, shape = self.spec, self.shape
        name, tensor = f"{spec.name}{STATE_MARK}{state.name}", {"tensor_rank": shape.tensor_rank}
        tensor["tensor_size"] = shape.tensor_size
        rows, columns = self.local_size
        if state.extent == "row":
            axis = 0 if spec.tensor_axis == 0 else None
            return ShardedShape(name, state.shape(spec), (rows,), axis, spec.blocks if axis == 0 else 1, **tensor)
        axis = 1 if spec.tensor_axis == 1 else None
        return ShardedShape(name, state.shape(spec), (self.num_matrices, columns), axis, **tensor)


@dataclass(frozen=True)
class SliceRanks:
    """The ranks that have the other parts of this rank's parameters.

    Attributes:
        device: where collectives work.
        data_group: ranks that divide each shard among them; None: each rank has the whole of its shards.
        tensor_group: ranks that cut parameters; None: none does.
        plane_group: all of both; None: this rank has everything.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    data_group: dist.ProcessGroup | None = None
    tensor_group: dist.ProcessGroup | None = None
    plane_group: dist.ProcessGroup | None = None

    def sum_over_data(self, tensors: list[torch.Tensor]) -> None:
        """Replace each by its sum over the ranks that divide shards; one all-reduce."""
        self._sum(tensors, self.data_group)

    def sum_over_tensor(self, tensors: list[torch.Tensor]) -> None:
        """Replace each by its sum over the ranks that cut parameters; one all-reduce."""
        self._sum(tensors, self.tensor_group)

    def _sum(self, tensors: list[torch.Tensor], group: dist.ProcessGroup | None) -> None:
        if group is None or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors]).to(self.device)
        dist.all_reduce(flat, group=group)
        for tensor, total in zip(tensors, flat.split([tensor.numel() for tensor in tensors])):
            tensor.copy_(total.view_as(tensor))
