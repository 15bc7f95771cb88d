"""What is left to say at the end of a run: what was trained, how well, how fast, where it is, what comes next."""

from __future__ import annotations

import json
import math
import shlex
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from data_prep.atomic import staged_file
from pretrain.config import RunConfig
from pretrain.monitor import wording
from pretrain.monitor.metrics_file import FILE_NAME, read_metrics
from pretrain.monitor.ngram_floor import ngram_rows


@dataclass(frozen=True)
class RunOutcome:
    """What the loop knows when it ends.

    Attributes:
        ended_by: `finished`, the name of the signal, or `diverged`.
        step: the last finished step.
        total_steps: steps that the run was to have; None where it ends by time.
        consumed_tokens: tokens read over all sessions.
        skipped_steps: steps without an update over all sessions.
        num_parameters: weights of the model.
        layout: how the ranks were used, in words.
        device_name: `cpu` or the accelerator's name.
        unigram_loss: entropy of the corpus' token frequencies in nats per token; None where it is not known.
        checkpoint: the newest complete checkpoint; None where there is none.
    """

    ended_by: str
    step: int
    total_steps: int | None
    consumed_tokens: int
    skipped_steps: int
    num_parameters: int
    layout: str
    device_name: str
    unigram_loss: float | None
    checkpoint: Path | None


@dataclass(frozen=True)
class RunFigures:
    """What the metrics file says about all sessions of a run together.

    Attributes:
        time_s: wall time of the sessions, from their start to their last record.
        tokens_per_s: tokens per second of step time, without validations, saves and each session's first step.
        mfu: share of the devices' peak; mean over the steps, weighted by time.
        best: per validation or test set, the record with the lowest loss, and how many records there are.
    """

    time_s: float
    tokens_per_s: float | None
    mfu: float | None
    best: dict[str, dict[str, Any]]


def figures_of(records: Iterable[dict[str, Any]]) -> RunFigures:
    """Sum up the records of a metrics file."""
    sessions_s, interval_s, tokens, mfu_time_s, mfu_weighted = [0.0], 0.0, 0, 0.0, 0.0
    best: dict[str, dict[str, Any]] = {}
    for record in records:
        if record["kind"] == "run":
            sessions_s.append(0.0)
        sessions_s[-1] = max(sessions_s[-1], record.get("session_s") or 0.0)
        if record["kind"] == "train" and record["interval_time_s"]:
            interval_s += record["interval_time_s"]
            tokens += record["interval_tokens"]
            if record["mfu"] is not None:
                mfu_time_s += record["interval_time_s"]
                mfu_weighted += record["mfu"] * record["interval_time_s"]
        elif record["kind"] == "validation" and record["loss"] is not None:
            known = best.get(record["name"], {"loss": math.inf, "evaluations": 0})
            better = record if record["loss"] < known["loss"] else known
            figures = {key: better[key] for key in ("step", "loss", "perplexity", "bits_per_byte")}
            best[record["name"]] = figures | {"evaluations": known["evaluations"] + 1}
    return RunFigures(
        time_s=sum(sessions_s),
        tokens_per_s=tokens / interval_s if interval_s else None,
        mfu=mfu_weighted / mfu_time_s if mfu_time_s else None,
        best=best,
    )


def write_summary(config: RunConfig, outcome: RunOutcome, output: TextIO | None = None) -> dict[str, Any]:
    """Write summary.txt and summary.json into the run's directory and print the summary.

    Args:
        config: the run.
        outcome: what the loop knows.
        output: where to print; None: standard output.

    Returns:
        What summary.json holds.

    Raises:
        MachineError: if the directory cannot be written.
    """
    directory = config.output_dir
    figures = figures_of(read_metrics(directory / FILE_NAME))
    summary = {
        **asdict(outcome),
        **asdict(figures),
        "output_dir": directory,
        "next_commands": next_commands(config, outcome),
    }
    summary = json.loads(json.dumps(summary, default=str))
    rows = list(_rows(config, outcome, figures))
    width = max(len(label) for label, _ in rows)
    text = "".join(f"{label:<{width}}  {value}\n" for label, value in rows)
    with staged_file(directory / "summary.json") as temporary:
        temporary.write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    with staged_file(directory / "summary.txt") as temporary:
        temporary.write_text(text, encoding="utf-8")
    _print(rows, text, output or sys.stdout)
    return summary


