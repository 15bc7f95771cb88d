"""What generation is asked for, and what it gives. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from configs.errors import ConfigError


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen, how much is written, how much at a time.

    Attributes:
        max_new_tokens: tokens after the prompt, at most.
        temperature: divides the logits; 0 is the same as `greedy`.
        top_p: only the most probable tokens that together have this probability; 1 is all.
        top_k: only this many of the most probable tokens; 0 is all.
        greedy: always the most probable token.
        seed: decides the samples, together with the prompt and how often it stood before: neither the other prompts nor
            the size of the batch change an answer, and a prompt that is repeated gets another one.
        use_cache: keep keys and values instead of computing them again for every token.
        at_document_start: put the token in front that pretraining saw before a document.
        samples: answers to each prompt.
        batch_size: answers that are written at a time.
        stop: an answer ends before the first of these texts.
    """

    max_new_tokens: int = 100
    temperature: float = 0.8
    top_p: float = 0.95
    top_k: int = 0
    greedy: bool = False
    seed: int = 0
    use_cache: bool = True
    at_document_start: bool = False
    samples: int = 1
    batch_size: int = 16
    stop: tuple[str, ...] = ()

    @property
    def is_greedy(self) -> bool:
        """Whether chance has no part in it."""
        return self.greedy or self.temperature == 0

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
            ("--samples", self.samples, "1 or more", self.samples >= 1),
            ("--samples", self.samples, "1 where the answer is greedy", self.samples == 1 or not self.is_greedy),
            ("--batch-size", self.batch_size, "1 or more", self.batch_size >= 1),
            ("--stop", "''", "a text that is not empty", all(self.stop)),
        ]
        for option, value, expected, fine in wrong:
            if not fine:
                raise ConfigError(f"is {value}", where=option, expected=expected)


@dataclass(frozen=True)
class Generated:
    """One answer.

    Attributes:
        prompt: what was asked.
        text: what follows it.
        tokens: that were made, a closing one included.
        ended_by: the end-of-document token, a text of `Sampling.stop` (which is not in `text`), the number of tokens
            that was asked for, or the model's context.
        number: of the prompt, from 0.
        sample: of the answers to this prompt, from 0.
        full_context: the model's context where that ended it, in tokens.
    """

    prompt: str
    text: str
    tokens: int
    ended_by: Literal["end_of_document", "stop", "max_new_tokens", "context"]
    number: int = 0
    sample: int = 0
    full_context: int | None = None
