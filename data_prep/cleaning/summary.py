"""What `clean` prints at the end."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from configs.columns import to_left, to_right, widest
from data_prep.cleaning.counts import DAMAGED, MALFORMED
from data_prep.cleaning.report import total_dropped

_SHOWN_SOURCES = 6


def summarize_cleaning(report: dict[str, Any], output: Path, was_there: bool) -> Iterator[str]:
    """The lines: kept and dropped by stage and source, what was unreadable, speed."""
    given, made = report["input"], report["output"]
    share = made["documents_out"] / max(1, given["documents_in"])
    yield f"{made['documents_out']:,} of {given['documents_in']:,} documents kept ({share:.1%}), " + (
        f"{made['bytes_out'] / 1e6:,.1f} of {given['bytes_in'] / 1e6:,.1f} MB of text"
    )
    sources = list(report["sources"])[:_SHOWN_SOURCES]
    rows = [["stage", "in", "dropped", "changed", *(sources if len(sources) > 1 else []), "most often"]]
    for stage in report["stages"]:
        reason = next(iter(stage["reasons"].items()), None)
        most = f"{reason[0]} ({reason[1]['documents']:,})" if reason else ""
        each = [f"{total_dropped(stage, source):,}" for source in sources] if len(sources) > 1 else []
        counts = [f"{stage[key]:,}" for key in ("documents_in", "dropped", "changed")]
        rows.append([stage["name"], *counts, *each, most])
    widths = widest(rows)
    for row in rows:
        aligned = (to_right(cell, columns) for cell, columns in zip(row[1:-1], widths[1:]))
        cells = [to_left(row[0], widths[0]), *aligned, row[-1]]
        yield "  " + "  ".join(cells).rstrip()
    yield from _unreadable(report)
    yield from (f"warning: {line}" for line in report.get("warnings", ()))
    cost = report["cost"]
    if was_there:
        yield "finished before; nothing was done"
    else:
        spent = sum(stage["cpu_s"] for stage in cost["stages"].values())
        rate = given["bytes_in"] / 1e6 / max(1e-9, cost["elapsed_s"])
        yield f"{cost['elapsed_s']:.1f} s, {rate:.2f} MB/s; {spent:.1f} processor seconds"
    yield f"report: {output / 'report.html'}"


def next_commands(output: Path) -> Iterator[str]:
    """The commands that go on from the result."""
    documents, tokenizer = shlex.quote(str(output / "documents")), output.with_name("tokenizer")
    name = shlex.quote(str(tokenizer))
    yield f"train-tokenizer --input {documents} --output {name}"
    yield f"tokenize --input {documents} --tokenizer {name} --output {shlex.quote(str(output.with_name('corpus')))}"


def _unreadable(report: dict[str, Any]) -> Iterator[str]:
    for stage in report["stages"]:
        for reason, samples in stage["samples"].items():
            if reason.startswith((MALFORMED, DAMAGED)) and samples:
                first, count = samples[0], stage["reasons"][reason]["documents"]
                yield f"  {reason}: {count:,}, the first {first['source']}, {first['id']}"
    if report["input"]["empty_files"]:
        files = report["input"]["empty_files"]
        yield f"  empty files: {len(files):,}, the first {files[0]}"
