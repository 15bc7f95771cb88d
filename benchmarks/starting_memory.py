"""Peak memory of each rank while a run takes over the weights of a Hugging Face directory, and of an import of it.

    python -m benchmarks.starting_memory [--ranks 1 2] [--sizes 512x4 768x6] [--zero-stage 3] [--precision fp32]

A rank is to hold its own shard, with its gradients and optimizer states, and one tensor of the model beside it. What
the process held before the engine was built is not counted. `own` is what a rank keeps when all is done, `beyond own`
what it had at most on top of that while the weights came; the last column is the largest tensor of the model, to be
compared with it. An import keeps nothing: its whole peak is on top. Prints a table and writes
benchmarks/results/starting_memory.json.

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

from benchmarks.building_memory import M_MMAP_THRESHOLD, peak_bytes, resident_bytes, run_config
from pretrain.config import ModelConfig, RunConfig

RESULTS = Path(__file__).parent / "results"
VOCABULARY = 8192


def write_directory(folder: Path, model: ModelConfig) -> None:
    """A Hugging Face directory of a Llama with small random weights."""
    from transformers import AutoConfig

    from pretrain.models.huggingface.family import to_config
    from pretrain.models.huggingface.transformers_model import save_weights
    from pretrain.models.huggingface.weights import to_hf

    folder.mkdir()
    AutoConfig.for_model(**to_config(model), dtype="float32").save_pretrained(folder)
    generator = torch.Generator().manual_seed(0)
    tensors = {spec.name: 0.02 * torch.randn(spec.shape, generator=generator) for spec in model.parameters()}
    save_weights(dict(to_hf(tensors, model)), folder / "model.safetensors")


def peaks_of_start(config: RunConfig) -> dict[str, int]:
    """On each rank: `own` and `beyond`, in bytes."""
    from pretrain.data.token_facts import TokenFacts
    from pretrain.engine import topology
    from pretrain.engine.engine import TrainEngine
    from pretrain.objectives.objective import ObjectiveContext
    from pretrain.parallel.launch import discover
    from pretrain.parallel.layout import resolve_layout
    from pretrain.starting.start import begin_from, find_start

    launch = discover()
    place = topology.start(launch, resolve_layout(config, launch.world_size))
    context = ObjectiveContext(config.model, TokenFacts(0), config.seed)
    objective = config.objective.implement()(config.objective, context)
    start = find_start(config)
    assert start is not None
    before = resident_bytes("VmRSS")
    engine = TrainEngine(config, place, objective)
    peak = peak_bytes(lambda: _started(begin_from(start, config, engine)))
    own = resident_bytes("VmRSS")
    topology.stop()
    return {"own": own - before, "beyond": max(0, peak - own)}


def _started(record: dict[str, Any]) -> None:
    assert record["kind"] == "huggingface"


def peak_of_import(directory: Path, output: Path) -> dict[str, int]:
    """Of one process that writes the run of a Hugging Face directory."""
    from finetune.config import ImportConfig
    from finetune.huggingface.importing import import_model
    from pretrain.starting.huggingface_source import HuggingFaceSource

    HuggingFaceSource(directory)  # what is imported and read once stays
    config = ImportConfig(model=directory, output=output, tokenizer="none", check_logits=False)
    before = resident_bytes("VmRSS")
    return {"own": 0, "beyond": peak_bytes(lambda: _told(import_model(config))) - before}


def _told(lines: list[str]) -> None:
    assert lines


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--sizes", nargs="+", default=["512x4", "768x6"], metavar="HIDDENxLAYERS")
    parser.add_argument("--zero-stage", type=int, default=3)
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for size in arguments.sizes:
        hidden, layers = map(int, size.split("x"))
        with tempfile.TemporaryDirectory(prefix="starting-memory-") as name:
            directory = Path(name)
            options = {"precision": arguments.precision, "zero_stage": arguments.zero_stage}
            model = run_config(hidden=hidden, layers=layers, vocabulary=VOCABULARY, ranks=1).model
            write_directory(directory / "hf", model)
            facts = {
                "weights": model.num_parameters(),
                "largest_tensor_bytes": 4 * max(spec.elements for spec in model.parameters()),
            }
            for ranks in arguments.ranks:
                config = run_config(hidden=hidden, layers=layers, vocabulary=VOCABULARY, ranks=ranks, **options)
                config = config.model_copy(update={"start_from": directory / "hf", "output": directory / "none"})
                rows.append({"what": f"start, {ranks} ranks", **facts, **measure(config, ranks, directory)})
            rows.append({"what": "import", **facts, **measure(None, 1, directory)})
    print(f"ZeRO {arguments.zero_stage}, {arguments.precision}; of the rank with the most, in MB")
    print(f"{'':16} {'weights':>12} {'own':>8} {'beyond own':>11} {'largest tensor':>15}")
    for row in rows:
        megabytes = [row[key] / 1e6 for key in ("own", "beyond", "largest_tensor_bytes")]
        print(f"{row['what']:16} {row['weights']:12,} {megabytes[0]:8.0f} {megabytes[1]:11.1f} {megabytes[2]:15.1f}")
    report = {"zero_stage": arguments.zero_stage, "precision": arguments.precision, "rows": rows}
    (RESULTS / "starting_memory.json").write_text(json.dumps(report, indent=2) + "\n")


def measure(config: RunConfig | None, ranks: int, directory: Path) -> dict[str, int]:
    """The largest of all ranks, of a start; without a config of an import."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    multiprocessing.spawn(_rank, (config, ranks, directory), nprocs=ranks)
    found = [json.loads((directory / f"{rank}.json").read_text()) for rank in range(ranks)]
    return {key: max(peaks[key] for peaks in found) for key in ("own", "beyond")}


def _rank(rank: int, config: RunConfig | None, ranks: int, directory: Path) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    os.environ |= {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
    torch.set_num_threads(1)
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1 << 20)
    found = peak_of_import(directory / "hf", directory / "run") if config is None else peaks_of_start(config)
    (directory / f"{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
