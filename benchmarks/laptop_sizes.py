"""How fast and how large the small recipes are on this machine's CPU, in one process and in two.

    python -m benchmarks.laptop_sizes --corpus runs/quickstart/corpus [--recipes gpt-tiny gpt-6m gpt-28m] [--steps 12]

Each is a real run of `pretrain/main.py` for some steps, started by torchrun, with the cores shared out between
the processes. Prints tokens per second without the first step, the largest resident memory of a process, and how long
the recipe's own duration would take. Writes benchmarks/results/laptop_sizes.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from configs.load import find_recipe, load_config
from pretrain.config import RunConfig
from pretrain.monitor import wording
from pretrain.monitor.metrics_file import FILE_NAME, read_metrics
from pretrain.schedule.batch_size import steps_and_samples
from pretrain.schedule.sample_lengths import SampleLengths

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def measure(recipe: str, corpus: Path, processes: int, steps: int) -> dict[str, Any]:
    """Run `recipe` for `steps` steps and say what it took."""
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as scratch:
        settings = [
            f"output={scratch}/run",
            f"data.train={corpus}",
            f"training.duration={steps} steps",
            "optimizer.warmup=0 steps",
            "optimizer.schedule=constant",
            "evaluation.interval=null",
            "checkpoint.interval=null",
            "monitor.log_interval=1",
            "monitor.tensorboard=false",
            "training.device=cpu",
        ]
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command += ["pretrain/main.py", "--config", recipe, *settings]
        environ = os.environ | {"OMP_NUM_THREADS": str(max(1, cores // processes))}
        subprocess.run(command, cwd=ROOT, env=environ, check=True, stdout=subprocess.DEVNULL)
        records = [r for r in read_metrics(Path(scratch) / "run" / FILE_NAME) if r["kind"] == "train"]
        written = json.loads((Path(scratch) / "run" / "summary.json").read_text())
    measured = records[1:]
    time_s = sum(record["interval_time_s"] for record in measured)
    tokens_per_s = sum(record["interval_tokens"] for record in measured) / time_s
    config = load_config(RunConfig, find_recipe(recipe, "pretrain"))
    length = steps_and_samples(
        config.training.duration, config.training, SampleLengths.constant(config.model.seq_length)
    )
    tokens = length.samples * config.model.seq_length
    return {
        "recipe": recipe,
        "processes": processes,
        "parameters": written["num_parameters"],
        "tokens_per_s": round(tokens_per_s, 1),
        "memory_gib_per_process": round(max(r["host_memory_bytes"] for r in records) / 2**30, 2),
        "recipe_tokens": tokens,
        "recipe_time": wording.seconds(tokens / tokens_per_s),
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, default=Path("runs/quickstart/corpus"))
    parser.add_argument("--recipes", nargs="+", default=["gpt-tiny", "gpt-6m", "gpt-28m"])
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--steps", type=int, default=12)
    options = parser.parse_args()
    found = []
    for recipe in options.recipes:
        for processes in options.processes:
            found.append(measure(recipe, options.corpus.resolve(), processes, options.steps))
            print(json.dumps(found[-1]), flush=True)
    machine = {"cores": len(os.sched_getaffinity(0)), "processor": platform.processor() or platform.machine()}
    result = {"command": "python -m benchmarks.laptop_sizes", "machine": machine, "steps": options.steps, "runs": found}
    (RESULTS / "laptop_sizes.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
