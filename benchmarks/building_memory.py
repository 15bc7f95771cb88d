"""Peak memory of each rank while it makes a model's weights, builds its engine, and loads another layout's checkpoint.

    python -m benchmarks.building_memory [--ranks 1 2 4] [--zero-stage 3] [--precision fp32] [--offload]

Everything up to the first step: the weights, then the engine around them with its optimizer state, then the load of a
checkpoint that one rank saved. What the process held before (Python, libraries, process groups) is not counted. At
ZeRO-3 the sum over the ranks stays what it is, and each rank's part falls with their number. Prints a table and writes
benchmarks/results/building_memory.json.

Needs Linux, whose kernel keeps the peak, and its C library, which is told to give back freed memory of 1 MB and more at
once, as it does by itself from 32 MB on, the size of a large model's matrices.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import re
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing

from configs.durations import Duration
from pretrain.config import DataConfig, ParallelConfig, RunConfig, TrainingConfig
from pretrain.models.gpt.config import GPTConfig
from pretrain.optimizers.adamw_config import AdamWConfig

ACTIONS = ("weights", "engine", "load")
RESULTS = Path(__file__).parent / "results"
STEP = 1
M_MMAP_THRESHOLD = -3


def run_config(*, hidden: int, layers: int, vocabulary: int, ranks: int, **options: Any) -> RunConfig:
    """A Llama of the given size; `options` are fields of the sections `parallel` and `training`."""
    precision = options.pop("precision", "fp32")
    return RunConfig(
        output=Path("unused"),
        model=GPTConfig(
            num_layers=layers,
            hidden_size=hidden,
            num_attention_heads=hidden // 64,
            seq_length=64,
            vocab_size=vocabulary,
            tie_embeddings=False,
        ),
        data=DataConfig(train=["unused"]),
        parallel=ParallelConfig(**options),
        training=TrainingConfig(
            duration=Duration(1, "steps"), micro_batch_size=1, global_batch_size=ranks, precision=precision
        ),
        optimizer=AdamWConfig(lr=1e-3),
    )


def peaks(config: RunConfig, root: Path) -> dict[str, int]:
    """On each rank: the peak of each action, in bytes; the load is from `root`, where one rank alone saves."""
    from pretrain.checkpoint.loader import load_checkpoint
    from pretrain.checkpoint.writer import CheckpointWriter
    from pretrain.data.token_facts import TokenFacts
    from pretrain.engine import topology, upstream
    from pretrain.engine.engine import TrainEngine
    from pretrain.objectives.objective import ObjectiveContext
    from pretrain.parallel.launch import discover
    from pretrain.parallel.layout import resolve_layout

    torch.set_num_threads(1)
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1 << 20)
    launch = discover()
    place = topology.start(launch, resolve_layout(config, launch.world_size))
    deepspeed = upstream.import_deepspeed()
    initialize = deepspeed.initialize
    objective = config.objective.implement()(
        config.objective, ObjectiveContext(config.model, TokenFacts(0), config.seed)
    )
    engine: Any = None
    found: dict[str, int] = {}

    def weights_are_made(**arguments: Any) -> Any:
        found["weights"] = resident_bytes("VmHWM") - before
        return initialize(**arguments)

    def build() -> None:
        nonlocal engine
        engine = TrainEngine(config, place, objective)
        engine.shards()

    def load() -> None:
        load_checkpoint(root, engine.shards())
        engine.restore(STEP, None)

    before = resident_bytes("VmRSS")
    deepspeed.initialize = weights_are_made
    found["engine"] = peak_bytes(build) - before
    deepspeed.initialize = initialize
    if launch.world_size == 1:
        writer = CheckpointWriter(root, asynchronous=False)
        writer.save(STEP, engine.shards(), {"step": STEP})
        writer.close()
    dist.barrier()
    found["load"] = peak_bytes(load) - before
    topology.stop()
    return found


def peak_bytes(action: Callable[[], None]) -> int:
    """The most memory that this process held during `action`."""
    Path("/proc/self/clear_refs").write_text("5")  # the kernel's peak begins anew
    action()
    return resident_bytes("VmHWM")


def resident_bytes(field: str) -> int:
    """`VmRSS` or, its peak, `VmHWM` of this process."""
    match = re.search(rf"^{field}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert match, f"/proc/self/status has no {field}"
    return int(match[1]) * 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4], help="process counts; the first is to be 1")
    parser.add_argument("--zero-stage", type=int, default=3)
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--offload", action="store_true", help="optimizer state in host memory")
    parser.add_argument("--hidden", type=int, default=768)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--vocabulary", type=int, default=8192)
    arguments = parser.parse_args()
    if arguments.ranks[0] != 1:
        parser.error("--ranks: the first run saves the checkpoint that all load, on 1 rank")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="building-memory-") as directory:
        for ranks in arguments.ranks:
            config = run_config(
                hidden=arguments.hidden,
                layers=arguments.layers,
                vocabulary=arguments.vocabulary,
                ranks=ranks,
                precision=arguments.precision,
                zero_stage=arguments.zero_stage,
                offload_optimizer=arguments.offload,
            )
            rows.append({"ranks": ranks} | measure(config, ranks, Path(directory)))
    weights = config.model.num_parameters()
    print(f"{weights:,} weights, ZeRO {arguments.zero_stage}, {arguments.precision}; peaks in MB")
    print(" ranks" + "".join(f" {f'{action}: a rank':>16} {'all':>6}" for action in ACTIONS))
    for row in rows:
        cells = [row[f"{action}_{of}"] / 1e6 for action in ACTIONS for of in ("rank_bytes", "bytes")]
        print(f"{row['ranks']:6}" + (" {:16.0f} {:6.0f}" * len(ACTIONS)).format(*cells))
    options = {key: value for key, value in vars(arguments).items() if key != "ranks"}
    report = {"weights": weights, **options, "rows": rows}
    (RESULTS / "building_memory.json").write_text(json.dumps(report, indent=2) + "\n")


def measure(config: RunConfig, ranks: int, directory: Path) -> dict[str, int]:
    """Largest peak of a rank and sum of all, of each action."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    multiprocessing.spawn(_rank, (config, ranks, directory), nprocs=ranks)
    found = [json.loads((directory / f"{rank}.json").read_text()) for rank in range(ranks)]
    largest = {f"{name}_rank_bytes": max(peak[name] for peak in found) for name in ACTIONS}
    return largest | {f"{name}_bytes": sum(peak[name] for peak in found) for name in ACTIONS}


def _rank(rank: int, config: RunConfig, ranks: int, directory: Path) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    os.environ |= {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
    found = peaks(config, directory / "checkpoints")
    (directory / f"{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
