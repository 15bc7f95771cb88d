"""How a tokenizer's plain call gives an encoder text as it was trained to read it: tokens around it, masks within."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from configs.errors import CheckpointError, DataError
from data_prep.tokenizer import Tokenizer
from pretrain.config import ModelConfig, ObjectiveConfig
from pretrain.config.kinds import OBJECTIVES
from pretrain.models.huggingface.config_fields import RoleIds
from pretrain.models.huggingface.family import sees_both_sides
from pretrain.models.huggingface.logit_check import num_token_types

if TYPE_CHECKING:
    import tokenizers

_BEFORE, _AFTER = "The", " of"


@dataclass(frozen=True)
class EncoderText:
    """What an encoder reads beside the text.

    Attributes:
        around: ids before and after each text; None: the encoder was trained without.
        has_token_types: whether the second text of a pair has token types of its own.
    """

    around: tuple[int, int] | None
    has_token_types: bool

    @property
    def model_inputs(self) -> list[str]:
        """The tensors that a tokenizer's call returns."""
        types = ["token_type_ids"] if self.has_token_types else []
        return ["input_ids", *types, "attention_mask"]


def encoder_text(model: ModelConfig, ids: RoleIds, metadata: Mapping[str, Any]) -> EncoderText | None:
    """How the model of a checkpoint was trained to read text; None: it is no encoder.

    Args:
        model: of the checkpoint.
        ids: of its tokenizer.
        metadata: what the run remembered; its objective says whether rows had special tokens.
    """
    if not sees_both_sides(model):
        return None
    around = None
    if puts_special_tokens(metadata) and ids.classification is not None and ids.separator is not None:
        around = ids.classification, ids.separator
    return EncoderText(around, num_token_types(model) > 1)


def puts_special_tokens(metadata: Mapping[str, Any]) -> bool:
    """Whether the rows of a run began and ended with special tokens, by its objective; True where that is not known.

    Args:
        metadata: what the run remembered.

    Raises:
        CheckpointError: the objective is of a module that is not here, or of another version.
    """
    objective = (metadata.get("config") or {}).get("objective")
    if objective is None:
        return True
    name = objective.get("name", OBJECTIVES.default)
    try:
        section = OBJECTIVES.declaration(name).model_validate(dict(objective))
    except ValueError as error:  # pydantic's is one, too
        problem = error.errors(include_url=False)[0]["msg"] if isinstance(error, ValidationError) else error
        raise CheckpointError(
            f"was trained on objective.name={name}, which cannot be read here: {problem}",
            where="the checkpoint's metadata",
            expected="the version and the modules that it was trained with",
        ) from None
    return isinstance(section, ObjectiveConfig) and section.puts_special_tokens


def put_around(pipeline: tokenizers.Tokenizer, before: tuple[int, str] | None, after: tuple[int, str] | None) -> None:
    """Make a `tokenizers` pipeline put special tokens (id, spelling) before and after each text, if not None.

    Of a pair, what stands before comes first only, as in `[CLS] A [SEP] B [SEP]`; B is of token type 1 then.
    """
    from tokenizers.processors import TemplateProcessing

    first, last = (f"{token[1]}" if token else "" for token in (before, after))
    second = f"$B:1 {last}:1" if before and after else f"$B {last}"
    pipeline.post_processor = TemplateProcessing(
        single=f"{first} $A {last}".split(),
        pair=f"{first} $A {last} {second}".split(),
        special_tokens=[(token[1], token[0]) for token in (before, after) if token],
    )


def prepare(
    pipeline: tokenizers.Tokenizer, text: EncoderText, mask: int | None, spelling: Callable[[int], str]
) -> tokenizers.Tokenizer:
    """A pipeline that puts the tokens around each text and knows the mask token in text.

    The space before a mask belongs to the mask: vocabularies write it into the word that the mask stands for.

    Args:
        pipeline: what it is made from; not used afterwards.
        text: what is put around.
        mask: id of the mask token; None: there is none.
        spelling: of an id.
    """
    from tokenizers import Tokenizer as Pipeline

    pipeline.post_processor = None
    if text.around is not None:
        before, after = ((number, spelling(number)) for number in text.around)
        put_around(pipeline, before, after)
    if mask is None:
        return pipeline
    content = json.loads(pipeline.to_str())
    plain = {"id": mask, "content": spelling(mask), "single_word": False, "rstrip": False}
    added = [token for token in content["added_tokens"] if token["id"] != mask]
    added.append(plain | {"lstrip": True, "normalized": False, "special": True})
    content["added_tokens"] = sorted(added, key=lambda token: int(token["id"]))
    return Pipeline.from_str(json.dumps(content))


def check_reads_as_trained(tokenizer: Tokenizer, directory: Path, text: EncoderText) -> None:
    """Compare plain calls of the saved tokenizer with what the encoder was trained on.

    Raises:
        DataError: tokens around a text, or a mask within it, come out otherwise.
    """
    from transformers import AutoTokenizer

    from pretrain.models.huggingface.transformers_model import quiet_transformers

    first, last = ([number] for number in text.around) if text.around is not None else ([], [])
    cases = {_BEFORE + _AFTER: [*first, *tokenizer.encode(_BEFORE + _AFTER), *last]}
    mask = tokenizer.role("mask")
    if mask is not None:
        spelled = f"{_BEFORE} {tokenizer.piece(mask)}{_AFTER}"
        cases[spelled] = [*first, *tokenizer.encode(_BEFORE), mask, *tokenizer.encode(_AFTER), *last]
    with quiet_transformers():
        theirs = AutoTokenizer.from_pretrained(directory, local_files_only=True)
        for given, expected in cases.items():
            found = theirs(given)
            if list(found["input_ids"]) != expected or set(found) != set(text.model_inputs):
                raise DataError(
                    f"transformers' tokenizer reads {given!r} as {list(found['input_ids'])}",
                    where=tokenizer.model_path,
                    expected=f"{expected}, as the model was trained; tokenizer=none exports the model without it",
                )
