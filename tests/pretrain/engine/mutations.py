"""Ways to break the engine, one per fact of the design that is silent and wrong when missed.

Each is applied inside the ranks before the engine is built; the equivalence suite must then fail.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.pretrain.engine.layout_cases import CASES, Case

_BY_NAME = {case.name: case for case in CASES}


@dataclass(frozen=True)
class Mutation:
    """One way to break the engine.

    Attributes:
        item: number of the fact in the design.
        layout: name of the case that shows it.
        apply: breaks the engine in this process.
    """

    item: int
    layout: str
    apply: Callable[[Case], None]

    @property
    def case(self) -> Case:
        """The layout that shows it."""
        return _BY_NAME[self.layout]


def _accumulation_left_to_deepspeed(case: Case) -> None:
    from pretrain.engine import engine

    original = engine.deepspeed_config

    def managed(config: Any) -> dict[str, Any]:
        steps = case.global_batch_size // case.micro_batch_size
        return original(config) | {"gradient_accumulation_steps": steps, "managed_gradient_accumulation": True}

    engine.deepspeed_config = managed


def _micro_batch_never_ended(case: Case) -> None:
    from pretrain.engine import pipeline

    # Zeroing the buffer (item 3) hides this one: it shows under upstream's rule that the first micro-batch copies.
    first_micro_batch_copies(case)
    pipeline.end_micro_batch = lambda engine: None


def _backward_not_announced(case: Case) -> None:
    from megatron.core.pipeline_parallel import schedules

    from pretrain.engine import pipeline

    original = schedules.backward_step
    pipeline.backward_through._backward_step = lambda self, *args, **kwargs: original(*args, **kwargs)


def _buffer_not_zeroed(case: Case) -> None:
    from pretrain.engine import zero_optimizer

    def begin_step(self: Any) -> None:
        self.inner.micro_step_id = 1

    zero_optimizer.ParameterPartitions.begin_step = begin_step


def first_micro_batch_copies(case: Case) -> None:
    """Upstream's rule in place of ours; harmless by itself while all parameters take part in every micro-batch."""
    from pretrain.engine import zero_optimizer

    def begin_step(self: Any) -> None:
        self.inner.micro_step_id = 0

    zero_optimizer.ParameterPartitions.begin_step = begin_step


def _megatron_groups_as_they_are(case: Case) -> None:
    from megatron.core import parallel_state

    from pretrain.engine import engine

    engine.GroupAdapter = lambda partitions: parallel_state


def _partition_over_the_plane(case: Case) -> None:
    from pretrain.engine import group_adapter

    adapter = group_adapter.GroupAdapter
    adapter.get_data_parallel_group = adapter.get_model_parallel_group


def _sequence_sums_left_out(case: Case) -> None:
    from pretrain.engine import gradients

    gradients.GradientFinisher.sum_sequence_parallel = lambda self, shards: None


def _tied_sums_left_out(case: Case) -> None:
    from pretrain.engine import gradients

    gradients.GradientFinisher.sum_tied = lambda self, shards: None


def _tied_copy_counted_twice(case: Case) -> None:
    from pretrain.engine import gradients

    gradients.GradientFinisher.is_counted = lambda self, parameter: (
        self.counts_own_data and (parameter.tensor_model_parallel or self.topology.tensor_rank == 0)
    )


def _norm_left_to_deepspeed(case: Case) -> None:
    from pretrain.engine import zero_optimizer

    def before_step(self: Any, measure: Callable[[], Any]) -> None:
        step = self.inner.step

        def finish_then_step(*args: Any, **kwargs: Any) -> Any:
            measure()
            step(*args, **kwargs)
            finisher = measure.__self__
            finisher.last.grad_norm = float(self.inner._global_grad_norm)

        self.inner.step = finish_then_step

    zero_optimizer.FlatPartitions.before_step = before_step


def _trace_compared_over_the_world(case: Case) -> None:
    from deepspeed.runtime.zero import partitioned_param_coordinator
    from deepspeed.runtime.zero.utils import assert_ints_same_as_other_ranks

    from pretrain.engine import upstream

    upstream._scope_trace_check = lambda: None
    partitioned_param_coordinator.assert_ints_same_as_other_ranks = assert_ints_same_as_other_ranks


def _loss_reported_in_place(case: Case) -> None:
    from pretrain.engine import pipeline

    pipeline.reported = lambda loss: loss.detach()


CONTROL = Mutation(0, "zero 3, pipeline 4, 2 micro-batches < stages", first_micro_batch_copies)

MUTATIONS: dict[str, Mutation] = {
    "accumulation left to DeepSpeed": Mutation(1, "zero 2, data 2", _accumulation_left_to_deepspeed),
    "backward pass not announced": Mutation(2, "zero 3, pipeline 2, data 2", _backward_not_announced),
    "micro-batch never ended": Mutation(2, "zero 3, pipeline 4, 2 micro-batches < stages", _micro_batch_never_ended),
    "gradient buffer not zeroed": Mutation(3, "zero 3, data 2", _buffer_not_zeroed),
    "megatron's groups unadapted": Mutation(4, "zero 1, pipeline 2, data 2", _megatron_groups_as_they_are),
    "state partitioned over the plane": Mutation(4, "zero 1, pipeline 2, data 2", _partition_over_the_plane),
    "sequence-parallel sums left out": Mutation(5, "zero 1, tensor 2, sequence", _sequence_sums_left_out),
    "tied sums left out": Mutation(5, "zero 2, pipeline 4", _tied_sums_left_out),
    "tied copy counted twice": Mutation(6, "zero 2, pipeline 4", _tied_copy_counted_twice),
    "norm left to DeepSpeed": Mutation(6, "zero 2, pipeline 4", _norm_left_to_deepspeed),
    "trace compared over the world": Mutation(7, "zero 3, pipeline 2, data 2", _trace_compared_over_the_world),
    "loss reported in place": Mutation(11, "zero 1, data 2", _loss_reported_in_place),
}
