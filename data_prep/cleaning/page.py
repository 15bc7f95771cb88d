"""The report as one page of HTML that needs nothing else: no network, no scripts."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

from data_prep.cleaning import plots
from data_prep.cleaning.report import total_dropped

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1d252b; background: #fafaf7; margin: 0 auto; max-width: 1120px;
  padding: 24px; }
h1 { margin: 0 0 4px; font-size: 26px; } h2 { margin: 36px 0 8px; font-size: 19px; } h3 { margin: 22px 0 6px; }
.lead { color: #5b6770; margin: 0 0 18px; }
.tiles { display: flex; gap: 14px; flex-wrap: wrap; }
.tile { background: #fff; border: 1px solid #dfe3e0; border-radius: 8px; padding: 10px 16px; min-width: 130px; }
.tile b { display: block; font-size: 22px; font-variant-numeric: tabular-nums; }
.tile span { color: #5b6770; font-size: 13px; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(480px, 1fr)); gap: 16px; align-items: start; }
figure { margin: 0; background: #fff; border: 1px solid #dfe3e0; border-radius: 8px; padding: 12px; }
figcaption { font-weight: 600; margin-bottom: 4px; } svg { width: 100%; height: auto; }
table { border-collapse: collapse; background: #fff; width: 100%; font-size: 14px; }
th, td { border: 1px solid #dfe3e0; padding: 4px 9px; text-align: right; font-variant-numeric: tabular-nums; }
th:first-child, td:first-child { text-align: left; } th { background: #eef1ee; }
.scroll { overflow-x: auto; }
details { background: #fff; border: 1px solid #dfe3e0; border-radius: 8px; padding: 6px 12px; margin: 6px 0; }
summary { cursor: pointer; } pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #f4f5f1; padding: 8px;
  border-radius: 6px; font-size: 12.5px; margin: 4px 0 10px; }
.where { color: #5b6770; font-size: 13px; }
.warning { background: #fdf3dc; border: 1px solid #d98e04; border-radius: 8px; padding: 6px 12px; margin: 10px 0; }
"""
_PLOTS = (
    ("Documents left after each stage", plots.funnel),
    ("Why documents were dropped", plots.reasons),
    ("What became of each source", plots.sources),
    ("Lengths of documents", plots.lengths),
    ("Languages found", plots.languages),
    ("Processor time of each stage", plots.costs),
)


def page(report: dict[str, Any]) -> str:
    """The whole page."""
    body = "\n".join(
        [*_head(report), *_pictures(report), *_stage_table(report), *_reason_table(report), *_samples(report)]
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Cleaning report</title><style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def _head(report: dict[str, Any]) -> Iterator[str]:
    given, made = report["input"], report["output"]
    yield "<h1>Cleaning report</h1>"
    stages = ", ".join(name.replace("_", " ") for name in report["recipe"]["stages"]) or "none"
    yield f'<p class="lead">{escape(str(report["recipe"]["output"]))} · stages: {escape(stages)}</p>'
    share = made["documents_out"] / given["documents_in"] if given["documents_in"] else 0
    byte_share = made["bytes_out"] / given["bytes_in"] if given["bytes_in"] else 0
    tiles = [
        (f"{given['documents_in']:,}", f"documents in {given['files']:,} files"),
        (f"{made['documents_out']:,}", f"kept, {share:.1%}"),
        (_size(made["bytes_out"]), f"of text, {byte_share:.1%} of {_size(given['bytes_in'])}"),
        (f"{sum(stage['changed'] for stage in report['stages']):,}", "changes of a text by a stage"),
        (f"{made['shards']:,}", f"shards, {_size(made['stored_bytes'])} stored"),
    ]
    yield '<div class="tiles">' + "".join(f'<div class="tile"><b>{a}</b><span>{b}</span></div>' for a, b in tiles)
    yield "</div>"
    if given["empty_files"]:
        yield f'<p class="where">{len(given["empty_files"])} empty files were passed over, the first '
        yield f"{escape(given['empty_files'][0])}.</p>"
    for line in report["warnings"]:
        yield f'<p class="warning">Warning: {escape(line)}.</p>'


def _pictures(report: dict[str, Any]) -> Iterator[str]:
    yield '<h2>Overview</h2><div class="plots">'
    for title, draw in _PLOTS:
        if draw is plots.languages and not report["languages"]:
            continue
        yield f"<figure><figcaption>{title}</figcaption>{draw(report)}</figure>"
    yield "</div>"


def _stage_table(report: dict[str, Any]) -> Iterator[str]:
    sources = list(report["sources"])
    head = ["stage", "in", "dropped", "share", "changed", "kept", "kept text", *(f"dropped, {s}" for s in sources)]
    yield "<h2>Stages</h2>"
    yield from _table(
        head,
        (
            [
                stage["name"].replace("_", " "),
                f"{stage['documents_in']:,}",
                f"{stage['dropped']:,}",
                f"{stage['dropped'] / max(1, stage['documents_in']):.1%}",
                f"{stage['changed']:,}",
                f"{stage['documents_out']:,}",
                _size(stage["bytes_out"]),
                *(f"{total_dropped(stage, source):,}" for source in sources),
            ]
            for stage in report["stages"]
        ),
    )


def _reason_table(report: dict[str, Any]) -> Iterator[str]:
    sources = list(report["sources"])
    yield "<h2>Reasons</h2>"
    yield from _table(
        ["stage and reason", "documents", "text", *sources],
        (
            [
                f"{stage['name']}: {reason}".replace("_", " "),
                f"{entry['documents']:,}",
                _size(entry["bytes"]),
                *(f"{entry['sources'].get(source, 0):,}" for source in sources),
            ]
            for stage in report["stages"]
            for reason, entry in stage["reasons"].items()
        ),
    )


def _samples(report: dict[str, Any]) -> Iterator[str]:
    yield "<h2>Samples of what was dropped</h2>"
    for stage in report["stages"]:
        shown = {reason: samples for reason, samples in stage["samples"].items() if samples}
        if shown:
            yield f"<h3>{escape(stage['name'].replace('_', ' '))}</h3>"
        for reason in stage["reasons"]:
            if reason not in shown:
                continue
            count = stage["reasons"][reason]["documents"]
            yield f"<details><summary>{escape(reason.replace('_', ' '))}: {count:,}</summary>"
            for sample in shown[reason]:
                where = " · ".join(filter(None, [sample["source"], sample["id"], sample["detail"]]))
                yield f'<div class="where">{escape(where)}</div><pre>{escape(sample["text"])}</pre>'
            yield "</details>"


def _table(head: list[str], rows: Iterator[list[str]]) -> Iterator[str]:
    yield '<div class="scroll"><table><thead><tr>' + "".join(f"<th>{escape(cell)}</th>" for cell in head)
    yield "</tr></thead><tbody>"
    for row in rows:
        yield "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
    yield "</tbody></table></div>"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"
