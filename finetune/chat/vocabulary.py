"""The tokenizer of a model, with ids of its own for the special tokens of a chat template."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from configs.errors import DataError
from data_prep.tokenizer import ROLES, Tokenizer, load_tokenizer
from data_prep.tokenizer.importing import import_tokenizer
from finetune.chat.template import ChatTemplate
from finetune.huggingface import tokenizer as hf_tokenizer
from finetune.huggingface.tokenizer import OWN_FOLDER, role_ids
from finetune.huggingface.tokenizer_check import PROBES
from finetune.model_checkpoint import find_tokenizer
from pretrain.checkpoint.model_checkpoint import open_checkpoint


def tokenizer_of(model: Path, override: Path | None, scratch: Path) -> Tokenizer:
    """Our tokenizer of a run, a checkpoint, an export or a Hugging Face directory.

    Args:
        model: the directory.
        override: the tokenizer's directory; None: the one that belongs to the model.
        scratch: an empty directory, for what is imported.

    Raises:
        DataError: there is none.
    """
    if not (model / "config.json").is_file():
        return find_tokenizer(open_checkpoint(model), override)
    if override is not None or (model / OWN_FOLDER).is_dir():
        return load_tokenizer(override or model / OWN_FOLDER)
    return import_tokenizer(model, scratch / "imported", {})


def with_special_tokens(tokenizer: Tokenizer, spellings: Sequence[str], directory: Path) -> tuple[Tokenizer, list[str]]:
    """A tokenizer that has an id for each spelling, found where a template writes it and never in text.

    Args:
        tokenizer: whose ids all stay what they are.
        spellings: of special tokens; those that it has keep their ids.
        directory: where the tokenizer is written.

    Returns:
        The tokenizer, and the spellings that it did not have.

    Raises:
        DataError: it cannot be extended without another change.
    """
    added = [spelling for spelling in spellings if not _has(tokenizer, spelling)]
    if not added:
        tokenizer.copy_to(directory)
        return load_tokenizer(directory), []
    from tokenizers import AddedToken

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        hf_tokenizer.save(tokenizer, folder, seq_length=1 << 20)
        pipeline = _pipeline(folder)
        pipeline.add_special_tokens([AddedToken(spelling, special=True, normalized=False) for spelling in added])
        pipeline.save(str(folder / "tokenizer.json"))
        roles = {role: tokenizer.piece(number) for role in ROLES if (number := tokenizer.role(role)) is not None}
        roles = {role: spelling for role, spelling in roles.items() if pipeline.token_to_id(spelling) is not None}
        named = {role: roles.get(role, "none") for role in ROLES}
        grown = import_tokenizer(folder, directory, named)
    _check(tokenizer, grown, added)
    return grown, added


def _has(tokenizer: Tokenizer, spelling: str) -> bool:
    number = tokenizer.find(spelling)
    return number is not None and tokenizer.is_special(number)


def _pipeline(folder: Path) -> Any:
    from tokenizers import Tokenizer as Pipeline

    return Pipeline.from_file(str(folder / "tokenizer.json"))


def _check(old: Tokenizer, new: Tokenizer, added: Sequence[str]) -> None:
    """Refuse a tokenizer that changed in anything but the tokens that were added."""
    where = old.model_path
    for role in ROLES:
        if old.role(role) != new.role(role):
            raise DataError(f"cannot be extended: its role {role} would be lost", where=where)
    for text in PROBES:
        if list(old.encode(text)) != list(new.encode(text)):
            raise DataError(
                f"cannot be extended: {text[:40]!r} would have other ids", where=where, expected="a BPE tokenizer"
            )
    numbers = [new.find(spelling) for spelling in added]
    is_complete = all(number is not None and new.is_special(number) for number in numbers)
    if not is_complete or old.sentinels != new.sentinels:
        raise DataError(f"cannot be extended by {', '.join(added)}", where=where)


def chat_tokenizer(tokenizer: Tokenizer, template: ChatTemplate, seq_length: int) -> Any:
    """The tokenizer of transformers with a chat template, as it is saved with the model in the end.

    Args:
        tokenizer: ours.
        template: the chat template.
        seq_length: tokens that the model reads.
    """
    from transformers import AutoTokenizer

    from pretrain.models.huggingface.transformers_model import quiet_transformers

    begin = tokenizer.role("beginning_of_document") if template.begins_with_token else None
    with tempfile.TemporaryDirectory() as name, quiet_transformers():
        folder = Path(name)
        hf_tokenizer.save(tokenizer, folder, seq_length, ids=role_ids(tokenizer, begin))
        made = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    made.chat_template = template.text
    return made
