"""Initial values of parameters, drawn by name and place, so that any part of a matrix can be drawn alone.

A matrix is cut into tiles of a fixed size, and each tile is drawn by a generator of its own, whose key is made of the
seed, the parameter's name and the tile's number. What a rank holds is drawn from the tiles that it touches, whatever
the other ranks hold: the values do not depend on the layout, and neither memory nor time grows with the whole model.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch

from pretrain.checkpoint.state_shards import as_matrix, rectangles
from pretrain.data.permutation import derive_key
from pretrain.models.parameter_table import Constant, Normal, NormalByRows, ParameterSpec
from pretrain.parallel.sharded_shape import ShardedShape

# Other sizes would give other weights.
TILE_ROWS, TILE_COLUMNS = 128, 512


class InitialValues:
    """Fills parts of parameters with their initial values, which depend on (seed, name, place) alone.

    Args:
        seed: of the run.
        threads: how many draw at once; the values are the same.
    """

    def __init__(self, seed: int, threads: int = 1) -> None:
        self.seed = seed
        self.threads = threads

    def __call__(self, spec: ParameterSpec, shape: ShardedShape, start: int, stop: int, target: torch.Tensor) -> None:
        """Write elements `start` to `stop` - 1 of a tensor rank's flattened shard into `target`.

        Args:
            spec: what the parameter is.
            shape: which shard of it.
            start: first element.
            stop: one past the last.
            target: flat, of `stop - start` elements, of any type and on any device; filled in place.
        """
        if isinstance(spec.init, Constant):
            target.fill_(spec.init.value)
            return
        init = spec.init

        def draw(band: tuple[int, int, int, int, int]) -> None:
            row0, row1, column0, column1, offset = band
            drawn = torch.from_numpy(self._rectangle(spec, init, row0, row1, column0, column1)).view(-1)
            target[offset : offset + drawn.numel()].copy_(drawn)

        # numpy's generators release the interpreter's lock while they draw.
        with torch.no_grad(), ThreadPoolExecutor(self.threads) as threads:
            list(threads.map(draw, _bands(shape, start, stop)))

    def _rectangle(
        self, spec: ParameterSpec, init: Normal, row0: int, row1: int, column0: int, column1: int
    ) -> npt.NDArray[np.float32]:
        """A rectangle of the whole matrix, [row1 - row0, column1 - column0]."""
        found = np.empty((row1 - row0, column1 - column0), dtype=np.float32)
        for top in range(row0 // TILE_ROWS * TILE_ROWS, row1, TILE_ROWS):
            for left in range(column0 // TILE_COLUMNS * TILE_COLUMNS, column1, TILE_COLUMNS):
                tile = self._tile(spec, init, top, left)
                rows = slice(max(row0, top), min(row1, top + len(tile)))
                columns = slice(max(column0, left), min(column1, left + tile.shape[1]))
                found[rows.start - row0 : rows.stop - row0, columns.start - column0 : columns.stop - column0] = tile[
                    rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
                ]
        return found

    def _tile(self, spec: ParameterSpec, init: Normal, top: int, left: int) -> npt.NDArray[np.float32]:
        """The tile that begins at row `top` and column `left`, cut off at the matrix' edges."""
        rows, columns = as_matrix(spec.shape)
        key = derive_key(self.seed, spec.name, top // TILE_ROWS, left // TILE_COLUMNS)[:16]
        generator = np.random.Generator(np.random.Philox(key=np.frombuffer(key, dtype="<u8").astype(np.uint64)))
        tile = np.empty((min(TILE_ROWS, rows - top), min(TILE_COLUMNS, columns - left)), dtype=np.float32)
        generator.standard_normal(out=tile, dtype=np.float32)
        while init.cutoff is not None and (beyond := np.abs(tile) > init.cutoff).any():
            tile[beyond] = generator.standard_normal(int(beyond.sum()), dtype=np.float32)
        if isinstance(init, NormalByRows):
            tile *= np.array([init.std_of_row(top + row) for row in range(len(tile))], dtype=np.float32)[:, None]
        else:
            tile *= np.float32(init.std)
        return tile


def _bands(shape: ShardedShape, start: int, stop: int) -> Iterator[tuple[int, int, int, int, int]]:
    """The rectangles of a flat range, cut between the rows of tiles: bounds in the matrix, offset from `start`."""
    for row0, row1, column0, column1, offset in rectangles(shape, start, stop).tolist():
        for top in range(row0 // TILE_ROWS * TILE_ROWS, row1, TILE_ROWS):
            first, last = max(row0, top), min(row1, top + TILE_ROWS)
            yield first, last, column0, column1, offset + (first - row0) * (column1 - column0)