def next_commands(config: RunConfig, outcome: RunOutcome) -> list[str]:
    """What one would type next; nothing that needs a checkpoint where there is none."""
    directory = shlex.quote(str(config.output_dir))
    commands = []
    if outcome.checkpoint is not None:
        commands.append(f"python -m finetune export --checkpoint {directory} --output {directory}/export")
    if config.monitor.tensorboard:
        commands.append(f"tensorboard --logdir {directory}/tensorboard --host 127.0.0.1")
    commands.append(f"python -m pretrain.monitor plot {directory}")
    return commands


def _rows(config: RunConfig, outcome: RunOutcome, figures: RunFigures) -> Iterable[tuple[str, str]]:
    model, steps = config.model, f"step {outcome.step}"
    steps += f" of {outcome.total_steps}" if outcome.total_steps else ""
    yield "ended", f"{outcome.ended_by} at {steps}"
    yield (
        "model",
        f"{wording.count(outcome.num_parameters)} parameters ({model.num_layers} layers, hidden {model.hidden_size})",
    )
    yield "trained on", f"{wording.count(outcome.consumed_tokens)} tokens"
    yield "layout", f"{outcome.layout}, ZeRO-{config.parallel.zero_stage}, {config.training.precision}"
    yield "device", outcome.device_name
    yield "time", wording.seconds(figures.time_s)
    speed = "unknown" if figures.tokens_per_s is None else f"{wording.count(figures.tokens_per_s)} tokens/s"
    yield "speed", f"{speed}, MFU {wording.share(figures.mfu)}"
    for name, best in figures.best.items():
        per_byte = "" if best["bits_per_byte"] is None else f", {best['bits_per_byte']:.4f} bits per byte"
        perplexity = "infinite" if best["perplexity"] is None else f"{best['perplexity']:.2f}"
        label = name if best["evaluations"] == 1 else f"best {name}"
        yield label, f"loss {best['loss']:.4f}, perplexity {perplexity}{per_byte}, at step {best['step']}"
    if outcome.unigram_loss is not None:
        yield "unigram", f"loss {outcome.unigram_loss:.4f} (knows token frequencies only)"
    yield from ngram_rows(config)
    yield "skipped", "1 step" if outcome.skipped_steps == 1 else f"{outcome.skipped_steps} steps"
    yield "checkpoint", str(outcome.checkpoint or "none")
    yield "logs", f"{config.output_dir}/{FILE_NAME}"
    for number, line in enumerate(_how_to_continue(config, outcome)):
        yield ("continue" if number == 0 else ""), line
    for number, command in enumerate(next_commands(config, outcome)):
        yield ("next" if number == 0 else ""), command


def _how_to_continue(config: RunConfig, outcome: RunOutcome) -> Iterable[str]:
    if outcome.ended_by == "finished":
        return
    if outcome.ended_by != "diverged":
        nothing = "the same command starts from the beginning: no checkpoint was saved"
        yield nothing if outcome.checkpoint is None else "the same command goes on from the newest checkpoint"
        return
    # Learning rate, samples and dropout follow from seed and step: what diverged does so again.
    yield "the same command diverges again; change what led there:"
    optimizer = config.optimizer
    yield f"a lower optimizer.lr (now {optimizer.lr:g}), a longer optimizer.warmup (now {optimizer.warmup})"
    if config.training.precision == "fp16":
        yield "or training.precision=bf16"
    if outcome.checkpoint is None:
        yield "no checkpoint was saved: it starts from the beginning"
    else:
        keys = "optimizer,training.precision" if config.training.precision == "fp16" else "optimizer"
        yield f"and checkpoint.allow_changes=[{keys}] to go on from the newest checkpoint with it"


def _print(rows: list[tuple[str, str]], text: str, output: TextIO) -> None:
    if not output.isatty():
        print(f"\n{text}", file=output, flush=True)
        return
    from rich.console import Console
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    for label, value in rows:
        grid.add_row(Text(label, style="bold"), Text(value))
    Console(file=output).print(Panel(grid, title="summary", expand=False))
