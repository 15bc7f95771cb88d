"""Ways to break the engine, one or more per fact of the design that is silent and wrong when missed.

Each is applied inside the ranks before the engine is built, and says what the equivalence suite must then see: numbers
that are off by so much, or a failure with a name. Each rank leaves a file once its engine is broken, and one for each
replaced function that was called: a mutation that could not be applied, or that nothing ran into, shows nothing.
"""

from __future__ import annotations

import faulthandler
import functools
import json
import os
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tests.distributed import RankFailure, run_ranks
from tests.pretrain.engine.equivalence_table import References, limits
from tests.pretrain.engine.layout_cases import CASES, PRELOAD, Case, largest_differences, train

_BY_NAME = {case.name: case for case in CASES}
# A sound run takes two or three seconds on two cores.
TIMEOUT_S = 120.0
# Where a hang is expected, stacks are written this often; at the end none has changed between the last two.
HANG_TIMEOUT_S, HANG_LOOK_S = 26.0, 4


class Saboteur:
    """Replaces functions in this process, and leaves files about it, which outlive a killed rank."""

    def __init__(self, directory: Path, rank: int) -> None:
        self.prefix = f"{directory}/rank{rank}"
        self.replaced: list[str] = []

    def replace(self, owner: Any, name: str, replacement: Callable[..., Any]) -> None:
        """Put `replacement` where `owner` has a function `name`; it is an error if there is none.

        The replacement is a method where `owner` is a class.
        """
        assert callable(getattr(owner, name)), f"{name} of {owner} is no function"

        @functools.wraps(replacement)
        def witnessed(*args: Any, **kwargs: Any) -> Any:
            Path(f"{self.prefix}.reached.{name}").touch()
            return replacement(*args, **kwargs)

        setattr(owner, name, witnessed)
        self.replaced.append(name)

    def done(self) -> None:
        """Report that the engine is broken in this process."""
        Path(f"{self.prefix}.applied").write_text(json.dumps(self.replaced))


@dataclass
class Run:
    """What was seen of a broken engine's run.

    Attributes:
        case: its layout.
        replaced: names that each rank replaced; a rank that did not get as far is missing.
        reached: names of replaced functions that were called, by rank.
        failure: how it failed; None if it ended.
        differences: of losses and norms, relative to the reference, if it ended.
        timed_out: whether it failed because it did not end.
        stacks: of each rank, every few seconds, where a hang is expected.
    """

    case: Case
    replaced: dict[int, list[str]]
    reached: dict[int, list[str]]
    failure: RankFailure | None = None
    differences: tuple[float, float] | None = None
    timed_out: bool = False
    stacks: dict[int, list[str]] = field(default_factory=dict)


class Outcome(Protocol):
    """What a run must show."""

    def mismatch(self, run: Run) -> str:
        """What the run shows instead; empty if it is as expected."""


@dataclass(frozen=True)
class Unchanged:
    """The run reproduces the reference."""

    def mismatch(self, run: Run) -> str:
        if run.differences is None:
            return f"failed: {run.failure}"
        small = all(found < limit for found, limit in zip(run.differences, limits(run.case), strict=True))
        return "" if small else f"losses and norms differ by {run.differences}"


@dataclass(frozen=True)
class Differs:
    """The run ends, with numbers off by at least this much, relative to the reference.

    Attributes:
        loss: least difference of the losses; None: the norms show it.
        norm: least difference of the norms; None: the losses show it.
    """

    loss: float | None = None
    norm: float | None = None

    def mismatch(self, run: Run) -> str:
        if run.differences is None:
            return f"failed: {run.failure}"
        pairs = zip(run.differences, (self.loss, self.norm), strict=True)
        large = all(found >= least for found, least in pairs if least is not None)
        return "" if large else f"losses and norms differ by {run.differences}"


@dataclass(frozen=True)
class Raises:
    """The rank that fails first raises this.

    Attributes:
        error: name of the exception's class.
        text: part of its traceback or message.
    """

    error: str
    text: str

    def mismatch(self, run: Run) -> str:
        if run.failure is None:
            return f"ended, with differences {run.differences}"
        same = type(run.failure.error).__name__ == self.error and self.text in str(run.failure)
        return "" if same else f"failed: {run.failure}"


@dataclass(frozen=True)
class Dies:
    """A rank ends by a signal.

    Attributes:
        signal: its number.
        text: part of the rank's output.
    """

    signal: int
    text: str

    def mismatch(self, run: Run) -> str:
        if run.failure is None:
            return f"ended, with differences {run.differences}"
        message = str(run.failure)
        same = f"ended with status -{self.signal}\n" in message and self.text in message
        return "" if same else f"failed: {message}"


@dataclass(frozen=True)
class Hangs:
    """No rank moves any more, and one of them waits in a certain function.

    Attributes:
        waits_in: file and name of the function, as in a stack dump.
    """

    waits_in: tuple[str, str]

    def mismatch(self, run: Run) -> str:
        if not run.timed_out:
            return f"failed: {run.failure}" if run.failure else f"ended, with differences {run.differences}"
        for rank in range(run.case.ranks):
            stacks = run.stacks.get(rank, [])
            if len(stacks) < 2 or stacks[-1] != stacks[-2]:
                return f"rank {rank} had not come to a stop: {run.failure}"
        file, function = self.waits_in
        lines = [line for stacks in run.stacks.values() for line in stacks[-1].splitlines()]
        same = any(f'{file}"' in line and line.endswith(f" in {function}") for line in lines)
        return "" if same else "hung elsewhere:\n" + "\n".join(lines)


