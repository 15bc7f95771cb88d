"""A tokenizer report as tables of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from data_prep.tokenizer.report import Figures, Report

_MEASURES = {
    "bytes per token": lambda figures: f"{figures.bytes_per_token:.3f}",
    "fertility": lambda figures: f"{figures.fertility:.3f}",
    "unknown": lambda figures: _percent(figures.unknown_rate),
    "byte fallback": lambda figures: _percent(figures.byte_rate),
    "line breaks, tabs": lambda figures: _percent(figures.layout_byte_rate),
    "round trip": lambda figures: _percent(figures.round_trip),
}


def table_lines(report: Report) -> Iterator[str]:
    """Lines for a terminal or a log: the tokenizers side by side, then each group."""
    names = _short_names([figures.tokenizer for figures in report.tokenizers])
    yield f"{report.documents:,} documents, {report.text_bytes:,} bytes of text"
    yield ""
    rows = [["", *names]]
    rows.append(["vocabulary", *(f"{f.kind} {f.algorithm}" for f in report.tokenizers)])
    rows.append(["ids", *(f"{f.vocab_size:,}" for f in report.tokenizers)])
    rows.append(["ids in use", *(_percent(f.ids_in_use) for f in report.tokenizers)])
    for measure, show in _MEASURES.items():
        label = f"tokens per {report.groups[0].unit}" if measure == "fertility" else measure
        rows.append([label, *(show(f.groups[0]) for f in report.tokenizers)])
    yield from _aligned(rows)
    for kind in dict.fromkeys(group.kind for group in report.groups[1:]):
        yield ""
        yield from _aligned(list(_group_rows(report, kind, names)))
    if any(group.unit == "character" for group in report.groups):
        yield "/char: tokens per character, where most of the text is in scripts written without spaces"
    yield ""
    for name, figures in zip(names, report.tokenizers):
        if figures.longest_pieces:
            yield f"longest pieces of {name}: {', '.join(map(repr, figures.longest_pieces))}"
        if figures.first_failure is not None:
            yield f"{name} loses text: {figures.first_failure}"


def _group_rows(report: Report, kind: str, names: Sequence[str]) -> Iterator[list[str]]:
    several = len(names) > 1
    yield [
        f"per {kind}",
        "bytes",
        *(
            f"{measure} {name}" if several else measure
            for name in names
            for measure in ("bytes/token", "fertility", "unknown", "byte")
        ),
    ]
    for number, group in enumerate(report.groups):
        if group.kind == kind:
            cells = [cell for f in report.tokenizers for cell in _cells(f.groups[number], group.unit)]
            yield [group.name if len(group.name) <= 40 else f"...{group.name[-37:]}", f"{group.text_bytes:,}", *cells]


def _cells(figures: Figures, unit: str) -> list[str]:
    fertility = f"{figures.fertility:.3f}" + ("/char" if unit == "character" else "")
    return [f"{figures.bytes_per_token:.3f}", fertility, _percent(figures.unknown_rate), _percent(figures.byte_rate)]


def _aligned(rows: list[list[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        first, *rest = (
            cell.ljust(width) if not n else cell.rjust(width) for n, (cell, width) in enumerate(zip(row, widths))
        )
        yield "  ".join([first, *rest]).rstrip()


def _short_names(paths: Sequence[str]) -> list[str]:
    """The shortest ends of the paths that tell them apart."""
    for depth in range(1, max(len(Path(path).parts) for path in paths) + 1):
        names = ["/".join(Path(path).parts[-depth:]) for path in paths]
        if len(set(names)) == len(set(paths)):
            return names
    return list(paths)


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"
