"""The weights that a run begins with, read from its source by rectangles: each rank reads what it holds.

What the source does not have: rows of token ids that it does not know, rows of padding, positions beyond its own.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from pretrain.checkpoint.state_shards import Rectangles, as_matrix, rectangles
from pretrain.config.model import ModelConfig
from pretrain.config.starting import StartOptions
from pretrain.models.initial_values import InitialValues
from pretrain.models.parameter_table import ParameterSpec
from pretrain.parallel.sharded_shape import ShardedShape
from pretrain.starting.source import StartSource
from pretrain.starting.tables import longest_text, position_tables, token_tables

_ELEMENTS_AT_ONCE = 1 << 22


class StartingValues:
    """Fills parts of parameters with a source's values; see `Fill`.

    Args:
        source: fits the model, see `check_model`.
        model: of the run.
        options: what is done where they differ.
        drawn: gives the initial values of rows that are drawn.
    """

    def __init__(self, source: StartSource, model: ModelConfig, options: StartOptions, drawn: InitialValues) -> None:
        self._source = source
        self._options = options
        self._drawn = drawn
        self._by_token = token_tables(model)
        self._by_position = position_tables(model)
        self._length = longest_text(model)
        assert model.vocab_size is not None and source.model.vocab_size is not None
        self._vocabulary, self._known = model.vocab_size, source.model.vocab_size

    def __call__(self, spec: ParameterSpec, shape: ShardedShape, start: int, stop: int, target: torch.Tensor) -> None:
        """Write elements `start` to `stop` - 1 of a tensor rank's flattened shard into `target`, in place.

        Raises:
            UserError: the source cannot be read.
        """
        with torch.no_grad():
            straight = target.device.type == "cpu" and target.dtype == torch.float32 and target.is_contiguous()
            memory = target.detach() if straight else torch.empty(stop - start, dtype=torch.float32)
            wanted, old = rectangles(shape, start, stop), self._source.shape(spec.name)
            assert old is not None, f"{spec.name} is not in {self._source.path}"
            if spec.name in self._by_token and (old != spec.shape or self._vocabulary != self._known):
                self._fill_token_rows(spec, shape, start, stop, wanted, memory)
            elif spec.name in self._by_position and old != spec.shape:
                self._fill_positions(spec, old, wanted, memory.numpy())
            else:
                self._source.fill(spec.name, wanted, memory.numpy())
            if not straight:
                target.copy_(memory)

    def _fill_token_rows(
        self, spec: ParameterSpec, shape: ShardedShape, start: int, stop: int, wanted: Rectangles, memory: torch.Tensor
    ) -> None:
        """Known ids from the source; new ones as the options say; padding as the mean of the known ones.

        The logit of a mean row is the mean of the logits, so that such a row takes no more of the softmax than an
        average id; a row of zeros would have the logit 0, which may be above all others.
        """
        flat = memory.numpy()
        if self._options.new_rows == "drawn" and self._vocabulary > self._known:
            self._drawn(spec, shape, start, stop, memory)
            averaged_from = self._vocabulary
        else:
            averaged_from = self._known
        self._source.fill(spec.name, _rows_within(wanted, 0, self._known), flat)
        others = _rows_within(wanted, averaged_from, spec.shape[0])
        if len(others):
            mean = self._mean_row(spec.name, as_matrix(spec.shape)[1])
            for row0, row1, column0, column1, offset in others.tolist():
                window = flat[offset : offset + (row1 - row0) * (column1 - column0)]
                window.reshape(row1 - row0, -1)[:] = mean[column0:column1]

    def _mean_row(self, name: str, columns: int) -> npt.NDArray[np.float32]:
        total, at_once = np.zeros(columns, dtype=np.float64), max(1, _ELEMENTS_AT_ONCE // columns)
        rows = np.empty(min(at_once, self._known) * columns, dtype=np.float32)
        for first in range(0, self._known, at_once):
            last = min(first + at_once, self._known)
            part = rows[: (last - first) * columns]
            self._source.fill(name, np.array([[first, last, 0, columns, 0]], dtype=np.int64), part)
            total += part.reshape(-1, columns).sum(0, dtype=np.float64)
        return (total / self._known).astype(np.float32)

    def _fill_positions(
        self, spec: ParameterSpec, old: tuple[int, ...], wanted: Rectangles, flat: npt.NDArray[np.float32]
    ) -> None:
        """Row by row; rows before the first position, which some families never read, stay what they are."""
        unread = spec.shape[0] - self._length
        known = old[0] - unread
        for row0, row1, column0, column1, offset in wanted.tolist():
            width = column1 - column0
            for row in range(row0, row1):
                target = flat[offset + (row - row0) * width :][:width]
                if row < unread:
                    self._read_row(spec.name, row, column0, column1, target)
                    continue
                lower, share = self._position(row - unread, known)
                self._read_row(spec.name, unread + lower, column0, column1, target)
                if share:
                    upper = np.empty(width, dtype=np.float32)
                    self._read_row(spec.name, unread + lower + 1, column0, column1, upper)
                    target += np.float32(share) * (upper - target)

    def _position(self, position: int, known: int) -> tuple[int, float]:
        """Which of the source's positions a new one is: the lower neighbour, and the share of the upper one."""
        if self._length <= known:
            return position, 0.0
        if self._options.extend_positions == "repeat":
            return position % known, 0.0
        place, divisor = divmod(position * (known - 1), self._length - 1)
        return place, divisor / (self._length - 1)

    def _read_row(self, name: str, row: int, column0: int, column1: int, target: npt.NDArray[np.float32]) -> None:
        self._source.fill(name, np.array([[row, row + 1, column0, column1, 0]], dtype=np.int64), target)


def _rows_within(wanted: Rectangles, first: int, end: int) -> Rectangles:
    """The parts of rectangles that lie in rows `first` to `end` - 1, with the offsets that these parts have."""
    found = []
    for row0, row1, column0, column1, offset in wanted.tolist():
        top, bottom = max(row0, first), min(row1, end)
        if top < bottom:
            found.append((top, bottom, column0, column1, offset + (top - row0) * (column1 - column0)))
    return np.array(found, dtype=np.int64).reshape(-1, 5)
