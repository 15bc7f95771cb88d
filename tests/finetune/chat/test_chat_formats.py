"""Records of each format become the conversation that they mean, or are told what is wrong with them."""

from __future__ import annotations

from typing import Any

import pytest

from finetune.chat.formats import FORMATS, BadConversation, FormatName, conversation_of


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def system(text: str) -> dict[str, str]:
    return {"role": "system", "content": text}


CALLS = [{"type": "function", "function": {"name": "look", "arguments": {"at": 1}}}]
GOOD: list[tuple[FormatName, dict[str, Any], list[dict[str, Any]]]] = [
    ("messages", {"messages": [system("s"), user("a"), assistant("b")]}, [system("s"), user("a"), assistant("b")]),
    (
        "messages",
        {"messages": [user("a"), {"role": "assistant", "content": None, "tool_calls": CALLS, "name": None}]},
        [user("a"), {"role": "assistant", "content": "", "tool_calls": CALLS}],
    ),
    (
        "messages",
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]},
        [user("ab")],
    ),
    (
        "sharegpt",
        {
            "system": "s",
            "conversations": [
                {"from": "human", "value": "a"},
                {"from": "function_call", "value": '{"name": "look", "arguments": {"at": 1}}'},
                {"from": "observation", "value": "c"},
                {"from": "gpt", "value": "d"},
            ],
        },
        [
            system("s"),
            user("a"),
            {"role": "assistant", "content": "", "tool_calls": CALLS},
            {"role": "tool", "content": "c"},
            assistant("d"),
        ],
    ),
    ("alpaca", {"instruction": "a", "input": "", "output": "b"}, [user("a"), assistant("b")]),
    (
        "alpaca",
        {"instruction": "a", "input": "i", "output": "b", "system": "s", "history": [["x", "y"]]},
        [system("s"), user("x"), assistant("y"), user("a\n\ni"), assistant("b")],
    ),
    ("prompt_completion", {"prompt": "a", "completion": "b"}, [user("a"), assistant("b")]),
    (
        "prompt_completion",
        {"prompt": [system("s"), user("a")], "completion": [assistant("b")]},
        [system("s"), user("a"), assistant("b")],
    ),
]
BAD: list[tuple[FormatName, dict[str, Any], str]] = [
    ("messages", {"messages": "a"}, "no list"),
    ("messages", {"messages": []}, "no message"),
    ("messages", {"messages": [{"content": "a"}]}, "message 0 has no role"),
    ("messages", {"messages": [user("a"), {"role": "assistant", "content": None}]}, r"message 1 \(assistant\)"),
    ("messages", {"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "part that is no text"),
    ("messages", {"messages": [user("a")], "tools": "{"}, "no JSON"),
    ("messages", {"messages": [user("a")], "tools": ["look"]}, "no list of descriptions"),
    ("sharegpt", {"conversations": [{"from": "bob", "value": "a"}]}, "'bob'"),
    ("sharegpt", {"conversations": [{"from": "function_call", "value": "look"}]}, "no JSON object"),
    ("alpaca", {"instruction": None, "output": "b"}, r"message 0 \(user\)"),
    ("alpaca", {"instruction": "a", "output": "b", "history": ["x"]}, "list of pairs"),
]


@pytest.mark.parametrize(("name", "record", "messages"), GOOD)
def test_each_format_is_read(name: FormatName, record: dict[str, Any], messages: list[dict[str, Any]]) -> None:
    found = conversation_of(record, name, {}, "place")
    assert found.messages == messages and found.id == "place" and found.tools is None
    told_by = FORMATS[name].told_by
    renamed = {"mine" if key == told_by else key: value for key, value in record.items()}
    assert conversation_of(renamed | {"id": 7}, name, {told_by: "mine"}, "place").id == "7"
    assert conversation_of(renamed, name, {told_by: "mine"}, "place").messages == messages


@pytest.mark.parametrize(("name", "record", "problem"), BAD)
def test_what_is_no_conversation_is_told(name: FormatName, record: dict[str, Any], problem: str) -> None:
    with pytest.raises(BadConversation, match=problem):
        conversation_of(record, name, {}, "place")


def test_tools_are_read_as_a_list_or_as_json() -> None:
    record = {"messages": [user("a")]}
    for tools in ([{"name": "look"}], '[{"name": "look"}]'):
        assert conversation_of(record | {"tools": tools}, "messages", {}, "p").tools == [{"name": "look"}]
    assert conversation_of(record | {"tools": ""}, "messages", {}, "p").tools is None
