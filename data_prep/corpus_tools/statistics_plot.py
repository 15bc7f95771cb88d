"""What `stats` counted, as a picture."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from configs.columns import shorten_left
from data_prep.corpus_tools.statistics import SHOWN, CorpusStatistics
from data_prep.storage.publishing import staged_file


def write_plot(stats: CorpusStatistics, path: Path) -> None:
    """Draw document lengths, id frequencies, shards and sources as a PNG.

    Raises:
        MachineError: if it cannot be written.
    """
    with staged_file(path) as temporary:
        temporary.write_bytes(_draw(stats))


def _draw(stats: CorpusStatistics) -> bytes:
    from data_prep.plot_names import drawable

    key = "tokens" if stats.sources and "tokens" in stats.sources[0] else "bytes"
    largest = sorted(stats.sources, key=lambda source: -source.get(key, 0))[:SHOWN][::-1]
    names = [shorten_left(Path(source["path"]).name, 40) for source in largest]
    with drawable([stats.path, *names]) as (path, *drawn):
        return _picture(stats, path, key, dict(zip(_distinct(drawn), (source[key] for source in largest), strict=True)))


def _distinct(names: list[str]) -> list[str]:
    """Bars of one name would stand over each other."""
    return [name if names.count(name) == 1 else f"{name} ({number})" for number, name in enumerate(names)]


def _picture(stats: CorpusStatistics, path: str, key: str, sizes: dict[str, int]) -> bytes:
    """Sizes: of each source shown, in tokens or bytes (`key`)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 8), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{path}: {stats.documents:,} documents, {stats.tokens:,} tokens")
    lengths, ranks, shards, sources = figure.subplots(2, 2).flat
    rows = [row for row in stats.lengths.doublings() if row[2]]
    edges = [max(1, row[0]) for row in rows]
    widths = [row[1] - row[0] + 1 for row in rows]
    lengths.bar(edges, [row[2] for row in rows], widths, align="edge", edgecolor="white")
    lengths.set(xlabel="tokens per document", ylabel="documents")
    frequencies = np.sort(stats.counts[stats.counts > 0])[::-1]
    ranks.plot(np.arange(1, len(frequencies) + 1), frequencies, linewidth=1.2)
    ranks.set(xlabel="rank of the id", ylabel="occurrences")
    if stats.tokens:
        for axes in (lengths, ranks):
            axes.set(xscale="log", yscale="log")
    shards.bar(range(len(stats.shards)), [shard["tokens"] / 1e6 for shard in stats.shards])
    shards.set(xlabel="shard", ylabel="million tokens")
    shards.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    shards.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    sources.barh(list(sizes), [size / 1e6 for size in sizes.values()])
    more = f"the {SHOWN} largest of {len(stats.sources):,}" if len(stats.sources) > SHOWN else ""
    sources.set(xlabel=f"million {key} of each source", title=more)
    for axes in (lengths, ranks, shards):
        axes.grid(alpha=0.3)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    return picture.getvalue()
