"""Which rank does what: the parallel sizes as one value, checked against model and batch before anything starts.

Needs no process group: the world size is an argument, so every layout can be tested, and proposed, anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from configs.errors import ConfigError
from pretrain.config import RunConfig


@dataclass(frozen=True)
class Layout:
    """Sizes of the parallel axes.

    Attributes:
        tensor: ranks that share each layer's matrices.
        pipeline: stages.
        data: replicas of the (tensor x pipeline) plane.
    """

    tensor: int
    pipeline: int
    data: int

    @property
    def world_size(self) -> int:
        """Ranks in all."""
        return self.tensor * self.pipeline * self.data

    def __str__(self) -> str:
        return f"tensor {self.tensor} x pipeline {self.pipeline} x data {self.data}"


def resolve_layout(config: RunConfig, world_size: int) -> Layout:
    """The layout that `config` means on `world_size` ranks.

    Raises:
        ConfigError: if the layout does not fit the ranks, the model or the batch: every reason at once, and the
            nearest layouts that do fit.
    """
    parallel, settings, sizes = config.parallel, _setting_problems(config), []
    plane = parallel.tensor_size * parallel.pipeline_size
    if world_size % plane:
        sizes.append(
            f"parallel.tensor_size {parallel.tensor_size} x parallel.pipeline_size {parallel.pipeline_size} = {plane}"
            f" does not divide the {world_size} ranks"
        )
    layout = Layout(parallel.tensor_size, parallel.pipeline_size, max(1, world_size // plane))
    sizes += _layout_problems(config, layout)
    problems = settings + sizes
    if not problems:
        return layout
    raise ConfigError(
        problems[0] if len(problems) == 1 else "".join(f"\n- {problem}" for problem in problems),
        where=f"layout on {world_size} rank{'s' if world_size > 1 else ''}",
        expected=_proposal(config, layout, world_size) if sizes else None,
    )


def _proposal(config: RunConfig, wanted: Layout, world_size: int) -> str:
    """What would fit: the nearest layouts, or else the nearest batch sizes."""
    if legal := nearest_layouts(config, world_size):
        return "a layout such as " + "; ".join(str(option) for option in legal)
    unit, batch = config.training.micro_batch_size * wanted.data, config.training.global_batch_size
    near = sorted({max(unit, batch // unit * unit), (batch // unit + 1) * unit})
    return f"a training.global_batch_size such as {' or '.join(map(str, near))}, or other sizes of the model"


def nearest_layouts(config: RunConfig, world_size: int, count: int = 3) -> list[Layout]:
    """The legal layouts on `world_size` ranks, those most like the configured one first."""
    wanted = config.parallel

    def distance(layout: Layout) -> tuple[float, float, int]:
        tensor = abs(math.log2(layout.tensor / wanted.tensor_size))
        pipeline = abs(math.log2(layout.pipeline / wanted.pipeline_size))
        return (tensor + pipeline, tensor, layout.tensor)

    legal = [layout for layout in _all_layouts(world_size) if not _layout_problems(config, layout)]
    return sorted(legal, key=distance)[:count]


def _all_layouts(world_size: int) -> Iterator[Layout]:
    for tensor in (n for n in range(1, world_size + 1) if world_size % n == 0):
        rest = world_size // tensor
        for pipeline in (n for n in range(1, rest + 1) if rest % n == 0):
            yield Layout(tensor, pipeline, rest // pipeline)


def _setting_problems(config: RunConfig) -> list[str]:
    parallel, problems = config.parallel, []
    if parallel.sequence_parallel and parallel.tensor_size == 1:
        problems.append("parallel.sequence_parallel needs parallel.tensor_size above 1 (found 1)")
    if parallel.offload_optimizer and parallel.zero_stage == 0:
        problems.append("parallel.offload_optimizer needs parallel.zero_stage 1, 2 or 3 (found 0)")
    return problems


def _layout_problems(config: RunConfig, layout: Layout) -> list[str]:
    model, tensor = config.model, layout.tensor
    divisible = [
        ("model.num_attention_heads", model.num_attention_heads, "tensor size", tensor),
        ("model.num_query_groups", model.query_groups, "tensor size", tensor),
        ("model.ffn_hidden_size", model.ffn_size, "tensor size", tensor),
        ("model.vocab_multiple", model.vocab_multiple, "tensor size", tensor),
        ("model.num_layers", model.num_layers, "pipeline size", layout.pipeline),
    ]
    if config.parallel.sequence_parallel:
        divisible.append(("model.seq_length", model.seq_length, "tensor size", tensor))
    per_forward = config.training.micro_batch_size * layout.data
    for name, samples in _batch_sizes(config):
        divisible.append((name, samples, "micro_batch_size x data size", per_forward))
    return [f"{key} {value} is not a multiple of the {of} {size}" for key, value, of, size in divisible if value % size]


def _batch_sizes(config: RunConfig) -> Iterator[tuple[str, int]]:
    yield "training.global_batch_size", config.training.global_batch_size
    if ramp := config.training.batch_ramp:
        yield "training.batch_ramp.start", ramp.start
        yield "training.batch_ramp.increment", ramp.increment
