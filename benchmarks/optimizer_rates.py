"""Optimizers against each other at equal steps, each with the best of the same number of learning rates.

    python -m benchmarks.optimizer_rates --corpus runs/quickstart/corpus [--optimizers adamw muon] [--steps 300]

Each is a run of the recipe gpt-tiny on one process with another optimizer and rate: the same weights at the start, the
same samples. Prints the validation loss at the end; the rate is chosen by it. Writes
benchmarks/results/optimizer_rates.json.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from pretrain.monitor.metrics_file import FILE_NAME, read_metrics

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
RATES = {
    "adamw": (1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2),
    "muon": (1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2),
    "lion": (1.25e-4, 2.5e-4, 5e-4, 1e-3, 2e-3),
    "sgd": (0.05, 0.1, 0.2, 0.4, 0.8),
    "adagrad": (0.005, 0.01, 0.02, 0.04, 0.08),
    "lamb": (0.005, 0.01, 0.02, 0.04, 0.08),
    "adafactor": (0.02, 0.04, 0.08, 0.16, 0.32),
}
"""Five learning rates of each, a factor of two apart."""


def measure(optimizer: str, rate: float, corpus: Path, steps: int) -> dict[str, Any]:
    """One run: its validation loss at the end, None if it diverged, and its time per step."""
    with tempfile.TemporaryDirectory() as scratch:
        settings = [
            f"output={scratch}/run",
            f"data.train={corpus}",
            f"training.duration={steps} steps",
            f"optimizer.name={optimizer}",
            f"optimizer.lr={rate}",
            f"optimizer.min_lr={rate / 10}",
            f"evaluation.interval={steps} steps",
            "evaluation.batches=32",
            "checkpoint.interval=null",
            "monitor.tensorboard=false",
            "training.device=cpu",
        ]
        command = [sys.executable, "pretrain/main.py", "--config", "gpt-tiny", *settings]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        records = list(read_metrics(Path(scratch) / "run" / FILE_NAME))
    if done.returncode not in (0, 3):
        raise SystemExit(done.stderr)
    losses = [r["loss"] for r in records if r["kind"] == "validation" and r["name"] == "validation"]
    times = sorted(r["step_time_s"] for r in records if r["kind"] == "train" and r["step_time_s"] is not None)
    loss = losses[-1] if losses and losses[-1] is not None and math.isfinite(losses[-1]) else None
    return {
        "optimizer": optimizer,
        "lr": rate,
        "validation_loss": None if loss is None else round(loss, 4),
        "median_step_time_s": round(times[len(times) // 2], 4) if times else None,
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, default=Path("runs/quickstart/corpus"))
    parser.add_argument("--optimizers", nargs="+", default=["adamw", "muon"], choices=list(RATES))
    parser.add_argument("--steps", type=int, default=300)
    options = parser.parse_args()
    runs = []
    for optimizer in options.optimizers:
        for rate in RATES[optimizer]:
            runs.append(measure(optimizer, rate, options.corpus.resolve(), options.steps))
            print(json.dumps(runs[-1]), flush=True)
    best = {}
    for optimizer in options.optimizers:
        ended = [run for run in runs if run["optimizer"] == optimizer and run["validation_loss"] is not None]
        if ended:
            best[optimizer] = min(ended, key=lambda run: float(run["validation_loss"]))
    print(json.dumps({"best": best}, indent=2))
    result = {
        "command": "python -m benchmarks.optimizer_rates --optimizers " + " ".join(options.optimizers),
        "cores": len(os.sched_getaffinity(0)),
        "steps": options.steps,
        "best": best,
        "runs": runs,
    }
    (RESULTS / "optimizer_rates.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
