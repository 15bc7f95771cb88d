"""Questions with several answers: a causal language model chooses the most probable one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from configs.errors import DataError
from finetune import batches
from finetune.text_evaluation import first_token, token_losses

if TYPE_CHECKING:
    from data_prep.reading.documents import Document
    from finetune.causal_model import CausalModel
    from finetune.text_codec import TextCodec


@dataclass(frozen=True)
class ChoiceQuestion:
    """A question.

    Attributes:
        query: what stands before an answer.
        choices: the answers.
        gold: number of the right one, from 0.
    """

    query: str
    choices: tuple[str, ...]
    gold: int


@dataclass(frozen=True)
class ChoiceFigures:
    """What was found.

    Attributes:
        questions: that were asked.
        accuracy: share whose right answer is the most probable one.
        accuracy_normalized: share whose right answer is the most probable one per byte (`acc_norm` of the
            lm-evaluation-harness).
        chance: what guessing would reach.
        cut: questions whose beginning did not fit the context.
    """

    questions: int
    accuracy: float
    accuracy_normalized: float
    chance: float
    cut: int


def question_of(document: Document, where: str) -> ChoiceQuestion:
    """The question of a record with `query`, `choices` and `gold`, the number of an answer or the answer itself.

    Raises:
        DataError: it is none.
    """
    record = document.metadata
    choices, gold = record.get("choices"), record.get("gold")
    if not isinstance(choices, list) or len(choices) < 2 or not all(isinstance(c, str) and c for c in choices):
        raise DataError(f"its field 'choices' holds {choices!r}", where=where, expected="two answers or more, as texts")
    if len(set(choices)) < len(choices):
        raise DataError("has an answer twice", where=where, expected="answers that differ")
    number = choices.index(gold) if isinstance(gold, str) and gold in choices else gold
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < len(choices):
        raise DataError(
            f"its field 'gold' holds {gold!r}", where=where, expected=f"an answer, or 0 to {len(choices) - 1}"
        )
    return ChoiceQuestion(document.text, tuple(choices), number)


def score_questions(
    causal: CausalModel, questions: Sequence[ChoiceQuestion], delimiter: str, batch_size: int
) -> ChoiceFigures:
    """Ask all questions.

    Args:
        causal: the model, on its device.
        questions: at least one.
        delimiter: stands between a query and an answer, as part of the answer.
        batch_size: answers at a time.
    """
    rows: list[list[int]] = []
    counts: list[int] = []
    cut = 0
    for question in questions:
        too_long = False
        for choice in question.choices:
            row, count = _row(causal.codec, question.query, delimiter + choice)
            room = len(row) if causal.context is None else causal.context + 1  # the last token is not read
            too_long |= len(row) > room
            rows.append(row[-room:])
            counts.append(min(count, room - 1))
        cut += too_long
    found = [0.0] * len(rows)
    for numbers in batches.by_length([len(row) for row in rows], batch_size):
        for number, losses in zip(numbers, token_losses(causal.network, [rows[n] for n in numbers])):
            found[number] = -float(losses[len(losses) - counts[number] :].double().sum())
    right = normalized = 0
    chance = 0.0
    for question, scores in _shared_out(questions, found):
        per_byte = [score / len(choice.encode()) for score, choice in zip(scores, question.choices, strict=True)]
        right += _best(scores) == question.gold
        normalized += _best(per_byte) == question.gold
        chance += 1 / len(question.choices)
    count = len(questions)
    return ChoiceFigures(count, right / count, normalized / count, chance / count, cut)


def _row(codec: TextCodec, query: str, answer: str) -> tuple[list[int], int]:
    """The tokens of query and answer together, and how many of them are the answer's, as the harness divides them."""
    # A space at the end of the query belongs to the word that follows.
    kept = query.rstrip()
    answer = query[len(kept) :] + answer if kept else answer
    before, whole = codec.encode_batch([kept, (kept if kept else query) + answer])
    start = first_token(codec) if codec.begin_of_text is not None or not before else None
    front = [start] if start is not None else []
    return front + whole, max(len(whole) - len(before), 1)


def _shared_out(
    questions: Sequence[ChoiceQuestion], scores: Sequence[float]
) -> Iterator[tuple[ChoiceQuestion, Sequence[float]]]:
    at = 0
    for question in questions:
        yield question, scores[at : at + len(question.choices)]
        at += len(question.choices)


def _best(scores: Sequence[float]) -> int:
    return max(range(len(scores)), key=lambda number: scores[number])
