"""The history of the data in a checkpoint's metadata, of any version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from configs.kinds import Kinds
from pretrain.config.kinds import FAMILIES, OBJECTIVES
from pretrain.data.history import DataHistory, DataPhase, MixedCorpus, split_of


def saved_history(metadata: Mapping[str, Any]) -> DataHistory | None:
    """The history in a checkpoint's metadata; of one that is older than histories, as if nothing had ever changed.

    None if the metadata do not say what was read, or name kinds that are not there any more.

    Raises:
        CheckpointError: they name something that does not say how samples are cut.
    """
    if "data_history" in metadata:
        try:
            return DataHistory.decode(metadata["data_history"])
        except (ImportError, AttributeError):
            return None  # the module of a cutting that is not there any more
    config, read = metadata.get("config"), metadata.get("data_fingerprint")
    if not config or not read:
        return None
    try:
        model = _section(FAMILIES, metadata.get("model") or config["model"])
        objective = _section(OBJECTIVES, config.get("objective") or {})
    except ValueError:
        return None  # a kind that is not there any more
    paths = [entry["corpus"] for entry in config["data"]["train"]]
    phase = DataPhase(
        from_step=0,
        from_sample=0,
        seq_length=read["seq_length"],
        sampling=objective.sampling(model, documents_apart=read["reset_attention_at_documents"]),
        split=split_of(read["split"]),
        train=tuple(
            # The share of the whole is a weight, too, and the one that the blend was made of.
            MixedCorpus(entry["corpus"], path, float(entry["share"].partition("/")[0]))
            for entry, path in zip(read["train"], paths)
        ),
    )
    return DataHistory(read["seed"], (phase,))


def _section(kinds: Kinds, raw: Mapping[str, Any]) -> Any:
    """A section as it was saved; one from before there were names is of the default kind."""
    name = raw.get("name", kinds.default)
    cls = kinds.declaration(name)
    return cls.model_validate({key: raw[key] for key in cls.model_fields if key in raw} | {"name": name})
