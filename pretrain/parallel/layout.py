"""Which rank does what: the parallel sizes as one value, checked against model and batch before anything starts.

Needs no process group: the world size is an argument, so every layout can be tested, and proposed, anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from configs.errors import ConfigError
from pretrain.config import ParallelConfig, RunConfig, TrainingConfig


@dataclass(frozen=True)
class Axis:
    """One way to divide the work.

    Attributes:
        name: of the axis, such as `tensor`.
        key: where a config says its size; None: it takes the ranks that the others leave.
    """

    name: str
    key: str | None


AXES = (Axis("tensor", "tensor_size"), Axis("pipeline", "pipeline_size"), Axis("data", None))
"""All axes, each of which multiplies the world, in the order in which ranks are counted."""


class Layout(Mapping[str, int]):
    """Sizes of the parallel axes, by name: `Layout(tensor=2, pipeline=4, data=8)`; an axis not named has size 1."""

    def __init__(self, **sizes: int) -> None:
        unknown = set(sizes) - {axis.name for axis in AXES}
        if unknown:
            raise ValueError(f"there is no axis {sorted(unknown)[0]!r}")
        self._sizes = {axis.name: sizes.get(axis.name, 1) for axis in AXES}

    def __getitem__(self, axis: str) -> int:
        return self._sizes[axis]

    def __iter__(self) -> Iterator[str]:
        return iter(self._sizes)

    def __len__(self) -> int:
        return len(self._sizes)

    def __hash__(self) -> int:
        return hash(tuple(self._sizes.items()))

    @property
    def tensor(self) -> int:
        """Ranks that share each layer's matrices."""
        return self._sizes["tensor"]

    @property
    def pipeline(self) -> int:
        """Stages."""
        return self._sizes["pipeline"]

    @property
    def data(self) -> int:
        """Replicas of the (tensor x pipeline) plane."""
        return self._sizes["data"]

    @property
    def world_size(self) -> int:
        """Ranks in all."""
        return math.prod(self._sizes.values())

    def __str__(self) -> str:
        return " x ".join(f"{axis} {size}" for axis, size in self._sizes.items())

    def __repr__(self) -> str:
        return f"Layout({', '.join(f'{axis}={size}' for axis, size in self._sizes.items())})"


def resolve_layout(config: RunConfig, world_size: int) -> Layout:
    """The layout that `config` means on `world_size` ranks.

    Raises:
        ConfigError: if the layout does not fit the ranks, the model or the batch: every reason at once, and the
            nearest layouts that do fit.
    """
    wanted = _wanted_sizes(config.parallel)
    settings, sizes = config.parallel.problems(config.training.precision), []
    plane = math.prod(wanted.values())
    if world_size % plane:
        product = " x ".join(f"parallel.{axis.key} {wanted[axis.name]}" for axis in AXES if axis.key)
        sizes.append(f"{product} = {plane} does not divide the {world_size} ranks")
    layout = Layout(**wanted, data=max(1, world_size // plane))
    sizes += _layout_problems(config, layout)
    problems = settings + sizes
    if not problems:
        return layout
    raise ConfigError(
        problems[0] if len(problems) == 1 else "".join(f"\n- {problem}" for problem in problems),
        where=f"layout on {world_size} rank{'s' if world_size > 1 else ''}",
        expected=_proposal(config, layout, world_size) if sizes else None,
    )


def _wanted_sizes(parallel: ParallelConfig) -> dict[str, int]:
    """The sizes that the config says, by axis."""
    return {axis.name: getattr(parallel, axis.key) for axis in AXES if axis.key is not None}


def _proposal(config: RunConfig, wanted: Layout, world_size: int) -> str | None:
    """What would fit: the nearest layouts, or else the nearest batch sizes; None where model or optimizer fit none."""
    if legal := nearest_layouts(config, world_size):
        return "a layout such as " + "; ".join(str(option) for option in legal)
    if _kind_problems(config, Layout(data=world_size)):
        return None
    unit = config.training.micro_batch_size * wanted.data
    fitting = []
    for name, samples in _batch_sizes(config.training):
        near = sorted({max(unit, samples // unit * unit), (samples // unit + 1) * unit})
        if samples % unit:
            fitting.append(f"a {name} such as {' or '.join(map(str, near))}")
    others = _kind_problems(config, wanted)
    return " and ".join(fitting + (["other sizes of the model"] if others or not fitting else []))


def nearest_layouts(config: RunConfig, world_size: int, count: int = 3) -> list[Layout]:
    """The legal layouts on `world_size` ranks, those most like the configured one first."""
    wanted = _wanted_sizes(config.parallel)

    def distance(layout: Layout) -> tuple[float, ...]:
        apart = [abs(math.log2(layout[axis] / size)) for axis, size in wanted.items()]
        return (sum(apart), *apart, *(layout[axis] for axis in wanted))

    legal = [layout for layout in _all_layouts(world_size) if not _layout_problems(config, layout)]
    return sorted(legal, key=distance)[:count]


def _all_layouts(world_size: int) -> Iterator[Layout]:
    free = [axis.name for axis in AXES if axis.key is not None]
    for sizes in _factors(world_size, len(free)):
        yield Layout(**dict(zip(free, sizes)), data=world_size // math.prod(sizes))


def _factors(number: int, count: int) -> Iterator[tuple[int, ...]]:
    """Every way to take `count` factors out of a number, one after the other."""
    if count == 0:
        yield ()
        return
    for factor in (n for n in range(1, number + 1) if number % n == 0):
        yield from ((factor, *rest) for rest in _factors(number // factor, count - 1))


def _layout_problems(config: RunConfig, layout: Layout) -> list[str]:
    per_forward = config.training.micro_batch_size * layout.data
    return _kind_problems(config, layout) + [
        f"{name} {samples} is not a multiple of the micro_batch_size x data size {per_forward}"
        for name, samples in _batch_sizes(config.training)
        if samples % per_forward
    ]


def _kind_problems(config: RunConfig, layout: Layout) -> list[str]:
    """What the model's family, the objective and the optimizer have against a layout."""
    sequence_parallel = config.parallel.sequence_parallel
    return [
        *config.model.layout_problems(layout, sequence_parallel=sequence_parallel),
        *config.objective.layout_problems(config.model, layout, sequence_parallel=sequence_parallel),
        *config.optimizer.layout_problems(layout, zero_stage=config.parallel.zero_stage),
    ]


def _batch_sizes(training: TrainingConfig) -> Iterator[tuple[str, int]]:
    yield "training.global_batch_size", training.global_batch_size
    if ramp := training.batch_ramp:
        yield "training.batch_ramp.start", ramp.start
        yield "training.batch_ramp.increment", ramp.increment
