"""Tiny corpora, written by the real writers, whose tokens say where they lie."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from data_prep.corpus.manifest import TOKEN_COUNTS, CorpusManifest, ShardEntry, joined_manifest
from data_prep.corpus.shard_writer import ShardWriter
from pretrain.config import RunConfig

VOCAB_SIZE = 100_000


def random_lengths(count: int, seed: int = 0, at_most: int = 60) -> list[int]:
    """Document lengths, some of them 0."""
    return np.random.default_rng(seed).integers(0, at_most, count).tolist()


def write_corpus(
    path: Path,
    lengths: list[int],
    *,
    shards: int = 1,
    first_token: int = 0,
    vocab_size: int = VOCAB_SIZE,
    tokenizer: str = "tokenizer-a",
    repeat_tokens: int | None = None,
) -> Path:
    """A corpus whose token i has the id first_token + i, or that modulo `repeat_tokens`."""
    tokens = np.arange(first_token, first_token + sum(lengths))
    if repeat_tokens is not None:
        tokens %= repeat_tokens
    tokens = tokens.astype("<i4")
    entries, begin_token = [], 0
    for number, part in enumerate(np.array_split(np.array(lengths, dtype=np.int64), shards)):
        with ShardWriter(path / f"shard-{number}", np.dtype("<i4")) as writer:
            writer.add_documents(tokens[begin_token : begin_token + part.sum()], part)
        begin_token += int(part.sum())
        sizes = {kind: (path / f"shard-{number}.{kind}").stat().st_size for kind in ("bin", "idx")}
        entries.append(
            ShardEntry(
                name=f"shard-{number}",
                documents=len(part),
                tokens=int(part.sum()),
                bin_bytes=sizes["bin"],
                idx_bytes=sizes["idx"],
                bin_xxh3=writer.bin_xxh3,
                idx_xxh3=writer.idx_xxh3,
            )
        )
    if len(tokens) == 0 or tokens.max() < vocab_size:
        np.save(path / TOKEN_COUNTS, np.bincount(tokens, minlength=vocab_size))
    CorpusManifest(
        created_by="test",
        dtype="int32",
        vocab_size=vocab_size,
        end_of_document=3,
        tokenizer_fingerprint=tokenizer,
        text_bytes=len(tokens),
        shards=entries,
    ).write(path)
    return path


def grown_corpus(old: Path, added: Path, path: Path) -> Path:
    """What `tokenize append=true` makes of a corpus and further shards: they come after those that were there."""
    shutil.copytree(old, path)
    manifest, more = CorpusManifest.read(old), CorpusManifest.read(added)
    entries = list(manifest.shards)
    for entry in more.shards:
        entries.append(entry.model_copy(update={"name": f"shard-{len(entries)}"}))
        for kind in ("bin", "idx"):
            shutil.copy(added / f"{entry.name}.{kind}", path / f"{entries[-1].name}.{kind}")
    np.save(path / TOKEN_COUNTS, np.load(old / TOKEN_COUNTS) + np.load(added / TOKEN_COUNTS))
    joined_manifest([manifest, more], entries).write(path)
    return path


def run_config(tmp_path: Path, data: dict, *, seq_length: int = 16, **other: object) -> RunConfig:
    """A small run that reads `data`."""
    model = {"num_layers": 1, "hidden_size": 8, "num_attention_heads": 1, "seq_length": seq_length}
    raw = {
        "output": tmp_path / "run",
        "model": model | dict(other.pop("model", {})),  # type: ignore[call-overload]
        "data": data,
        "training": {"duration": "10 steps", "micro_batch_size": 2, "global_batch_size": 8},
        "optimizer": {"lr": 1e-3},
    }
    return RunConfig.model_validate(raw | other)
