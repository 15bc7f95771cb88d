"""Checkpoint save and load against raw memory and disk, in the same run, in turns.

    python benchmarks/checkpoint_speed.py --megabytes 768 --ranks 2 --trials 9

Prints a table and writes it to `benchmarks/results/checkpoint_speed.json`. Save throughput counts from the call to the
commit; load throughput includes the comparison of every hash; reads come from the disk, not from the page cache. With
several ranks, all of them write (or read) their share at the same time in every row. "memory copy" is torch's `copy_`
of the same tensors.

The stall is what training waits: in the call that begins a save, and before the optimizer's next step for the rest of
the copy. Between the two lies a forward and backward pass, here matrix products ("pass"). Where its threads have every
core, as on a CPU, the copy and the writing slow it down; "pass while saving" says by how much.

Targets are judged by the medians; the best rounds stand beside them, since whatever else runs on the machine only ever
adds time.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from raw_disk import forget, timed_read, timed_write

from pretrain.checkpoint.directory import step_name
from pretrain.checkpoint.loader import load_checkpoint
from pretrain.checkpoint.state_shards import StateShard
from pretrain.checkpoint.writer import CheckpointWriter
from pretrain.optimizers.adamw_config import AdamWConfig
from pretrain.parallel.sharded_shape import ShardedShape

RESULTS = Path(__file__).parent / "results"
HIDDEN = 1024
SHAPES = {
    "qkv": (3 * HIDDEN, HIDDEN),
    "proj": (HIDDEN, HIDDEN),
    "fc1": (4 * HIDDEN, HIDDEN),
    "fc2": (HIDDEN, 4 * HIDDEN),
}
PASS_PRODUCTS = 12
SHAPES |= {"norm1": (HIDDEN,), "norm2": (HIDDEN,)}
TARGETS = {"stall / memory copy": (1.0, "<="), "save / raw write": (0.7, ">="), "load / raw read": (0.7, ">=")}

STATES = ("master", *(state.name for state in AdamWConfig.states))


def main() -> None:
    """Start the ranks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=768, help="size of the checkpoint, all ranks together")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--trials", type=int, default=9, help="rounds; one more before them is not counted")
    parser.add_argument("--directory", type=Path, help="on the disk to measure; default: the temporary directory")
    arguments = parser.parse_args()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1]), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory(prefix="checkpoint-speed-", dir=arguments.directory) as directory:
        multiprocessing.spawn(measure, (arguments, Path(directory)), nprocs=arguments.ranks)


