"""What pretraining saw before the first word of a document: where generation and evaluation have to begin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data_prep.tokenizer import Tokenizer
from finetune.huggingface.plain_call import PlainCall, pretraining_call
from finetune.huggingface.tokenizer import role_ids
from pretrain.config import ModelConfig
from pretrain.models.huggingface.config_fields import RoleIds
from pretrain.models.huggingface.export_record import export_record


@dataclass(frozen=True)
class DocumentStart:
    """The token before the first word of a document.

    Attributes:
        token: its id; None: the corpora had none that all documents share.
        is_in_documents: whether each document began with it; else it ended the document before.
        is_recorded: whether the checkpoint says so; one from before checkpoints did is taken to have been trained on
            what `tokenize` writes, documents that end with the end-of-document token.
    """

    token: int | None
    is_in_documents: bool
    is_recorded: bool


@dataclass(frozen=True)
class TrainedText:
    """How a pretrained model knows text.

    Attributes:
        ids: of the tokenizer's special tokens; the one that begins a text is the one that pretraining saw there.
        call: what stands around a text.
        start: what stood before a document.
    """

    ids: RoleIds
    call: PlainCall
    start: DocumentStart


def document_start(metadata: Mapping[str, Any], tokenizer: Tokenizer) -> DocumentStart:
    """What the documents of a run began with.

    Args:
        metadata: what the run remembered.
        tokenizer: the run's.
    """
    borders = metadata.get("document_borders")
    if borders is None:
        return DocumentStart(tokenizer.role("end_of_document"), False, False)
    begin_id = borders["begin_id"]
    return DocumentStart(borders["end_id"] if begin_id is None else begin_id, begin_id is not None, True)


def exported_start(directory: Path) -> DocumentStart | None:
    """What an exported directory says; None: nothing, as other projects' and exports from before it was written."""
    record = export_record(directory).get("document_start")
    if record is None:
        return None
    return DocumentStart(record["id"], record["in_each_text"], record["recorded_by_pretraining"])


def trained_text(model: ModelConfig, metadata: Mapping[str, Any], tokenizer: Tokenizer) -> TrainedText:
    """How the model of a checkpoint knows text.

    Args:
        model: of the checkpoint.
        metadata: what the run remembered.
        tokenizer: the run's.

    Raises:
        CheckpointError: the run's objective cannot be read here.
    """
    ids, start = role_ids(tokenizer), document_start(metadata, tokenizer)
    call = pretraining_call(model, ids, metadata, start.token if start.is_in_documents else None)
    begin_id = start.token if call.before is None else call.before
    return TrainedText(replace(ids, begin_of_document=begin_id), call, start)
