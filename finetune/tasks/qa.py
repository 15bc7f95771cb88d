"""Extractive question answering: a pretrained model and questions with contexts -> a model that finds answers.

Shape letters: B questions, R windows, S tokens.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from finetune.tasks.base import FinetuneTask
from finetune.tasks.example_parts import told_left_out, told_repeated
from finetune.tasks.label_names import refuse_not_numbers
from finetune.tasks.qa_config import QaConfig
from finetune.tasks.qa_metrics import answer_figures
from finetune.tasks.qa_texts import Question, QuestionParts, load_questions
from finetune.tasks.qa_windows import Answer, EncodedQuestions, best_answer, encode_questions, question_rows
from finetune.tasks.unspaced import is_unspaced

if TYPE_CHECKING:
    import torch

    from finetune.pair_form import PairForm
    from finetune.pretrained import PretrainedModel
    from finetune.text_template import TextTemplate

_AUTO_CLASS = "AutoModelForQuestionAnswering"


class QaTask(FinetuneTask):
    """Questions whose answers stand in a text; a linear layer scores each token as the first and as the last of it.

    Args:
        config: everything that can be told.
    """

    def __init__(self, config: QaConfig) -> None:
        self.config = config
        self.found = QuestionParts({})
        self.by_characters = config.count_by == "characters"
        self.form: dict[str, Any] = {}
        self.threshold: float | None = None

    @property
    def pair_form(self) -> PairForm:
        """How question and context are joined; known after `encode`, or where `form` was read from a record."""
        from finetune.pair_form import PairForm

        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in self.form.items()
        }
        del fields["is_encoder"]
        return PairForm(**fields)

    def read(self) -> Mapping[str, Sequence[Question]]:
        """See the base class."""
        self.found = load_questions(self.config.data, self.config.seed)
        # Where training has an answer to every question, there always is one.
        self.threshold = self.config.no_answer_threshold if self.found.unanswered()["train"] else None
        if self.config.count_by == "auto":
            self.by_characters = is_unspaced(question.context for question in self.found.parts["train"])
        return self.found.parts

    def facts(self) -> dict[str, Any]:
        """See the base class."""
        return {
            "examples": {part: len(questions) for part, questions in self.found.parts.items()},
            "unanswered": self.found.unanswered(),
            "counted": "characters" if self.by_characters else "words",
            "no_answer_threshold": self.threshold,
            "malformed": {part: asdict(each) for part, each in self.found.malformed.items()},
            "repeated": [asdict(each) for each in self.found.repeated],
            "form": self.form,
        }

    def encode(self, pretrained: PretrainedModel, examples: Sequence[Question]) -> EncodedQuestions:
        """See the base class; long contexts in windows that overlap."""
        form, _ = self._forms(pretrained)
        self.form = asdict(form) | {"is_encoder": pretrained.is_encoder}
        is_encoder = pretrained.is_encoder
        return encode_questions(examples, pretrained.codec, form, self.config.data, is_encoder=is_encoder)

    def describe(self, encoded: Mapping[str, EncodedQuestions]) -> Iterator[str]:
        """See the base class."""
        unanswered = self.found.unanswered()
        for part, examples in encoded.items():
            questions, count = self.found.parts[part], sum(map(len, examples.windows))
            none = f", {unanswered[part]:,} without an answer" if unanswered[part] else ""
            contexts = len({question.context for question in questions})
            yield f"{part:<10}  {len(questions):>6,} questions on {contexts:,} contexts{none}; {count:,} windows"
            if examples.cut_questions:
                yield f"note: {examples.cut_questions:,} questions of the {part} part are longer than what is read"
            if examples.within_words:
                yield f"note: {examples.within_words:,} answers of the {part} part begin or end within a word"
            if examples.apart:
                yield f"note: of {examples.apart:,} contexts of the {part} part each word was encoded on its own"
        yield from told_left_out(self.found.malformed)
        counts = {part: len(questions) for part, questions in self.found.parts.items()}
        yield from told_repeated(self.found.repeated, counts, "questions")

    def warnings(self, pretrained: PretrainedModel) -> Iterator[str]:
        """See the base class."""
        if not pretrained.is_encoder:
            yield (
                f"{pretrained.path} reads from left to right, the question first: a token is scored by what stands"
                " before it; an encoder reads both sides"
            )

    def network(self, pretrained: PretrainedModel, *, from_scratch: bool = False) -> torch.nn.Module:
        """See the base class; transformers' `...ForQuestionAnswering`."""
        from finetune.networks import head_network

        fields = {"pad_token_id": self._forms(pretrained)[1].pad, "use_cache": False}
        return head_network(_AUTO_CLASS, pretrained, fields, from_scratch=from_scratch)

    def losses(self, model: Any, part: EncodedQuestions, numbers: Sequence[int], device: torch.device) -> torch.Tensor:
        """See the base class; mean cross-entropy of first and last token, summed over the windows of each question."""
        import torch

        found = part.of(numbers)
        _, losses_R = _scores(model, part, numbers, device)
        at_R = torch.tensor([at for at, _ in found], device=device)
        return torch.zeros(len(numbers), device=device).index_add(0, at_R, losses_R)

    def predict(
        self, model: Any, part: EncodedQuestions, numbers: Sequence[int], device: torch.device
    ) -> Sequence[Answer]:
        """See the base class; the best answer over all windows of each question."""
        scores_2RS, losses_R = _scores(model, part, numbers, device)
        begin_RS, end_RS = scores_2RS.cpu().numpy()
        losses = losses_R.tolist()
        windows: list[list[Any]] = [[] for _ in numbers]
        for row, (at, window) in enumerate(part.of(numbers)):
            windows[at].append((window, begin_RS[row], end_RS[row], losses[row]))
        longest, is_encoder = self.config.data.max_answer_tokens, bool(self.form["is_encoder"])
        return [
            best_answer(found, part.contexts[number], longest, is_encoder) for number, found in zip(numbers, windows)
        ]

    def validation_figures(self, part: EncodedQuestions, predicted: Sequence[Answer]) -> Mapping[str, float]:
        """See the base class."""
        figures = self._figures(part, predicted, None)
        return {key: figures[key] for key in ("exact", "f1", "loss")}

    def figures(self, part: EncodedQuestions, predicted: Sequence[Answer]) -> dict[str, Any]:
        """See the base class; see `answer_figures`."""
        refuse_not_numbers(np.array([answer.loss for answer in predicted]), self.config.product)
        return self._figures(part, predicted, self.config.seed)

    def prediction(self, example: Question, predicted: Answer) -> dict[str, Any]:
        """See the base class."""
        text = predicted.text(example.context, self.threshold)
        return {
            "id": example.id,
            "question": example.question,
            "gold": [text for text, _ in example.answers],
            "predicted": text,
            "start": predicted.start if text else None,
            "end": predicted.end if text else None,
            "score": round(predicted.score, 5) if np.isfinite(predicted.score) else None,
            "no_answer_score": round(predicted.no_answer, 5),
        }

    def save(
        self, folder: Path, network: Any, weights: Mapping[str, torch.Tensor], pretrained: PretrainedModel
    ) -> None:
        """See the base class; a Hugging Face directory."""
        from finetune.networks import save_network, save_tokenizer

        save_network(folder, network, weights)
        save_tokenizer(folder, pretrained, self._forms(pretrained)[1])

    def load(self, folder: Path) -> torch.nn.Module:
        """See the base class."""
        from finetune.networks import load_network

        return load_network(_AUTO_CLASS, folder)

    def tables(self, systems: Mapping[str, Mapping[str, Any]], part: str) -> Iterator[Any]:
        """See the base class."""
        from finetune.tasks.classification_metrics import comparison_table

        known = [key for key in ("answerable_f1", "no_answer_accuracy") if key in next(iter(systems.values()))]
        yield comparison_table(systems, part, ("exact", "f1", *known))
        yield f"F1 counts {'characters' if self.by_characters else 'words'}"

    def next_command(self, folder: Path) -> str | None:
        """See the base class; transformers 5 has no pipeline for this."""
        return f"python -m finetune answer --model {shlex.quote(str(folder))} --question ... --context ..."

    def _figures(self, part: EncodedQuestions, predicted: Sequence[Answer], seed: int | None) -> dict[str, Any]:
        texts = [answer.text(context, self.threshold) for context, answer in zip(part.texts, predicted, strict=True)]
        figures = answer_figures(texts, part.answers, by_characters=self.by_characters, seed=seed)
        return figures | {"loss": sum(answer.loss for answer in predicted) / sum(part.weights)}

    def _forms(self, pretrained: PretrainedModel) -> tuple[PairForm, TextTemplate]:
        from finetune.pair_form import pair_form

        return pair_form(pretrained, self.config.data.max_tokens)


def _scores(
    model: Any, part: EncodedQuestions, numbers: Sequence[int], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """fp32 scores of first and last tokens [2, R, S], padding at minus infinity; and the loss of each window [R]."""
    import torch

    found = [window for _, window in part.of(numbers)]
    tokens_RS, mask_RS, types_RS = (tensor.to(device) for tensor in question_rows(found, part.pad))
    types = {"token_type_ids": types_RS} if bool(types_RS.any()) else {}
    output = model(input_ids=tokens_RS, attention_mask=mask_RS, **types)
    scores_2RS = torch.stack([output.start_logits, output.end_logits]).float()
    # The padding depends on what else is in the batch: it may not enter the softmax.
    scores_2RS = scores_2RS.masked_fill(mask_RS == 0, float("-inf"))
    gold_R2 = torch.tensor([window.gold for window in found], device=device)
    losses = [torch.nn.functional.cross_entropy(scores_2RS[at], gold_R2[:, at], reduction="none") for at in (0, 1)]
    return scores_2RS, (losses[0] + losses[1]) / 2
