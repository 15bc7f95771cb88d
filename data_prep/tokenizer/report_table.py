"""A tokenizer report as tables of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from configs.columns import shorten_left, to_left, to_right, widest
from data_prep.tokenizer.report import CHARACTER, MIXED, Figures, Report

_MOST_COLUMNS = 130
_MOST_NAME = 32
_MARKS = {CHARACTER: "/char", MIXED: "/mixed"}
_MEASURES = {
    "bytes per token": lambda figures: f"{figures.bytes_per_token:.3f}",
    "fertility": lambda figures: f"{figures.fertility:.3f}",
    "unknown": lambda figures: _percent(figures.unknown_rate),
    "byte fallback": lambda figures: _percent(figures.byte_rate),
    "line breaks, tabs": lambda figures: _percent(figures.layout_byte_rate),
    "round trip": lambda figures: _percent(figures.round_trip),
}


def table_lines(report: Report) -> Iterator[str]:
    """Lines for a terminal or a log, of 130 columns at most: the tokenizers side by side, then each group."""
    names = [shorten_left(name, _MOST_NAME) for name in _short_names([each.tokenizer for each in report.tokenizers])]
    yield f"{report.documents:,} documents, {report.text_bytes:,} bytes of text"
    rows = [["", *names]]
    rows.append(["vocabulary", *(f"{f.kind} {f.algorithm}" for f in report.tokenizers)])
    rows.append(["ids", *(f"{f.vocab_size:,}" for f in report.tokenizers)])
    rows.append(["ids in use", *(_percent(f.ids_in_use) for f in report.tokenizers)])
    for measure, show in _MEASURES.items():
        label = f"tokens per {report.groups[0].unit}" if measure == "fertility" else measure
        rows.append([label, *(show(f.groups[0]) for f in report.tokenizers)])
    for block in _blocks(rows):
        yield ""
        yield from _aligned(block, labels=1)
    for kind in dict.fromkeys(group.kind for group in report.groups[1:]):
        yield ""
        yield from _aligned(list(_group_rows(report, kind, names)), labels=2 if len(names) > 1 else 1)
    for unit, mark in _MARKS.items():
        if any(group.unit == unit for group in report.groups):
            yield f"{mark}: tokens per {unit} of a script written without spaces"
    yield ""
    for name, figures in zip(names, report.tokenizers):
        if figures.longest_pieces:
            yield f"longest pieces of {name}: {', '.join(map(repr, figures.longest_pieces))}"
        if figures.first_failure is not None:
            yield f"{name} loses text: {figures.first_failure}"


def _group_rows(report: Report, kind: str, names: Sequence[str]) -> Iterator[list[str]]:
    """A row for each group and tokenizer; of several tokenizers, the group is named in the first row."""
    several = len(names) > 1
    yield [f"per {kind}", *(["tokenizer"] if several else []), "bytes", "bytes/token", "fertility", "unknown", "byte"]
    for number, group in enumerate(report.groups):
        if group.kind != kind:
            continue
        for place, (name, figures) in enumerate(zip(names, report.tokenizers)):
            first = shorten_left(group.name, _MOST_NAME) if place == 0 else ""
            size = f"{group.text_bytes:,}" if place == 0 else ""
            yield [first, *([name] if several else []), size, *_cells(figures.groups[number], group.unit)]


def _cells(figures: Figures, unit: str) -> list[str]:
    fertility = f"{figures.fertility:.3f}{_MARKS.get(unit, '')}"
    return [f"{figures.bytes_per_token:.3f}", fertility, _percent(figures.unknown_rate), _percent(figures.byte_rate)]


def _blocks(rows: list[list[str]]) -> Iterator[list[list[str]]]:
    """A table as several ones beneath each other, as many columns in each as a line has room for."""
    widths = widest(rows)
    start = 1
    while start < len(widths):
        stop = start + 1
        while stop < len(widths) and widths[0] + sum(w + 2 for w in widths[start : stop + 1]) <= _MOST_COLUMNS:
            stop += 1
        yield [[row[0], *row[start:stop]] for row in rows]
        start = stop


def _aligned(rows: list[list[str]], labels: int) -> Iterator[str]:
    """Rows with their first columns, the labels, to the left and the others to the right."""
    widths = widest(rows)
    for row in rows:
        cells = (
            to_left(cell, columns) if number < labels else to_right(cell, columns)
            for number, (cell, columns) in enumerate(zip(row, widths))
        )
        yield "  ".join(cells).rstrip()


def _short_names(paths: Sequence[str]) -> list[str]:
    """The shortest ends of the paths that tell them apart."""
    for depth in range(1, max(len(Path(path).parts) for path in paths) + 1):
        names = ["/".join(Path(path).parts[-depth:]) for path in paths]
        if len(set(names)) == len(set(paths)):
            return names
    return list(paths)


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"
