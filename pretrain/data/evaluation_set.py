"""Which samples a validation or test set is: what must be the same for its losses to be compared."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import xxhash

from data_prep.corpus.split import PartName
from pretrain.config import RunConfig
from pretrain.data.stream import SampleStream

FINGERPRINT = "fingerprint"


def describe_set(config: RunConfig, stream: SampleStream, parts: list[PartName]) -> dict[str, Any]:
    """Everything that decides which tokens an evaluation of `stream` predicts, and a fingerprint of it; JSON-able.

    Args:
        config: the run.
        stream: the set.
        parts: which documents of each of its corpora it reads.
    """
    counts, period = stream.blend.counts.tolist(), stream.blend.period
    wanted = config.evaluation.batches * config.training.global_batch_size
    described: dict[str, Any] = {
        "corpora": [
            {"corpus": samples.corpus.fingerprint, "documents": part, "share": f"{count}/{period}"}
            for samples, part, count in zip(stream.parts, parts, counts)
        ],
        # Of a whole corpus, the split leaves nothing out.
        "split": None if set(parts) == {"all"} else list(config.data.split),
        "seq_length": config.model.seq_length,
        "samples": wanted if stream.num_samples is None else min(wanted, stream.num_samples),
        "reset_attention_at_documents": config.data.reset_attention_at_documents,
    }
    text = json.dumps(described, sort_keys=True)
    return described | {FINGERPRINT: xxhash.xxh3_64_hexdigest(text.encode())}


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs between two descriptions of a set, in words; empty if nothing does."""
    if before.get("corpora") != now.get("corpora"):
        return "other documents"
    keys = [key for key in now if key != FINGERPRINT and before.get(key) != now[key]]
    return ", ".join(f"{key} {before.get(key)} -> {now[key]}" for key in keys)
