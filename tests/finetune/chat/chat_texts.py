"""Conversations, templates, and a tiny run to train on them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from data_prep.tokenizer import Tokenizer, load_tokenizer
from finetune.chat.config import InstructRunConfig
from finetune.chat.encoding import ConversationEncoder, EncodedConversation
from finetune.chat.formats import Conversation
from finetune.chat.template import ChatTemplate
from finetune.chat.vocabulary import chat_tokenizer, with_special_tokens
from tests.finetune.finetune_runs import llama, write_run
from tests.finetune.finetune_tokenizers import train_tokenizer

INST = (
    "{% for message in messages %}{% if message.role == 'user' %}{{ '[INST] ' + message.content + ' [/INST]' }}"
    "{% elif message.role == 'assistant' %}{{ ' ' + message.content + eos_token }}{% else %}"
    "{{ raise_exception('only user and assistant roles are known') }}{% endif %}{% endfor %}"
)
"""As Llama 2's: no generation prompt, no generation marks, no system role."""
MARKED = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' }}"
    "{% if message.role == 'assistant' %}{% generation %}{{ message.content + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ message.content + '<|im_end|>' }}{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""With generation marks, by which transformers itself tells answers."""
REWRITING = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' }}"
    "{{ message.content.split('</think>')[-1] if not loop.last else message.content }}{{ '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""Takes the thoughts out of earlier answers, as Qwen 3's."""

SYSTEM = {"role": "system", "content": "Be brief."}
ASK = {"role": "user", "content": "What is it?"}
ANSWER = {"role": "assistant", "content": "A list."}
ASK_MORE = {"role": "user", "content": "And that?"}
ANSWER_MORE = {"role": "assistant", "content": "A dict."}
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
CALL: dict[str, Any] = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"type": "function", "function": {"name": "look", "arguments": {"at": 1}}}],
}
TOOL = {"role": "tool", "content": "a set"}


_BYTE = re.compile("<0x([0-7][0-9A-F])>")


def encoder_of(
    tokenizer: Tokenizer, template: ChatTemplate, *loss_on: str, last_only: bool = False
) -> ConversationEncoder:
    """An encoder with the tokenizer of a template."""
    made = chat_tokenizer(tokenizer, template, 1000)
    return ConversationEncoder(made, template, loss_on or ("assistant",), last_only=last_only)


def conversation(*messages: dict[str, Any], tools: list[Any] | None = None) -> Conversation:
    """A conversation called `it`."""
    return Conversation("it", list(messages), tools)


def marked(tokenizer: Tokenizer, encoded: EncodedConversation) -> str:
    """The text of a conversation with what is asked for in brackets, from its tokens alone."""
    shown, is_open = "", False
    for number, is_answer in zip(encoded.ids.tolist(), encoded.answers.tolist(), strict=True):
        if is_answer != is_open:
            shown += "⟦" if is_answer else "⟧"
            is_open = is_answer
        shown += _BYTE.sub(lambda found: chr(int(found[1], 16)), tokenizer.piece(number))
    return shown + ("⟧" if is_open else "")


def chat_tokenizer_in(root: Path, spellings: tuple[str, ...], **changes: Any) -> Tokenizer:
    """A small tokenizer, grown by special tokens."""
    tokenizer = train_tokenizer(root / "tok", **changes)
    return load_tokenizer(with_special_tokens(tokenizer, spellings, root / "grown")[0].model_path.parent)


def write_chats(path: Path, count: int = 40) -> Path:
    """JSON lines of conversations of two to six messages."""
    words = ["list", "dict", "set", "tuple", "file", "class"]
    with path.open("w") as file:
        for number in range(count):
            word, messages = words[number % len(words)], [SYSTEM] if number % 3 == 0 else []
            for turn in range(1 + number % 3):
                messages = [
                    *messages,
                    {"role": "user", "content": f"What is {word} {number} {turn}?"},
                    {"role": "assistant", "content": f"It is a {word}."},
                ]
            file.write(json.dumps({"messages": messages}) + "\n")
    return path


def write_source(root: Path, **model: Any) -> None:
    """`root/run`, a pretraining run with random weights, and `root/chats.jsonl`."""
    tokenizer = train_tokenizer(root / "tok")
    write_run(root / "run", llama(tokenizer, **{"seq_length": 128} | model), tokenizer)
    write_chats(root / "chats.jsonl")


def instruct_config(root: Path, name: str = "chat", **changes: Any) -> InstructRunConfig:
    """A run of seconds on what `write_source` made; keys of sections are written `section.key`."""
    fields: dict[str, Any] = {
        "output": root / name,
        "model": root / "run",
        "data": {"train": [str(root / "chats.jsonl")], "validation_share": 0.1},
        "chat": {},
        "objective": {},
        "parallel": {},
        "training": {
            "duration": "2 epochs",
            "micro_batch_size": 1,
            "global_batch_size": 4,
            "precision": "fp32",
            "device": "cpu",
        },
        "optimizer": {"lr": 5e-3, "warmup": "2 steps"},
        "evaluation": {"interval": None, "batches": 2},
        "checkpoint": {"interval": "2 steps"},
        "monitor": {"log_interval": 1, "tensorboard": False, "peak_tflops": 1.0},
    }
    for key, value in changes.items():
        section, _, name = key.rpartition("__")
        (fields[section] if section else fields)[name] = value
    return InstructRunConfig.model_validate(fields)
