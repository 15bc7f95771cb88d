"""A Hugging Face directory -> a run of pretraining at step 0, tensor by tensor: what `export` does, the other way."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

from configs.errors import DataError, MachineError
from data_prep.storage.publishing import staged_directory
from data_prep.storage.replaceable import check_replaceable
from data_prep.tokenizer import Tokenizer, load_tokenizer
from data_prep.tokenizer.importing import import_tokenizer
from finetune.config import ImportConfig
from finetune.huggingface.document_start import exported_start
from finetune.huggingface.tokenizer import OWN_FOLDER
from finetune.stopping import tidy_when_stopped
from pretrain.checkpoint.directory import check_free_space
from pretrain.checkpoint.weights_only import RECORD_FILE, RUN_KIND, needed_bytes, write_weights_only
from pretrain.config.kinds import OBJECTIVES
from pretrain.config.model import ModelConfig
from pretrain.models.huggingface.transformers_model import quiet_transformers
from pretrain.starting.huggingface_source import HuggingFaceSource
from pretrain.starting.logit_comparison import compare_logits

_EVALUATION_SETTINGS: dict[str, Any] = {
    "training": {"duration": "1 steps", "micro_batch_size": 1, "global_batch_size": 8, "precision": "fp32"},
    "optimizer": {"lr": 1e-5},
}
"""What the config of a run has to say before `pretrain/main.py evaluate` builds it; nothing trained with it."""


def import_model(config: ImportConfig) -> list[str]:
    """Write `config.output`; returns what was found, a line each.

    Raises:
        UserError: anything that stands in the way, the comparison of the logits above all; nothing is written then.
    """
    check_replaceable(config.output, RECORD_FILE, config.overwrite, [config.model], RUN_KIND)
    source = HuggingFaceSource(config.model)
    model = source.model
    told = [f"{source.architecture}, {model.num_parameters():,} parameters", *source.notes]
    if config.check_logits:
        told.append(compare_logits(source, config.check_parameters))
    inputs = [config.model]
    with (
        tidy_when_stopped(),
        staged_directory(config.output, RECORD_FILE, config.overwrite, inputs, RUN_KIND) as folder,
    ):
        check_free_space(folder, needed_bytes(model.num_parameters()))
        tokenizer = _write_tokenizer(config, source, folder / "tokenizer")
        shapes = {spec.name: spec.shape for spec in model.parameters()}
        metadata = _metadata(config, source, tokenizer)
        written = write_weights_only(folder, 0, shapes, source.tensor, metadata, [source.record()])
        place = written.relative_to(folder)
    kept = "no tokenizer" if tokenizer is None else f"its tokenizer ({tokenizer.kind}, {tokenizer.vocab_size:,} ids)"
    return [*told, f"{len(shapes)} tensors without states of an optimizer, and {kept}: {config.output / place}"]


def _write_tokenizer(config: ImportConfig, source: HuggingFaceSource, place: Path) -> Tokenizer | None:
    if config.tokenizer == "none":
        return None
    own = config.tokenizer_dir or config.model / OWN_FOLDER
    try:
        if config.tokenizer_dir is not None or own.is_dir():
            load_tokenizer(own).copy_to(place)
        else:
            import_tokenizer(config.model, place, {})
    except (DataError, MachineError) as error:
        raise DataError(
            f"has no tokenizer that can be imported: {error.problem}",
            where=error.where or config.model,
            expected="a tokenizer of transformers beside the weights, tokenizer_dir=PATH, or tokenizer=none",
        ) from None
    tokenizer, known = load_tokenizer(place), source.model.vocab_size
    if known is not None and tokenizer.vocab_size > known:
        raise DataError(
            f"has {tokenizer.vocab_size} ids", where=f"the tokenizer of {config.model}", expected=f"at most {known}"
        )
    return tokenizer


def _metadata(config: ImportConfig, source: HuggingFaceSource, tokenizer: Tokenizer | None) -> dict[str, Any]:
    """What a run's checkpoint says of itself, as far as an imported one knows it."""
    saved = source.model.model_dump(mode="json")
    borders = _document_borders(config.model, source) if tokenizer is not None else None
    return {
        "step": 0,
        "optimizer_step": 0,
        "consumed_samples": 0,
        "skipped_steps": 0,
        "loss_scale": None,
        "config": {
            "output": str(config.output),
            "model": saved,
            "objective": _objective(source.model),
            **_EVALUATION_SETTINGS,
        },
        "model": saved,
        "padded_vocab_size": source.model.padded_vocab_size,
        "tokenizer_fingerprint": tokenizer.fingerprint if tokenizer is not None else None,
        **({"document_borders": borders} if borders is not None else {}),
        "bessemer_version": version("bessemer"),
        "torch_version": version("torch"),
    }


def _objective(model: ModelConfig) -> dict[str, Any]:
    """The first objective that the model can be trained with: what an evaluation measures."""
    for name, declaration in OBJECTIVES.declarations().items():
        if any(field.is_required() for field in declaration.model_fields.values()):
            continue  # such as a mixture, which is made of the others
        section = declaration(name=name)
        if not section.problems(model):  # type: ignore[attr-defined]
            return section.model_dump(mode="json")
    return {}


def _document_borders(directory: Path, source: HuggingFaceSource) -> dict[str, int | None] | None:
    """The token that stands before a document: as the export says, or as transformers' tokenizer puts it.

    Returns:
        as a run records it; None: nobody says it.
    """
    start = exported_start(directory)
    if start is not None:
        return {"begin_id": start.token if start.is_in_documents else None,
                "end_id": None if start.is_in_documents else start.token}  # fmt: skip
    begin = source.ids.begin_of_document
    if source.family.sees_both_sides or begin is None:
        return None
    from transformers import AutoTokenizer

    try:
        with quiet_transformers():
            theirs = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
        ids = list(theirs("a")["input_ids"])
    except (OSError, ValueError, KeyError, ImportError):
        return None
    return {"begin_id": begin, "end_id": None} if ids[:1] == [begin] else None
