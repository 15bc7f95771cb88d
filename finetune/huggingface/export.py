"""A checkpoint of any layout -> a Hugging Face directory that computes the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

from configs.errors import ConfigError, MachineError
from data_prep.storage.publishing import staged_directory
from data_prep.storage.replaceable import check_replaceable
from data_prep.tokenizer import MODEL_FILE, Tokenizer
from finetune.chat.saved import saved_chat
from finetune.config import ExportConfig
from finetune.huggingface import tokenizer as hf_tokenizer
from finetune.huggingface.adapter_files import unmerged, write_adapter
from finetune.huggingface.document_start import TrainedText, trained_text
from finetune.huggingface.model_card import TRANSFORMERS_VERSIONS, model_card
from finetune.huggingface.rounding import Rounding, round_weights
from finetune.huggingface.tokenizer_check import PROBES, check_plain_call, check_same_ids
from finetune.huggingface.weight_files import check_written, write_weights
from finetune.model_checkpoint import find_tokenizer
from finetune.stopping import tidy_when_stopped
from pretrain.checkpoint.model_checkpoint import ModelCheckpoint, holds_adapter, open_checkpoint
from pretrain.checkpoint.reader import read_metadata
from pretrain.config.model import ModelConfig
from pretrain.config.sampling import PairKind
from pretrain.data.saved_history import saved_history
from pretrain.models.huggingface import logit_check
from pretrain.models.huggingface.config_fields import NO_IDS
from pretrain.models.huggingface.export_record import RECORD_FILE
from pretrain.models.huggingface.family import class_name, counterpart_name, counterpart_of, sees_both_sides, to_config
from pretrain.models.huggingface.token_table import compare_token_rows
from pretrain.models.huggingface.transformers_model import add_older_spellings, load_pretrained, quiet_transformers
from pretrain.models.huggingface.weights import to_hf
from pretrain.starting.adapted_model import AdaptedModel, open_adapted


@dataclass(frozen=True)
class _Written:
    """What is known of the written weights.

    Attributes:
        agreement: of the written model with ours, before rounding.
        parameters: of the model that was written.
        tensors: that were read back and found equal to their source.
        token_rows: of the vocabulary that were compared one by one, beside those that the agreement is on.
        rounding: what it changed; None: nothing was rounded.
        adapter: what is said of the adapter beside them; None: there is none.
    """

    agreement: logit_check.Agreement
    parameters: int
    tensors: int
    token_rows: int
    rounding: Rounding | None = None
    adapter: dict[str, Any] | None = None


def export(config: ExportConfig, reference: logit_check.Reference | None = None) -> dict[str, Any]:
    """Write `config.output`; returns what `export.json` says.

    Args:
        config: what to export and where to.
        reference: our model's forward pass; null: megatron-core's, as it is trained: of an adapter, not merged.

    Raises:
        UserError: anything that stands in the way, the comparison of the logits above all; nothing is written then.
    """
    check_replaceable(config.output, RECORD_FILE, config.overwrite)
    averaged, adapted = config.weights == "average", None
    if holds_adapter(read_metadata(config.model)):
        adapted = open_adapted(config.model, config.base, averaged=averaged)
        reference = reference or unmerged(adapted)
    elif config.base is not None:
        raise ConfigError(f"is {config.base}, and {config.model} holds a whole model", where="base", expected="null")
    source = open_checkpoint(config.model, averaged=averaged) if adapted is None else adapted.merged
    counterpart_of(source.model)
    tokenizer = find_tokenizer(source, config.tokenizer_dir) if config.tokenizer != "none" else None
    text = trained_text(source.model, source.metadata, tokenizer) if tokenizer is not None else None
    _check_space(config, source, copies=1 if adapted is None else 2)
    with tidy_when_stopped(), staged_directory(config.output, RECORD_FILE, config.overwrite) as folder:
        compared = 0
        if tokenizer is not None and text is not None:
            compared = _write_tokenizer(config, source, tokenizer, text, folder)
        written = _write_model(config, source, tokenizer, text, folder, reference, adapted)
        record = _provenance(config, source, tokenizer, written) | {"tokenizer_texts_compared": compared}
        record["document_start"] = _start(text, tokenizer)
        chat = saved_chat(source.path)
        if chat is not None and config.tokenizer == "huggingface":
            chat.write_with_model(folder)
        if written.adapter is not None:
            record["adapter"] = written.adapter
        if written.rounding is not None:
            record["rounding"] = written.rounding.as_dict()
        (folder / RECORD_FILE).write_text(json.dumps(record, indent=2, allow_nan=False) + "\n", "utf-8")
        (folder / "README.md").write_text(model_card(config, source.model, record, _pairs(source)), "utf-8")
    return record


def _pairs(source: ModelCheckpoint) -> str | None:
    """What the run asked of pairs of text; None: it did not, or does not say."""
    objective = (source.metadata.get("config") or {}).get("objective") or {}
    pairs = objective.get("pairs")
    return pairs if getattr(source.model, "has_pair_head", False) and pairs in get_args(PairKind) else None


def _start(text: TrainedText | None, tokenizer: Tokenizer | None) -> dict[str, Any] | None:
    """What a text begins with, for the record; None: there is no tokenizer that could write it."""
    if text is None or tokenizer is None:
        return None
    number = text.ids.begin_of_document
    return {
        "id": number,
        "token": tokenizer.piece(number) if number is not None else None,
        "in_each_text": text.call.before is not None,
        "recorded_by_pretraining": text.start.is_recorded,
    }


def _write_tokenizer(
    config: ExportConfig, source: ModelCheckpoint, tokenizer: Tokenizer, text: TrainedText, folder: Path
) -> int:
    """Returns how many texts were compared."""
    if config.tokenizer == "sentencepiece-only" and tokenizer.kind != "sentencepiece":
        raise ConfigError(
            f"is sentencepiece-only, but {tokenizer.model_path} is of the kind {tokenizer.kind}",
            where="tokenizer",
            expected="huggingface or none",
        )
    # In a folder of its own: transformers would take our tokenizer.json for its own.
    tokenizer.copy_to(folder / hf_tokenizer.OWN_FOLDER)
    if config.tokenizer == "sentencepiece-only":
        return 0  # without a tokenizer_config.json, transformers would convert a tokenizer.model in its own way
    if tokenizer.kind == "sentencepiece":
        shutil.copyfile(tokenizer.model_path, folder / MODEL_FILE)  # where converters to GGUF look for it
    model_type = counterpart_of(source.model).model_type
    length = source.model.seq_length
    hf_tokenizer.save(tokenizer, folder, length, ids=text.ids, call=text.call, model_type=model_type)
    compared = check_same_ids(tokenizer, folder)
    check_plain_call(tokenizer, folder, text.call)
    return compared


def _write_model(
    config: ExportConfig,
    source: ModelCheckpoint,
    tokenizer: Tokenizer | None,
    text: TrainedText | None,
    folder: Path,
    reference: logit_check.Reference | None,
    adapted: AdaptedModel | None,
) -> _Written:
    """Write, read back as a user would, compare; then round if asked to."""
    model = source.model
    ids = text.ids if text is not None else NO_IDS
    fields = to_config(model, ids)
    _write_configs(fields, folder, "float32", model)
    names = write_weights(to_hf(source.tensors, model, ids), folder, config.max_shard_gb)
    check_written(to_hf(source.tensors, model, ids), folder)
    theirs = load_pretrained(folder, "float32")
    token_rows = compare_token_rows(model, source.tensors, theirs, ids)
    text_ids = tokenizer.encode("\n".join(PROBES)) if tokenizer is not None else []
    # Where the rows of the vocabulary cannot be compared one by one, the models read them all.
    rows = logit_check.check_rows(model, text_ids, config.sequences, config.seed, ids, every_id=not token_rows)
    agreement = logit_check.compare(model, source.tensors, theirs, rows, reference)
    logit_check.require(agreement, source.path)
    written = _Written(agreement, theirs.num_parameters(), len(names), token_rows)
    if adapted is not None:
        told = write_adapter(
            adapted,
            folder,
            ids,
            merged=theirs,
            fields=fields,
            rows=rows,
            output=config.output,
            write_base=lambda directory: _write_configs(fields, directory, "float32", model),
            max_shard_gb=config.max_shard_gb,
        )
        written = replace(written, adapter=told)
    if config.dtype == "float32":
        return written
    _write_configs(fields, folder, config.dtype, model)
    again = to_hf(source.tensors, model, ids)
    rounding = round_weights(again, names, theirs, folder, config.max_shard_gb, rows, source.path)
    return replace(written, rounding=rounding)


def _write_configs(fields: dict[str, Any], folder: Path, dtype: str, model: ModelConfig) -> None:
    from transformers import AutoConfig, GenerationConfig

    with quiet_transformers():
        AutoConfig.for_model(**fields, dtype=dtype).save_pretrained(folder)
        if not sees_both_sides(model):
            names = ["bos_token_id", "eos_token_id", "pad_token_id"]
            names += ["decoder_start_token_id"] if model.is_encoder_decoder else []
            special = {key: fields[key] for key in names}
            GenerationConfig(do_sample=not model.is_encoder_decoder, **special).save_pretrained(folder)
    add_older_spellings(folder)


def _check_space(config: ExportConfig, source: ModelCheckpoint, copies: int) -> None:
    needed = 4 * copies * source.model.num_parameters() + (1 << 20)
    place = next(parent for parent in config.output.absolute().parents if parent.is_dir())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise MachineError(f"has {free / 1e6:,.0f} MB free", where=place, expected=f"at least {needed / 1e6:,.0f} MB")


def _data_history(metadata: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Everything that was read, of which the fingerprint tells the last mixture alone; None: nobody recorded it."""
    history = saved_history(metadata) if "data_history" in metadata else None
    return None if history is None else history.described(metadata["consumed_samples"])


def _pipeline(model: ModelConfig) -> str:
    """What model hubs file it under."""
    if model.is_encoder_decoder:
        return "text2text-generation"
    return "fill-mask" if sees_both_sides(model) else "text-generation"


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
        "pipeline": _pipeline(source.model),
        "model": source.model.model_dump(mode="json"),
        "parameters": written.parameters,
        "weights": config.weights,
        "dtype": config.dtype,
        "tokenizer": config.tokenizer,
        "tokenizer_fingerprint": tokenizer.fingerprint if tokenizer is not None else None,
        "data_fingerprint": metadata.get("data_fingerprint"),
        "data_history": _data_history(metadata),
        "logits": written.agreement.as_dict(),
        "tensors_equal_to_source": written.tensors,
        "token_rows_equal_to_source": written.token_rows,
        "reads_in_transformers": TRANSFORMERS_VERSIONS,
        "exported_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: version(name) for name in ("bessemer", "transformers", "torch")},
    }
