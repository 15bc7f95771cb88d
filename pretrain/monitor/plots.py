"""The curves of a run as one picture, made from its metrics file alone."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from configs.errors import DataError
from data_prep.plot_names import drawable
from data_prep.storage.publishing import staged_file
from pretrain.monitor.metrics_file import FILE_NAME, read_metrics

_PANELS = (
    ("loss", "loss (nats per token)", 1.0),
    ("learning_rate", "learning rate", 1.0),
    ("grad_norm", "gradient norm before clipping", 1.0),
    ("tokens_per_s", "thousand tokens per second", 1e3),
)


def plot_run(run_dir: Path, output: Path | None = None) -> Path:
    """Draw loss with validation, learning rate, gradient norm and speed over the steps.

    Args:
        run_dir: output directory of a run.
        output: the picture; None: `<run_dir>/curves.png`.

    Returns:
        Path of the picture.

    Raises:
        DataError: if the run has no records.
        MachineError: if the picture cannot be written.
    """
    records = list(read_metrics(run_dir / FILE_NAME))
    steps = [record for record in records if record["kind"] == "train"]
    if not steps:
        raise DataError("has no training records to draw", where=run_dir / FILE_NAME, expected="the output of a run")
    validations: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        if record["kind"] == "validation":
            validations.setdefault(record["name"], []).append(record)
    target = output or run_dir / "curves.png"
    with staged_file(target) as temporary:
        temporary.write_bytes(_draw(run_dir.resolve().name, steps, validations))
    return target


def plot_comparison(runs: Mapping[str, Sequence[dict[str, Any]]], output: Path) -> Path:
    """Draw the curves of several runs over each other, over the tokens that each was trained on.

    Args:
        runs: the records of each run's metrics file, by the name that it gets in the picture.
        output: the picture.

    Returns:
        Path of the picture.

    Raises:
        MachineError: if the picture cannot be written.
    """
    with drawable(list(runs)) as names:
        picture = _comparison(dict(zip(names, runs.values(), strict=True)))
    with staged_file(output) as temporary:
        temporary.write_bytes(picture)
    return output


def _comparison(runs: Mapping[str, Sequence[dict[str, Any]]]) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 8), layout="constrained")
    FigureCanvasAgg(figure)
    panels = dict(zip((key for key, *_ in _PANELS), figure.subplots(2, 2).flat))
    for number, (name, records) in enumerate(runs.items()):
        steps = [record for record in records if record["kind"] == "train"]
        tokens = {record["step"]: record["consumed_tokens"] for record in steps}
        for key, _, unit in _PANELS:
            curve = [(tokens[step], value / unit) for step, value in _known(steps, key)]
            panels[key].plot(*zip(*curve, strict=True), color=f"C{number % 10}", label=name, linewidth=1.2)
        seen = [r for r in records if r["kind"] == "validation" and r["loss"] is not None and r["step"] in tokens]
        points = ([tokens[r["step"]] for r in seen], [r["loss"] for r in seen])
        panels["loss"].plot(*points, color=f"C{number % 10}", marker="o", markersize=4, linestyle="")
    for key, label, _ in _PANELS:
        panels[key].set_xlabel("tokens")
        panels[key].set_ylabel(label + (", points: validation and test" if key == "loss" else ""))
        panels[key].grid(alpha=0.3)
    panels["loss"].legend()
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    return picture.getvalue()


def _draw(title: str, steps: list[dict[str, Any]], validations: dict[str, list[dict[str, Any]]]) -> bytes:
    losses = _losses(steps)
    with drawable([title, *losses, *validations]) as (shown, *names):
        curves = dict(zip(names, losses.values()))
        return _picture(shown, steps, curves, dict(zip(names[len(losses) :], validations.values(), strict=True)))


def _picture(
    title: str,
    steps: list[dict[str, Any]],
    losses: dict[str, list[tuple[int, float]]],
    validations: dict[str, list[dict[str, Any]]],
) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 8), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    for axes, (key, label, unit) in zip(figure.subplots(2, 2).flat, _PANELS):
        curves = losses if key == "loss" else {"training": _known(steps, key)}
        for name, curve in curves.items():
            axes.plot([step for step, _ in curve], [value / unit for _, value in curve], label=name, linewidth=1.2)
        if key == "loss":
            for name, points in validations.items():
                seen = [p for p in points if p["loss"] is not None]
                axes.plot([p["step"] for p in seen], [p["loss"] for p in seen], marker="o", markersize=3, label=name)
            axes.legend()
        axes.set_xlabel("step")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    return picture.getvalue()


def _known(steps: list[dict[str, Any]], key: str) -> list[tuple[int, float]]:
    return [(record["step"], record[key]) for record in steps if record[key] is not None]


def _losses(steps: list[dict[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """The curves of the training losses: of several each by itself, since a validation's loss is not their sum."""
    names = list(dict.fromkeys(name for record in steps for name in record.get("losses") or {}))
    if len(names) < 2:
        return {"training": _known(steps, "loss")}
    found = {
        f"training, {name}": [(r["step"], r["losses"].get(name)) for r in steps if r.get("losses")] for name in names
    }
    return {name: [(step, value) for step, value in points if value is not None] for name, points in found.items()}
