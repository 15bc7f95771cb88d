"""Prompt -> text, with an exported model and a key-value cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from configs.errors import ConfigError, DataError
from finetune.text_codec import TextCodec, decode_after
from finetune.utf8 import refuse_undecodable


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    Attributes:
        max_new_tokens: tokens after the prompt, at most.
        temperature: divides the logits; 0 is the same as `greedy`.
        top_p: only the most probable tokens that together have this probability; 1 is all.
        top_k: only this many of the most probable tokens; 0 is all.
        greedy: always the most probable token.
        seed: decides the samples; each prompt starts from it anew, so the answer does not depend on the others.
        use_cache: keep keys and values instead of computing them again for every token.
        at_document_start: put the end-of-document token in front, as documents were separated in training.
    """

    max_new_tokens: int = 100
    temperature: float = 0.8
    top_p: float = 0.95
    top_k: int = 0
    greedy: bool = False
    seed: int = 0
    use_cache: bool = True
    at_document_start: bool = False

    def check(self) -> None:
        """Refuse values that mean nothing.

        Raises:
            ConfigError: names the option.
        """
        wrong = [
            ("--max-new-tokens", self.max_new_tokens, "1 or more", self.max_new_tokens >= 1),
            ("--temperature", self.temperature, "0 or more", self.temperature >= 0),
            ("--top-p", self.top_p, "above 0, at most 1", 0 < self.top_p <= 1),
            ("--top-k", self.top_k, "0 or more", self.top_k >= 0),
            ("--seed", self.seed, "0 or more", self.seed >= 0),
        ]
        for option, value, expected, fine in wrong:
            if not fine:
                raise ConfigError(f"is {value}", where=option, expected=expected)


@dataclass(frozen=True)
class Generated:
    """One answer.

    Attributes:
        prompt: what was given.
        text: what the model added.
        tokens: how many tokens that is.
        ended: whether the model ended the document itself.
        full_context: the model's context, where that is what stopped it before `max_new_tokens`.
    """

    prompt: str
    text: str
    tokens: int
    ended: bool
    full_context: int | None = None


def generate(model_dir: Path, prompts: Sequence[str], sampling: Sampling) -> Iterator[Generated]:
    """Yield the continuation of each prompt, in order.

    Args:
        model_dir: a directory that `export` wrote, or another Hugging Face causal language model with safetensors.
        prompts: at least one.
        sampling: how tokens are chosen.

    Raises:
        UserError: not such a directory, an empty prompt where none may be, a prompt that fills the whole context.
    """
    sampling.check()
    from finetune.text_codec import load_codec
    from pretrain.models.huggingface.transformers_model import load_causal

    model = load_causal(model_dir)
    codec = load_codec(model_dir)
    context = int(model.config.max_position_embeddings)
    # A model may know more ids than its tokenizer, for tokens that are added later; they stand for no text.
    without_text = list(range(codec.vocab_size, int(model.config.vocab_size)))
    encoded = [_encode(codec, prompt, sampling, context, model_dir) for prompt in prompts]
    import torch
    from transformers import GenerationConfig

    from pretrain.models.huggingface.transformers_model import quiet_transformers

    model = model.to("cuda" if torch.cuda.is_available() else "cpu")
    end = codec.end_of_document
    for prompt, ids in zip(prompts, encoded):
        room = context - len(ids)
        settings = GenerationConfig(
            max_new_tokens=min(sampling.max_new_tokens, room),
            eos_token_id=end,
            pad_token_id=codec.pad if codec.pad is not None else end,
            use_cache=sampling.use_cache,
            suppress_tokens=without_text or None,
            **_sampling_arguments(sampling),
        )
        torch.manual_seed(sampling.seed)
        row = torch.tensor([ids], device=model.device)
        with torch.no_grad(), quiet_transformers():
            answer = model.generate(row, attention_mask=torch.ones_like(row), generation_config=settings)
        new = answer[0, len(ids) :].tolist()
        ended = bool(new) and new[-1] == end
        is_full = not ended and len(new) == room < sampling.max_new_tokens
        yield Generated(prompt, decode_after(codec, ids, new), len(new), ended, context if is_full else None)


def read_prompts(path: Path) -> list[str]:
    """The prompts of a file: one a line, or JSON strings or objects with `prompt` or `text` in a .jsonl file.

    Raises:
        DataError: unreadable, malformed or empty; names the line.
    """
    import json

    try:
        # Not `splitlines`: a form feed or U+2028 stands within a line.
        lines = path.read_bytes().decode("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read ({error})", where=path, expected="a text file of prompts") from None
    prompts = []
    for number, line in enumerate(lines, start=1):
        line = line.removesuffix("\r")
        if not line.strip():
            continue
        if path.suffix != ".jsonl":
            prompts.append(line)
            continue
        try:
            record = json.loads(line)
        except ValueError:
            raise DataError("is not valid JSON", where=f"{path}, line {number}") from None
        found = record.get("prompt", record.get("text")) if isinstance(record, dict) else record
        if not isinstance(found, str):
            has = f"only {', '.join(map(str, record))}" if isinstance(record, dict) else f"a {type(record).__name__}"
            raise DataError(
                f"holds no prompt ({has})",
                where=f"{path}, line {number}",
                expected="a string, or an object with 'prompt' or 'text'",
            )
        refuse_undecodable(found, f"{path}, line {number}")
        prompts.append(found)
    if not prompts:
        raise DataError("holds no prompts", where=path, expected="one a line")
    return prompts


def _encode(codec: TextCodec, prompt: str, sampling: Sampling, context: int, model_dir: Path) -> list[int]:
    ids = codec.encode_batch([prompt])[0]
    # Nothing to go on from: what stands before the first word of a document is the end of the one before.
    if sampling.at_document_start or not ids:
        if codec.document_start is None:
            raise DataError("has no token that begins documents, so a prompt cannot be empty", where=model_dir)
        ids = [codec.document_start, *ids]
    if len(ids) >= context:
        raise DataError(
            f"a prompt has {len(ids)} tokens ({prompt[:40]!r}...)",
            where="--prompt",
            expected=f"at most {context - 1}: the model's context is {context} tokens",
        )
    return ids


def _sampling_arguments(sampling: Sampling) -> dict[str, object]:
    if sampling.greedy or sampling.temperature == 0:
        return {"do_sample": False}
    # Every value is given: transformers fills in its own defaults (top_k=50) for what is left out.
    return {
        "do_sample": True,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
    }
