"""Records of the usual formats of chat data -> conversations, or what is wrong with one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Message = dict[str, Any]
FormatName = Literal["messages", "sharegpt", "prompt_completion", "alpaca"]

_SHAREGPT_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
    "function_call": "function_call",
}


class BadConversation(Exception):
    """A record that is no conversation; the message says why, without its place."""


@dataclass(frozen=True)
class Conversation:
    """Messages as chat templates read them.

    Attributes:
        id: the record's own, or its place.
        messages: each with `role` and `content`, and what else it has, such as `tool_calls`.
        tools: descriptions of the tools that may be called; None: there are none.
    """

    id: str
    messages: list[Message]
    tools: list[Any] | None = None


@dataclass(frozen=True)
class ChatFormat:
    """One format.

    Attributes:
        told_by: the column that tells a record of it.
        columns: all columns that are read, by the names that the format gives them.
        convert: reads one column after the other by such a name and returns the messages.
    """

    told_by: str
    columns: tuple[str, ...]
    convert: Callable[[Mapping[str, Any]], list[Message]]


def conversation_of(
    record: Mapping[str, Any], name: FormatName, columns: Mapping[str, str], default_id: str
) -> Conversation:
    """The conversation of a record.

    Args:
        record: as it was read.
        name: the format.
        columns: what the record calls columns of the format.
        default_id: of a record that has none.

    Raises:
        BadConversation: it is none.
    """
    known = FORMATS[name]
    read = {column: record.get(columns.get(column, column)) for column in known.columns}
    messages = [_checked(message, number) for number, message in enumerate(known.convert(read))]
    if not messages:
        raise BadConversation("there is no message in it")
    own = record.get("id")
    return Conversation(default_id if own is None else str(own), messages, _tools(read.get("tools")))


def _checked(message: Any, number: int) -> Message:
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str) or not message["role"]:
        raise BadConversation(f"message {number} has no role")
    content, checked = message.get("content"), dict(message)
    if isinstance(content, list):
        checked["content"] = "".join(_text_of_part(part, number) for part in content)
    elif content is None and message.get("tool_calls"):
        checked["content"] = ""
    elif not isinstance(content, str):
        raise BadConversation(f"message {number} ({message['role']}) has no text: content is {content!r:.40}")
    # Columns of tables fill in null for what a message has not; templates ask whether a key is there.
    return {key: value for key, value in checked.items() if value is not None}


def _text_of_part(part: Any, number: int) -> str:
    text = part.get("text") if isinstance(part, Mapping) else None
    if not isinstance(text, str):
        raise BadConversation(f"message {number} has a part that is no text: {part!r:.40}")
    return text


def _tools(value: Any) -> list[Any] | None:
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except ValueError:
            raise BadConversation("its tools are no JSON") from None
    if not value:
        return None
    if not isinstance(value, list) or not all(isinstance(tool, Mapping) for tool in value):
        raise BadConversation("its tools are no list of descriptions")
    return list(value)


def _of_messages(read: Mapping[str, Any]) -> list[Message]:
    if not isinstance(read["messages"], list):
        raise BadConversation("its messages are no list")
    return read["messages"]


def _of_sharegpt(read: Mapping[str, Any]) -> list[Message]:
    turns, system = read["conversations"], read["system"]
    if not isinstance(turns, list):
        raise BadConversation("its conversations are no list")
    messages: list[Message] = [{"role": "system", "content": system}] if system else []
    for number, turn in enumerate(turns):
        speaker = turn.get("from") if isinstance(turn, Mapping) else None
        if speaker not in _SHAREGPT_ROLES:
            known = ", ".join(_SHAREGPT_ROLES)
            raise BadConversation(f"turn {number} is from {speaker!r}, which is none of {known}")
        role, value = _SHAREGPT_ROLES[speaker], turn.get("value")
        messages.append(_tool_call(value) if role == "function_call" else {"role": role, "content": value})
    return messages


def _tool_call(value: Any) -> Message:
    try:
        call = json.loads(value)
        calls = call if isinstance(call, list) else [call]
        functions = [{"name": each["name"], "arguments": each.get("arguments", {})} for each in calls]
    except (TypeError, ValueError, KeyError, AttributeError):
        raise BadConversation("a function_call is no JSON object with a name and arguments") from None
    tool_calls = [{"type": "function", "function": function} for function in functions]
    return {"role": "assistant", "content": "", "tool_calls": tool_calls}


def _of_prompt_completion(read: Mapping[str, Any]) -> list[Message]:
    def messages(value: Any, role: str) -> list[Message]:
        return value if isinstance(value, list) else [{"role": role, "content": value}]

    return [*messages(read["prompt"], "user"), *messages(read["completion"], "assistant")]


def _of_alpaca(read: Mapping[str, Any]) -> list[Message]:
    messages: list[Message] = [{"role": "system", "content": read["system"]}] if read["system"] else []
    for turn in read["history"] or []:
        if not isinstance(turn, list) or len(turn) != 2:
            raise BadConversation("its history is no list of pairs")
        messages += [{"role": "user", "content": turn[0]}, {"role": "assistant", "content": turn[1]}]
    instruction = read["instruction"]
    if isinstance(instruction, str) and read["input"]:
        instruction = f"{instruction}\n\n{read['input']}"
    return [*messages, {"role": "user", "content": instruction}, {"role": "assistant", "content": read["output"]}]


FORMATS: dict[FormatName, ChatFormat] = {
    "messages": ChatFormat("messages", ("messages", "tools"), _of_messages),
    "sharegpt": ChatFormat("conversations", ("conversations", "system", "tools"), _of_sharegpt),
    "prompt_completion": ChatFormat("completion", ("prompt", "completion", "tools"), _of_prompt_completion),
    "alpaca": ChatFormat("output", ("instruction", "input", "output", "system", "history"), _of_alpaca),
}
"""In the order in which they are looked for."""
