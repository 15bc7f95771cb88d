"""Two texts as one row of tokens, as the saved tokenizer joins a pair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from finetune.text_codec import TransformersCodec
from finetune.text_template import text_template

if TYPE_CHECKING:
    from finetune.pretrained import PretrainedModel
    from finetune.text_template import TextTemplate


@dataclass(frozen=True)
class PairForm:
    """The form of two texts as token ids: `before`, the first, `between`, the second, `after`; padded on the right.

    Attributes:
        max_tokens: length of the whole, at most.
        pad: id to pad with.
        before: ids in front.
        between: ids between the texts.
        after: ids behind.
        has_token_types: whether the second text, and what is behind it, is of token type 1; all else is of 0.
    """

    max_tokens: int
    pad: int
    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]
    has_token_types: bool

    @property
    def room(self) -> int:
        """Tokens of both texts together, at most."""
        return self.max_tokens - len(self.before) - len(self.between) - len(self.after)

    def join(self, first: list[int], second: list[int]) -> tuple[list[int], list[int]]:
        """The ids of the whole, and the token type of each."""
        head, tail = [*self.before, *first, *self.between], [*second, *self.after]
        return head + tail, [0] * len(head) + [int(self.has_token_types)] * len(tail)

    def cut(self, first: list[int], second: list[int]) -> tuple[list[int], list[int]]:
        """Two texts cut to the room, the longer one first, as transformers does where it is asked to truncate."""
        shorter, longer = sorted((len(first), len(second)))
        if shorter + longer > self.room:
            longer = max(shorter, self.room - shorter)
            if shorter + longer > self.room:
                shorter, longer = self.room // 2, self.room // 2 + self.room % 2
        sizes = (longer, shorter) if len(first) > len(second) else (shorter, longer)
        return first[: sizes[0]], second[: sizes[1]]


def pair_form(pretrained: PretrainedModel, max_tokens: int) -> tuple[PairForm, TextTemplate]:
    """The form of pairs that a model is used to, and that of single texts, with which its tokenizer is saved.

    An encoder reads `[CLS] A [SEP] B [SEP]`; a decoder closes each text with its end-of-document token.

    Args:
        pretrained: the model and its tokenizer.
        max_tokens: length of the whole; less where the model's context is shorter.

    Raises:
        UserError: as `text_template`.
    """
    template = text_template(pretrained, max_tokens)
    before, after = (() if number is None else (number,) for number in (template.before, template.after))
    types = pretrained.has_token_types and bool(before and after)
    between = after
    codec = pretrained.codec
    if isinstance(codec, TransformersCodec) and list(codec.tokenizer("")["input_ids"]) == [*before, *after]:
        # Its own template stays in the saved tokenizer; RoBERTa's has two separators between the texts of a pair.
        plain = list(codec.tokenizer("a", add_special_tokens=False)["input_ids"])
        whole = list(codec.tokenizer("a", "a")["input_ids"])
        between = tuple(whole[len(before) + len(plain) : len(whole) - len(after) - len(plain)])
    return PairForm(template.max_tokens, template.pad, before, between, after, types), template
