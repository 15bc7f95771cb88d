"""A checkpoint of any layout -> a Hugging Face directory that computes the same."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from configs.errors import CheckpointError, ConfigError, MachineError
from data_prep.atomic import check_replaceable, staged_directory
from data_prep.tokenizer import Tokenizer
from finetune.config import ExportConfig
from finetune.huggingface import tokenizer as hf_tokenizer
from finetune.huggingface.encoder_text import check_reads_as_trained, encoder_text
from finetune.huggingface.model_card import model_card
from finetune.huggingface.weight_files import check_written, remove_weights, write_weights
from finetune.model_checkpoint import ModelCheckpoint, find_tokenizer, open_checkpoint
from finetune.stopping import tidy_when_stopped
from pretrain.config.model import ModelConfig
from pretrain.config.sampling import PairKind
from pretrain.models.huggingface import logit_check
from pretrain.models.huggingface.config_fields import NO_IDS, older_spellings
from pretrain.models.huggingface.family import class_name, counterpart_name, counterpart_of, sees_both_sides, to_config
from pretrain.models.huggingface.transformers_model import load_pretrained, quiet_transformers
from pretrain.models.huggingface.weights import to_hf

if TYPE_CHECKING:
    import torch

MARKER = "export.json"
"""The file that tells an exported directory; it says where the model comes from."""


@dataclass(frozen=True)
class _Written:
    """What is known of the written weights.

    Attributes:
        agreement: of the written model with ours, before rounding.
        parameters: of the model that was written.
        tensors: that were read back and found equal to their source.
        rounding: largest difference that rounding made to the logits; None: nothing was rounded.
    """

    agreement: logit_check.Agreement
    parameters: int
    tensors: int
    rounding: float | None = None


def export(config: ExportConfig, reference: logit_check.Reference | None = None) -> dict[str, Any]:
    """Write `config.output`; returns what `export.json` says.

    Args:
        config: what to export and where to.
        reference: our model's forward pass; null: megatron-core's, as it is trained.

    Raises:
        UserError: anything that stands in the way, the comparison of the logits above all; nothing is written then.
    """
    check_replaceable(config.output, MARKER, config.overwrite)
    source = open_checkpoint(config.checkpoint)
    counterpart_of(source.model)
    tokenizer = find_tokenizer(source, config.tokenizer_dir) if config.tokenizer != "none" else None
    _check_space(config, source)
    with tidy_when_stopped(), staged_directory(config.output, MARKER, config.overwrite) as folder:
        compared = _write_tokenizer(config, source, tokenizer, folder) if tokenizer is not None else 0
        written = _write_model(config, source, tokenizer, folder, reference)
        record = _provenance(config, source, tokenizer, written) | {"tokenizer_texts_compared": compared}
        if written.rounding is not None:
            record["bfloat16_largest_logit_difference"] = written.rounding
        (folder / MARKER).write_text(json.dumps(record, indent=2, allow_nan=False) + "\n", "utf-8")
        (folder / "README.md").write_text(model_card(config, source.model, record, _pairs(source)), "utf-8")
    return record


def _pairs(source: ModelCheckpoint) -> str | None:
    """What the run asked of pairs of text; None: it did not, or does not say."""
    objective = (source.metadata.get("config") or {}).get("objective") or {}
    pairs = objective.get("pairs")
    return pairs if getattr(source.model, "has_pair_head", False) and pairs in get_args(PairKind) else None


def _write_tokenizer(config: ExportConfig, source: ModelCheckpoint, tokenizer: Tokenizer, folder: Path) -> int:
    """Returns how many texts were compared."""
    if config.tokenizer == "sentencepiece-only" and tokenizer.kind != "sentencepiece":
        raise ConfigError(
            f"is sentencepiece-only, but {tokenizer.model_path} is of the kind {tokenizer.kind}",
            where="tokenizer",
            expected="huggingface or none",
        )
    # In a folder of its own: transformers would take tokenizer.model and tokenizer.json for its own.
    tokenizer.copy_to(folder / hf_tokenizer.OWN_FOLDER)
    if config.tokenizer == "sentencepiece-only":
        return 0
    encoder = encoder_text(source.model, hf_tokenizer.role_ids(tokenizer), source.metadata)
    hf_tokenizer.save(tokenizer, folder, source.model.seq_length, encoder=encoder)
    if encoder is not None:
        check_reads_as_trained(tokenizer, folder, encoder)
    return hf_tokenizer.check_same_ids(tokenizer, folder)


def _write_model(
    config: ExportConfig,
    source: ModelCheckpoint,
    tokenizer: Tokenizer | None,
    folder: Path,
    reference: logit_check.Reference | None,
) -> _Written:
    """Write, read back as a user would, compare; then round if asked to."""
    model = source.model
    ids = hf_tokenizer.role_ids(tokenizer) if tokenizer is not None else NO_IDS
    fields = to_config(model, ids)
    _write_configs(fields, folder, "float32", model)
    write_weights(to_hf(source.tensors, model, ids), folder, config.max_shard_gb)
    num_tensors = check_written(to_hf(source.tensors, model, ids), folder)
    theirs = load_pretrained(folder, "float32")
    text_ids = tokenizer.encode("\n".join(hf_tokenizer.PROBES)) if tokenizer is not None else []
    rows = logit_check.check_rows(model, text_ids, config.sequences, config.seed, ids)
    agreement = logit_check.compare(model, source.tensors, theirs, rows, reference)
    logit_check.require(agreement, source.path)
    written = _Written(agreement, theirs.num_parameters(), num_tensors)
    if config.dtype == "float32":
        return written
    import torch

    remove_weights(folder)
    _write_configs(fields, folder, config.dtype, model)

    def rounded() -> Iterator[tuple[str, torch.Tensor]]:
        return ((name, tensor.to(torch.bfloat16)) for name, tensor in to_hf(source.tensors, model, ids))

    write_weights(rounded(), folder, config.max_shard_gb)
    check_written(rounded(), folder)
    changed = logit_check.difference_between(theirs, load_pretrained(folder, "float32"), rows)
    if not math.isfinite(changed):
        raise CheckpointError(
            "rounded to bfloat16, its logits are not finite", where=source.path, expected="dtype=float32"
        )
    return replace(written, rounding=changed)


def _write_configs(fields: dict[str, Any], folder: Path, dtype: str, model: ModelConfig) -> None:
    from transformers import AutoConfig, GenerationConfig

    with quiet_transformers():
        AutoConfig.for_model(**fields, dtype=dtype).save_pretrained(folder)
        if not sees_both_sides(model):
            special = {key: fields[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
            GenerationConfig(do_sample=True, **special).save_pretrained(folder)
    older = older_spellings(fields)
    if older:
        path = folder / "config.json"
        older |= {"torch_dtype": dtype}
        path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | older, indent=2) + "\n", "utf-8")


def _check_space(config: ExportConfig, source: ModelCheckpoint) -> None:
    needed = 4 * source.model.num_parameters() + (1 << 20)
    place = next(parent for parent in config.output.absolute().parents if parent.is_dir())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise MachineError(f"has {free / 1e6:,.0f} MB free", where=place, expected=f"at least {needed / 1e6:,.0f} MB")


def _provenance(
    config: ExportConfig, source: ModelCheckpoint, tokenizer: Tokenizer | None, written: _Written
) -> dict[str, Any]:
    metadata = source.metadata
    return {
        "checkpoint": str(source.path.absolute()),
        "step": metadata.get("step"),
        "consumed_samples": metadata.get("consumed_samples"),
        "architecture": class_name(source.model),
        "family": counterpart_name(source.model),
        "pipeline": "fill-mask" if sees_both_sides(source.model) else "text-generation",
        "model": source.model.model_dump(mode="json"),
        "parameters": written.parameters,
        "dtype": config.dtype,
        "tokenizer": config.tokenizer,
        "tokenizer_fingerprint": tokenizer.fingerprint if tokenizer is not None else None,
        "data_fingerprint": metadata.get("data_fingerprint"),
        "logits": written.agreement.as_dict(),
        "tensors_equal_to_source": written.tensors,
        "exported_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: version(name) for name in ("bessemer", "transformers", "torch")},
    }
