"""Which samples a validation or test set is: what must be the same for its losses to be compared."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import xxhash

from data_prep.corpus.split import PartName
from pretrain.config import DataConfig, ObjectiveConfig
from pretrain.data.stream import SampleStream

FINGERPRINT = "fingerprint"


def describe_set(
    config: DataConfig,
    objective: ObjectiveConfig,
    stream: SampleStream,
    parts: list[PartName],
    seq_length: int,
    wanted_samples: int,
) -> dict[str, Any]:
    """Everything that decides which tokens an evaluation of `stream` predicts, and a fingerprint of it; JSON-able.

    Args:
        config: how corpora are split, whether documents are apart.
        objective: what is asked of the tokens.
        stream: the set.
        parts: which documents of each of its corpora it reads.
        seq_length: tokens in a sample.
        wanted_samples: samples that an evaluation reads, if there are as many.
    """
    counts, period = stream.blend.counts.tolist(), stream.blend.period
    described: dict[str, Any] = {
        "corpora": [
            {"corpus": samples.corpus.fingerprint, "documents": part, "share": f"{count}/{period}"}
            for samples, part, count in zip(stream.parts, parts, counts)
        ],
        # Of a whole corpus, the split leaves nothing out.
        "split": None if set(parts) == {"all"} else list(config.split),
        "seq_length": seq_length,
        "samples": wanted_samples if stream.num_samples is None else min(wanted_samples, stream.num_samples),
        "reset_attention_at_documents": config.reset_attention_at_documents,
    }
    if not objective.labels_are_tokens:
        described["objective"] = objective.evaluated()
        described["text_tokens"] = stream.sampling.stride_tokens
    if stream.sampling.rule is not None:
        described["cutting"] = stream.sampling.rule
    text = json.dumps(described, sort_keys=True)
    return described | {FINGERPRINT: xxhash.xxh3_64_hexdigest(text.encode())}


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs between two descriptions of a set, in words; empty if nothing does."""
    if before.get("corpora") != now.get("corpora"):
        return "other documents"
    keys = [key for key in now if key != FINGERPRINT and before.get(key) != now[key]]
    return ", ".join(f"{key} {before.get(key)} -> {now[key]}" for key in keys)
