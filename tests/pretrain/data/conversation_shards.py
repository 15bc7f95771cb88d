"""Corpora of conversations, written by the real writer, each of whose ids occurs once."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data_prep.corpus import Corpus
from data_prep.corpus.manifest import CorpusManifest, ShardEntry
from data_prep.corpus.shard_writer import ShardWriter

FIRST_ID = 10
Turns = list[list[int]]
"""Tokens of each turn of each conversation: read, answered, read, answered, ..."""


def write_conversations(path: Path, turns: Turns, *, shards: int = 1, answers: bool = True) -> Corpus:
    """Conversations with the ids FIRST_ID, FIRST_ID + 1, ..."""
    entries, next_id = [], FIRST_ID
    for number, chosen in enumerate(np.array_split(np.arange(len(turns)), shards)):
        with ShardWriter(path / f"shard-{number}", np.dtype("<i4")) as writer:
            for conversation in chosen.tolist():
                lengths = np.array(turns[conversation], dtype=np.int64)
                ids = np.arange(next_id, next_id + lengths.sum()).astype("<i4")
                next_id += len(ids)
                writer.add_documents(ids, lengths, np.array([len(lengths)]))
        entries.append(
            ShardEntry(
                name=f"shard-{number}",
                documents=len(chosen),
                tokens=writer.num_tokens,
                bin_bytes=writer.bin_bytes,
                idx_bytes=writer.idx_bytes,
                bin_xxh3=writer.bin_xxh3,
                idx_xxh3=writer.idx_xxh3,
            )
        )
    CorpusManifest(
        created_by="test",
        dtype="int32",
        vocab_size=1 << 20,
        end_of_document=None,
        tokenizer_fingerprint="tokenizer-a",
        answers=answers,
        text_bytes=next_id,
        shards=entries,
    ).write(path)
    return Corpus.open(path)
