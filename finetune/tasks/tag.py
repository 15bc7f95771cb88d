"""Tagging of words (named entities, parts of speech): a pretrained model and tagged texts -> a tagger.

Shape letters: B texts, R windows, S tokens, W words of all texts, C labels.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from finetune.tasks.base import FINE_TUNED, FinetuneTask, TextChanger
from finetune.tasks.example_parts import told_left_out, told_repeated
from finetune.tasks.label_logits import LabelLogits
from finetune.tasks.label_names import label_fields, refuse_not_numbers, save_labels
from finetune.tasks.tag_config import TagConfig
from finetune.tasks.tag_metrics import FrequentTags, entity_figures, plain_figures
from finetune.tasks.tag_predictions import WordPredictions, mean_words, predict_words, word_line, word_logits
from finetune.tasks.tag_schemes import OUTSIDE, spans
from finetune.tasks.tagged_texts import TaggedParts, TaggedText, load_tagged
from finetune.tasks.tagged_words import EncodedTags, encode_tagged

if TYPE_CHECKING:
    import torch

    from finetune.pretrained import PretrainedModel
    from finetune.text_template import TextTemplate

WORDS = "most frequent tag of each word"
_AUTO_CLASS = "AutoModelForTokenClassification"


class TagTask(FinetuneTask):
    """Texts as words, each of one tag; a linear layer on the hidden state of each word's first token.

    Args:
        config: everything that can be told.
    """

    def __init__(self, config: TagConfig) -> None:
        self.config = config
        self.found = TaggedParts({}, {}, [], " ")
        self.apart: dict[str, int] = {}
        self.form: dict[str, Any] = {}
        self._usual = 0

    @property
    def labels(self) -> list[str]:
        """All labels, in the order of their numbers; known after `read`."""
        return self.found.labels

    def read(self) -> Mapping[str, Sequence[TaggedText]]:
        """See the base class."""
        self.found = load_tagged(self.config.data, self.config.seed)
        train = self.found.parts["train"]
        usual = FrequentTags([text.words for text in train], [text.tags for text in train]).usual
        self._usual = self.labels.index(OUTSIDE if self.found.has_entities else usual)
        return self.found.parts

    def facts(self) -> dict[str, Any]:
        """See the base class."""
        found = self.found
        return {
            "labels": self.labels,
            "scheme": found.scheme,
            "examples": {part: len(texts) for part, texts in found.parts.items()},
            "words": {part: sum(len(text.words) for text in texts) for part, texts in found.parts.items()},
            "malformed": {part: asdict(each) for part, each in found.malformed.items()},
            "repeated": [asdict(each) for each in found.repeated],
            "words_encoded_alone": self.apart,
            "joiner": found.joiner,
            "usual_tag": self.labels[self._usual],
            "form": self.form,
        }

    def encode(self, pretrained: PretrainedModel, examples: Sequence[TaggedText]) -> EncodedTags:
        """See the base class; long texts in windows that overlap."""
        data, template = self.config.data, self._template(pretrained)
        self.form = asdict(template)
        return encode_tagged(examples, pretrained.codec, template, data.stride, self.labels)

    def changed(self, example: TaggedText, changer: TextChanger) -> TaggedText:
        """See the base class; words keep their tags, and words of entities stay."""
        held = [self.found.has_entities and tag != OUTSIDE for tag in example.tags]
        kept = changer.words(example.words, held)
        gaps = ("", *(example.gaps[number] for number, _ in kept[1:]))
        tags = tuple(example.tags[number] for number, _ in kept)
        return replace(example, words=tuple(word for _, word in kept), tags=tags, gaps=gaps)

    def describe(self, encoded: Mapping[str, EncodedTags]) -> Iterator[str]:
        """See the base class."""
        found = self.found
        self.apart = {part: examples.apart for part, examples in encoded.items()}
        for part, examples in encoded.items():
            texts = found.parts[part]
            words, entities = sum(len(text.words) for text in texts), sum(len(spans(text.tags)) for text in texts)
            more = f", {entities:,} entities" if found.has_entities else ""
            long = sum(len(windows) > 1 for windows in examples.windows)
            tokens = sum(examples.lengths) / len(texts)
            lengths = f"{tokens:.0f} tokens a text, {long:,} in windows"
            yield f"{part:<10}  {len(texts):>6,} texts, {words:,} words{more}; {lengths}"
        kind = f"entities in {found.scheme['train'].upper()}" if found.has_entities else "plain"
        yield f"tags        {len(self.labels)}, {kind}"
        for part, examples in encoded.items():
            if examples.without_token:
                yield f"note: {examples.without_token:,} words of the {part} part have no token: {self._usual_tag}"
            if examples.cut:
                yield f"note: {examples.cut:,} words of the {part} part are longer than a window: cut"
            if examples.apart:
                of = f"{examples.apart:,} of {len(examples.gold):,} {part} texts"
                yield f"note: of {of} each word was encoded on its own: the tokenizer joins characters across words"
        for part, count, tag in found.unknown_tags():
            yield f"note: {count:,} words of the {part} part have tags that training never saw, such as {tag}: wrong"
        yield from told_left_out(found.malformed)
        yield from told_repeated(found.repeated, {part: len(texts) for part, texts in found.parts.items()})

    def warnings(self, pretrained: PretrainedModel) -> Iterator[str]:
        """See the base class."""
        if not pretrained.is_encoder:
            yield (
                f"{pretrained.path} reads a text from left to right: a word is tagged by what stands before it and by"
                " its own first token; an encoder reads both sides"
            )

    def network(self, pretrained: PretrainedModel, *, from_scratch: bool = False) -> torch.nn.Module:
        """See the base class; transformers' `...ForTokenClassification`."""
        from finetune.networks import head_network

        fields = {"pad_token_id": self._template(pretrained).pad, "use_cache": False, **label_fields(self.labels)}
        return head_network(_AUTO_CLASS, pretrained, fields, from_scratch=from_scratch)

    def teacher_network(self, folder: Path, pretrained: PretrainedModel, part: EncodedTags) -> Any:
        """See the base class; a tagger of the same labels that reads the same windows."""
        from finetune.distillation.teacher import check_form, check_labels, check_vocabulary, frozen_network

        check_labels(folder, self.config.name, self.labels)
        check_vocabulary(folder, pretrained, [text.text for text in self.found.parts["train"][:50]])
        check_form(folder / self.config.marker, self.form)
        return frozen_network(_AUTO_CLASS, folder)

    def row_owners(self, part: EncodedTags, numbers: Sequence[int]) -> list[int]:
        """See the base class; a text has a row for each window."""
        return [at for at, number in enumerate(numbers) for _ in part.windows[number]]

    def losses(self, model: Any, part: EncodedTags, numbers: Sequence[int], device: torch.device) -> torch.Tensor:
        """See the base class; cross-entropy, summed over the words of each text."""
        import torch

        found = self.label_logits(model, part, numbers, device)
        losses_W = torch.nn.functional.cross_entropy(found.logits_NC, found.gold_N, reduction="none")
        return torch.zeros(len(numbers), device=device).index_add(0, found.owner_N, losses_W)

    def label_logits(self, model: Any, part: EncodedTags, numbers: Sequence[int], device: torch.device) -> LabelLogits:
        """See the base class; a prediction for each word whose tag training knows."""
        import torch

        logits_WC, places = word_logits(model, part, numbers, device)
        gold_W = torch.tensor(
            [part.gold[numbers[at]][word] for _, _, at, word in places], dtype=torch.int64, device=device
        )
        owner_W = torch.tensor([at for _, _, at, _ in places], dtype=torch.int64, device=device)
        known = gold_W >= 0
        logits_NC, gold_N, owner_N = logits_WC[known], gold_W[known], owner_W[known]
        return LabelLogits(logits_NC, gold_N, torch.ones(len(gold_N), device=device), owner_N)

    def predict(
        self, model: Any, part: EncodedTags, numbers: Sequence[int], device: torch.device
    ) -> Sequence[WordPredictions]:
        """See the base class."""
        return predict_words(model, part, numbers, device, self._usual)

    def predict_validation(
        self, model: Any, part: EncodedTags, numbers: Sequence[int], device: torch.device
    ) -> Sequence[WordPredictions]:
        """See the base class; without the probabilities of the labels that are not chosen."""
        return predict_words(model, part, numbers, device, self._usual, keeps_distributions=False)

    def validation_figures(self, part: EncodedTags, predicted: Sequence[WordPredictions]) -> Mapping[str, float]:
        """See the base class."""
        figures = self._figures(part, [self._tags(found) for found in predicted], None)
        loss = _mean_loss(part, predicted)
        return {key: figures[key] for key in ("micro_f1", "macro_f1", "accuracy")} | {"loss": loss}

    def figures(self, part: EncodedTags, predicted: Sequence[WordPredictions]) -> dict[str, Any]:
        """See the base class; see `entity_figures` and `plain_figures`."""
        for found in predicted:
            refuse_not_numbers(found.losses, self.config.product)
            refuse_not_numbers(found.probabilities, self.config.product)
        tags = [self._tags(found) for found in predicted]
        return self._figures(part, tags, self.config.seed) | {"loss": _mean_loss(part, predicted)}

    def mean_prediction(self, predicted: Sequence[WordPredictions]) -> WordPredictions:
        """See the base class; the mean of the probabilities of each word's labels."""
        return mean_words(predicted)

    def prediction(self, example: TaggedText, predicted: WordPredictions) -> dict[str, Any]:
        """See the base class; of entities, with their places in the running text."""
        return word_line(example, self._tags(predicted), predicted, self.found.has_entities)

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
        self, examples: Mapping[str, Sequence[TaggedText]], encoded: Mapping[str, EncodedTags], part: str
    ) -> dict[str, dict[str, Any]]:
        """See the base class; the most frequent tag of each word."""
        if "words" not in self.config.baselines:
            return {}
        train = examples["train"]
        usual = FrequentTags([text.words for text in train], [text.tags for text in train])
        told = [usual.tags(text.words) for text in examples[part]]
        return {WORDS: self._figures(encoded[part], told, self.config.seed)}

    def tables(self, systems: Mapping[str, Mapping[str, Any]], part: str) -> Iterator[Any]:
        """See the base class."""
        from finetune.tasks.classification_metrics import comparison_table, label_table

        has_entities = self.found.has_entities
        yield label_table(systems[FINE_TUNED], "entities" if has_entities else "words")
        columns = ("micro_f1", "macro_f1", "accuracy")
        yield comparison_table(systems, part, columns if has_entities else ("accuracy", "macro_f1"))
        figures = systems[FINE_TUNED]
        for name, found in systems.items():
            if found["micro_f1"] > figures["micro_f1"]:
                better = f"{found['micro_f1']:.3f} against {figures['micro_f1']:.3f}"
                yield f"note: {name} has a better micro F1 than the fine-tuned model, {better}. Try a longer"
                yield f"  training.duration (now {self.config.training.duration}), another optimizer.lr, more texts."

    def next_command(self, folder: Path) -> str | None:
        """See the base class."""
        if not (folder / "tokenizer_config.json").is_file():
            return None
        call = f'pipeline("token-classification", {json.dumps(str(folder))})'
        # Words that were encoded alone in training have to be for use, too: here the characters of a text.
        alone = any(self.apart.values()) and not self.found.joiner
        given = 'list(input()), is_split_into_words=True, delimiter=""' if alone else "input()"
        return f"python -c {shlex.quote(f'from transformers import pipeline; print({call}({given}))')}"

    @property
    def _usual_tag(self) -> str:
        return f"they are tagged {self.labels[self._usual]}"

    def _tags(self, predicted: WordPredictions) -> list[str]:
        return [self.labels[number] for number in predicted.labels]

    def _figures(self, part: EncodedTags, predicted: Sequence[Sequence[str]], seed: int | None) -> dict[str, Any]:
        if self.found.has_entities:
            return entity_figures(part.gold_tags, predicted, seed)
        return plain_figures(part.gold_tags, predicted, self.labels, seed)

    def _template(self, pretrained: PretrainedModel) -> TextTemplate:
        from finetune.text_template import text_template

        return text_template(pretrained, self.config.data.max_tokens, append_end_of_document=False)


def _mean_loss(part: EncodedTags, predicted: Sequence[WordPredictions]) -> float:
    return float(sum(found.losses.sum(dtype=np.float64) for found in predicted)) / (sum(part.weights) or 1.0)