@dataclass(frozen=True)
class Mutation:
    """One way to break the engine.

    Attributes:
        item: number of the fact in the design.
        layout: name of the case that shows it.
        apply: breaks the engine in this process.
        outcome: what the run must then show.
    """

    item: int
    layout: str
    apply: Callable[[Case, Saboteur], None]
    outcome: Outcome

    @property
    def case(self) -> Case:
        """The layout that shows it."""
        return _BY_NAME[self.layout]


def train_broken(mutation: Mutation, directory: str) -> list[tuple[float, float]]:
    """On each rank: break the engine, say so, train."""
    rank = int(os.environ["RANK"])
    saboteur = Saboteur(Path(directory), rank)
    mutation.apply(mutation.case, saboteur)
    saboteur.done()
    if isinstance(mutation.outcome, Hangs):
        # The rank's end closes it.
        stacks = open(f"{saboteur.prefix}.stacks", "w")  # noqa: SIM115
        faulthandler.dump_traceback_later(HANG_LOOK_S, repeat=True, file=stacks)
    return train(mutation.case)


def run_broken(mutation: Mutation, references: References) -> Run:
    """Run the layout of `mutation` with the engine broken."""
    case = mutation.case
    reference = references.of(case)
    timeout_s = HANG_TIMEOUT_S if isinstance(mutation.outcome, Hangs) else TIMEOUT_S
    failure, differences = None, None
    started_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutation-") as directory:
        try:
            found = run_ranks(
                train_broken, case.ranks, mutation, directory, process_group=False, preload=PRELOAD, timeout_s=timeout_s
            )
            differences = largest_differences(found[0], reference)
        except RankFailure as error:
            failure = error
        # When the time is up the ranks are killed in turn, and one that loses a peer may still raise: ask the clock.
        timed_out = failure is not None and time.monotonic() - started_s >= timeout_s
        run = Run(case, {}, {}, failure, differences, timed_out)
        for rank in range(case.ranks):
            applied, stacks = Path(directory, f"rank{rank}.applied"), Path(directory, f"rank{rank}.stacks")
            if applied.exists():
                run.replaced[rank] = json.loads(applied.read_text())
            run.reached[rank] = [path.suffix[1:] for path in Path(directory).glob(f"rank{rank}.reached.*")]
            if stacks.exists():
                run.stacks[rank] = stacks.read_text().split("Timeout (")[1:]
    return run


def check(mutation: Mutation, run: Run) -> None:
    """Hold a run against what it must show.

    Raises:
        AssertionError: the engine was not broken in every rank, nothing ran into the broken parts, or the outcome is
            another one.
    """
    missing = [rank for rank in range(run.case.ranks) if not run.replaced.get(rank)]
    assert not missing, f"not applied in ranks {missing}: {run.failure}"
    called = {name for names in run.reached.values() for name in names}
    idle = {name for names in run.replaced.values() for name in names} - called
    assert not idle, f"applied, but no rank called {sorted(idle)}: {run.failure or run.differences}"
    mismatch = mutation.outcome.mismatch(run)
    assert not mismatch, f"expected {mutation.outcome}, but the run {mismatch}"


def _accumulation_left_to_deepspeed(case: Case, saboteur: Saboteur) -> None:
    _let_deepspeed_accumulate(case, saboteur, managed=True)


def _accumulation_known_to_deepspeed(case: Case, saboteur: Saboteur) -> None:
    _let_deepspeed_accumulate(case, saboteur, managed=False)


def _let_deepspeed_accumulate(case: Case, saboteur: Saboteur, *, managed: bool) -> None:
    from pretrain.engine import engine

    original = engine.deepspeed_config

    def told(config: Any) -> dict[str, Any]:
        # All ranks are data ranks in the layouts of these mutations.
        steps = case.global_batch_size // case.micro_batch_size // case.ranks
        return original(config) | {"gradient_accumulation_steps": steps, "managed_gradient_accumulation": managed}

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
    from pretrain.engine import zero_optimizer

    def begin_step(self: Any) -> None:
        self.inner.micro_step_id = 1

    saboteur.replace(zero_optimizer.ParameterPartitions, "begin_step", begin_step)


def first_micro_batch_copies(case: Case, saboteur: Saboteur) -> None:
    """Upstream's rule in place of ours; harmless by itself while all parameters take part in every micro-batch."""
    from pretrain.engine import zero_optimizer

    def begin_step(self: Any) -> None:
        self.inner.micro_step_id = 0

    saboteur.replace(zero_optimizer.ParameterPartitions, "begin_step", begin_step)


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
    from pretrain.engine import zero_optimizer

    def before_step(self: Any, measure: Callable[[], Any]) -> None:
        step = self.inner.step

        def finish_then_step(*args: Any, **kwargs: Any) -> Any:
            measure()
            step(*args, **kwargs)
            finisher = measure.__self__
            finisher.last.grad_norm = float(self.inner._global_grad_norm)

        saboteur.replace(self.inner, "step", finish_then_step)

    saboteur.replace(zero_optimizer.FlatPartitions, "before_step", before_step)


def _trace_compared_over_the_world(case: Case, saboteur: Saboteur) -> None:
    from deepspeed.runtime.zero import partitioned_param_coordinator
    from deepspeed.runtime.zero.utils import assert_ints_same_as_other_ranks

    from pretrain.engine import upstream

    saboteur.replace(upstream, "_scope_trace_check", lambda: None)
    name = "assert_ints_same_as_other_ranks"
    saboteur.replace(partitioned_param_coordinator, name, assert_ints_same_as_other_ranks)


def _loss_reported_in_place(case: Case, saboteur: Saboteur) -> None:
    from pretrain.engine import pipeline

    saboteur.replace(pipeline, "reported", lambda loss: loss.detach())


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
    "sequence-parallel sums left out": Mutation(
        5, "zero 1, tensor 2, sequence", _sequence_sums_left_out, Differs(norm=5e-3)
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
