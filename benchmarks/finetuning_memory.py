"""Peak memory of each rank while a task's network gets its weights at ZeRO-3, built whole and built in partitions.

    python -m benchmarks.finetuning_memory [--ranks 1 2] [--hidden 768] [--layers 6]

Up to the engine and the state that checkpoints take, before the first step, from a checkpoint of ours. What the process
held before is not counted. `built`: until DeepSpeed takes the network; `engine`: until all is there, fp32 weights,
gradients, two moments and the best weights (24 bytes a weight, shared by the ranks). Whole, every rank first holds the
network with all its weights. Prints a table and writes benchmarks/results/finetuning_memory.json.

Needs Linux, whose kernel keeps the peak; see benchmarks/building_memory.py.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import socket
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as multiprocessing

from benchmarks.building_memory import M_MMAP_THRESHOLD, resident_bytes
from pretrain.models.gpt.config import GPTConfig

RESULTS = Path(__file__).parent / "results"
FIGURES = ("built", "engine")


def write_checkpoint(root: Path, model: GPTConfig) -> None:
    """A checkpoint with small random weights, as a run leaves it."""
    from pretrain.checkpoint.state_shards import StateShard
    from pretrain.checkpoint.writer import CheckpointWriter
    from pretrain.parallel.sharded_shape import ShardedShape

    generator = torch.Generator().manual_seed(0)
    shards = []
    for spec in model.parameters():
        master = 0.02 * torch.randn(spec.elements, generator=generator)
        shards.append(StateShard(ShardedShape(spec.name, spec.shape, spec.shape), 0, spec.elements, {"master": master}))
    writer = CheckpointWriter(root / "checkpoints", asynchronous=False)
    saved = model.model_dump(mode="json") | {"padded_vocab_size": model.padded_vocab_size}
    writer.save(1, shards, {"step": 1, "model": saved, "config": {}})
    writer.close()


def peaks(root: Path, *, partitioned: bool) -> dict[str, int]:
    """On this rank: the peak until each of `FIGURES`, in bytes."""
    from finetune.network_building import built_by
    from finetune.networks import head_network
    from finetune.pretrained import PretrainedModel
    from pretrain.checkpoint.model_checkpoint import open_checkpoint
    from pretrain.engine.task_engine import task_engine, task_processes
    from pretrain.engine.task_partitioning import Partitioner
    from pretrain.engine.task_state import TaskState
    from pretrain.models.huggingface.family import counterpart_of, to_config
    from pretrain.models.huggingface.weights import HuggingFaceWeights
    from pretrain.optimizers.adamw_config import AdamWConfig

    torch.set_num_threads(1)
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1 << 20)
    optimizer, found = AdamWConfig(lr=1e-3), {}
    with task_processes():
        import transformers  # noqa: F401

        partitioner = Partitioner("fp32", 1)  # imports DeepSpeed in any case
        source = open_checkpoint(root)
        weights = HuggingFaceWeights(source.tensors, source.model)
        family: Any = counterpart_of(source.model)
        codec: Any = None
        pretrained = PretrainedModel(root, to_config(source.model), weights, codec, None, {}, family)
        before = resident_bytes("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the kernel's peak begins anew
        with built_by(partitioner if partitioned else None):
            network = head_network(
                "AutoModelForSequenceClassification", pretrained, {"num_labels": 2, "pad_token_id": 0}
            )
        found["built"] = resident_bytes("VmHWM") - before
        engine = task_engine(network, optimizer, zero_stage=3, precision="fp32", micro_batch_size=1)
        TaskState(engine, optimizer)
        found["engine"] = resident_bytes("VmHWM") - before
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2], help="process counts")
    parser.add_argument("--hidden", type=int, default=768)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--vocabulary", type=int, default=8192)
    arguments = parser.parse_args()
    model = GPTConfig(
        num_layers=arguments.layers,
        hidden_size=arguments.hidden,
        num_attention_heads=arguments.hidden // 64,
        seq_length=64,
        vocab_size=arguments.vocabulary,
        tie_embeddings=False,
    )
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="finetuning-memory-") as directory:
        write_checkpoint(Path(directory), model)
        for ranks in arguments.ranks:
            for partitioned in (False, True):
                row = {"ranks": ranks, "partitioned": partitioned}
                rows.append(row | measure(Path(directory), ranks, partitioned))
    largest = max(spec.elements for spec in model.parameters())
    print(
        f"{model.num_parameters():,} weights, the largest tensor of {4 * largest / 1e6:.0f} MB; peaks of a rank in MB"
    )
    for row in rows:
        way = "in partitions" if row["partitioned"] else "whole"
        print(f"{row['ranks']:>3} ranks, {way:<13}  built {row['built'] / 1e6:6.0f}  engine {row['engine'] / 1e6:6.0f}")
    report = {"weights": model.num_parameters(), "largest_tensor_bytes": 4 * largest, "rows": rows}
    (RESULTS / "finetuning_memory.json").write_text(json.dumps(report, indent=2) + "\n")


def measure(root: Path, ranks: int, partitioned: bool) -> dict[str, int]:
    """The largest peak of a rank, of each figure."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    multiprocessing.spawn(_rank, (root, ranks, partitioned), nprocs=ranks)
    found = [json.loads((root / f"{rank}.json").read_text()) for rank in range(ranks)]
    return {name: max(peak[name] for peak in found) for name in FIGURES}


def _rank(rank: int, root: Path, ranks: int, partitioned: bool) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    os.environ |= {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
    (root / f"{rank}.json").write_text(json.dumps(peaks(root, partitioned=partitioned)))


if __name__ == "__main__":
    main()
