"""Classification of texts, and numbers for them: a pretrained model and labelled texts -> a classifier.

Shape letters: B samples of a micro-batch, C labels, S tokens.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from configs.errors import DataError
from finetune import batches
from finetune.tasks.base import FinetuneTask, TextChanger
from finetune.tasks.classification_report import describe_texts, result_tables
from finetune.tasks.classify_config import FIGURES, ClassifyConfig
from finetune.tasks.classify_problems import LabelProblem, MultiLabel, Regression, SingleLabel, worst
from finetune.tasks.encoded_texts import EncodedTexts
from finetune.tasks.label_logits import LabelLogits
from finetune.tasks.label_names import label_fields, refuse_not_numbers, save_labels
from finetune.tasks.labelled_texts import LabelledText, Splits, load_splits
from pretrain.models.huggingface.own_classes import own_class_file

if TYPE_CHECKING:
    import torch

    from finetune.pretrained import PretrainedModel
    from finetune.text_template import TextTemplate

_AUTO_CLASS = "AutoModelForSequenceClassification"


class ClassifyTask(FinetuneTask):
    """Texts, or pairs, with labels or a number; a linear layer on one token's hidden state, or the mean (`pooling`).

    Args:
        config: everything that can be told.
    """

    def __init__(self, config: ClassifyConfig) -> None:
        self.config = config
        self.splits = Splits({}, [], 0)
        self.problem: LabelProblem = Regression()

    @property
    def labels(self) -> list[str]:
        """All labels, in the order of their numbers; known after `read`."""
        return self.splits.labels

    def read(self) -> Mapping[str, Sequence[LabelledText]]:
        """See the base class; every label that is in validation or test is in training, too."""
        kind = self.config.problem_type
        self.splits = load_splits(self.config.data, self.config.seed, kind)
        if kind == "multi_label_classification":
            self.problem = MultiLabel(self.labels)
        elif kind == "single_label_classification":
            counts = np.array(list(self.splits.counts()["train"].values()))
            balanced = counts.sum() / (len(self.labels) * np.maximum(counts, 1))
            weights = balanced if self.config.class_weights == "balanced" else np.ones(len(self.labels))
            self.problem = SingleLabel(self.labels, weights)
        return self.splits.parts

    def facts(self) -> dict[str, Any]:
        """See the base class."""
        return {
            "problem_type": self.config.problem_type,
            "labels": self.labels,
            "examples": self.splits.counts(),
            "left_out": self.splits.left_out,
            "empty": len(self.splits.empty),
            "unlabelled": len(self.splits.unlabelled),
            "malformed": {part: asdict(each) for part, each in self.splits.malformed.items()},
            "repeated": [asdict(found) for found in self.splits.repeated],
        }

    def encode(self, pretrained: PretrainedModel, examples: Sequence[LabelledText]) -> EncodedTexts:
        """See the base class; the beginning of each text, between the special tokens that the model is used to."""
        from finetune.tasks.pooling import pooling_fields

        pooling_fields(pretrained, self.config.pooling)  # refuses what is not possible, before the training
        rows = pretrained.codec.encode_batch([example.first for example in examples])
        if self.config.data.text_pair_field is not None:
            seconds = pretrained.codec.encode_batch([example.second or "" for example in examples])
            rows, types, cut, pad = self._pairs(pretrained, rows, seconds)
        else:
            template = self._template(pretrained)
            cut, pad, types = sum(len(row) > template.room for row in rows), template.pad, None
            rows = [template.apply(row) for row in rows]
        nothing = next((number for number, row in enumerate(rows) if not row), None)
        if nothing is not None:
            raise DataError("has a text without tokens", where=examples[nothing].id, expected="text to classify")
        gold = [self.problem.gold(example) for example in examples]
        return EncodedTexts(rows, gold, pad, cut, types, [example.id for example in examples])

    def changed(self, example: LabelledText, changer: TextChanger) -> LabelledText:
        """See the base class; both texts of a pair."""
        second = None if example.second is None else changer.text(example.second)
        return replace(example, first=changer.text(example.first), second=second)

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
            "use_cache": False,
            "problem_type": self.config.problem_type,
            **label_fields(self.labels),
        }
        fields |= pooling_fields(pretrained, self.config.pooling)
        return head_network(_AUTO_CLASS, pretrained, fields, from_scratch=from_scratch)

    def teacher_network(self, folder: Path, pretrained: PretrainedModel, part: EncodedTexts) -> Any:
        """See the base class; a classifier of the same labels, whose tokenizer writes the same rows."""
        from finetune.distillation.teacher import check_labels, check_rows, frozen_network

        check_labels(folder, self.config.name, self.labels)
        check_rows(folder, [(text.first, text.second) for text in self.splits.parts["train"]], part.rows)
        return frozen_network(_AUTO_CLASS, folder)

    def losses(self, model: Any, part: EncodedTexts, numbers: Sequence[int], device: torch.device) -> torch.Tensor:
        """See the base class; that of the problem."""
        return self.problem.losses(_logits(model, part, numbers, device), [part.gold[number] for number in numbers])

    def gives_label_logits(self) -> bool:
        """See the base class; where each text has one of the labels."""
        return self.config.problem_type == "single_label_classification"

    def label_logits(self, model: Any, part: EncodedTexts, numbers: Sequence[int], device: torch.device) -> LabelLogits:
        """See the base class; a prediction for each text."""
        import torch

        assert isinstance(self.problem, SingleLabel)
        gold = [part.gold[number] for number in numbers]
        weights_B = torch.tensor(self.problem.label_weights[gold], dtype=torch.float32, device=device)
        places_B = torch.arange(len(gold), device=device)
        logits_BC = _logits(model, part, numbers, device)
        return LabelLogits(logits_BC, torch.tensor(gold, device=device), weights_B, places_B)

    def predict(
        self, model: Any, part: EncodedTexts, numbers: Sequence[int], device: torch.device
    ) -> Sequence[npt.NDArray[np.float32]]:
        """See the base class; the probability of each label, float32 [C], or the number [1]."""
        return list(self.problem.outputs(_logits(model, part, numbers, device)).cpu().numpy())

    def validation_figures(
        self, part: EncodedTexts, predicted: Sequence[npt.NDArray[np.float32]]
    ) -> Mapping[str, float]:
        """See the base class."""
        figures = self._figures(part, np.stack(predicted), None)
        return {key: figures[key] for key in FIGURES[self.config.problem_type]}

    def figures(self, part: EncodedTexts, predicted: Sequence[npt.NDArray[np.float32]]) -> dict[str, Any]:
        """See the base class; see `LabelProblem`, and `worst`: the examples with the largest losses."""
        outputs_NC = np.stack(predicted)
        refuse_not_numbers(outputs_NC, self.config.product)
        losses_N = self.problem.output_losses(outputs_NC, part.gold)
        lines = [{"predicted": self.problem.line(outputs_C)["predicted"]} for outputs_C in outputs_NC]
        return self._figures(part, outputs_NC, self.config.seed) | {"worst": worst(part.ids, losses_N, lines)}

    def mean_prediction(self, predicted: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
        """See the base class; the mean of the probabilities, or of the numbers."""
        return np.mean(predicted, axis=0)

    def prediction(self, example: LabelledText, predicted: npt.NDArray[np.float32]) -> dict[str, Any]:
        """See the base class."""
        gold = {
            "single_label_classification": example.label,
            "multi_label_classification": list(example.labels),
            "regression": example.value,
        }[self.config.problem_type]
        loss = self.problem.output_losses(predicted[None], [self.problem.gold(example)])
        return {"id": example.id, "gold": gold, **self.problem.line(predicted), "loss": round(float(loss[0]), 6)}

    def save(
        self, folder: Path, network: Any, weights: Mapping[str, torch.Tensor], pretrained: PretrainedModel
    ) -> None:
        """See the base class; a Hugging Face directory, and the labels as a file of their own."""
        from finetune.networks import save_network, save_tokenizer

        save_network(folder, network, weights)
        save_labels(folder, self.labels)
        save_tokenizer(folder, pretrained, self._template(pretrained))

    def load(self, folder: Path) -> torch.nn.Module:
        """See the base class."""
        from finetune.networks import load_network

        return load_network(_AUTO_CLASS, folder)

    def baselines(
        self, examples: Mapping[str, Sequence[LabelledText]], encoded: Mapping[str, EncodedTexts], part: str
    ) -> dict[str, dict[str, Any]]:
        """See the base class; what is most frequent, and TF-IDF with a linear model."""
        from finetune.tasks.classification_baselines import baseline_figures

        train = examples["train"], encoded["train"].gold
        return baseline_figures(self.config, self.labels, train, (examples[part], encoded[part].gold))

    def plots(self) -> Mapping[str, Callable[[Mapping[str, Any], Path], None]]:
        """See the base class; the confusion matrix, where each text has one label."""
        if self.config.problem_type != "single_label_classification":
            return {}
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
        is_single = self.config.problem_type == "single_label_classification"
        every = "" if is_single else ", top_k=None"
        call = f'pipeline("text-classification", {json.dumps(str(folder))}, truncation=True{every}{known})'
        is_pair = self.config.data.text_pair_field is not None
        given = '{"text": input(), "text_pair": input()}' if is_pair else "input()"
        return f"python -c {shlex.quote(f'from transformers import pipeline; print({call}({given}))')}"

    def _figures(self, part: EncodedTexts, outputs_NC: npt.NDArray[np.float32], seed: int | None) -> dict[str, Any]:
        loss = float(self.problem.output_losses(outputs_NC, part.gold).mean())
        return self.problem.figures(outputs_NC, part.gold, seed) | {"loss": loss}

    def _pairs(
        self, pretrained: PretrainedModel, firsts: list[list[int]], seconds: list[list[int]]
    ) -> tuple[list[list[int]], list[list[int]], int, int]:
        """Rows of pairs, their token types, how many were cut, and the pad token."""
        from finetune.pair_form import pair_form

        form, _ = pair_form(pretrained, self.config.data.max_tokens)
        both = list(zip(firsts, seconds, strict=True))
        joined = [form.join(*form.cut(first, second)) for first, second in both]
        cut = sum(len(first) + len(second) > form.room for first, second in both)
        return [row for row, _ in joined], [types for _, types in joined], cut, form.pad

    def _template(self, pretrained: PretrainedModel) -> TextTemplate:
        from finetune.text_template import text_template

        data = self.config.data
        return text_template(pretrained, data.max_tokens, append_end_of_document=data.append_end_of_document)


def _logits(model: Any, part: EncodedTexts, numbers: Sequence[int], device: torch.device) -> torch.Tensor:
    """fp32 logits [B, C] of some of the texts."""
    tokens_BS, mask_BS = batches.collate([part.rows[number] for number in numbers], part.pad)
    given = {"input_ids": tokens_BS.to(device), "attention_mask": mask_BS.to(device)}
    if part.types is not None and any(map(any, part.types)):
        given["token_type_ids"] = batches.collate([part.types[number] for number in numbers], 0)[0].to(device)
    logits_BC: torch.Tensor = model(**given).logits
    return logits_BC.float()
