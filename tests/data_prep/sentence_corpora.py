"""Corpora whose documents are several sequences, with metadata beside the shards, written byte by byte."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import numpy as np
import orjson
import xxhash

from data_prep.corpus.manifest import TOKEN_COUNTS, TOKENIZER, CorpusManifest, ShardEntry
from data_prep.tokenizer import load_tokenizer

Documents = list[list[list[int]]]


def write_shard(prefix: Path, documents: Documents, metadata: list[dict] | None = None) -> ShardEntry:
    """Write a shard of documents that are lists of sequences of ids."""
    sequences = [sequence for document in documents for sequence in document]
    lengths = np.array([len(sequence) for sequence in sequences], dtype="<i4")
    tokens = np.array([token for sequence in sequences for token in sequence], dtype="<u2")
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype="<i8")])[: len(lengths)].astype("<i8") * 2
    bounds = np.cumsum([0, *(len(document) for document in documents)], dtype="<i8")
    header = struct.pack("<9sQBQQ", b"MMIDIDX\x00\x00", 1, 8, len(sequences), len(bounds))
    index = header + lengths.tobytes() + offsets.tobytes() + bounds.tobytes()
    prefix.parent.mkdir(parents=True, exist_ok=True)
    prefix.with_name(f"{prefix.name}.bin").write_bytes(tokens.tobytes())
    prefix.with_name(f"{prefix.name}.idx").write_bytes(index)
    if metadata is not None:
        lines = b"".join(orjson.dumps(value) + b"\n" for value in metadata)
        prefix.with_name(f"{prefix.name}.meta.jsonl").write_bytes(lines)
    return ShardEntry(
        name=prefix.name,
        documents=len(documents),
        tokens=len(tokens),
        bin_bytes=tokens.nbytes,
        idx_bytes=len(index),
        bin_xxh3=xxhash.xxh3_128_hexdigest(tokens.tobytes()),
        idx_xxh3=xxhash.xxh3_128_hexdigest(index),
    )


def write_corpus(path: Path, tokenizer_path: Path, texts: list[list[list[str]]], metadata: bool = True) -> Path:
    """A corpus of shards of documents of sentences; the last sentence of each ends with the end-of-document id."""
    tokenizer = load_tokenizer(tokenizer_path)
    end = tokenizer.role("end_of_document")
    assert end is not None
    entries, counts, number = [], np.zeros(tokenizer.vocab_size, dtype=np.int64), 0
    for shard, documents in enumerate(texts):
        encoded = [tokenizer.encode_batch(sentences) for sentences in documents]
        for document in encoded:
            document[-1].append(end)
            for sequence in document:
                np.add.at(counts, sequence, 1)
        rows = [{"n": number + n, "title": f"t{number + n}"} for n in range(len(documents))]
        number += len(documents)
        entries.append(write_shard(path / f"shard_{shard:05d}", encoded, rows if metadata else None))
    shutil.copytree(tokenizer_path, path / TOKENIZER)
    np.save(path / TOKEN_COUNTS, counts)
    CorpusManifest(
        created_by="test",
        dtype="uint16",
        vocab_size=tokenizer.vocab_size,
        end_of_document=end,
        tokenizer_fingerprint=tokenizer.fingerprint,
        sentences=any(len(sentences) > 1 for documents in texts for sentences in documents),
        text_bytes=sum(len(s.encode()) for documents in texts for sentences in documents for s in sentences),
        shards=entries,
    ).write(path)
    return path
