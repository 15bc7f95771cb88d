"""What a model that writes reads and learns to write, as token ids: of encoder-decoders, and of decoders alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from configs.errors import ConfigError, DataError
from finetune.tasks.seq2seq_config import SOURCE
from finetune.text_codec import TransformersCodec
from finetune.text_template import TextTemplate

if TYPE_CHECKING:
    from finetune.pretrained import PretrainedModel
    from finetune.text_codec import TextCodec


@dataclass(frozen=True)
class SequenceTemplate:
    """The form of a source and of a target as token ids.

    Attributes:
        is_encoder_decoder: whether the source is read by an encoder, and closed; a decoder goes on from it.
        before: id in front of each source, and of each target of an encoder-decoder; None: there is none.
        after: id that ends a target.
        pad: id to pad with.
        source_tokens: of a whole source, at most.
        target_tokens: of a whole target, at most.
    """

    is_encoder_decoder: bool
    before: int | None
    after: int
    pad: int
    source_tokens: int
    target_tokens: int

    @property
    def source(self) -> TextTemplate:
        """The form of a source."""
        after = self.after if self.is_encoder_decoder else None
        return TextTemplate(self.source_tokens, self.pad, self.before, after)

    def target(self, row: list[int]) -> list[int]:
        """The labels of a target with the ids `row`; one that is cut has no end, so that none is learned there."""
        before = [self.before] if self.is_encoder_decoder and self.before is not None else []
        return (before + row + [self.after])[: self.target_tokens]


def sequence_template(pretrained: PretrainedModel, max_source_tokens: int, max_target_tokens: int) -> SequenceTemplate:
    """The form that a model is used to.

    An encoder reads what a plain call of its tokenizer gives (T5: the text and its end; BART: the text between its
    classification and its separator token), and the decoder learns the same form. A decoder alone reads the source
    after the token that began texts in pretraining, if one did, and goes on with the target and the end-of-document
    token.

    Args:
        pretrained: the model and its tokenizer.
        max_source_tokens: of a whole source; fewer where the context is shorter.
        max_target_tokens: of a whole target.

    Raises:
        DataError: the tokenizer lacks a token that this needs, or the model only fills masks.
        ConfigError: the context has no room for both.
    """
    if pretrained.is_encoder:
        raise DataError(
            "fills masks and cannot write", where=pretrained.path, expected="a decoder or an encoder-decoder"
        )
    codec, where = pretrained.codec, f"the tokenizer of {pretrained.path}"
    if pretrained.is_encoder_decoder:
        before, after = _around(pretrained)
        pad = next((n for n in (pretrained.hf_config.get("pad_token_id"), codec.pad) if n is not None), None)
        positions = pretrained.hf_config.get("max_position_embeddings")
        target_room = max_target_tokens if positions is None else min(max_target_tokens, int(positions))
        source_room = max_source_tokens if pretrained.context is None else min(max_source_tokens, pretrained.context)
    else:
        before, after, target_room = codec.begin_of_text, codec.end_of_document, max_target_tokens
        spare = [number for number in (codec.pad, codec.unknown) if number is not None]
        pad = next((number for number in spare if number != after), None)
        left = max_source_tokens if pretrained.context is None else pretrained.context - target_room
        source_room = min(max_source_tokens, left)
    if after is None or pad is None:
        lacking = "ends texts" if after is None else "can be padded with"
        raise DataError(f"has no token that {lacking}", where=where, expected="one")
    if source_room < 4:
        raise ConfigError(
            f"is {max_target_tokens}, which leaves {source_room} tokens of the context for the source",
            where="data.max_target_tokens",
            expected=f"at most {(pretrained.context or 0) - 4}",
        )
    return SequenceTemplate(pretrained.is_encoder_decoder, before, after, int(pad), source_room, target_room)


def encode_sources(
    codec: TextCodec, texts: Sequence[str], prompt: str, template: SequenceTemplate
) -> tuple[list[list[int]], int]:
    """The ids that a model reads of source texts in a prompt, and how many texts were cut at their end to fit.

    Args:
        codec: the model's.
        texts: the sources.
        prompt: has `{source}` in it once.
        template: of the model.

    Raises:
        ConfigError: the prompt itself leaves no room.
    """
    head, tail = prompt.split(SOURCE)
    form = template.source
    fixed = len(codec.encode_batch([head + tail])[0]) if head + tail else 0
    if fixed >= form.room:
        raise ConfigError(f"has {fixed} tokens without the source", where="prompt", expected=f"fewer than {form.room}")
    rows = codec.encode_batch([head + text + tail for text in texts])
    cut = [number for number, row in enumerate(rows) if len(row) > form.room]
    for number in cut:
        rows[number] = _shortened(codec, texts[number], rows[number], (head, tail), form.room)
    return [form.apply(row) for row in rows], len(cut)


def _shortened(codec: TextCodec, text: str, row: list[int], around: tuple[str, str], room: int) -> list[int]:
    head, tail = around
    if not tail:
        return row[:room]
    ids = codec.encode_batch([text])[0]
    kept, spare = len(ids), len(row) - room
    while spare > 0 and kept > 0:
        kept = max(kept - spare, 0)
        # The last token may be a byte of a character.
        row = codec.encode_batch([head + codec.decode(ids[:kept]).rstrip("\ufffd") + tail])[0]
        spare = len(row) - room
    return row[:room]


def _around(pretrained: PretrainedModel) -> tuple[int | None, int | None]:
    """What stands before and after a text that an encoder-decoder reads."""
    codec = pretrained.codec
    if not isinstance(codec, TransformersCodec):
        if pretrained.puts_special_tokens and codec.classification is not None and codec.separator is not None:
            return codec.classification, codec.separator
        return None, codec.end_of_document
    plain = list(codec.tokenizer("a", add_special_tokens=False)["input_ids"])
    whole = list(codec.tokenizer("a")["input_ids"])
    for start in (0, 1):
        before, after = whole[:start], whole[start + len(plain) :]
        if whole[start : start + len(plain)] == plain and len(after) <= 1:
            return (before or [None])[0], (after or [codec.end_of_document])[0]
    raise DataError(
        f"puts the ids {whole} around a text with the ids {plain}",
        where=f"the tokenizer of {pretrained.path}",
        expected="one token at most before a text, and one after it",
    )
