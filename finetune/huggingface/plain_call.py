"""What a plain call of an exported tokenizer gives: a text as the model was trained to read it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from configs.errors import CheckpointError
from pretrain.config import ModelConfig, ObjectiveConfig
from pretrain.config.kinds import OBJECTIVES
from pretrain.models.huggingface.config_fields import RoleIds
from pretrain.models.huggingface.family import sees_both_sides
from pretrain.models.huggingface.logit_check import num_token_types

if TYPE_CHECKING:
    import tokenizers


@dataclass(frozen=True)
class PlainCall:
    """What a model reads beside the text.

    Attributes:
        before: id in front of each text; None: there is none.
        after: id that closes each text; None: there is none.
        has_token_types: whether the second text of a pair has token types of its own.
        mask: id that may stand in a text for a word, whose space is the mask's; None: there is none.
        keeps_spellings: whether the spelling of a special token in a text is text; False: it is the token, as in
            every published tokenizer.
    """

    before: int | None = None
    after: int | None = None
    has_token_types: bool = False
    mask: int | None = None
    keeps_spellings: bool = False

    @property
    def model_inputs(self) -> list[str]:
        """The tensors that a call returns. Said in each tokenizer: transformers 4 adds token types where it is not."""
        types = ["token_type_ids"] if self.has_token_types else []
        return ["input_ids", *types, "attention_mask"]

    def around(self, row: list[int]) -> list[int]:
        """The ids of a call for a text with the ids `row`."""
        before, after = ([number] if number is not None else [] for number in (self.before, self.after))
        return before + row + after


def pretraining_call(
    model: ModelConfig, ids: RoleIds, metadata: Mapping[str, Any], begin_id: int | None = None
) -> PlainCall:
    """How the model of a checkpoint was trained to read text.

    Args:
        model: of the checkpoint.
        ids: of its tokenizer.
        metadata: what the run remembered; its objective says whether rows of an encoder had special tokens.
        begin_id: that began every document that it was trained on; None: none did.
    """
    if model.is_encoder_decoder:
        if puts_special_tokens(metadata) and ids.classification is not None and ids.separator is not None:
            return PlainCall(ids.classification, ids.separator, mask=ids.mask)
        return PlainCall(after=ids.end_of_document)  # what an encoder reads ends with it in every other objective
    if not sees_both_sides(model):
        return PlainCall(before=begin_id)
    before = after = None
    if puts_special_tokens(metadata) and ids.classification is not None and ids.separator is not None:
        before, after = ids.classification, ids.separator
    return PlainCall(before, after, num_token_types(model) > 1, ids.mask)


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


def prepare(pipeline: tokenizers.Tokenizer, call: PlainCall, spelling: Callable[[int], str]) -> tokenizers.Tokenizer:
    """A pipeline that puts around each text what the call says and nothing else, and knows the mask token in text.

    The space before a mask belongs to the mask: vocabularies write it into the word that the mask stands for.

    Args:
        pipeline: what it is made from, its own template included, which is dropped; not used afterwards.
        call: what a call gives.
        spelling: of an id.
    """
    from tokenizers import Tokenizer as Pipeline

    pipeline.post_processor = None
    before, after = ((number, spelling(number)) if number is not None else None for number in (call.before, call.after))
    if before or after:
        put_around(pipeline, before, after)
    if call.mask is None:
        return pipeline
    content = json.loads(pipeline.to_str())
    plain = {"id": call.mask, "content": spelling(call.mask), "single_word": False, "rstrip": False}
    added = [token for token in content["added_tokens"] if token["id"] != call.mask]
    added.append(plain | {"lstrip": True, "normalized": False, "special": True})
    content["added_tokens"] = sorted(added, key=lambda token: int(token["id"]))
    return Pipeline.from_str(json.dumps(content))
