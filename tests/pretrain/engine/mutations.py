"""Ways to break the engine, one or more per fact of the design that is silent and wrong when missed."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from tests.pretrain.engine.broken_engine import Dies, Differs, Hangs, Mutation, Raises, Saboteur, Unchanged
from tests.pretrain.engine.layout_cases import Case


def _accumulation_left_to_deepspeed(case: Case, saboteur: Saboteur) -> None:
    _let_deepspeed_accumulate(case, saboteur, managed=True)


def _accumulation_known_to_deepspeed(case: Case, saboteur: Saboteur) -> None:
    _let_deepspeed_accumulate(case, saboteur, managed=False)


def _let_deepspeed_accumulate(case: Case, saboteur: Saboteur, *, managed: bool) -> None:
    from pretrain.engine import engine

    original = engine.deepspeed_config

    def told(*sections: Any) -> dict[str, Any]:
        # All ranks are data ranks in the layouts of these mutations.
        steps = case.global_batch_size // case.micro_batch_size // case.ranks
        return original(*sections) | {"gradient_accumulation_steps": steps, "managed_gradient_accumulation": managed}

    saboteur.replace(engine, "deepspeed_config", told)


def _micro_batch_never_ended(case: Case, saboteur: Saboteur) -> None:
    from pretrain.engine import pipeline

    # Zeroing the buffer (item 3) hides this one: it shows under upstream's rule that the first micro-batch copies.
    first_micro_batch_copies(case, saboteur)
    saboteur.replace(pipeline, "end_micro_batch", lambda engine: None)


def _backward_not_announced(case: Case, saboteur: Saboteur) -> None:
    from megatron.core.pipeline_parallel import schedules

    from pretrain.engine import pipeline

    original = schedules.backward_step

    def unannounced(self: Any, *args: Any, **kwargs: Any) -> Any:
        return original(*args, **kwargs)

    saboteur.replace(pipeline.backward_through, "_backward_step", unannounced)


def _buffer_not_zeroed(case: Case, saboteur: Saboteur) -> None:
    from pretrain.engine import zero_partitions

    def begin_step(self: Any) -> None:
        self.inner.micro_step_id = 1

    saboteur.replace(zero_partitions.ParameterPartitions, "begin_step", begin_step)


def first_micro_batch_copies(case: Case, saboteur: Saboteur) -> None:
    """Upstream's rule in place of ours; harmless by itself while all parameters take part in every micro-batch."""
    from pretrain.engine import zero_partitions

    def begin_step(self: Any) -> None:
        self.inner.micro_step_id = 0

    saboteur.replace(zero_partitions.ParameterPartitions, "begin_step", begin_step)


def _megatron_groups_as_they_are(case: Case, saboteur: Saboteur) -> None:
    from megatron.core import parallel_state

    from pretrain.engine import engine

    saboteur.replace(engine, "GroupAdapter", lambda partitions: parallel_state)


def _partition_over_the_plane(case: Case, saboteur: Saboteur) -> None:
    from pretrain.engine import group_adapter

    adapter = group_adapter.GroupAdapter
    saboteur.replace(adapter, "get_data_parallel_group", adapter.get_model_parallel_group)


def _sequence_sums_left_out(case: Case, saboteur: Saboteur) -> None:
    from pretrain.engine import gradients

    saboteur.replace(gradients.GradientFinisher, "sum_sequence_parallel", lambda self, shards: None)


def _tied_sums_left_out(case: Case, saboteur: Saboteur) -> None:
    from pretrain.engine import gradients

    saboteur.replace(gradients.GradientFinisher, "sum_tied", lambda self, shards: None)


def _tied_copy_counted_twice(case: Case, saboteur: Saboteur) -> None:
    from pretrain.engine import gradients

    def is_counted(self: Any, parameter: Any) -> bool:
        return self.counts_own_data and (parameter.tensor_model_parallel or self.topology.tensor_rank == 0)

    saboteur.replace(gradients.GradientFinisher, "is_counted", is_counted)


