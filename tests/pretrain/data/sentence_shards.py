"""Corpora with sentence boundaries, written by the real writer, each of whose text ids occurs once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep.corpus import Corpus
from data_prep.corpus.manifest import CorpusManifest, ShardEntry
from data_prep.corpus.shard_writer import ShardWriter

END = 4
FIRST_TEXT_ID = 10
VOCAB_SIZE = 1 << 20
Sizes = list[list[int]]
"""Tokens of each sentence of each document, the end-of-document id aside."""


@dataclass(frozen=True)
class SentenceCorpus:
    """A corpus and where each id of its text stands.

    Attributes:
        corpus: the opened corpus.
        sentence: number of the sentence of each text id minus FIRST_TEXT_ID, sentences without tokens counted.
        document: number of the document of each sentence.
        sizes: tokens of each sentence.
    """

    corpus: Corpus
    sentence: np.ndarray
    document: np.ndarray
    sizes: np.ndarray

    def sentences(self, tokens: np.ndarray) -> np.ndarray:
        """The sentences that some text ids stand in, in order of their first token, each once."""
        found = self.sentence[tokens - FIRST_TEXT_ID]
        return found[np.flatnonzero(np.diff(found, prepend=-1))]


def write_sentences(path: Path, sizes: Sizes, *, shards: int = 1, sentences: bool = True) -> SentenceCorpus:
    """Documents of sentences with the ids FIRST_TEXT_ID, FIRST_TEXT_ID + 1, ..., each document with END behind it."""
    entries, next_id = [], FIRST_TEXT_ID
    for number, documents in enumerate(np.array_split(np.arange(len(sizes)), shards)):
        with ShardWriter(path / f"shard-{number}", np.dtype("<i4")) as writer:
            for document in documents.tolist():
                lengths = np.array(sizes[document] or [0], dtype=np.int64)
                ids = np.append(np.arange(next_id, next_id + lengths.sum()), END).astype("<i4")
                next_id += int(lengths.sum())
                lengths[-1] += 1
                writer.add_documents(ids, lengths, np.array([len(lengths)]))
        files = {kind: (path / f"shard-{number}.{kind}").stat().st_size for kind in ("bin", "idx")}
        entries.append(
            ShardEntry(
                name=f"shard-{number}",
                documents=len(documents),
                tokens=writer.num_tokens,
                bin_bytes=files["bin"],
                idx_bytes=files["idx"],
                bin_xxh3=writer.bin_xxh3,
                idx_xxh3=writer.idx_xxh3,
            )
        )
    CorpusManifest(
        created_by="test",
        dtype="int32",
        vocab_size=VOCAB_SIZE,
        end_of_document=END,
        tokenizer_fingerprint="tokenizer-a",
        sentences=sentences,
        text_bytes=next_id,
        shards=entries,
    ).write(path)
    flat = np.array([size for document in sizes for size in document], dtype=np.int64)
    return SentenceCorpus(
        Corpus.open(path),
        np.repeat(np.arange(len(flat)), flat),
        np.repeat(np.arange(len(sizes)), [len(document) for document in sizes]),
        flat,
    )


def random_sizes(documents: int, seed: int = 0, at_most_sentences: int = 30, mean_tokens: int = 9) -> Sizes:
    """Documents of 1 to `at_most_sentences` sentences of geometric lengths."""
    rng = np.random.default_rng(seed)
    return [rng.geometric(1 / mean_tokens, rng.integers(1, at_most_sentences + 1)).tolist() for _ in range(documents)]
