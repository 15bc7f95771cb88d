"""Prints every layout's difference to the single process: `python -m tests.pretrain.engine.equivalence_table`.

Words after it choose the layouts whose names have one of them, such as `bert` or `modern`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import replace

os.environ.setdefault("OMP_NUM_THREADS", "1")

from tests.distributed import run_ranks
from tests.pretrain.engine.all_cases import ALL_CASES
from tests.pretrain.engine.layout_cases import PRELOAD, Case, Trajectory, largest_differences, train

FP32_LIMIT = 1e-4
# bf16 rounds to 8 bits.
BF16_LIMITS = (1e-4, 2e-3)


class References:
    """Trajectories of the single process, each run once."""

    def __init__(self) -> None:
        self._known: dict[str, Trajectory] = {}

    def of(self, case: Case) -> Trajectory:
        """The single-process trajectory that `case` must reproduce."""
        reference = case.reference()
        key = repr(replace(reference, name=""))
        if key not in self._known:
            self._known[key] = run_ranks(train, 1, reference, process_group=False, preload=PRELOAD)[0]
        return self._known[key]


def differences(case: Case, references: References) -> tuple[float, float]:
    """Relative differences of loss and norm of `case` to the single process; all ranks must agree exactly."""
    expected = references.of(case)
    found = run_ranks(train, case.ranks, case, process_group=False, preload=PRELOAD, timeout_s=300)
    assert all(other == found[0] for other in found), "ranks report different losses or norms"
    return largest_differences(found[0], expected)


def limits(case: Case) -> tuple[float, float]:
    """What the differences must stay under."""
    loss, norm = (FP32_LIMIT, FP32_LIMIT) if case.precision == "fp32" else BF16_LIMITS
    return loss, norm if case.norm_limit is None else case.norm_limit


def check(case: Case, references: References) -> None:
    """Hold a layout against the single process.

    Raises:
        AssertionError: its losses or norms differ by more than `limits` says.
    """
    found, allowed = differences(case, references), limits(case)
    assert all(difference < limit for difference, limit in zip(found, allowed, strict=True)), (case, found, allowed)


def main() -> int:
    """Print the table; 1 if a layout is over its limit."""
    references, worst = References(), 0
    words = sys.argv[1:] or [""]
    cases = [case for case in ALL_CASES if any(word in case.name for word in words)]
    print(f"{'layout':66} {'ranks':>5} {'loss':>9} {'norm':>9} {'seconds':>8}")
    for case in cases:
        started_s = time.perf_counter()
        loss, norm = differences(case, references)
        over = loss > limits(case)[0] or norm > limits(case)[1]
        worst |= over
        seconds = time.perf_counter() - started_s
        verdict = "OVER" if over else ""
        print(f"{case.name:66} {case.ranks:5} {loss:9.1e} {norm:9.1e} {seconds:8.1f} {verdict}", flush=True)
    print(json.dumps({"layouts": len(cases), "all_within_limits": not worst}))
    return int(worst)


if __name__ == "__main__":
    sys.exit(main())
