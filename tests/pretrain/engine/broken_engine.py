"""Runs of an engine that was broken on purpose, and what they must show.

A mutation is applied inside the ranks before the engine is built, and says what the equivalence suite must then see:
numbers that are off by so much, or a failure with a name. Each rank leaves a file once its engine is broken, and one
for each replaced function that was called: a mutation that could not be applied, or that nothing ran into, shows
nothing.
"""

from __future__ import annotations

import faulthandler
import functools
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tests.distributed import RankFailure, run_ranks
from tests.pretrain.engine.all_cases import CASE_BY_NAME
from tests.pretrain.engine.equivalence_table import References, limits
from tests.pretrain.engine.layout_cases import PRELOAD, Case, Trajectory, largest_differences, train

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
        return CASE_BY_NAME[self.layout]


def train_broken(mutation: Mutation, directory: str) -> Trajectory:
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


def check_is_noticed(mutation: Mutation, references: References) -> None:
    """Run the layout of `mutation` with the engine broken, and hold it against what it must show.

    Raises:
        AssertionError: see `check`.
    """
    check(mutation, run_broken(mutation, references))


def check_far_above_limits(mutations: Iterable[Mutation]) -> None:
    """Hold the differences that mutations must make against the limits of layouts that are whole.

    Raises:
        AssertionError: one is less than ten times its limit, or a mutation states none.
    """
    for mutation in mutations:
        assert isinstance(mutation.outcome, Differs), mutation
        least = (mutation.outcome.loss, mutation.outcome.norm)
        stated = [(x, limit) for x, limit in zip(least, limits(mutation.case), strict=True) if x is not None]
        assert stated and all(x >= 10 * limit for x, limit in stated), mutation
