"""What a model that chats replies to the questions of the test part, and how probable the right replies are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from benchmarks.real_tasks.floors import question_and_reply
from finetune.tasks.generation_metrics import counted_in, generation_figures

_BATCH = 50
_MAX_NEW_TOKENS = 60


def chat_figures(folder: Path, records: Sequence[Mapping[str, Any]], written: Path) -> dict[str, Any]:
    """Figures of greedy replies to first questions.

    Args:
        folder: of the model, for transformers.
        records: conversations.
        written: a file for the replies, a JSON line each.

    Returns:
        What `generation_figures` says, and `answer_nll`: nats per token of the right replies, their end among them.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    nll, tokens = 0.0, 0
    prompts = [_ids(tokenizer, record["messages"][:1], starts_reply=True) for record in records]
    for record, prompt in zip(records, prompts):
        row = torch.tensor([_ids(tokenizer, record["messages"][:2], starts_reply=False)])
        with torch.inference_mode():
            log_p_SV = model(row).logits[0, :-1].log_softmax(-1)
        found = log_p_SV.gather(-1, row[0, 1:, None])[len(prompt) - 1 :, 0]
        nll, tokens = nll - float(found.sum()), tokens + len(found)
    replies = [
        text for at in range(0, len(prompts), _BATCH) for text in _replies(model, tokenizer, prompts[at : at + _BATCH])
    ]
    asked, gold_replies = zip(*map(question_and_reply, records))
    lines = [{"question": q, "gold": g, "reply": r} for q, g, r in zip(asked, gold_replies, replies)]
    written.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    return {"answer_nll": nll / tokens, **generation_figures(replies, gold_replies, counted_in(gold_replies))}


def _replies(model: Any, tokenizer: Any, prompts: list[list[int]]) -> list[str]:
    """Greedy replies to prompts of any lengths, which are padded on the left."""
    import torch

    width = max(map(len, prompts))
    pad = tokenizer.pad_token_id or 0
    ids = torch.tensor([[pad] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    with torch.inference_mode():
        written = model.generate(
            ids, attention_mask=mask, do_sample=False, max_new_tokens=_MAX_NEW_TOKENS, pad_token_id=pad
        )
    return [text.strip() for text in tokenizer.batch_decode(written[:, width:], skip_special_tokens=True)]


def _ids(tokenizer: Any, messages: Sequence[Mapping[str, str]], *, starts_reply: bool) -> list[int]:
    rendered = tokenizer.apply_chat_template(list(messages), add_generation_prompt=starts_reply, return_dict=True)
    return list(rendered["input_ids"])
