"""A checkpoint of any layout -> a Hugging Face directory that computes the same."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import CheckpointError, ConfigError, MachineError
from data_prep.atomic import check_replaceable, staged_directory
from data_prep.tokenizer import Tokenizer
from finetune.config import ExportConfig
from finetune.huggingface import tokenizer as hf_tokenizer
from finetune.huggingface.model_card import model_card
from finetune.sources import Source, find_tokenizer, open_checkpoint
from finetune.stopping import tidy_when_stopped
from pretrain.models.gpt.config import GPTConfig
from pretrain.models.huggingface import logit_check
from pretrain.models.huggingface.families import SpecialIds, class_name, family_of, to_hf_config
from pretrain.models.huggingface.transformers_model import load_causal, quiet_transformers, save_weights
from pretrain.models.huggingface.weights import to_hf

if TYPE_CHECKING:
    import torch

MARKER = "export.json"
"""The file that tells an exported directory; it says where the model comes from."""


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
    family_of(source.model)
    tokenizer = find_tokenizer(source, config.tokenizer_dir) if config.tokenizer != "none" else None
    _check_space(config, source)
    with tidy_when_stopped(), staged_directory(config.output, MARKER, config.overwrite) as folder:
        compared = _write_tokenizer(config, source, tokenizer, folder) if tokenizer is not None else 0
        agreement, rounding = _write_model(config, source, tokenizer, folder, reference)
        record = _provenance(config, source, tokenizer, agreement) | {"tokenizer_texts_compared": compared}
        if rounding is not None:
            record["bfloat16_largest_logit_difference"] = rounding
        (folder / MARKER).write_text(json.dumps(record, indent=2, allow_nan=False) + "\n", "utf-8")
        (folder / "README.md").write_text(model_card(config, source.model, record), "utf-8")
    return record


def _write_tokenizer(config: ExportConfig, source: Source, tokenizer: Tokenizer, folder: Path) -> int:
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
    hf_tokenizer.save(tokenizer, folder, source.model.seq_length)
    return hf_tokenizer.check_same_ids(tokenizer, folder)


def _write_model(
    config: ExportConfig,
    source: Source,
    tokenizer: Tokenizer | None,
    folder: Path,
    reference: logit_check.Reference | None,
) -> tuple[logit_check.Agreement, float | None]:
    """Write, read back as a user would, compare; then round if asked to. Returns also what the rounding changed."""
    model = source.model
    special = hf_tokenizer.special_ids(tokenizer) if tokenizer is not None else SpecialIds()
    fields = to_hf_config(model, special)
    _write_configs(fields, folder, "float32")
    _write_weights(to_hf(source.tensors, model), folder, config.max_shard_gb)
    theirs = load_causal(folder, "float32")
    text_ids = tokenizer.encode("\n".join(hf_tokenizer.PROBES)) if tokenizer is not None else []
    tokens_NS = logit_check.token_sequences(model, text_ids, config.sequences, config.seed)
    agreement = logit_check.compare(model, source.tensors, theirs, tokens_NS, reference)
    logit_check.require(agreement, source.path)
    if config.dtype == "float32":
        return agreement, None
    import torch

    for file in [*folder.glob("*.safetensors"), *folder.glob("*.safetensors.index.json")]:
        file.unlink()
    _write_configs(fields, folder, config.dtype)
    rounded = ((name, tensor.to(torch.bfloat16)) for name, tensor in to_hf(source.tensors, model))
    _write_weights(rounded, folder, config.max_shard_gb)
    changed = _rounding_difference(theirs, load_causal(folder, "float32"), tokens_NS[-1:])
    if not math.isfinite(changed):
        raise CheckpointError(
            "rounded to bfloat16, its logits are not finite", where=source.path, expected="dtype=float32"
        )
    return agreement, changed


def _rounding_difference(exact: Any, rounded: Any, tokens_NS: torch.Tensor) -> float:
    import torch

    with torch.no_grad():
        difference = exact(tokens_NS, use_cache=False).logits - rounded(tokens_NS, use_cache=False).logits
    return float(difference.abs().max())


def _write_configs(fields: dict[str, Any], folder: Path, dtype: str) -> None:
    from transformers import AutoConfig, GenerationConfig

    with quiet_transformers():
        AutoConfig.for_model(**fields, dtype=dtype).save_pretrained(folder)
        special = {key: fields[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
        GenerationConfig(do_sample=True, **special).save_pretrained(folder)
    if "rope_parameters" in fields:
        # Readers older than transformers 5 look for the base here, and would take 10000 without a word.
        path = folder / "config.json"
        older = {"rope_theta": fields["rope_parameters"]["rope_theta"], "torch_dtype": dtype}
        path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | older, indent=2) + "\n", "utf-8")


def _write_weights(tensors: Iterator[tuple[str, torch.Tensor]], folder: Path, max_shard_gb: float) -> None:
    """Safetensors files of bounded size, written as the tensors come, and the index that transformers wants."""
    limit = int(max_shard_gb * 1e9)
    shards: list[list[str]] = []
    pending: dict[str, torch.Tensor] = {}
    total_bytes = 0

    def flush() -> None:
        save_weights(pending, folder / _shard_name(len(shards), None))
        shards.append(list(pending))
        pending.clear()

    for name, tensor in tensors:
        if pending and _bytes(pending.values()) + _bytes([tensor]) > limit:
            flush()
        pending[name] = tensor
        total_bytes += _bytes([tensor])
    flush()
    if len(shards) == 1:
        (folder / _shard_name(0, None)).rename(folder / "model.safetensors")
        return
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards):
        file = _shard_name(number, len(shards))
        (folder / _shard_name(number, None)).rename(folder / file)
        weight_map |= dict.fromkeys(names, file)
    index = {"metadata": {"total_size": total_bytes}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", "utf-8")


def _shard_name(number: int, count: int | None) -> str:
    return f"model-{number + 1:05d}-of-{count or 0:05d}.safetensors"


def _bytes(tensors: Sequence[torch.Tensor] | Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _check_space(config: ExportConfig, source: Source) -> None:
    needed = 4 * source.model.num_parameters() + (1 << 20)
    place = next(parent for parent in config.output.absolute().parents if parent.is_dir())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise MachineError(f"has {free / 1e6:,.0f} MB free", where=place, expected=f"at least {needed / 1e6:,.0f} MB")


def _provenance(
    config: ExportConfig, source: Source, tokenizer: Tokenizer | None, agreement: logit_check.Agreement
) -> dict[str, Any]:
    metadata = source.metadata
    return {
        "checkpoint": str(source.path.absolute()),
        "step": metadata.get("step"),
        "consumed_samples": metadata.get("consumed_samples"),
        "architecture": class_name(family_of(source.model)),
        "model": source.model.model_dump(mode="json"),
        "parameters": _exported_parameters(source.model),
        "dtype": config.dtype,
        "tokenizer": config.tokenizer,
        "tokenizer_fingerprint": tokenizer.fingerprint if tokenizer is not None else None,
        "data_fingerprint": metadata.get("data_fingerprint"),
        "logits": agreement.as_dict(),
        "exported_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: version(name) for name in ("bessemer", "transformers", "torch")},
    }


def _exported_parameters(model: GPTConfig) -> int:
    """Without the padded rows of the vocabulary."""
    assert model.vocab_size is not None
    tables = 1 if model.tie_embeddings else 2
    return model.num_parameters() - (model.padded_vocab_size - model.vocab_size) * model.hidden_size * tables
