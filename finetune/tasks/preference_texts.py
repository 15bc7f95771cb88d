"""Records of preferences -> prompts and completions as token ids; messages through the tokenizer's chat template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from configs.errors import DataError
from finetune.tasks.example_files import field_value, group_of
from finetune.tasks.prefer_config import PreferData
from finetune.text_codec import TextCodec, TransformersCodec

if TYPE_CHECKING:
    from data_prep.reading.documents import Document

Messages = list[dict[str, Any]]
Content = str | Messages


@dataclass(frozen=True, slots=True)
class Preference:
    """A prompt with two completions of which the first is better, or with one that is labelled.

    Attributes:
        id: names it in the predictions.
        prompt: what is answered.
        first: the chosen completion, or the only one.
        second: the rejected one; None: there is one completion.
        desirable: whether the only completion is good.
        group: examples of one group stay on one side of the split.
        label: what is shared out evenly between the parts.
    """

    id: str
    prompt: Content
    first: Content
    second: Content | None
    desirable: bool
    group: str
    label: str = ""

    @property
    def text(self) -> str:
        """The prompt, for finding what stands in two parts."""
        return str(self.prompt)


def pair_of(document: Document, data: PreferData, identity: str, where: str) -> Preference:
    """A pair.

    Raises:
        DataError: the record is none, or both completions are the same.
    """
    chosen = _content(document, data.chosen_field, "data.chosen_field", where)
    rejected = _content(document, data.rejected_field, "data.rejected_field", where)
    if data.prompt_field in document.metadata:
        prompt = _content(document, data.prompt_field, "data.prompt_field", where)
    else:
        prompt = _common(chosen, rejected, data, where)
    chosen, rejected = (_after(prompt, content) for content in (chosen, rejected))
    if chosen == rejected:
        raise DataError("its chosen and its rejected completion are the same", where=where, expected="two that differ")
    return Preference(identity, prompt, chosen, rejected, True, _group(document, data, prompt, where))


def labelled_of(document: Document, data: PreferData, identity: str, where: str) -> Preference:
    """A labelled completion.

    Raises:
        DataError: the record is none.
    """
    prompt = _content(document, data.prompt_field, "data.prompt_field", where)
    completion = _after(prompt, _content(document, data.completion_field, "data.completion_field", where))
    label = field_value(document, data.label_field, "data.label_field", where)
    known = {True: True, False: False, "true": True, "false": False, "1": True, "0": False}
    if not isinstance(label, bool | int | str) or (label if isinstance(label, int) else label.lower()) not in known:
        raise DataError(f"its field {data.label_field!r} holds {label!r}", where=where, expected="true or false")
    good = known[label if isinstance(label, int) else label.lower()]
    return Preference(identity, prompt, completion, None, good, _group(document, data, prompt, where), str(good))


def encode_prompts(codec: TextCodec, prompts: Sequence[Content], where: str) -> list[list[int]]:
    """Token ids of prompts; of messages, with what the chat template puts before an answer.

    Raises:
        DataError: messages, and no chat template.
    """
    if all(isinstance(prompt, str) for prompt in prompts):
        return codec.encode_batch([str(prompt) for prompt in prompts])
    return [
        codec.encode_batch([prompt])[0]
        if isinstance(prompt, str)
        else _encode_chat(codec, _chat(codec, prompt, where, opens_answer=True))
        for prompt in prompts
    ]


def encode_completions(
    codec: TextCodec, prompts: Sequence[Content], completions: Sequence[Content], where: str
) -> list[list[int]]:
    """Token ids of completions, without what ends them; of messages, what the chat template writes after the prompt.

    Raises:
        DataError: messages, and no chat template, or one that writes a prompt differently when an answer follows.
    """
    found: list[list[int]] = []
    for prompt, completion in zip(prompts, completions, strict=True):
        if isinstance(completion, str) and isinstance(prompt, str):
            found += codec.encode_batch([completion])
            continue
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        answer = [{"role": "assistant", "content": completion}] if isinstance(completion, str) else completion
        before = _chat(codec, messages, where, opens_answer=True)
        whole = _chat(codec, [*messages, *answer], where)
        if not whole.startswith(before):
            raise DataError(
                "its chat template writes a prompt differently when an answer follows", where=where,
                expected="prompt and completions as texts"
            )  # fmt: skip
        ids = _encode_chat(codec, whole[len(before) :])
        # The end that the template writes is the one that training puts after each completion.
        found.append(ids[:-1] if ids[-1:] == [codec.end_of_document] else ids)
    return found


def _chat(codec: TextCodec, messages: Messages, where: str, *, opens_answer: bool = False) -> str:
    if not isinstance(codec, TransformersCodec) or not getattr(codec.tokenizer, "chat_template", None):
        raise DataError(
            "has no chat template, and the examples have messages", where=where,
            expected="prompt and completions as texts, or a model with a chat template, such as instruct makes"
        )  # fmt: skip
    try:
        text = codec.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=opens_answer)
    except Exception as error:  # a template is a program of its own, and says what it wants by raising
        raise DataError(f"its chat template refuses an example ({error})", where=where) from None
    return str(text)


def _encode_chat(codec: TextCodec, text: str) -> list[int]:
    """Ids of what a template wrote, whose special tokens are tokens."""
    assert isinstance(codec, TransformersCodec)
    ids: list[int] = codec.tokenizer(text, add_special_tokens=False, split_special_tokens=False)["input_ids"]
    return ids


def _content(document: Document, field: str, key: str, where: str) -> Content:
    value = field_value(document, field, key, where)
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, list) and value and all(isinstance(m, dict) and {"role", "content"} <= set(m) for m in value):
        return value
    raise DataError(f"its field {field!r} holds no text and no messages", where=where, expected="a text, or messages")


def _common(chosen: Content, rejected: Content, data: PreferData, where: str) -> Content:
    """The messages that two conversations begin with."""
    if isinstance(chosen, str) or isinstance(rejected, str):
        raise DataError(
            f"has no field {data.prompt_field!r}", where=where, expected="one that data.prompt_field names, or messages"
        )
    shared = next(
        (n for n, (one, two) in enumerate(zip(chosen, rejected)) if one != two), min(len(chosen), len(rejected))
    )
    if not 0 < shared < min(len(chosen), len(rejected)):
        raise DataError("its conversations have no common beginning of which both go on", where=where)
    return chosen[:shared]


def _after(prompt: Content, content: Content) -> Content:
    """A completion without the prompt's messages that it may begin with."""
    if isinstance(prompt, list) and isinstance(content, list) and content[: len(prompt)] == prompt != content:
        return content[len(prompt) :]
    return content


def _group(document: Document, data: PreferData, prompt: Content, where: str) -> str:
    return str(prompt) if data.split_by is None else group_of(document, data.split_by, where)
