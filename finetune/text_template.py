"""What stands around the tokens of a text that a model reads, how much of it is read, and what pads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from configs.errors import ConfigError, DataError

if TYPE_CHECKING:
    from finetune.pretrained import PretrainedModel


@dataclass(frozen=True)
class TextTemplate:
    """The form of a text as token ids: `before`, the beginning of the text, `after`; padded on the right.

    Attributes:
        max_tokens: length of the whole, at most.
        pad: id to pad with.
        before: id in front of each text; None: there is none.
        after: id that closes each text; None: there is none.
    """

    max_tokens: int
    pad: int
    before: int | None = None
    after: int | None = None

    @property
    def room(self) -> int:
        """Tokens of a text that are read, at most."""
        return self.max_tokens - (self.before is not None) - (self.after is not None)

    def apply(self, row: list[int]) -> list[int]:
        """The ids that the model reads of a text with the ids `row`."""
        before = [self.before] if self.before is not None else []
        after = [self.after] if self.after is not None else []
        return before + row[: self.room] + after


def text_template(
    pretrained: PretrainedModel, max_tokens: int, *, append_end_of_document: bool = True, key: str = "data.max_tokens"
) -> TextTemplate:
    """The form of single texts that a model is used to.

    A decoder reads a text, after the token that began each one in pretraining if one did, and, if wanted, the
    end-of-document token. An encoder reads the classification token, the
    text, the separator token (`[CLS] text [SEP]`), unless it was pretrained without them.

    Args:
        pretrained: the model and its tokenizer.
        max_tokens: length of the whole; less where the model's context is shorter.
        append_end_of_document: whether that token closes each text of a decoder.
        key: where `max_tokens` was set.

    Raises:
        DataError: the tokenizer has no token to close texts, to begin them, or to pad with.
        ConfigError: nothing of a text would be left.
    """
    context = max_tokens if pretrained.context is None else min(pretrained.context, max_tokens)
    form = (_encoder_template if pretrained.is_encoder else _decoder_template)(
        pretrained, context, append_end_of_document
    )
    if form.room < 1:
        raise ConfigError(
            f"is {max_tokens}", where=key, expected=f"at least {context - form.room + 1}, special tokens included"
        )
    return form


def _decoder_template(pretrained: PretrainedModel, context: int, append_end_of_document: bool) -> TextTemplate:
    codec, where = pretrained.codec, f"the tokenizer of {pretrained.path}"
    if append_end_of_document and codec.end_of_document is None:
        raise DataError(
            "has no end-of-document token", where=where, expected="one, or data.append_end_of_document=false"
        )
    after = codec.end_of_document if append_end_of_document else None
    # Transformers reads a text at its last token that is not the pad token: the two must differ.
    spare = [number for number in (codec.pad, codec.unknown, codec.end_of_document) if number is not None]
    pad = next((number for number in spare if number != after), None)
    if pad is None:
        raise DataError("has no token to pad with", where=where, expected="a pad or unknown token")
    return TextTemplate(context, pad, codec.begin_of_text, after)


def _encoder_template(pretrained: PretrainedModel, context: int, append_end_of_document: bool) -> TextTemplate:
    codec, where = pretrained.codec, f"the tokenizer of {pretrained.path}"
    around = pretrained.puts_special_tokens
    if around and (codec.classification is None or codec.separator is None):
        missing = "classification" if codec.classification is None else "separator"
        raise DataError(f"has no {missing} token", where=where, expected="an encoder's, such as [CLS] and [SEP]")
    # RoBERTa counts positions by the tokens that are not its pad token, so the model's own comes first.
    spare = (pretrained.hf_config.get("pad_token_id"), codec.pad, codec.unknown)
    pad = next((number for number in spare if number is not None), None)
    if pad is None:
        raise DataError("has no token to pad with", where=where, expected="a pad or unknown token")
    before, after = (codec.classification, codec.separator) if around else (None, None)
    return TextTemplate(context, int(pad), before, after)
