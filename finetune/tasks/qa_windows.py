"""Questions and contexts as windows of tokens, and the best answer over the windows of a question.

Shape letters: R windows, S tokens, W words of a context.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from finetune import batches
from finetune.pair_form import PairForm
from finetune.tasks.unspaced import gaps_before, words_in
from finetune.tasks.windows import windows
from finetune.tasks.word_pieces import encode_words

if TYPE_CHECKING:
    import torch

    from finetune.tasks.qa_config import QaData
    from finetune.tasks.qa_texts import Question
    from finetune.text_codec import TextCodec


@dataclass(frozen=True)
class ContextWords:
    """A context as words; see `TextOfWords`.

    Attributes:
        words: in order.
        gaps: what stands in front of each.
        starts: character that each begins with.
        ends: the character after its last.
    """

    words: list[str]
    gaps: list[str]
    starts: list[int]
    ends: list[int]

    @classmethod
    def of(cls, context: str) -> ContextWords:
        """The words of a text."""
        found = words_in(context)
        starts, ends = [match.start() for match in found], [match.end() for match in found]
        return cls([match.group() for match in found], gaps_before(context, found), starts, ends)


@dataclass(frozen=True)
class QuestionWindow:
    """A question with a part of its context.

    Attributes:
        row: token ids.
        types: token type of each.
        words: numbers of the context's words here, those without a token left out.
        first: position of the first token of each.
        last: position of its last token.
        gold: positions of the answer's first and last token, or twice that which says that no answer is here.
    """

    row: list[int]
    types: list[int]
    words: list[int]
    first: list[int]
    last: list[int]
    gold: tuple[int, int]


@dataclass(frozen=True)
class EncodedQuestions:
    """Questions as numbers.

    Attributes:
        windows: of each question.
        contexts: the words of each question's context.
        texts: these contexts.
        answers: the right answers of each.
        pad: id of the pad token.
        cut_questions: questions that are longer than what is read of them.
        within_words: right answers that begin or end within a word: the whole words are learnt.
        apart: contexts whose words were encoded each on its own, see `WordPieces`.
    """

    windows: list[list[QuestionWindow]]
    contexts: list[ContextWords]
    texts: list[str]
    answers: list[list[str]]
    pad: int
    cut_questions: int
    within_words: int
    apart: int

    @property
    def lengths(self) -> list[int]:
        """Tokens of each question's windows together."""
        return [sum(len(window.row) for window in found) for found in self.windows]

    @property
    def weights(self) -> list[float]:
        """Windows of each question: each has a loss."""
        return [float(len(found)) for found in self.windows]

    def of(self, numbers: Sequence[int]) -> list[tuple[int, QuestionWindow]]:
        """All windows of some questions, each with the place of its question among `numbers`."""
        return [(at, window) for at, number in enumerate(numbers) for window in self.windows[number]]


