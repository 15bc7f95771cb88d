"""Some steps of a recipe on random tokens in a process of its own: time, memory, losses, and a profile if wanted.

    python -m benchmarks.gpu_check.measured_training --recipe gpt-125m [--steps 10] [--profile] key=value ...

Prints one line of JSON, the last of its output.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from configs.load import find_recipe, load_config
from configs.memory import host_memory_bytes
from pretrain.config import RunConfig
from pretrain.parallel.accelerator import prepare_environment

if TYPE_CHECKING:
    import torch

VOCAB_SIZE = 50_257
"""Of recipes that take theirs from a corpus."""
PROFILED_STEPS = 2
TABLE_ROWS = 20


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("settings", nargs="*", metavar="key=value")
    parser.add_argument("--recipe", required=True)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    config = load_config(
        RunConfig, find_recipe(options.recipe, "pretrain"), [f"model.vocab_size={VOCAB_SIZE}", *options.settings]
    )
    prepare_environment(config.training.device, config.parallel)
    print(json.dumps(measure(config, options.steps, options.warmup, with_profile=options.profile)), flush=True)


def measure(config: RunConfig, steps: int, warmup: int, *, with_profile: bool) -> dict[str, Any]:
    """What `steps` steps take, after `warmup` ones that do not count."""
    started_s = time.perf_counter()
    import torch

    from benchmarks.step_time import engine_step, micro_batches, timed
    from pretrain.engine import topology, upstream
    from pretrain.parallel.launch import discover
    from pretrain.parallel.layout import resolve_layout

    upstream.import_deepspeed()
    launch = discover()
    place = topology.start(launch, resolve_layout(config, launch.world_size))
    losses: list[float] = []
    train = engine_step(config, place, micro_batches(config, place.device))

    def step() -> float:
        losses.append(train())
        return losses[-1]

    first_s = timed(step, place.device)
    started = {"start_s": round(time.perf_counter() - started_s - first_s, 1), "first_step_s": round(first_s, 2)}
    for _ in range(warmup - 1):
        step()
    times_s = [timed(step, place.device) for _ in range(steps)]
    found = {"settings": _told(config), **started, **_speed(config, times_s, place.device), "losses": losses[:]}
    if place.device.type == "cuda":
        found["peak_allocated_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
        found["peak_reserved_gib"] = round(torch.cuda.max_memory_reserved() / 2**30, 2)
    found["host_memory_gib"] = round(host_memory_bytes() / 2**30, 2)
    if with_profile:
        found["profile"] = _profile(step, place.device)
    topology.stop()
    return found


def _told(config: RunConfig) -> dict[str, Any]:
    return {
        "parallel": {key: value for key, value in config.parallel.model_dump(mode="json").items() if value},
        "precision": config.training.precision,
        "micro_batch_size": config.training.micro_batch_size,
        "global_batch_size": config.training.global_batch_size,
        "seq_length": config.model.seq_length,
        "parameters": config.model.num_parameters(),
    }


def _speed(config: RunConfig, times_s: list[float], device: torch.device) -> dict[str, Any]:
    """Step time, tokens per second, MFU against the published peak and against a measured matrix product."""
    import torch

    from pretrain.monitor.flops import device_peak

    step_s = statistics.median(times_s)
    tokens_per_s = config.training.global_batch_size * config.model.seq_length / step_s
    flops_per_s = tokens_per_s * config.model.flops_per_token()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    peak = device_peak(name, config.training.precision, config.monitor.peak_tflops)
    mfu, of_measured = peak.utilization(flops_per_s)
    return {
        "steps": len(times_s),
        "step_s": round(step_s, 4),
        "step_s_range": [round(min(times_s), 4), round(max(times_s), 4)],
        "tokens_per_s": round(tokens_per_s),
        "model_tflops": round(flops_per_s / 1e12, 2),
        "mfu": None if mfu is None else round(mfu, 4),
        "share_of_measured_matmul": None if of_measured is None else round(of_measured, 4),
        "peak": peak.source,
    }


def _profile(step: Callable[[], float], device: torch.device) -> dict[str, Any]:
    """The kernels of some steps, and the share of the time in which none ran."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    from benchmarks.gpu_check.kernels import busy_us, kernel_table, kernels_of
    from benchmarks.step_time import timed

    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])
    with profile(activities=activities) as seen:
        wall_s = sum(timed(step, device) for _ in range(PROFILED_STEPS))
    kernels = kernels_of(seen)
    return {
        "steps": PROFILED_STEPS,
        "step_s": round(wall_s / PROFILED_STEPS, 4),
        "idle_share": round(1.0 - busy_us(kernels) / 1e6 / wall_s, 4) if kernels else None,
        "kernels": kernel_table(kernels, PROFILED_STEPS, TABLE_ROWS) if kernels else [],
    }


if __name__ == "__main__":
    main()
