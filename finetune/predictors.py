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
from finetune.pretrained import refuse_adapter_alone
from finetune.task_output import RECIPE

if TYPE_CHECKING:
    from finetune.tasks.classify_config import ClassifyConfig
    from finetune.tasks.embed_config import EmbedConfig
    from finetune.tasks.seq2seq_config import Seq2SeqConfig

PREDICTORS: Mapping[str, str] = {
    "classify": "finetune.predictors:Classifier",
    "seq2seq": "finetune.predictors:Writer",
    "embed": "finetune.predictors:Embedder",
}
"""The `TextPredictor` of each task that has one, as `module:Class`."""
_OTHERWISE: Mapping[str, str] = {
    "prefer": "generate writes with it",
    "qa": "answer asks it",
    "tag": "transformers' pipeline of token-classification reads it",
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

    text_field: str
    """What the recipe calls the field with the text that is read."""
    second_field: str | None
    """The same of a second text; None: single texts are read."""

    def __call__(self, records: Sequence[TextRecord]) -> list[dict[str, Any]]:
        """What the model says of each record, JSON-able, as the predictions file of its training says it."""
        ...


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

        self.text_field, self.second_field = recipe.data.text_field, recipe.data.text_pair_field
        labels: list[str] = json.loads((folder / LABELS_FILE).read_text("utf-8"))
        problems: dict[str, LabelProblem] = {
            "single_label_classification": SingleLabel(labels, np.ones(len(labels))),
            "multi_label_classification": MultiLabel(labels),
            "regression": Regression(),
        }
        self.problem = problems[recipe.problem_type]
        self.tokenizer = _tokenizer(folder)
        self.network: Any = load_network("AutoModelForSequenceClassification", folder).to(_device())

    def __call__(self, records: Sequence[TextRecord]) -> list[dict[str, Any]]:
        """See `TextPredictor`."""
        import torch

        seconds = [record.second or "" for record in records] if self.second_field is not None else None
        texts = [record.text for record in records]
        inputs = self.tokenizer(texts, seconds, truncation=True, padding=True, return_tensors="pt")
        with torch.no_grad():
            outputs_BC = self.problem.outputs(self.network(**inputs.to(_device())).logits.float())
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
        self.text_field, self.second_field = recipe.data.source_field, None
        self.codec, self.template = pretrained.codec, task.template(pretrained)
        self.prompt = task.prompt(is_encoder_decoder=self.template.is_encoder_decoder)
        self.network: Any = task.load(folder).to(_device())

    def __call__(self, records: Sequence[TextRecord]) -> list[dict[str, Any]]:
        """See `TextPredictor`."""
        from finetune.sequence_template import encode_sources
        from finetune.tasks.writing import write_texts

        texts = [record.text for record in records]
        sources, _ = encode_sources(self.codec, texts, self.prompt, self.template)
        written = write_texts(self.network, sources, self.template, self.codec, _device())
        return [{"source": text, "predicted": found} for text, found in zip(texts, written)]


class Embedder:
    """A model of `embed`: the vector of a text, of length 1.

    Args:
        folder: what the task wrote.
        recipe: its settings.
    """

    def __init__(self, folder: Path, recipe: EmbedConfig) -> None:
        from finetune.embedding_network import load_body

        self.text_field, self.second_field = recipe.data.text_field, None
        self.tokenizer = _tokenizer(folder)
        self.network: Any = load_body(folder).to(_device())

    def __call__(self, records: Sequence[TextRecord]) -> list[dict[str, Any]]:
        """See `TextPredictor`."""
        import torch

        from finetune.tasks.embedding_texts import EmbeddingTexts, vectors

        rows = self.tokenizer([record.text for record in records], truncation=True)["input_ids"]
        part = EmbeddingTexts(rows, [], len(rows), self.tokenizer.pad_token_id, 0)
        with torch.no_grad():
            found_RH = vectors(self.network, part, range(len(rows)), _device())
        return [{"vector": [round(value, 6) for value in row]} for row in found_RH.tolist()]


def _tokenizer(folder: Path) -> Any:
    """Transformers' tokenizer of a saved model, which cuts and surrounds texts as training did."""
    from transformers import AutoTokenizer

    if not (folder / "tokenizer_config.json").is_file():
        raise DataError("holds no tokenizer of transformers", where=folder, expected="one whose tokenizer converts")
    return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def _device() -> Any:
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