def question_rows(found: Sequence[QuestionWindow], pad: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Token ids, attention mask and token types of windows, int64 [R, S]."""
    tokens_RS, mask_RS = batches.collate([window.row for window in found], pad)
    return tokens_RS, mask_RS, batches.collate([window.types for window in found], 0)[0]


def no_answer_position(row: Sequence[int], is_encoder: bool) -> int:
    """Where a model says that no answer is in a window: an encoder at the first token, a decoder, whose first one sees
    nothing else, at the last.
    """
    return 0 if is_encoder else len(row) - 1


def encode_questions(
    questions: Sequence[Question], codec: TextCodec, form: PairForm, data: QaData, *, is_encoder: bool
) -> EncodedQuestions:
    """Questions as numbers.

    Args:
        questions: to be encoded.
        codec: the tokenizer.
        form: how question and context are joined.
        data: how long windows and questions are.
        is_encoder: see `no_answer_position`.
    """
    texts = list(dict.fromkeys(question.context for question in questions))
    words = [ContextWords.of(text) for text in texts]
    pieces = encode_words(codec, words)
    numbers = {text: number for number, text in enumerate(texts)}
    asked = codec.encode_batch([question.question for question in questions])
    longest = min(data.max_question_tokens, form.room // 2)
    found, within = [], 0
    for question, ids in zip(questions, asked):
        number = numbers[question.context]
        gold, is_within = _answer_words(question, words[number])
        within += is_within
        found.append(_windows(ids[:longest], pieces.rows[number], gold, form, data, is_encoder))
    return EncodedQuestions(
        found,
        [words[numbers[question.context]] for question in questions],
        [question.context for question in questions],
        [[text for text, _ in question.answers] for question in questions],
        form.pad,
        sum(len(ids) > longest for ids in asked),
        within,
        pieces.apart,
    )


def _answer_words(question: Question, words: ContextWords) -> tuple[tuple[int, int] | None, bool]:
    """First and last word of the first answer, and whether it begins or ends within one; None: there is no answer."""
    if not question.answers:
        return None, False
    text, start = question.answers[0]
    start, end = start + len(text) - len(text.lstrip()), start + len(text.rstrip())
    held = [n for n, (first, last) in enumerate(zip(words.starts, words.ends)) if first < end and last > start]
    return (held[0], held[-1]), words.starts[held[0]] != start or words.ends[held[-1]] != end


def _windows(
    asked: list[int],
    words: list[list[int]],
    gold: tuple[int, int] | None,
    form: PairForm,
    data: QaData,
    is_encoder: bool,
) -> list[QuestionWindow]:
    room = form.room - len(asked)
    made = []
    for start, end in windows([min(len(ids), room) for ids in words], room, min(data.stride, room // 2)):
        tokens: list[int] = []
        held: list[int] = []
        first: list[int] = []
        last: list[int] = []
        offset = len(form.before) + len(asked) + len(form.between)
        for word in range(start, end):
            ids = words[word][:room]
            if ids:
                held.append(word)
                first.append(offset + len(tokens))
                last.append(offset + len(tokens) + len(ids) - 1)
            tokens += ids
        row, types = form.join(asked, tokens)
        nowhere = no_answer_position(row, is_encoder)
        target = (nowhere, nowhere)
        if gold is not None and gold[0] in held and gold[1] in held:
            target = first[held.index(gold[0])], last[held.index(gold[1])]
        made.append(QuestionWindow(row, types, held, first, last, target))
    return made


@dataclass(frozen=True)
class Answer:
    """An answer to a question.

    Attributes:
        start: character of the context that it begins with.
        end: the character after its last.
        score: sum of the scores of its first and last token; minus infinity where no window has a word.
        no_answer: the score of there being none: the least over all windows.
        loss: cross-entropy of the windows' right positions, summed over these.
    """

    start: int
    end: int
    score: float
    no_answer: float
    loss: float

    def text(self, context: str, threshold: float | None) -> str:
        """The answer; empty where none scores more than `threshold` better. With None there always is one."""
        is_none = threshold is not None and self.no_answer - self.score > threshold
        return "" if is_none or self.end <= self.start else context[self.start : self.end]


def best_answer(
    found: Sequence[tuple[QuestionWindow, npt.NDArray[np.float32], npt.NDArray[np.float32], float]],
    words: ContextWords,
    max_answer_tokens: int,
    is_encoder: bool,
) -> Answer:
    """The best answer over the windows of a question.

    Args:
        found: each window with its scores of first and last tokens [S], and its loss.
        words: of the context.
        max_answer_tokens: of the longest answer.
        is_encoder: see `no_answer_position`.
    """
    best, place, nothing, loss = -np.inf, (0, 0), np.inf, 0.0
    for window, begin_S, end_S, its_loss in found:
        loss += its_loss
        nowhere = no_answer_position(window.row, is_encoder)
        nothing = min(nothing, float(begin_S[nowhere] + end_S[nowhere]))
        if not window.words:
            continue
        first_W, last_W = np.array(window.first), np.array(window.last)
        scores_WW = begin_S[first_W][:, None] + end_S[last_W][None, :]
        length_WW = last_W[None, :] - first_W[:, None] + 1
        # A word longer than that is an answer nevertheless, or some windows would have none.
        allowed_WW = np.triu(length_WW <= max_answer_tokens) | np.eye(len(first_W), dtype=bool)
        at = np.unravel_index(np.where(allowed_WW, scores_WW, -np.inf).argmax(), scores_WW.shape)
        if scores_WW[at] > best:
            best = float(scores_WW[at])
            place = words.starts[window.words[at[0]]], words.ends[window.words[at[1]]]
    return Answer(*place, float(best), float(nothing), loss)
