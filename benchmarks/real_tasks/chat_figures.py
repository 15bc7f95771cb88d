"""What a model that chats replies to the questions of the test part, and how probable the right replies are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from benchmarks.real_tasks.floors import question_and_reply
from finetune.tasks.generation_metrics import counted_in, generation_figures

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
    nll, tokens, replies = 0.0, 0, []
    for record in records:
        ask, whole = list(record["messages"][:1]), list(record["messages"][:2])
        prompt = _ids(tokenizer, ask, starts_reply=True)
        row = torch.tensor([_ids(tokenizer, whole, starts_reply=False)])
        with torch.inference_mode():
            log_p = model(row).logits[0, :-1].log_softmax(-1)
            gold = row[0, 1:]
            found = log_p.gather(-1, gold[:, None])[len(prompt) - 1 :, 0]
            reply = model.generate(
                torch.tensor([prompt]), do_sample=False, max_new_tokens=_MAX_NEW_TOKENS,
                pad_token_id=tokenizer.pad_token_id or 0,
            )  # fmt: skip
        nll, tokens = nll - float(found.sum()), tokens + len(found)
        replies.append(tokenizer.decode(reply[0, len(prompt) :], skip_special_tokens=True).strip())
    asked, gold_replies = zip(*map(question_and_reply, records))
    lines = [{"question": q, "gold": g, "reply": r} for q, g, r in zip(asked, gold_replies, replies)]
    written.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    return {"answer_nll": nll / tokens, **generation_figures(replies, gold_replies, counted_in(gold_replies))}


def _ids(tokenizer: Any, messages: list[dict[str, str]], *, starts_reply: bool) -> list[int]:
    rendered = tokenizer.apply_chat_template(messages, add_generation_prompt=starts_reply, return_dict=True)
    return list(rendered["input_ids"])
