"""What the models that tasks saved say of texts, by the name of the task.

Shape letters: B texts, C labels.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from configs.errors import ConfigError, DataError
from configs.kinds import resolve
from finetune.prediction_input import InputForm, PredictInput, as_in_training
from finetune.pretrained import refuse_adapter_alone
from finetune.task_output import RECIPE

if TYPE_CHECKING:
    from data_prep.reading.documents import Document
    from finetune.tasks.classify_config import ClassifyConfig
    from finetune.tasks.embed_config import EmbedConfig
    from finetune.tasks.examples_config import ExamplesData
    from finetune.tasks.seq2seq_config import Seq2SeqConfig

PREDICTORS: Mapping[str, str] = {
    "classify": "finetune.predictors:Classifier",
    "seq2seq": "finetune.predictors:Writer",
    "embed": "finetune.predictors:Embedder",
    "tag": "finetune.tag_predictor:Tagger",
    "qa": "finetune.qa_predictor:Answerer",
}
"""The `TextPredictor` of each task that has one, as `module:Class`."""
_OTHERWISE: Mapping[str, str] = {
    "prefer": "generate writes with it",
}
"""How models of other tasks are used."""


@dataclass(frozen=True, slots=True)
class TextRecord:
    """What is predicted.

    Attributes:
        id: names it in the output.
        text: what is read.
        second: what is read with it, of models that read pairs.
    """

    id: str
    text: str
    second: str | None = None


class TextPredictor(Protocol):
    """A saved model. Made with (the directory, its recipe); on a GPU where there is one."""

    def form(self, given: PredictInput) -> InputForm:
        """What a record of these files is, as the training read its own."""
        ...

    def __call__(self, records: Sequence[Any]) -> list[dict[str, Any]]:
        """What the model says of each record, JSON-able, as the predictions file of its training says it."""
        ...


def text_form(given: PredictInput, data: ExamplesData, text_field: str, second_field: str | None = None) -> InputForm:
    """Records with a text, or with two: each becomes a `TextRecord`.

    Args:
        given: which files; its own field for the text comes first.
        data: the recipe's section on its files.
        text_field: what it calls the field with the text.
        second_field: the same of a second text; None: single texts are read.
    """

    def parse(document: Document, name: str, where: str) -> TextRecord:
        second = None if second_field is None else document.metadata.get(second_field)
        if not document.text.strip():
            raise DataError("no text", where=where)
        if second_field is not None and not (isinstance(second, str) and second.strip()):
            raise DataError(f"no text in the field {second_field!r}", where=where)
        return TextRecord(name, document.text, second)

    return InputForm(given.text_field or text_field, parse, _characters, as_in_training(data))


def _characters(record: TextRecord) -> int:
    return len(record.text) + len(record.second or "")


def load_predictor(folder: Path) -> TextPredictor:
    """The saved model of a task.

    Raises:
        UserError: the directory is none, or of a task whose models are used otherwise.
    """
    from configs.load import load_config, read_yaml
    from finetune.tasks.kinds import TASKS

    if not (folder / RECIPE).is_file():
        raise DataError(
            f"holds no {RECIPE}" if folder.is_dir() else "does not exist",
            where=folder,
            expected=f"the output of a task, one of {', '.join(PREDICTORS)}",
        )
    name = str(read_yaml(folder / RECIPE).get("name"))
    if name not in PREDICTORS:
        known = f"a model of {', '.join(PREDICTORS)}"
        expected = f"{known}; {_OTHERWISE[name]}" if name in _OTHERWISE else known
        raise ConfigError(f"was made by the task {name}", where=folder, expected=expected)
    recipe = load_config(TASKS.declaration(name), [folder / RECIPE], [])
    refuse_adapter_alone(folder)
    made: TextPredictor = resolve(PREDICTORS[name])(folder, recipe)
    return made


class Classifier:
    """A model of `classify`: the label or labels and the probability of each, or the number.

    Args:
        folder: what the task wrote.
        recipe: its settings.
    """

    def __init__(self, folder: Path, recipe: ClassifyConfig) -> None:
        import numpy as np

        from finetune.networks import load_network
        from finetune.tasks.classify_problems import LabelProblem, MultiLabel, Regression, SingleLabel
        from finetune.tasks.label_names import LABELS_FILE

        self.data = recipe.data
        labels: list[str] = json.loads((folder / LABELS_FILE).read_text("utf-8"))
        problems: dict[str, LabelProblem] = {
            "single_label_classification": SingleLabel(labels, np.ones(len(labels))),
            "multi_label_classification": MultiLabel(labels),
            "regression": Regression(),
        }
        self.problem = problems[recipe.problem_type]
        self.tokenizer = transformers_tokenizer(folder)
        self.network: Any = load_network("AutoModelForSequenceClassification", folder).to(device())

    def form(self, given: PredictInput) -> InputForm:
        """See `TextPredictor`."""
        return text_form(given, self.data, self.data.text_field, self.data.text_pair_field)

    def __call__(self, records: Sequence[TextRecord]) -> list[dict[str, Any]]:
        """See `TextPredictor`."""
        import torch

        seconds = None if self.data.text_pair_field is None else [record.second or "" for record in records]
        texts = [record.text for record in records]
        inputs = self.tokenizer(texts, seconds, truncation=True, padding=True, return_tensors="pt")
        with torch.no_grad():
            outputs_BC = self.problem.outputs(self.network(**inputs.to(device())).logits.float())
        return [self.problem.line(row) for row in outputs_BC.cpu().numpy()]


class Writer:
    """A model of `seq2seq`: what it writes.

    Args:
        folder: what the task wrote.
        recipe: its settings.
    """

    def __init__(self, folder: Path, recipe: Seq2SeqConfig) -> None:
        from finetune.pretrained import read_pretrained
        from finetune.tasks.seq2seq import Seq2SeqTask

        task, pretrained = Seq2SeqTask(recipe), read_pretrained(folder)
        self.data = recipe.data
        self.codec, self.template = pretrained.codec, task.template(pretrained)
        self.prompt = task.prompt(is_encoder_decoder=self.template.is_encoder_decoder)
        self.network: Any = task.load(folder).to(device())

    def form(self, given: PredictInput) -> InputForm:
        """See `TextPredictor`."""
        return text_form(given, self.data, self.data.source_field)

    def __call__(self, records: Sequence[TextRecord]) -> list[dict[str, Any]]:
        """See `TextPredictor`."""
        from finetune.sequence_template import encode_sources
        from finetune.tasks.writing import write_texts

        texts = [record.text for record in records]
        sources, _ = encode_sources(self.codec, texts, self.prompt, self.template)
        written = write_texts(self.network, sources, self.template, self.codec, device())
        return [{"source": text, "predicted": found} for text, found in zip(texts, written)]


class Embedder:
    """A model of `embed`: the vector of a text, of length 1.

    Args:
        folder: what the task wrote.
        recipe: its settings.
    """

    def __init__(self, folder: Path, recipe: EmbedConfig) -> None:
        from finetune.embedding_network import load_body

        self.data = recipe.data
        self.tokenizer = transformers_tokenizer(folder)
        self.network: Any = load_body(folder).to(device())

    def form(self, given: PredictInput) -> InputForm:
        """See `TextPredictor`."""
        return text_form(given, self.data, self.data.text_field)

    def __call__(self, records: Sequence[TextRecord]) -> list[dict[str, Any]]:
        """See `TextPredictor`."""
        import torch

        from finetune.tasks.embedding_texts import EmbeddingTexts, vectors

        rows = self.tokenizer([record.text for record in records], truncation=True)["input_ids"]
        part = EmbeddingTexts(rows, [], len(rows), self.tokenizer.pad_token_id, 0)
        with torch.no_grad():
            found_RH = vectors(self.network, part, range(len(rows)), device())
        return [{"vector": [round(value, 6) for value in row]} for row in found_RH.tolist()]


def transformers_tokenizer(folder: Path) -> Any:
    """Transformers' tokenizer of a saved model, which cuts and surrounds texts as training did."""
    from transformers import AutoTokenizer

    if not (folder / "tokenizer_config.json").is_file():
        raise DataError("holds no tokenizer of transformers", where=folder, expected="one whose tokenizer converts")
    return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def device() -> Any:
    """Where saved models run."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
