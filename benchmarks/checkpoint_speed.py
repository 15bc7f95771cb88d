"""Checkpoint save and load against raw memory and disk, in the same run, in turns.

    python benchmarks/checkpoint_speed.py --megabytes 768 --ranks 2 --trials 5

Prints a table of medians and ratios and writes it to `benchmarks/results/checkpoint_speed.json`. Save throughput counts
from the call to the commit; load throughput includes the comparison of every hash; reads come from the disk, not from
the page cache. With several ranks, all of them write (or read) their share at the same time in every row.
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

from pretrain.checkpoint.directory import newest_checkpoint, step_name
from pretrain.checkpoint.loader import load_checkpoint
from pretrain.checkpoint.pieces import STATES, Piece, ShardedShape
from pretrain.checkpoint.writer import CheckpointWriter

RESULTS = Path(__file__).parent / "results"
HIDDEN = 1024
SHAPES = {
    "qkv": (3 * HIDDEN, HIDDEN),
    "proj": (HIDDEN, HIDDEN),
    "fc1": (4 * HIDDEN, HIDDEN),
    "fc2": (HIDDEN, 4 * HIDDEN),
}
SHAPES |= {"norm1": (HIDDEN,), "norm2": (HIDDEN,)}
TARGETS = {"stall / memory copy": (1.25, "<="), "save / raw write": (0.7, ">="), "load / raw read": (0.7, ">=")}


def main() -> None:
    """Start the ranks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=768, help="size of the checkpoint, all ranks together")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--trials", type=int, default=5, help="rounds; one more before them is not counted")
    parser.add_argument("--directory", type=Path, help="on the disk to measure; default: the temporary directory")
    arguments = parser.parse_args()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1]), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory(prefix="checkpoint-speed-", dir=arguments.directory) as directory:
        multiprocessing.spawn(measure, (arguments, Path(directory)), nprocs=arguments.ranks)


def zero_pieces(total_bytes: int, rank: int, size: int) -> list[Piece]:
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
    pieces, offset = [], 0
    for shaped, first, last in ranges:
        views = {state: flat[state][offset : offset + last - first] for state in STATES}
        pieces.append(Piece(shaped, first, last, views))
        offset += last - first
    return pieces


def measure(rank: int, arguments: argparse.Namespace, directory: Path) -> None:
    """One rank: all rounds, then the report on rank 0."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=arguments.ranks)
    pieces = zero_pieces(arguments.megabytes * 1_000_000, rank, arguments.ranks)
    source = torch.cat([piece.tensors[state] for state in STATES for piece in pieces])
    memory = torch.zeros_like(source)
    data, target = source.numpy().data.cast("B"), memory.numpy().data.cast("B")
    raw, root = directory / f"raw{rank}", directory / "checkpoints"
    writer = CheckpointWriter(root, keep_last=2)
    writer.prepare(pieces)
    times: dict[str, list[float]] = {}

    def record(name: str, seconds: float) -> None:
        slowest = torch.tensor(seconds)
        dist.all_reduce(slowest, op=dist.ReduceOp.MAX)
        times.setdefault(name, []).append(slowest.item())

    for trial in range(arguments.trials + 1):
        dist.barrier()
        record("raw write", timed_write(raw, data))
        started_s = time.perf_counter()
        memory.copy_(source)
        record("memory copy", time.perf_counter() - started_s)
        dist.barrier()
        started_s = time.perf_counter()
        stall = writer.save(trial + 1, pieces, {"step": trial + 1})
        writer.wait_all_ranks()
        record("save", time.perf_counter() - started_s)
        record("stall", stall.total_s)
        if rank == 0 and trial:
            # Raw writing does not pay for removing the last file either.
            shutil.rmtree(root / step_name(trial))
        forget(raw)
        dist.barrier()
        record("raw read", timed_read(raw, target))
        newest = newest_checkpoint(root)
        assert newest is not None
        if rank == 0:
            forget(newest)
        dist.barrier()
        started_s = time.perf_counter()
        load_checkpoint(root, pieces)
        record("load", time.perf_counter() - started_s)
    if rank == 0:
        report({name: found[1:] for name, found in times.items()}, 4 * source.numel() * arguments.ranks, arguments)
    writer.close()
    dist.destroy_process_group()


def report(times: dict[str, list[float]], total_bytes: int, arguments: argparse.Namespace) -> None:
    """Print the table and write the results."""
    median = {name: statistics.median(found) for name, found in times.items()}
    ratios = {
        "stall / memory copy": median["stall"] / median["memory copy"],
        "save / raw write": median["raw write"] / median["save"],
        "load / raw read": median["raw read"] / median["load"],
    }
    print(f"{total_bytes / 1e6:.0f} MB, {arguments.ranks} ranks, medians of {arguments.trials} rounds")
    print(f"{'':<22}{'seconds':>9}{'GB/s':>8}   range (s)")
    for name in ("memory copy", "stall", "raw write", "save", "raw read", "load"):
        spread = f"{min(times[name]):.3f} - {max(times[name]):.3f}"
        print(f"{name:<22}{median[name]:>9.3f}{total_bytes / median[name] / 1e9:>8.2f}   {spread}")
    for name, ratio in ratios.items():
        limit, sense = TARGETS[name]
        met = ratio <= limit if sense == "<=" else ratio >= limit
        print(f"{name:<22}{ratio:>9.2f}   target {sense} {limit}: {'met' if met else 'MISSED'}")
    RESULTS.mkdir(exist_ok=True)
    result = {
        "command": f"python benchmarks/checkpoint_speed.py --megabytes {arguments.megabytes} --ranks {arguments.ranks}"
        f" --trials {arguments.trials}",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "cpus": os.cpu_count(),
        "total_bytes": total_bytes,
        "times_s": {name: [round(value, 4) for value in found] for name, found in times.items()},
        "median_s": {name: round(value, 4) for name, value in median.items()},
        "ratios": {name: round(value, 3) for name, value in ratios.items()},
    }
    (RESULTS / "checkpoint_speed.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