def zero_shards(total_bytes: int, rank: int, size: int) -> list[StateShard]:
    """One rank's ZeRO-1 share of a transformer of about `total_bytes` of weights and moments."""
    layer_elements = sum(torch.Size(shape).numel() for shape in SHAPES.values())
    layers = max(1, round(total_bytes / 12 / layer_elements))
    share = -(-layers * layer_elements // size)
    low, high = rank * share, (rank + 1) * share
    ranges, start = [], 0
    for name, shape in ((f"layers.{n}.{name}", shape) for n in range(layers) for name, shape in SHAPES.items()):
        elements = torch.Size(shape).numel()
        first, last = max(0, low - start), min(elements, high - start)
        if first < last:
            ranges.append((ShardedShape(name, shape, shape), first, last))
        start += elements
    held = sum(last - first for _, first, last in ranges)
    flat = {state: torch.rand(held) for state in STATES}
    shards, offset = [], 0
    for shaped, first, last in ranges:
        views = {state: flat[state][offset : offset + last - first] for state in STATES}
        shards.append(StateShard(shaped, first, last, views))
        offset += last - first
    return shards


def measure(rank: int, arguments: argparse.Namespace, directory: Path) -> None:
    """One rank: all rounds, then the report on rank 0."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=arguments.ranks)
    shards = zero_shards(arguments.megabytes * 1_000_000, rank, arguments.ranks)
    bench = CheckpointBench(rank, directory, shards)
    for number in range(1, arguments.trials + 2):
        # Whoever goes first in a round finds another machine than who comes second; take turns.
        steps = [bench.raw, bench.checkpoint]
        for step in steps if number % 2 else reversed(steps):
            step(number)
    if rank == 0:
        # The first round pays for memory that the machine had not touched before.
        counted = {name: found[1:] for name, found in bench.times.items()}
        report(counted, 4 * bench.source.numel() * arguments.ranks, arguments)
    bench.writer.close()
    dist.destroy_process_group()


class CheckpointBench:
    """One rank's memory, files and times; every time is that of the slowest rank."""

    def __init__(self, rank: int, directory: Path, shards: list[StateShard]) -> None:
        self.rank, self.directory, self.shards = rank, directory, shards
        self.sources = [shard.tensors[state] for state in STATES for shard in shards]
        self.source = torch.cat(self.sources)
        self.memory = torch.zeros_like(self.source)
        self.weight = torch.rand(HIDDEN, HIDDEN)
        self.activations = torch.rand(2 * HIDDEN, HIDDEN)
        self.root = directory / "checkpoints"
        self.writer = CheckpointWriter(self.root, keep_last=2)
        self.writer.prepare(shards)
        self.times: dict[str, list[float]] = {}

    def record(self, name: str, seconds: float) -> None:
        """Add a time; all ranks leave together."""
        slowest = torch.tensor(seconds)
        dist.all_reduce(slowest, op=dist.ReduceOp.MAX)
        self.times.setdefault(name, []).append(slowest.item())

    def raw(self, number: int) -> None:
        """Memory copy, write and read without us. The file before goes after the write, as with checkpoints."""
        dist.barrier()
        started_s = time.perf_counter()
        end = 0
        for tensor in self.sources:
            self.memory[end : end + tensor.numel()].copy_(tensor)
            end += tensor.numel()
        self.record("memory copy", time.perf_counter() - started_s)
        path = self.directory / f"raw{self.rank}-{number}"
        self.record("raw write", timed_write(path, self.source.numpy().data.cast("B")))
        (self.directory / f"raw{self.rank}-{number - 1}").unlink(missing_ok=True)
        forget(path)
        dist.barrier()
        self.record("raw read", timed_read(path, self.memory.numpy().data.cast("B")))

    def run_pass(self) -> float:
        """What stands for a forward and backward pass; returns its seconds."""
        started_s = time.perf_counter()
        for _ in range(PASS_PRODUCTS):
            torch.mm(self.activations, self.weight)
        return time.perf_counter() - started_s

    def checkpoint(self, number: int) -> None:
        """Save while training goes on, save alone, and load."""
        dist.barrier()
        self.record("pass", self.run_pass())
        stall = self.writer.save(number, self.shards, {"step": number})
        pass_s = self.run_pass()
        waited_s = self.writer.wait_for_copy()
        self.writer.wait_all_ranks()
        self.record("stall", stall.total_s + waited_s)
        self.record("pass while saving", pass_s)
        if self.rank == 0:
            shutil.rmtree(self.root / step_name(number))
            shutil.rmtree(self.root / step_name(number - 1), ignore_errors=True)
        dist.barrier()
        started_s = time.perf_counter()
        self.writer.save(number, self.shards, {"step": number})
        self.writer.wait_all_ranks()
        self.record("save", time.perf_counter() - started_s)
        if self.rank == 0:
            forget(self.root / step_name(number))
        dist.barrier()
        started_s = time.perf_counter()
        load_checkpoint(self.root, self.shards)
        self.record("load", time.perf_counter() - started_s)


def report(times: dict[str, list[float]], total_bytes: int, arguments: argparse.Namespace) -> None:
    """Print the table and write the results."""
    median = {name: statistics.median(found) for name, found in times.items()}
    best = {name: min(found) for name, found in times.items()}
    ratios, best_ratios = _ratios(median), _ratios(best)
    print(f"{total_bytes / 1e6:.0f} MB, {arguments.ranks} ranks, {arguments.trials} rounds")
    print(f"{'':<22}{'median (s)':>11}{'GB/s':>8}{'best (s)':>11}")
    for name in ("memory copy", "stall", "pass", "pass while saving", "raw write", "save", "raw read", "load"):
        rate = "" if "pass" in name else f"{total_bytes / median[name] / 1e9:.2f}"
        print(f"{name:<22}{median[name]:>11.3f}{rate:>8}{best[name]:>11.3f}")
    for name, ratio in ratios.items():
        limit, sense = TARGETS[name]
        met = "met" if (ratio <= limit if sense == "<=" else ratio >= limit) else "MISSED"
        print(f"{name:<22}{ratio:>11.2f}{'':>8}{best_ratios[name]:>11.2f}   target {sense} {limit}: {met}")
    RESULTS.mkdir(exist_ok=True)
    result = {
        "command": f"python benchmarks/checkpoint_speed.py --megabytes {arguments.megabytes} --ranks {arguments.ranks}"
        f" --trials {arguments.trials}",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "cpus": os.cpu_count(),
        "load_average_at_end": [round(value, 1) for value in os.getloadavg()],
        "total_bytes": total_bytes,
        "times_s": {name: [round(value, 4) for value in found] for name, found in times.items()},
        "median_s": {name: round(value, 4) for name, value in median.items()},
        "ratios_of_medians": {name: round(value, 3) for name, value in ratios.items()},
        "ratios_of_best": {name: round(value, 3) for name, value in best_ratios.items()},
        "targets": {name: f"{sense} {limit}" for name, (limit, sense) in TARGETS.items()},
    }
    (RESULTS / "checkpoint_speed.json").write_text(json.dumps(result, indent=2) + "\n")


def _ratios(times: dict[str, float]) -> dict[str, float]:
    return {
        "stall / memory copy": times["stall"] / times["memory copy"],
        "save / raw write": times["raw write"] / times["save"],
        "load / raw read": times["raw read"] / times["load"],
    }


if __name__ == "__main__":
    main()
