"""Prints how far each layout's weights are from the single process': `python -m tests.pretrain.engine.weight_table`.

After ten steps, all weights by name: the norm of the difference by the norm of what the steps changed. Words after it
choose the layouts whose names have one of them.

Left out is Lion with GPT-2's biases. A bias of the keys adds the same to each score of a query, which softmax takes off
again: its gradient is 0 but for rounding, and Lion steps by the sign of that. What the model computes is compared all
the same, by `equivalence_table`; Lion's weights are compared under the same layout without biases.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import replace

os.environ.setdefault("OMP_NUM_THREADS", "1")

from tests.pretrain.engine.optimizer_cases import OPTIMIZER_CASES
from tests.pretrain.engine.trained_weights import Weights, distance, weights_of

LIMIT = 5e-3
"""Of the relative distance, fp32: rounding differs between layouts, and each step passes it on."""


def main() -> int:
    """Print the table; 1 if a layout is over the limit."""
    known: dict[str, tuple[Weights, Weights]] = {}
    words = sys.argv[1:] or [""]
    cases = [case for case in OPTIMIZER_CASES if any(word in case.name for word in words)]
    left_out = [case for case in cases if case.optimizer == "lion" and case.family == "gpt2"]
    cases = [case for case in cases if case not in left_out]
    worst = 0.0
    print(f"{'layout':66} {'ranks':>5} {'distance':>9} {'seconds':>8}")
    for case in cases:
        started_s, reference = time.perf_counter(), case.reference()
        key = repr(replace(reference, name=""))
        if key not in known:
            known[key] = weights_of(reference), weights_of(reference, 0)
        end, start = known[key]
        far = distance(weights_of(case), end) / distance(end, start)
        worst = max(worst, far)
        over = "OVER" if far > LIMIT else ""
        print(f"{case.name:66} {case.ranks:5} {far:9.1e} {time.perf_counter() - started_s:8.1f} {over}", flush=True)
    for case in left_out:
        print(f"{case.name:66} left out: Lion steps by the sign of rounding where a bias has no gradient")
    print(json.dumps({"layouts": len(cases), "largest": worst, "limit": LIMIT, "all_within_limits": worst <= LIMIT}))
    return int(worst > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
