"""Classification of texts: a pretrained model and labelled texts -> a classifier.

Shape letters: B samples of a micro-batch, C labels, S tokens.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from configs.errors import DataError, ExitStatus, UserError
from finetune import batches
from finetune.tasks.base import FinetuneTask
from finetune.tasks.classification_metrics import classification_figures, score
from finetune.tasks.classification_report import MAJORITY, TFIDF, describe_texts, result_tables
from finetune.tasks.classify_config import ClassifyConfig
from finetune.tasks.encoded_texts import EncodedTexts
from finetune.tasks.label_logits import LabelLogits
from finetune.tasks.labelled_texts import Splits, load_splits
from finetune.tasks.splitting import LabelledText
from pretrain.models.huggingface.own_classes import own_class_file

if TYPE_CHECKING:
    import torch

    from finetune.pretrained import PretrainedModel
    from finetune.text_template import TextTemplate

LABELS_FILE = "labels.json"
_AUTO_CLASS = "AutoModelForSequenceClassification"


class ClassifyTask(FinetuneTask):
    """Texts, each of one label; a linear layer on one token's hidden state, or on the mean of all (`pooling`).

    Args:
        config: everything that can be told.
    """

    def __init__(self, config: ClassifyConfig) -> None:
        self.config = config
        self.splits = Splits({}, [], 0)
        self.label_weights: npt.NDArray[np.float64] = np.ones(0)

    @property
    def labels(self) -> list[str]:
        """All labels, in the order of their numbers; known after `read`."""
        return self.splits.labels

    def read(self) -> Mapping[str, Sequence[LabelledText]]:
        """See the base class; every label that is in validation or test is in training, too."""
        self.splits = load_splits(self.config.data, self.config.seed)
        counts = np.array(list(self.splits.counts()["train"].values()))
        balanced = counts.sum() / (len(self.labels) * np.maximum(counts, 1))
        self.label_weights = balanced if self.config.class_weights == "balanced" else np.ones(len(self.labels))
        return self.splits.parts

    def facts(self) -> dict[str, Any]:
        """See the base class."""
        return {
            "labels": self.labels,
            "examples": self.splits.counts(),
            "left_out": self.splits.left_out,
            "empty": len(self.splits.empty),
            "unlabelled": len(self.splits.unlabelled),
            "repeated": [asdict(found) for found in self.splits.repeated],
        }

    def encode(self, pretrained: PretrainedModel, examples: Sequence[LabelledText]) -> EncodedTexts:
        """See the base class; the beginning of each text, between the special tokens that the model is used to."""
        from finetune.tasks.pooling import pooling_fields

        pooling_fields(pretrained, self.config.pooling)  # refuses what is not possible, before the training
        template = self._template(pretrained)
        rows = pretrained.codec.encode_batch([example.text for example in examples])
        numbers = {label: number for number, label in enumerate(self.labels)}
        gold = [numbers[example.label] for example in examples]
        cut = sum(len(row) > template.room for row in rows)
        rows = [template.apply(row) for row in rows]
        nothing = next((number for number, row in enumerate(rows) if not row), None)
        if nothing is not None:
            raise DataError("has a text without tokens", where=examples[nothing].id, expected="text to classify")
        return EncodedTexts(rows, gold, template.pad, cut)

    def describe(self, encoded: Mapping[str, EncodedTexts]) -> Iterator[str]:
        """See the base class."""
        return describe_texts(self.splits, encoded)

    def warnings(self, pretrained: PretrainedModel) -> Iterator[str]:
        """See the base class."""
        from finetune.tasks.pooling import pooling_warnings

        yield from pooling_warnings(pretrained, self.config.pooling)

    def network(self, pretrained: PretrainedModel, *, from_scratch: bool = False) -> torch.nn.Module:
        """See the base class; transformers' `...ForSequenceClassification`."""
        from finetune.networks import head_network
        from finetune.tasks.pooling import pooling_fields

        fields = {
            "pad_token_id": self._template(pretrained).pad,
            "id2label": dict(enumerate(self.labels)),
            "label2id": {label: number for number, label in enumerate(self.labels)},
            "use_cache": False,
        }
        fields |= pooling_fields(pretrained, self.config.pooling)
        return head_network(_AUTO_CLASS, pretrained, fields, from_scratch=from_scratch)

    def losses(self, model: Any, part: EncodedTexts, numbers: Sequence[int], device: torch.device) -> torch.Tensor:
        """See the base class; cross-entropy, times the weight of the label."""
        import torch

        found = self.label_logits(model, part, numbers, device)
        return torch.nn.functional.cross_entropy(found.logits_NC, found.gold_N, reduction="none") * found.weights_N

    def label_logits(self, model: Any, part: EncodedTexts, numbers: Sequence[int], device: torch.device) -> LabelLogits:
        """See the base class; a prediction for each text."""
        import torch

        gold = [part.gold[number] for number in numbers]
        weights_B = torch.tensor(self.label_weights[gold], dtype=torch.float32, device=device)
        places_B = torch.arange(len(gold), device=device)
        logits_BC = _logits(model, part, numbers, device)
        return LabelLogits(logits_BC, torch.tensor(gold, device=device), weights_B, places_B)

    def predict(
        self, model: Any, part: EncodedTexts, numbers: Sequence[int], device: torch.device
    ) -> Sequence[npt.NDArray[np.float32]]:
        """See the base class; the probability of each label, float32 [C]."""
        return list(_logits(model, part, numbers, device).softmax(-1).cpu().numpy())

    def validation_figures(
        self, part: EncodedTexts, predicted: Sequence[npt.NDArray[np.float32]]
    ) -> Mapping[str, float]:
        """See the base class."""
        figures = score(np.stack(predicted), part.gold, self.labels)
        return {key: figures[key] for key in ("accuracy", "macro_f1", "loss")}

    def figures(self, part: EncodedTexts, predicted: Sequence[npt.NDArray[np.float32]]) -> dict[str, Any]:
        """See the base class; see `classification_figures`."""
        probabilities_NC = np.stack(predicted)
        if not np.isfinite(probabilities_NC).all():
            raise UserError(
                "the classifier gives probabilities that are not numbers",
                where="training",
                expected="finite numbers; a smaller optimizer.lr or precision=fp32 may help",
                status=ExitStatus.DIVERGED,
            )
        return score(probabilities_NC, part.gold, self.labels)

    def mean_prediction(self, predicted: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
        """See the base class; the mean of the probabilities."""
        return np.mean(predicted, axis=0)

    def prediction(self, example: LabelledText, predicted: npt.NDArray[np.float32]) -> dict[str, Any]:
        """See the base class."""
        return {
            "id": example.id,
            "gold": example.label,
            "predicted": self.labels[int(predicted.argmax())],
            "probabilities": {label: round(float(p), 6) for label, p in zip(self.labels, predicted)},
        }

    def save(
        self, folder: Path, network: Any, weights: Mapping[str, torch.Tensor], pretrained: PretrainedModel
    ) -> None:
        """See the base class; a Hugging Face directory, and the labels as a file of their own."""
        from finetune.networks import save_network, save_tokenizer

        save_network(folder, network, weights)
        (folder / LABELS_FILE).write_text(json.dumps(self.labels, indent=2, ensure_ascii=False) + "\n", "utf-8")
        save_tokenizer(folder, pretrained, self._template(pretrained))

    def load(self, folder: Path) -> torch.nn.Module:
        """See the base class."""
        from finetune.networks import load_network

        return load_network(_AUTO_CLASS, folder)

    def baselines(
        self, examples: Mapping[str, Sequence[LabelledText]], encoded: Mapping[str, EncodedTexts], part: str
    ) -> dict[str, dict[str, Any]]:
        """See the base class; the most frequent label, and TF-IDF with logistic regression."""
        from finetune.tasks.classification_baselines import majority, text_features, tfidf

        gold, known = encoded[part].gold, encoded["train"].gold
        systems: dict[str, dict[str, Any]] = {}
        if "majority" in self.config.baselines:
            systems[MAJORITY] = classification_figures(gold, majority(known, len(gold)), self.labels)
        if "tfidf" in self.config.baselines:
            balanced = self.config.class_weights == "balanced"
            train, texts = ([example.text for example in examples[name]] for name in ("train", part))
            features = text_features(train)
            found = tfidf(train, known, texts, features=features, balanced=balanced, seed=self.config.seed)
            systems[TFIDF] = classification_figures(gold, found, self.labels) | {"features": str(features)}
        return systems

    def plots(self) -> Mapping[str, Callable[[Mapping[str, Any], Path], None]]:
        """See the base class; the confusion matrix."""
        from finetune.tasks.classification_metrics import plot_confusion

        part = "test" if "test" in self.splits.parts else "validation"
        return {f"confusion-{part}.png": plot_confusion}

    def tables(self, systems: Mapping[str, Mapping[str, Any]], part: str) -> Iterator[Any]:
        """See the base class."""
        return result_tables(systems, part, self.config)

    def next_command(self, folder: Path) -> str | None:
        """See the base class."""
        if not (folder / "tokenizer_config.json").is_file():
            return None
        known = ", trust_remote_code=True" if (folder / own_class_file().name).is_file() else ""
        call = f'pipeline("text-classification", {json.dumps(str(folder))}, truncation=True{known})'
        return f"python -c {shlex.quote(f'from transformers import pipeline; print({call}(input()))')}"

    def _template(self, pretrained: PretrainedModel) -> TextTemplate:
        from finetune.text_template import text_template

        data = self.config.data
        return text_template(pretrained, data.max_tokens, append_end_of_document=data.append_end_of_document)


def _logits(model: Any, part: EncodedTexts, numbers: Sequence[int], device: torch.device) -> torch.Tensor:
    """fp32 logits [B, C] of some of the texts."""
    tokens_BS, mask_BS = batches.collate([part.rows[number] for number in numbers], part.pad)
    logits_BC: torch.Tensor = model(input_ids=tokens_BS.to(device), attention_mask=mask_BS.to(device)).logits
    return logits_BC.float()
