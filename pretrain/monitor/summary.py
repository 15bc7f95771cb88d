"""The summary at the end of a run: what was trained, how well, how fast, where it is, what comes next."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TextIO

from configs.columns import to_left, width
from configs.durations import Duration
from data_prep.storage.publishing import staged_file
from pretrain.config import DataConfig, RunConfig
from pretrain.monitor import wording
from pretrain.monitor.evaluated import is_of_present_set, sets_of_last_session
from pretrain.monitor.metrics_file import FILE_NAME, read_metrics
from pretrain.monitor.next_commands import how_to_continue, next_commands, why_no_export
from pretrain.monitor.ngram_floor import LEARN_MORE, ngram_rows
from pretrain.monitor.records import RunOutcome, evaluation_figures


@dataclass(frozen=True)
class RunFigures:
    """What the metrics file says about all sessions of a run together.

    Attributes:
        time_s: wall time of the sessions, from their start to their last record.
        tokens_per_s: tokens per second of step time, without validations, saves and each session's first step.
        mfu: share of the devices' peak; mean over the steps, weighted by time.
        best: per validation set, the record with the lowest loss, and how many records there are; of the set as it is
            now. A test set has none: to choose by it would spoil it.
        last: per validation or test set, the newest record of the set as it is now.
    """

    time_s: float
    tokens_per_s: float | None
    mfu: float | None
    best: dict[str, dict[str, Any]]
    last: dict[str, dict[str, Any]]


def figures_of(records: Sequence[dict[str, Any]], tests: Collection[str] = ()) -> RunFigures:
    """Sum up the records of a metrics file.

    Args:
        records: all of them, in order.
        tests: names of the test sets.
    """
    present = sets_of_last_session(records)
    sessions_s, interval_s, tokens, mfu_time_s, mfu_weighted = [0.0], 0.0, 0, 0.0, 0.0
    best: dict[str, dict[str, Any]] = {}
    last: dict[str, dict[str, Any]] = {}
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
        elif record["kind"] == "validation" and is_of_present_set(record, present):
            name = record["name"]
            last[name] = _figures(record)
            if record["loss"] is not None and name not in tests:
                known = best.get(name, {"loss": math.inf, "evaluations": 0})
                better = record if record["loss"] < known["loss"] else known
                best[name] = _figures(better) | {"evaluations": known["evaluations"] + 1}
    return RunFigures(
        time_s=sum(sessions_s),
        tokens_per_s=tokens / interval_s if interval_s else None,
        mfu=mfu_weighted / mfu_time_s if mfu_time_s else None,
        best=best,
        last=last,
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
    directory = config.output
    figures = figures_of(list(read_metrics(directory / FILE_NAME)), _test_names(config.data))
    summary = {
        **asdict(outcome),
        **asdict(figures),
        "output": directory,
        "next_commands": _next_commands(config, outcome),
    }
    summary = json.loads(json.dumps(summary, default=str))
    rows = list(_rows(config, outcome, figures))
    longest = max(width(label) for label, _ in rows)
    text = "".join(f"{to_left(label, longest)}  {value}\n" for label, value in rows)
    with staged_file(directory / "summary.json") as temporary:
        temporary.write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    with staged_file(directory / "summary.txt") as temporary:
        temporary.write_text(text, encoding="utf-8")
    _print(rows, text, output or sys.stdout)
    return summary


def _rows(config: RunConfig, outcome: RunOutcome, figures: RunFigures) -> Iterable[tuple[str, str]]:
    model = config.model
    yield "ended", _how_it_ended(config.training.duration, outcome)
    yield (
        "model",
        f"{wording.count(outcome.num_parameters)} parameters ({model.num_layers} layers, hidden {model.hidden_size})",
    )
    if outcome.started_from is not None:
        yield "started from", str(outcome.started_from.get("path"))
    if outcome.branched_from is not None:
        yield "branched from", str(outcome.branched_from.get("path"))
    for number, line in enumerate(_stretches(outcome)):
        yield ("stretches" if number == 0 else ""), line
    yield "trained on", f"{wording.count(outcome.consumed_tokens)} tokens"
    yield "layout", f"{outcome.layout}, ZeRO-{config.parallel.zero_stage}, {config.training.precision}"
    yield "device", outcome.device_name
    yield "time", wording.seconds(figures.time_s)
    speed = "unknown" if figures.tokens_per_s is None else f"{wording.count(figures.tokens_per_s)} tokens/s"
    yield "speed", f"{speed}, MFU {wording.share(figures.mfu)}"
    yield from _evaluation_rows(_test_names(config.data), outcome, figures)
    yield from _unigram_rows(_test_names(config.data), outcome, figures)
    if config.objective.labels_are_tokens:
        yield from ngram_rows(config.data, figures.last)
    yield "skipped", "1 step" if outcome.skipped_steps == 1 else f"{outcome.skipped_steps} steps"
    yield "checkpoint", str(outcome.checkpoint or "none")
    yield "logs", f"{config.output}/{FILE_NAME}"
    for number, line in enumerate(how_to_continue(config.optimizer, config.training.precision, outcome)):
        yield ("continue" if number == 0 else ""), line
    no_export = why_no_export(config.model, outcome)
    if no_export is not None:
        yield "export", no_export
    for number, command in enumerate(_next_commands(config, outcome)):
        yield ("next" if number == 0 else ""), command


def _stretches(outcome: RunOutcome) -> Iterable[str]:
    """The parts of a run whose settings were changed on the way, each with what changed; nothing if none were."""
    if not outcome.stretches:
        return
    parts = [(0, "as the run began"), *((stretch["from_step"], _changes(stretch)) for stretch in outcome.stretches)]
    ends = [*(begin for begin, _ in parts[1:]), outcome.step]
    for (begin, what), end in zip(parts, ends, strict=True):
        steps = f"steps {begin + 1:,} to {end:,}" if end > begin else f"no step after {begin:,}"
        yield f"{steps}: {what}"


def _changes(stretch: Mapping[str, Any]) -> str:
    branch = stretch["branched_from"]
    return "; ".join([*([] if branch is None else [f"branched from {branch}"]), *stretch["changes"]])


def _next_commands(config: RunConfig, outcome: RunOutcome) -> list[str]:
    return next_commands(config.output, config.model, outcome, has_tensorboard=config.monitor.tensorboard)


def _how_it_ended(duration: Duration, outcome: RunOutcome) -> str:
    if outcome.total_steps is None:
        return f"{outcome.ended_by} at step {outcome.step}"
    if outcome.ended_by == "finished" and outcome.step > outcome.total_steps:
        return f"nothing to train: the run stands at step {outcome.step}, beyond training.duration ({duration})"
    return f"{outcome.ended_by} at step {outcome.step} of {outcome.total_steps}"


def _evaluation_rows(tests: set[str], outcome: RunOutcome, figures: RunFigures) -> Iterable[tuple[str, str]]:
    """Of each set what the final model reaches, which is the one that comes next; of a validation set the best, too."""
    for name, last in figures.last.items():
        is_final = last["step"] == outcome.step
        if name in tests:
            if is_final:
                yield name, _loss_in_words(last)
            continue
        best = figures.best.get(name)
        if best is None or best["step"] != last["step"]:
            yield name if is_final else f"last {name}", _loss_in_words(last)
        elif best["evaluations"] == 1:
            yield name, _loss_in_words(last)
        else:
            yield name if is_final else f"last {name}", f"{_loss_in_words(last)}, the best of {best['evaluations']}"
        if best is not None and best["step"] != last["step"]:
            yield f"best {name}", _loss_in_words(best)


def _unigram_rows(tests: set[str], outcome: RunOutcome, figures: RunFigures) -> Iterable[tuple[str, str]]:
    """What to do where a model that knows only token frequencies is better on a validation set, if there is one."""
    if outcome.ended_by == "diverged":
        return  # the rows on how to go on say what to do
    worse = [
        f"{last['unigram_loss']:.4f} against {last['loss']:.4f} on {name}"
        for name, last in figures.last.items()
        if name not in tests and None not in (last["loss"], last.get("unigram_loss"))
        if last["loss"] > last["unigram_loss"]
    ]
    if worse:
        yield (
            "unigram",
            f"token frequencies alone do better than this model, {', '.join(worse)}: {LEARN_MORE}; below that loss it"
            " has learnt more than which tokens are frequent",
        )


def _figures(record: Mapping[str, Any]) -> dict[str, Any]:
    return {"step": record["step"], "loss": record["loss"], **evaluation_figures(record)}


def _loss_in_words(figures: Mapping[str, Any]) -> str:
    if figures["loss"] is None:
        return f"loss not finite, at step {figures['step']}"
    told = [wording.figure(name, value) for name, value in evaluation_figures(figures).items()]
    return ", ".join([f"loss {figures['loss']:.4f}", *filter(None, told), f"at step {figures['step']}"])


def _test_names(config: DataConfig) -> set[str]:
    return set(config.test) or {"test"}


def _print(rows: list[tuple[str, str]], text: str, output: TextIO) -> None:
    if not output.isatty():
        print(f"\n{text}", file=output, flush=True)
        return
    from rich.console import Console
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    first_command = next(number for number, (label, _) in enumerate(rows) if label == "next")
    grid = Table.grid(padding=(0, 2))
    for label, value in rows[:first_command]:
        grid.add_row(Text(label, style="bold"), Text(value))
    console = Console(file=output)
    console.print(Panel(grid, title="summary", expand=False))
    # Outside the frame and never broken into lines, so that they can be copied.
    for label, value in rows[first_command:]:
        console.print(Text.assemble((f"{label:<6}", "bold"), value), soft_wrap=True)
