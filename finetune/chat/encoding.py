"""Conversations -> ids, and which of them are answers.

The ids of a conversation are those that transformers' `apply_chat_template` gives. Which of them are answers is found
by rendering what comes before a message and what ends with it: a template needs no marks for it, but it has to append,
so that what a model was asked in training is what it reads when it is asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from configs.errors import DataError
from finetune.chat.formats import BadConversation, Conversation
from finetune.chat.template import ChatTemplate

ANSWERING = "assistant"
"""The role whose turn a generation prompt begins."""


@dataclass(frozen=True)
class EncodedConversation:
    """One conversation.

    Attributes:
        text: as it was rendered.
        ids: int64 [T].
        answers: bool [T], which are asked for; never the first.
        end_ids: special ids that end an answer.
        straddling: tokens of which a part stands before an answer: they are not asked for.
    """

    text: str
    ids: np.ndarray
    answers: np.ndarray
    end_ids: frozenset[int]
    straddling: int


@dataclass(frozen=True)
class _Span:
    """Characters [begin, end) that are asked for."""

    begin: int
    end: int


class ConversationEncoder:
    """Renders and encodes conversations with one template.

    Args:
        tokenizer: of transformers, with the special tokens of the template.
        template: the chat template.
        loss_on: roles that are asked for.
        last_only: whether only the last message of those roles is.
    """

    def __init__(self, tokenizer: Any, template: ChatTemplate, loss_on: Sequence[str], *, last_only: bool) -> None:
        self._tokenizer, self._template = tokenizer, template
        self._loss_on, self._last_only = tuple(loss_on), last_only
        added = tokenizer.added_tokens_decoder
        self._special = {int(number): str(token) for number, token in added.items() if token.special}
        spellings = sorted(self._special.values(), key=len, reverse=True)
        self._spelled = re.compile("|".join(map(re.escape, spellings)) or "(?!)")

    def encode(self, conversation: Conversation) -> EncodedConversation:
        """The ids of a conversation and its answers.

        Raises:
            BadConversation: the template refuses it, or a message spells a special token.
            DataError: the template does not append: no conversation's answers can be told.
        """
        for message in conversation.messages:
            if found := next((match for text in _texts(message) if (match := self._spelled.search(text))), None):
                raise BadConversation(f"a message spells the special token {found[0]!r}, which begins or ends turns")
        text = self._render(conversation, len(conversation.messages))
        spans = list(self._spans(conversation, text))
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        ids = np.array(encoded["input_ids"], dtype=np.int64)
        offsets = np.array(encoded["offset_mapping"], dtype=np.int64).reshape(-1, 2)
        answers, end_ids, straddling = np.zeros(len(ids), dtype=np.bool_), set(), 0
        for span in spans:
            within = (offsets[:, 0] >= span.begin) & (offsets[:, 0] < span.end) & (offsets[:, 1] > offsets[:, 0])
            straddling += int(((offsets[:, 0] < span.begin) & (offsets[:, 1] > span.begin)).sum())
            places = np.flatnonzero(within)
            special = [place for place in places.tolist() if int(ids[place]) in self._special]
            if special and not text[offsets[special[-1], 1] : span.end].strip():
                # White space behind the token that ends a turn is the template's, and nobody's to say.
                places = places[places <= special[-1]]
                end_ids.add(int(ids[special[-1]]))
            answers[places] = True
        answers[:1] = False
        return EncodedConversation(text, ids, answers, frozenset(end_ids), straddling)

    def _spans(self, conversation: Conversation, text: str) -> Iterator[_Span]:
        """What is asked for of a rendered conversation, in order."""
        messages = conversation.messages
        asked = [n for n, message in enumerate(messages) if message["role"] in self._loss_on]
        for number in asked[-1:] if self._last_only else asked:
            message = messages[number]
            is_answer = message["role"] == ANSWERING
            before = self._render(conversation, number, prompts=is_answer) if number or is_answer else ""
            self._require_beginning(conversation, text, before, f"what comes before message {number}")
            after = text
            if number + 1 < len(messages):
                after = self._render(conversation, number + 1)
                self._require_beginning(conversation, text, after, f"what ends with message {number}")
            if len(after) < len(before):
                self._require_beginning(conversation, after, before, f"what comes before message {number}")
            begin = len(before)
            if not is_answer:
                # What the template writes in front of the message, such as its role, is not the speaker's to say.
                begin = max(after.find(message["content"].strip(), begin), begin)
            if message.get("weight", 1) != 0:
                yield _Span(begin, len(after))

    def _render(self, conversation: Conversation, count: int, *, prompts: bool = False) -> str:
        """The first `count` messages, with what asks for an answer behind them where `prompts` says."""
        from jinja2 import TemplateError, TemplateSyntaxError

        try:
            text = self._tokenizer.apply_chat_template(
                conversation.messages[:count],
                tools=conversation.tools,
                chat_template=self._template.text,
                add_generation_prompt=prompts,
                tokenize=False,
            )
        except TemplateSyntaxError as error:
            raise DataError(
                f"is no template: {error.message} (line {error.lineno})", where=self._where, expected="Jinja"
            ) from None
        except (TemplateError, TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
            shown = f"its first {count} messages" if count < len(conversation.messages) else "it"
            raise BadConversation(f"the chat template ({self._template.name}) cannot write {shown}: {error}") from None
        return str(text)

    @property
    def _where(self) -> str:
        return f"chat.template ({self._template.name})"

    def _require_beginning(self, conversation: Conversation, text: str, part: str, what: str) -> None:
        if text.startswith(part):
            return
        at = next((n for n, (a, b) in enumerate(zip(text, part)) if a != b), min(len(text), len(part)))
        found, wanted = (shown[max(0, at - 12) : at + 24] for shown in (text, part))
        raise DataError(
            f"writes {what} otherwise when more follows ({wanted!r} alone, {found!r} in the whole of conversation"
            f" {conversation.id}): which tokens are answers cannot be told",
            where=self._where,
            expected="a template that only appends; or chat.turns=last, where earlier turns alone are rewritten",
        )


def _texts(value: Any) -> Iterator[str]:
    """All texts within a message."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
