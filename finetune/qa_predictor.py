"""What a model that `qa` saved answers: to the questions of files, or to some that are asked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.batches import in_turn
from finetune.prediction_input import InputForm, PredictInput, as_in_training
from finetune.predictors import device
from finetune.tasks.qa_texts import Question, bare_question, squad_documents

if TYPE_CHECKING:
    from data_prep.reading.documents import Document
    from finetune.tasks.qa_config import QaConfig


class Answerer:
    """A model of `qa`: the answer (empty: there is none) and its place in the context.

    Args:
        folder: what the task wrote.
        recipe: its settings.
    """

    def __init__(self, folder: Path, recipe: QaConfig) -> None:
        from finetune.tasks.qa import QaTask
        from finetune.text_codec import load_codec

        record = json.loads((folder / recipe.marker).read_text("utf-8"))
        self.data, self.task = recipe.data, QaTask(recipe)
        self.task.form, self.task.threshold = record["form"], record["no_answer_threshold"]
        self.codec = load_codec(folder)
        self.network: Any = self.task.load(folder).to(device())

    def form(self, given: PredictInput) -> InputForm:
        """See `TextPredictor`; SQuAD's JSON, or a question and a context in each record; the text is the context."""

        def parse(document: Document, name: str, where: str) -> Question:
            return bare_question(document, self.data, name, where)

        field, settings = given.text_field or self.data.context_field, as_in_training(self.data)
        return InputForm(field, parse, lambda question: len(question.text), settings, squad_documents)

    def __call__(self, records: Sequence[Question]) -> list[dict[str, Any]]:
        """See `TextPredictor`."""
        from finetune.task_batches import predictions
        from finetune.tasks.qa_windows import encode_questions

        is_encoder = bool(self.task.form["is_encoder"])
        encoded = encode_questions(records, self.codec, self.task.pair_form, self.data, is_encoder=is_encoder)
        groups = in_turn([len(windows) for windows in encoded.windows], len(records))
        found = predictions(self.task.predict, self.network, encoded, groups, device())
        lines = (self.task.prediction(question, found[number]) for number, question in enumerate(records))
        return [{key: value for key, value in line.items() if key not in ("id", "gold")} for line in lines]