def _norm_left_to_deepspeed(case: Case, saboteur: Saboteur) -> None:
    from pretrain.engine import zero_partitions

    def before_step(self: Any, measure: Callable[[], Any]) -> None:
        step = self.inner.step

        def finish_then_step(*args: Any, **kwargs: Any) -> Any:
            measure()
            step(*args, **kwargs)
            finisher = measure.__self__
            finisher.last.grad_norm = float(self.inner._global_grad_norm)

        saboteur.replace(self.inner, "step", finish_then_step)

    saboteur.replace(zero_partitions.FlatPartitions, "before_step", before_step)


def _trace_compared_over_the_world(case: Case, saboteur: Saboteur) -> None:
    from deepspeed.runtime.zero import partitioned_param_coordinator
    from deepspeed.runtime.zero.utils import assert_ints_same_as_other_ranks

    from pretrain.engine import upstream

    saboteur.replace(upstream, "_scope_trace_check", lambda: None)
    name = "assert_ints_same_as_other_ranks"
    saboteur.replace(partitioned_param_coordinator, name, assert_ints_same_as_other_ranks)


def _loss_reported_in_place(case: Case, saboteur: Saboteur) -> None:
    from pretrain.engine import engine

    # The schedule's division in place then reaches the sums that are reported.
    saboteur.replace(engine, "trained_loss", lambda sums_K, factors_K: sums_K.mul_(factors_K)[0])


_FEW_MICRO_BATCHES = "zero 3, pipeline 4, 2 micro-batches < stages"

CONTROL = Mutation(0, _FEW_MICRO_BATCHES, first_micro_batch_copies, Unchanged())

MUTATIONS: dict[str, Mutation] = {
    "accumulation left to DeepSpeed": Mutation(
        1, "zero 2, data 2", _accumulation_left_to_deepspeed, Raises("AssertionError", "assert result.applied")
    ),
    "accumulation known to DeepSpeed": Mutation(
        1, "zero 2, data 2", _accumulation_known_to_deepspeed, Differs(norm=0.5)
    ),
    # The gradients are left in the parameters. Where DeepSpeed drops them, it takes them to be on a GPU.
    "backward pass not announced": Mutation(
        2, "zero 3, pipeline 2, data 2", _backward_not_announced, Raises("RuntimeError", "p.grad.record_stream")
    ),
    "micro-batch never ended": Mutation(2, _FEW_MICRO_BATCHES, _micro_batch_never_ended, Differs(norm=0.1)),
    "gradient buffer not zeroed": Mutation(3, "zero 3, data 2", _buffer_not_zeroed, Differs(norm=0.1)),
    "megatron's groups unadapted": Mutation(
        4,
        "zero 1, pipeline 2, data 2",
        _megatron_groups_as_they_are,
        Raises("AttributeError", "has no attribute 'get_model_parallel_world_size'"),
    ),
    "state partitioned over the plane": Mutation(
        4,
        "zero 1, pipeline 2, data 2",
        _partition_over_the_plane,
        Dies(signal.SIGABRT, "Received data size doesn't match expected size"),
    ),
    # GPT-2's biases and LayerNorms are summed; a model with RMSNorm weights alone shows a hundredth of it.
    "sequence-parallel sums left out": Mutation(
        5, "zero 3, tensor 2, sequence, gpt2 untied", _sequence_sums_left_out, Differs(norm=0.05)
    ),
    "tied sums left out": Mutation(5, "zero 2, pipeline 4", _tied_sums_left_out, Differs(norm=0.1)),
    "tied copy counted twice": Mutation(6, "zero 2, pipeline 4", _tied_copy_counted_twice, Differs(norm=0.1)),
    "norm left to DeepSpeed": Mutation(
        6, "zero 2, pipeline 4", _norm_left_to_deepspeed, Hangs(("stage_1_and_2.py", "get_grad_norm_direct"))
    ),
    "trace compared over the world": Mutation(
        7,
        "zero 3, pipeline 2, data 2",
        _trace_compared_over_the_world,
        Hangs(("zero/utils.py", "assert_ints_same_as_other_ranks")),
    ),
    "loss reported in place": Mutation(11, "zero 1, data 2", _loss_reported_in_place, Differs(loss=0.5)),
}
