"""Training-step time of the engine against a bare PyTorch loop over the same model and batch.

    python -m benchmarks.step_time [--recipe gpt-tiny] [--zero-stage 1] [--rounds 10] [--precision fp32]

Both run in this one process, in turn, so that a machine whose speed drifts slows both. The bare loop is what one would
write by hand: forward, mean loss, backward, accumulate, clip, fused AdamW. Prints the median of the ratios
round by round, and where the difference goes: milliseconds of a step that the functions of each package take more than
in the bare loop, from a profile, which slows Python code itself (`--profile` prints it function by function). Writes
benchmarks/results/step_time.json.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch

from configs.load import find_recipe, load_config
from pretrain.config import RunConfig
from pretrain.data.batch import MicroBatch

RESULTS = Path(__file__).parent / "results"
PROFILED_STEPS = 5


def micro_batches(config: RunConfig, device: torch.device) -> list[MicroBatch]:
    """One global batch of random tokens."""
    generator = torch.Generator().manual_seed(1)
    size, seq = config.training.micro_batch_size, config.model.seq_length
    batches = []
    for number in range(config.training.global_batch_size // size):
        tokens = torch.randint(0, config.model.vocab_size or 1, (size, seq + 1), generator=generator)
        batches.append(
            MicroBatch(
                tokens_BS=tokens[:, :-1].contiguous().to(device),
                labels_BS=tokens[:, 1:].contiguous().to(device),
                loss_mask_BS=torch.ones(size, seq, device=device),
                position_ids_BS=torch.arange(seq, device=device).expand(size, -1).contiguous(),
                number=number,
            )
        )
    return batches


def bare_step(config: RunConfig, device: torch.device, batches: list[MicroBatch]) -> Callable[[], float]:
    """A step as one would write it by hand, over the same megatron-core module."""
    from pretrain.models.family import StagePlace, family_of
    from pretrain.models.initial_values import InitialValues
    from pretrain.models.initialization import build_stage, materialize

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[config.training.precision]
    family = family_of(config.model)
    model, _ = build_stage(family, config.model, config.parallel, dtype, StagePlace())
    materialize(model, device, InitialValues(config.seed))
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)

    def step() -> float:
        total = torch.zeros((), device=device)
        for batch in batches:
            output = family.forward(model, model, batch)
            loss = (output.nll(batch.labels_BS) * batch.loss_mask_BS).sum() / batch.loss_mask_BS.sum() / len(batches)
            loss.backward()
            total += loss.detach()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(total)

    return step


def engine_step(config: RunConfig, topology: object, batches: list[MicroBatch]) -> Callable[[], float]:
    """A step of the engine."""
    from pretrain.data.token_facts import TokenFacts
    from pretrain.engine.engine import TrainEngine
    from pretrain.objectives.objective import ObjectiveContext

    context = ObjectiveContext(config.model, TokenFacts(4096), config.seed)
    objective = config.objective.implement()(config.objective, context)
    engine = TrainEngine(config, topology, objective)  # type: ignore[arg-type]
    return lambda: engine.train_batch(batches, step=0, learning_rate=1e-4).loss


def timed(step: Callable[[], float], device: torch.device) -> float:
    """Seconds of one step."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    started_s = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started_s


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="gpt-tiny")
    parser.add_argument("--zero-stage", type=int, action="append")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--profile", action="store_true", help="print where the engine's step spends its time")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    from pretrain.engine import topology, upstream
    from pretrain.parallel.launch import Launch
    from pretrain.parallel.layout import Layout

    upstream.import_deepspeed()
    place = topology.start(Launch(0, 1, 0, 1, None, None, "benchmark"), Layout())
    rows = []
    for stage in options.zero_stage or [0, 1, 2, 3]:
        config = load_config(
            RunConfig,
            find_recipe(options.recipe, "pretrain"),
            ["model.vocab_size=4096", f"parallel.zero_stage={stage}", f"training.precision={options.precision}"],
        )
        batches = micro_batches(config, place.device)
        bare, ours = bare_step(config, place.device, batches), engine_step(config, place, batches)
        for _ in range(3):
            bare(), ours()
        times = [(timed(bare, place.device), timed(ours, place.device)) for _ in range(options.rounds)]
        bare_s, ours_s = (statistics.median(column) for column in zip(*times, strict=True))
        ratio = statistics.median(b / a for a, b in times)
        tokens = config.training.global_batch_size * config.model.seq_length
        rest_ms = more_by_package(profiled(bare), profiled(ours))
        rows.append(
            {
                "recipe": options.recipe,
                "precision": options.precision,
                "device": str(place.device.type),
                "zero_stage": stage,
                "bare_ms": round(1e3 * bare_s, 2),
                "engine_ms": round(1e3 * ours_s, 2),
                "ratio": round(ratio, 3),
                "engine_tokens_per_s": round(tokens / ours_s),
                "rounds": options.rounds,
                "profiled_rest_ms": rest_ms,
            }
        )
        shown = f"bare {1e3 * bare_s:8.1f} ms  engine {1e3 * ours_s:8.1f} ms  ratio {ratio:.3f}"
        print(f"ZeRO {stage}: {shown}", flush=True)
        print(
            "        the rest: " + ", ".join(f"{name} {found:+.1f} ms" for name, found in rest_ms.items()), flush=True
        )
        if options.profile:
            profiled(ours).sort_stats("tottime").print_stats(35)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "step_time.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def profiled(step: Callable[[], float]) -> pstats.Stats:
    """The profile of some steps."""
    profile = cProfile.Profile()
    profile.enable()
    for _ in range(PROFILED_STEPS):
        step()
    profile.disable()
    return pstats.Stats(profile)


def more_by_package(bare: pstats.Stats, ours: pstats.Stats) -> dict[str, float]:
    """Milliseconds of a step in the functions of each package, more than in the bare loop, the largest first."""
    more: Counter[str] = Counter()
    for stats, sign in ((ours, 1), (bare, -1)):
        for (file, _, name), (_, _, own_s, _, _) in stats.stats.items():  # type: ignore[attr-defined]
            found = re.search(r"site-packages/(\w+)|/(pretrain|benchmarks)/", file)
            package = found[1] or found[2] if found else "torch's kernels" if "torch" in name else "Python"
            more[package] += sign * 1e3 * own_s / PROFILED_STEPS
    return {name: round(found, 1) for name, found in more.most_common() if abs(found) >= 0.5}


if __name__ == "__main__":
    main()
