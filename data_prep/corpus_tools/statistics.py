"""`stats`: what a corpus is made of, as text, JSON and a picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from data_prep.corpus.corpus import Corpus
from data_prep.corpus.shard_pieces import IndexPieces
from data_prep.corpus_tools.lengths import LengthHistogram
from data_prep.corpus_tools.packing import Packing
from data_prep.storage.publishing import staged_file
from data_prep.tokenizer import load_tokenizer

QUANTILES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)
_BAR = 40
SHOWN = 20


@dataclass(frozen=True)
class CorpusStatistics:
    """What was counted.

    Attributes:
        path, fingerprint: the corpus.
        documents, tokens, sequences: in all; more sequences than documents where sentences are kept apart.
        text_bytes: UTF-8 bytes of the text; None where they are not known.
        lengths: of the documents, in tokens.
        counts: of each id, int64 [vocabulary].
        vocabulary_known: whether the vocabulary's size is known; if not, it is the largest id + 1.
        spelled: how the most frequent ids are written, by id; empty without a tokenizer.
        shards: name, documents and tokens of each.
        sources: path, bytes and, where the manifest has them, documents, tokens, text_bytes, malformed of each.
        packing: what becomes of the documents in samples of one length; None: not asked for.
    """

    path: str
    fingerprint: str
    documents: int
    tokens: int
    sequences: int
    text_bytes: int | None
    lengths: LengthHistogram
    counts: np.ndarray
    vocabulary_known: bool
    spelled: dict[int, str]
    shards: list[dict[str, Any]]
    sources: list[dict[str, Any]]
    packing: Packing | None = None

    @property
    def entropy_nats(self) -> float:
        """Entropy of the id frequencies in nats per token."""
        return entropy_nats(self.counts)

    def top(self, limit: int) -> list[int]:
        """The most frequent ids, those of one frequency by number."""
        order = np.lexsort((np.arange(len(self.counts)), -self.counts))[:limit]
        return [int(token) for token in order if self.counts[token]]


def gather(
    corpus: Corpus, tokenizer: Path | None = None, top: int = SHOWN, seq_length: int | None = None
) -> CorpusStatistics:
    """Count what a corpus holds; reads the indexes, and of a bare prefix the tokens too, piece by piece.

    Args:
        corpus: what is counted.
        tokenizer: spells ids; None: the corpus' own, if any.
        top: how many ids are spelled.
        seq_length: tokens of the samples that the documents would be in; None: they are not looked at so.

    Raises:
        DataError: if the index, the token counts or the tokenizer are damaged.
    """
    corpus.check_index()
    decoder_path = tokenizer or corpus.tokenizer_path
    decoder = load_tokenizer(decoder_path) if decoder_path is not None else None
    counts = corpus.token_counts()
    sequences = sum(IndexPieces(shard).num_sequences for shard in corpus.shards)
    known = corpus.vocab_size or (decoder.vocab_size if decoder else None)
    if known and known > len(counts):
        counts = np.pad(counts, (0, known - len(counts)))
    result = CorpusStatistics(
        path=str(corpus.path),
        fingerprint=corpus.fingerprint,
        documents=corpus.num_documents,
        tokens=corpus.num_tokens,
        sequences=sequences,
        text_bytes=corpus.text_bytes,
        lengths=LengthHistogram.of(corpus),
        counts=counts,
        vocabulary_known=known is not None,
        spelled={},
        shards=[{"name": s.prefix.name, "documents": s.num_documents, "tokens": s.num_tokens} for s in corpus.shards],
        sources=_sources(corpus),
        packing=Packing.of(corpus, seq_length) if seq_length is not None else None,
    )
    if decoder is not None:
        result.spelled.update({i: decoder.piece(i) for i in result.top(top) if i < decoder.vocab_size})
    return result


def entropy_nats(counts: np.ndarray) -> float:
    """Entropy of frequencies, int64 [n], in nats."""
    shares = counts[counts > 0] / max(1, counts.sum())
    return float(-(shares * np.log(shares)).sum())


def as_json(stats: CorpusStatistics, top: int = SHOWN) -> dict[str, Any]:
    """All of it, for a file."""
    lengths = stats.lengths
    return {
        "corpus": stats.path,
        "fingerprint": stats.fingerprint,
        "documents": stats.documents,
        "tokens": stats.tokens,
        "sequences": stats.sequences,
        "text_bytes": stats.text_bytes,
        "unigram_entropy_nats": stats.entropy_nats,
        "vocabulary": {
            "ids": len(stats.counts),
            "known": stats.vocabulary_known,
            "unused": int(np.count_nonzero(stats.counts == 0)),
        },
        "document_tokens": {
            "mean": lengths.tokens / max(1, lengths.documents),
            "quantiles": {f"{q:g}": lengths.quantile(q) for q in QUANTILES},
            "histogram": [
                {"from": low, "to": high, "documents": documents, "tokens": tokens}
                for low, high, documents, tokens in lengths.doublings()
            ],
        },
        **({"packing": stats.packing.as_json()} if stats.packing is not None else {}),
        "top_tokens": [
            {"id": token, "piece": stats.spelled.get(token), "count": int(stats.counts[token])}
            for token in stats.top(top)
        ],
        "shards": stats.shards,
        "sources": stats.sources,
    }


def describe_statistics(stats: CorpusStatistics, top: int = SHOWN) -> Iterator[str]:
    """The lines that the command prints."""
    mean = stats.tokens / max(1, stats.documents)
    yield f"corpus     {stats.path}"
    sentences = f" of {stats.sequences:,} sequences" if stats.sequences != stats.documents else ""
    yield f"documents  {stats.documents:,}{sentences}, {stats.tokens:,} tokens, {mean:,.1f} per document"
    if stats.text_bytes is not None:
        yield f"text       {stats.text_bytes:,} bytes, {stats.text_bytes / max(1, stats.tokens):.3f} per token"
    unused = int(np.count_nonzero(stats.counts == 0))
    known = "" if stats.vocabulary_known else " (up to the largest; the vocabulary is not known)"
    yield f"ids        {len(stats.counts):,}{known}, {unused:,} unused ({unused / len(stats.counts):.1%})"
    yield f"entropy    {stats.entropy_nats:.4f} nats per token"
    yield "\ntokens per document"
    yield "  " + ", ".join(f"p{q * 100:g} {stats.lengths.quantile(q):,}" for q in QUANTILES)
    yield from _histogram_lines(stats.lengths)
    yield from stats.packing.lines() if stats.packing is not None else ()
    yield "\nmost frequent ids"
    for token in stats.top(top):
        count = int(stats.counts[token])
        spelled = repr(stats.spelled[token]) if token in stats.spelled else ""
        yield f"  {token:>7}  {count:>15,}  {count / stats.tokens:7.2%}  {spelled}".rstrip()
    yield from _table_lines("shards", stats.shards, ("documents", "tokens"), "name")
    if stats.sources:
        columns = [key for key in stats.sources[0] if key != "path"]
        yield from _table_lines("sources", stats.sources, columns, "path")


def write_json(stats: CorpusStatistics, path: Path, top: int = SHOWN) -> None:
    """Write everything as JSON, atomically.

    Raises:
        MachineError: if it cannot be written.
    """
    with staged_file(path) as temporary:
        temporary.write_bytes(orjson.dumps(as_json(stats, top), option=orjson.OPT_INDENT_2) + b"\n")


def _sources(corpus: Corpus) -> list[dict[str, Any]]:
    """Each source's path and bytes, and its counts where any source has them."""
    sources = corpus.manifest.sources if corpus.manifest is not None else []
    rows = [source.model_dump(mode="json") for source in sources]
    counts = ("documents", "tokens", "text_bytes", "malformed")
    counted = any(row.get(key) for row in rows for key in counts)
    return [{k: row[k] for k in ("path", "bytes", *(counts if counted else ())) if k in row} for row in rows]


def _histogram_lines(lengths: LengthHistogram) -> Iterator[str]:
    rows = lengths.doublings()
    most = max((row[2] for row in rows), default=1)
    yield f"  {'from':>12} {'to':>12}  {'documents':>13}  {'tokens':>7}"
    for low, high, documents, tokens in rows:
        bar = "#" * -(-documents * _BAR // most)
        share = tokens / max(1, lengths.tokens)
        yield f"  {low:>12,} {high:>12,}  {documents:>13,}  {share:7.1%}  {bar}".rstrip()


def _table_lines(title: str, rows: list[dict[str, Any]], columns: Any, name: str) -> Iterator[str]:
    shown = rows
    if len(rows) > SHOWN:
        key = "tokens" if "tokens" in rows[0] else "bytes"
        shown = sorted(rows, key=lambda row: -row[key])[:SHOWN]
    yield f"\n{title}" + (f", the largest {SHOWN} of {len(rows):,}" if len(rows) > SHOWN else "")
    yield "  " + "  ".join(f"{column:>15}" for column in columns) + f"  {name}"
    for row in shown:
        yield "  " + "  ".join(f"{row[column]:>15,}" for column in columns) + f"  {row[name]}"
