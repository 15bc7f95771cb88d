"""The pieces of the check, each of at most nine minutes: what it runs, and what it makes of it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu_check.commands import Commands, PieceFailed
from pretrain.config import TrainingConfig

LIMIT_S = 540
TINY = ["training.device=cpu", "training.precision=fp32", "model.vocab_size=512", "model.num_layers=2"]
LOSS_TOLERANCE = 2e-2
"""Largest relative difference of the losses of two layouts of the same bf16 training, over a few steps."""


@dataclass(frozen=True)
class Settings:
    """How the pieces run.

    Attributes:
        commands: runs them.
        scratch: an empty folder.
        tiny: whether to try them on a CPU with a tiny model, where the figures mean nothing.
    """

    commands: Commands
    scratch: Path
    tiny: bool


@dataclass(frozen=True)
class Piece:
    """One piece.

    Attributes:
        what: it shows.
        run: does it, and returns its figures; raises `PieceFailed`.
        needs_gpu: whether it cannot be tried without one.
    """

    what: str
    run: Callable[[Settings], dict[str, Any]]
    needs_gpu: bool = False


def _tests(*paths: str) -> Callable[[Settings], dict[str, Any]]:
    def run(settings: Settings) -> dict[str, Any]:
        output = settings.commands.run("-m", "pytest", "-q", "-m", "gpu", "--no-header", *paths)
        return test_counts(output)

    return run


def test_counts(output: str) -> dict[str, Any]:
    """How many tests ended how, from pytest's line about it.

    Raises:
        PieceFailed: none passed, or one was skipped or failed.
    """
    # Libraries may print something when the process ends.
    counted = [
        line for line in output.splitlines() if re.search(r"\d+ (passed|failed|skipped|error).* in [\d.]+", line)
    ]
    last = counted[-1] if counted else (output.strip().splitlines() or ["nothing was printed"])[-1]
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|skipped|error)", last)}
    if not counts.get("passed") or set(counts) != {"passed"}:
        raise PieceFailed(f"pytest: {last}")
    return counts


def bitwise(settings: Settings) -> dict[str, Any]:
    """gpt-tiny on real text: trained twice, and once with a stop and a resume; which tensors differ.

    Raises:
        PieceFailed: some do though the run was to be deterministic, as a CPU always is.
    """
    commands, scratch = settings.commands, settings.scratch
    text, tokenizer, corpus = scratch / "text.jsonl", scratch / "tokenizer", scratch / "corpus"
    size = ["min_bytes=100000", f"max_bytes={300_000 if settings.tiny else 4_000_000}"]
    commands.run("-m", "data_prep", "sample-corpus", "--output", str(text), *size)
    vocabulary = f"vocab_size={512 if settings.tiny else 2048}"
    commands.run("-m", "data_prep", "train-tokenizer", vocabulary, "--input", str(text), "--output", str(tokenizer))
    told = ["--input", str(text), "--tokenizer", str(tokenizer), "--output", str(corpus)]
    commands.run("-m", "data_prep", "tokenize", *told)
    kinds: dict[str, list[str]] = {"as it is": []}
    if "deterministic" in TrainingConfig.model_fields:
        kinds["deterministic"] = ["training.deterministic=true"]
    if settings.tiny:
        kinds = dict(list(kinds.items())[-1:])
    found: dict[str, Any] = {}
    for kind, more in kinds.items():
        found[kind] = _trained_thrice(settings, corpus, scratch / kind.replace(" ", "-"), more)
        if any(runs["different"] for runs in found[kind].values()) and (settings.tiny or kind == "deterministic"):
            raise PieceFailed(f"{kind}: runs of the same training differ", found)
    return found


def _trained_thrice(settings: Settings, corpus: Path, folder: Path, more: list[str]) -> dict[str, dict[str, Any]]:
    """The differences of a second and of a resumed training from the first."""
    steps = 4 if settings.tiny else 100
    run = ["pretrain/main.py", "--config", "gpt-tiny", f"data.train={corpus}", f"training.duration={steps} steps"]
    run += ["evaluation.interval=null", "monitor.tensorboard=false", *more]
    run += ["training.device=cpu", "model.num_layers=2"] if settings.tiny else ["training.precision=bf16"]
    for name in ("one", "two"):
        settings.commands.run(*run, f"output={folder / name}")
    half = f"training.session_limit={steps // 2} steps"
    settings.commands.run(*run, f"output={folder / 'resumed'}", half, allowed=(75,))
    settings.commands.run(*run, f"output={folder / 'resumed'}")
    return {name: different_tensors(folder / "one", folder / name) for name in ("two", "resumed")}


def different_tensors(one: Path, other: Path) -> dict[str, Any]:
    """How many tensors of the newest checkpoints of two runs are not bitwise equal, and by how much at most."""
    from pretrain.checkpoint.directory import newest_checkpoint
    from pretrain.checkpoint.reader import CheckpointReader

    paths = [newest_checkpoint(run / "checkpoints") for run in (one, other)]
    if None in paths or paths[0].name != paths[1].name:  # type: ignore[union-attr]
        raise PieceFailed(f"{one} and {other} ended at different steps: {paths}")
    a, b = (CheckpointReader(path) for path in paths if path is not None)
    different, largest = 0, 0.0
    for name in a.names():
        first, second = a.tensor(name), b.tensor(name)
        if not first.equal(second):
            different, largest = different + 1, max(largest, float((first - second).abs().max()))
    return {"tensors": len(a.names()), "different": different, "largest_difference": largest}


def speed(settings: Settings) -> dict[str, Any]:
    """gpt-1.3b: tokens/s, MFU, memory, kernels, idle share."""
    if settings.tiny:
        return _measured(settings, "gpt-tiny", 2, "--profile")
    # A global batch of a 128th of the recipe's: 20 steps of it are for a cluster.
    sizes = ["training.micro_batch_size=4", "training.global_batch_size=32"]
    return _measured(settings, "gpt-1.3b", 20, "--profile", *sizes)


STAGES: dict[str, list[str]] = {
    "zero 0": ["parallel.zero_stage=0"],
    "zero 1": ["parallel.zero_stage=1"],
    "zero 2": ["parallel.zero_stage=2"],
    "zero 3": ["parallel.zero_stage=3"],
    "zero 2, overlap": ["parallel.zero_stage=2", "parallel.zero_overlap=true"],
    "zero 3, overlap and prefetch": [
        "parallel.zero_stage=3",
        "parallel.zero_overlap=true",
        "parallel.zero3_prefetch_elements=50000000",
    ],
}
MEMORY: dict[str, list[str]] = {
    "zero 1": ["parallel.zero_stage=1"],
    "zero 1, offload": ["parallel.zero_stage=1", "parallel.offload_optimizer=true"],
    "zero 2, offload": ["parallel.zero_stage=2", "parallel.offload_optimizer=true"],
    "zero 3, offload": ["parallel.zero_stage=3", "parallel.offload_optimizer=true"],
    "recompute selective": ["parallel.recompute=selective"],
    "recompute full": ["parallel.recompute=full"],
}


def _side_by_side(layouts: Mapping[str, list[str]]) -> Callable[[Settings], dict[str, Any]]:
    def run(settings: Settings) -> dict[str, Any]:
        recipe, steps = ("gpt-tiny", 1) if settings.tiny else ("gpt-125m", 10)
        sizes = [] if settings.tiny else ["training.global_batch_size=64"]
        found: dict[str, Any] = {}
        problems = []
        for name, layout in layouts.items():
            try:
                figures = _measured(settings, recipe, steps, *sizes, *layout)
            except PieceFailed as failure:  # such as too little memory; the others are tried all the same
                problems.append(str(failure))
                continue
            found[name] = figures
            first = next(iter(found))
            figures["losses_from_first"] = apart = largest_difference(figures["losses"], found[first]["losses"])
            if not apart <= LOSS_TOLERANCE:
                problems.append(f"the losses of {name} are {apart:.2e} from those of {first}")
        if problems:
            raise PieceFailed("\n".join(problems), found)
        return found

    return run


def largest_difference(found: list[float], expected: list[float]) -> float:
    """The largest relative difference of two lists of losses; infinite if one is not a number."""
    differences = [abs(a - b) / abs(b) for a, b in zip(found, expected, strict=True)]
    return max(differences) if all(map(math.isfinite, differences)) else math.inf


def _measured(settings: Settings, recipe: str, steps: int, *more: str) -> dict[str, Any]:
    options = ["-m", "benchmarks.gpu_check.measured_training", "--recipe", recipe, "--steps", str(steps)]
    return settings.commands.run_json(*options, *more, *(TINY if settings.tiny else []))


PIECES: dict[str, Piece] = {
    "tests": Piece("the engine's GPU tests", _tests("tests/pretrain/engine"), needs_gpu=True),
    "starts": Piece(
        "plain start, resume, export, classify; the other GPU tests",
        _tests("tests", "--ignore=tests/pretrain/engine"),
        needs_gpu=True,
    ),
    "bitwise": Piece("gpt-tiny trained twice, and resumed: which bits differ", bitwise),
    "gpt-1.3b": Piece("20 steps of gpt-1.3b: tokens/s, MFU, memory, kernels, idle share", speed),
    "zero": Piece("ZeRO 0 to 3, overlap and prefetch side by side on gpt-125m", _side_by_side(STAGES)),
    "memory": Piece("offload and recompute side by side on gpt-125m", _side_by_side(MEMORY)),
}
