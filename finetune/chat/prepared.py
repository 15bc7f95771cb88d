"""Conversations that were prepared for training: where they are, and what became of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PARTS = ("train", "validation")


@dataclass
class PartCounts:
    """What became of the conversations of one part.

    Attributes:
        conversations: that were written.
        tokens, answer_tokens: of those.
        truncated: of which the end was cut off.
        too_long: that were left out, because they were too long.
        without_answers: that were left out, because nothing in them is asked for.
        straddling: tokens that begin before an answer and end in it: not asked for.
        repeated: of the validation part, that stand in the training part too.
    """

    conversations: int = 0
    tokens: int = 0
    answer_tokens: int = 0
    truncated: int = 0
    too_long: int = 0
    without_answers: int = 0
    straddling: int = 0
    repeated: int = 0


@dataclass(frozen=True)
class Prepared:
    """Conversations as corpora.

    Attributes:
        directory: where they are.
        record: what `prepared.json` says.
    """

    directory: Path
    record: dict[str, Any]

    @property
    def train(self) -> Path:
        """The corpus that trains."""
        return self.directory / PARTS[0]

    @property
    def validation(self) -> Path | None:
        """The corpus that validates; None: there is none."""
        return self.directory / PARTS[1] if self.record["counts"][PARTS[1]]["conversations"] else None

    def notes(self) -> Iterator[str]:
        """What was made, and what was left out or changed, a sentence each."""
        for part, counts in self.record["counts"].items():
            found = PartCounts(**counts)
            if not found.conversations:
                continue
            yield (
                f"{part}: {found.conversations:,} conversations of {found.tokens:,} tokens,"
                f" {found.answer_tokens / found.tokens:.0%} of them answers"
            )
            left = {
                "cut off at the length of a sample": found.truncated,
                "left out as too long": found.too_long,
                "left out without answers": found.without_answers,
                "also in the training part": found.repeated,
            }
            yield from (f"{part}: {count:,} conversations {what}" for what, count in left.items() if count)
            if found.straddling:
                yield f"{part}: {found.straddling:,} tokens begin before an answer and end in it: not asked for"
        if self.record["bad_records"]:
            yield f"{self.record['bad_records']:,} records left out; the first: {self.record['first_bad']}"
        if not self.record["stop"]:
            yield "no special token ends the answers: generation will not know where to stop"
