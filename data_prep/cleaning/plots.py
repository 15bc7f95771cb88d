"""The report's pictures, as SVG text that stands inside the page."""

from __future__ import annotations

import io
import operator
import re
import warnings
from itertools import accumulate, pairwise
from typing import Any

KEPT, DROPPED, LINE = "#2f7d6d", "#c8553d", "#5b6770"
_MOST_BARS = 14


def funnel(report: dict[str, Any]) -> str:
    """Documents that are left after each stage."""
    names = ["input", *(stage["name"] for stage in report["stages"])]
    # Sampling and extraction see the documents of some sources only, so what is left follows from what is dropped.
    dropped = (stage["dropped"] for stage in report["stages"])
    counts = list(accumulate(dropped, operator.sub, initial=report["input"]["documents_in"]))
    figure, axes = _figure(len(names))
    places = range(len(names))
    axes.barh(places, counts, color=KEPT, height=0.66)
    axes.barh(places[1:], [a - b for a, b in pairwise(counts)], left=counts[1:], color=DROPPED, height=0.66)
    axes.set_yticks(list(places), [name.replace("_", " ") for name in names])
    for place, count in zip(places, counts):
        share = f"  {count / counts[0]:.1%}" if counts[0] else ""
        axes.annotate(share, (counts[0], place), va="center", fontsize=8, color=LINE)
    axes.set_xlim(0, max(1, counts[0]) * 1.14)
    axes.set_xlabel("documents (green: kept, red: dropped by the stage)")
    axes.invert_yaxis()
    return _svg(figure, "Documents left after each stage")


def reasons(report: dict[str, Any]) -> str:
    """The reasons that dropped most, by source."""
    found = [
        (f"{stage['name'].replace('_', ' ')}: {reason.replace('_', ' ')}", entry)
        for stage in report["stages"]
        for reason, entry in stage["reasons"].items()
    ]
    found = sorted(found, key=lambda item: -item[1]["documents"])[:_MOST_BARS]
    figure, axes = _figure(max(1, len(found)))
    sources = list(report["sources"])
    begins = [0] * len(found)
    for number, source in enumerate(sources):
        values = [entry["sources"].get(source, 0) for _, entry in found]
        axes.barh(range(len(found)), values, left=begins, height=0.66, color=_colour(number), label=source)
        begins = [begin + value for begin, value in zip(begins, values)]
    axes.set_yticks(range(len(found)), [_cut(name) for name, _ in found])
    axes.set_xlabel("documents dropped")
    axes.invert_yaxis()
    if len(sources) > 1:
        axes.legend(fontsize=8, frameon=False, loc="lower right")
    return _svg(figure, "Why documents were dropped")


def sources(report: dict[str, Any]) -> str:
    """What became of each source, as shares of its documents."""
    names = [name for name, entry in report["sources"].items() if entry["documents_in"]]
    figure, axes = _figure(max(1, len(names)))
    begins = [0.0] * len(names)
    kept = [report["sources"][n]["documents_out"] / report["sources"][n]["documents_in"] for n in names]
    axes.barh(range(len(names)), kept, color=KEPT, height=0.66, label="kept")
    begins = kept
    for number, stage in enumerate(stage for stage in report["stages"] if stage["dropped"]):
        values = [
            stage["sources"].get(n, {"dropped": 0})["dropped"] / report["sources"][n]["documents_in"] for n in names
        ]
        label = stage["name"].replace("_", " ")
        axes.barh(range(len(names)), values, left=begins, height=0.66, color=_colour(number + 1), label=label)
        begins = [begin + value for begin, value in zip(begins, values)]
    axes.set_yticks(range(len(names)), names)
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of the source's documents: kept, or dropped by a stage")
    axes.invert_yaxis()
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.02))
    return _svg(figure, "What became of each source")


def lengths(report: dict[str, Any]) -> str:
    """How long documents were, and how long those are that were kept."""
    figure, axes = _figure(6)
    for kind, colour, label in (("raw", DROPPED, "read"), ("clean", KEPT, "kept")):
        points = report["lengths"].get(kind, [])
        if points:
            axes.step(*zip(*points), where="post", color=colour, label=label)
            axes.fill_between(*zip(*points), step="post", color=colour, alpha=0.15)
            axes.legend(fontsize=8, frameon=False)
    axes.set_xscale("log")
    axes.set_xlabel("characters of a document")
    axes.set_ylabel("documents")
    return _svg(figure, "Lengths of documents")


def languages(report: dict[str, Any]) -> str:
    """Documents by the language that was found."""
    found = list(report["languages"].items())[:_MOST_BARS]
    figure, axes = _figure(max(1, len(found)))
    axes.barh(range(len(found)), [count for _, count in found], color=_colour(1), height=0.66)
    axes.set_yticks(range(len(found)), [code for code, _ in found])
    axes.set_xlabel("documents")
    axes.invert_yaxis()
    return _svg(figure, "Languages found")


def costs(report: dict[str, Any]) -> str:
    """Processor time by stage."""
    found = sorted(report["cost"]["stages"].items(), key=lambda item: -item[1]["cpu_s"])
    figure, axes = _figure(max(1, len(found)))
    axes.barh(range(len(found)), [entry["cpu_s"] for _, entry in found], color=LINE, height=0.66)
    axes.set_yticks(range(len(found)), [name.replace("_", " ") for name, _ in found])
    for place, (_, entry) in enumerate(found):
        rate = entry["megabytes_per_cpu_s"]
        note = f" {rate:,.3g} MB/s" if rate else ""
        axes.annotate(note, (entry["cpu_s"], place), va="center", fontsize=8, color=LINE)
    axes.margins(x=0.16)
    axes.set_xlabel("processor seconds")
    axes.invert_yaxis()
    return _svg(figure, "Processor time of each stage")


def _figure(bars: int) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 0.9 + 0.3 * bars), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    return figure, axes


def _svg(figure: Any, title: str) -> str:
    from matplotlib import rc_context

    text = io.StringIO()
    # Letters stay letters, and ids do not depend on chance: the same report is the same page.
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "report", "font.family": "sans-serif"}
    with rc_context(settings), warnings.catch_warnings():
        # The reader's browser draws the letters, with a font of its own.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Title": title})
    svg = text.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Ids have to differ between the pictures of one page.
    prefix = re.sub(r"\W+", "-", title.lower())
    svg = re.sub(r'((?:id="|url\(#|href="#))', rf"\g<1>{prefix}-", svg)
    return svg[svg.index("<svg") :].replace("<svg", f'<svg role="img" aria-label="{title}"', 1)


def _colour(number: int) -> str:
    palette = ("#2f7d6d", "#d98e04", "#3f6fb5", "#a04a8c", "#7a8c2b", "#c8553d", "#4aa3a2", "#8c6d46", "#5b6770")
    return palette[number % len(palette)]


def _cut(text: str) -> str:
    return text if len(text) <= 46 else text[:45] + "…"
