"""Sentence vectors: a pretrained model and pairs of texts -> a model that tells by directions what belongs together.

Shape letters: B examples of a micro-batch, N of a part, H hidden size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from configs.errors import DataError
from finetune import batches
from finetune.tasks.base import FinetuneTask
from finetune.tasks.embed_config import EmbedConfig
from finetune.tasks.embedding_texts import EmbeddingTexts, Floats, contrastive_losses, retrieval_figures, vectors
from finetune.tasks.example_files import group_of
from finetune.tasks.parsed_examples import ParsedExamples, parse_examples, text_value

if TYPE_CHECKING:
    import torch

    from data_prep.reading.documents import Document
    from finetune.pretrained import PretrainedModel
    from finetune.text_template import TextTemplate

PRETRAINED = "the pretrained model"
TFIDF = "TF-IDF"
_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class TogetherTexts:
    """Texts that belong together.

    Attributes:
        id: names them in the predictions.
        text: a text.
        positive: one that belongs to it.
        negative: one that does not; None: none is named.
        group: examples of one group stay on one side of the split.
        label: the same for all: nothing is shared out evenly.
    """

    id: str
    text: str
    positive: str
    negative: str | None
    group: str
    label: str = ""


class EmbedTask(FinetuneTask):
    """Each text has to find the one that belongs to it among those of its micro-batch.

    Args:
        config: everything that can be told.
    """

    def __init__(self, config: EmbedConfig) -> None:
        self.config = config
        self.parsed = ParsedExamples()
        self._start: PretrainedModel | None = None

    def read(self) -> Mapping[str, Sequence[TogetherTexts]]:
        """See the base class."""
        data = self.config.data

        def parse(document: Document, identity: str, where: str) -> TogetherTexts:
            if not document.text.strip():
                raise DataError(f"its field {data.text_field!r} is empty", where=where, expected="a text")
            positive = text_value(document, data.positive_field, "data.positive_field", where)
            negative = None
            if data.negative_field is not None:
                negative = text_value(document, data.negative_field, "data.negative_field", where)
            group = group_of(document, data.split_by, where)
            return TogetherTexts(identity, document.text, positive, negative, group)

        told = {"quoting": data.quoting}
        self.parsed = parse_examples(data, self.config.seed, parse, data.text_field, "data.text_field", told)
        return self.parsed.parts

    def facts(self) -> dict[str, Any]:
        """See the base class."""
        return self.parsed.facts()

    def encode(self, pretrained: PretrainedModel, examples: Sequence[TogetherTexts]) -> EmbeddingTexts:
        """See the base class."""
        self._start, template = pretrained, self._template(pretrained)
        texts = [each.text for each in examples] + [each.positive for each in examples]
        texts += [each.negative for each in examples if each.negative is not None]
        rows = pretrained.codec.encode_batch(texts)
        cut = sum(len(row) > template.room for row in rows)
        rows = [template.apply(row) for row in rows]
        nothing = next((number for number, row in enumerate(rows) if not row), None)
        if nothing is not None:
            raise DataError("has a text without tokens", where=examples[nothing % len(examples)].id, expected="text")
        return EmbeddingTexts(rows, _numbers_of(texts), len(examples), template.pad, cut)

    def describe(self, encoded: Mapping[str, EmbeddingTexts]) -> Iterator[str]:
        """See the base class."""
        for name, part in encoded.items():
            tokens = sum(map(len, part.rows)) / len(part.rows)
            yield f"{name:<10}  {part.count:>6,} pairs, {tokens:.0f} tokens a text; {part.cut:,} texts cut"
        yield from self.parsed.notes("texts")

    def warnings(self, pretrained: PretrainedModel) -> Iterator[str]:
        """See the base class."""
        if not pretrained.is_encoder:
            yield f"{pretrained.path} reads from left to right: most hidden states in the mean know half of the text"

    def network(self, pretrained: PretrainedModel, *, from_scratch: bool = False) -> torch.nn.Module:
        """See the base class; the body without a head."""
        from finetune.embedding_network import body_network

        return body_network(pretrained, from_scratch=from_scratch)

    def losses(self, model: Any, part: EmbeddingTexts, numbers: Sequence[int], device: torch.device) -> torch.Tensor:
        """See the base class; all texts of the micro-batch go through the model in one forward pass."""
        rows = [start + number for start in range(0, len(part.rows), part.count) for number in numbers]
        same = [part.same[row] for row in rows]
        found = vectors(model, part, rows, device)
        return contrastive_losses(found, same, len(numbers), self.config.temperature, batches.repeated(numbers))

    def predict(
        self, model: Any, part: EmbeddingTexts, numbers: Sequence[int], device: torch.device
    ) -> Sequence[Floats]:
        """See the base class; the vectors of a text and of the one that belongs to it, float32 [2, H]."""
        rows = [start + number for start in (0, part.count) for number in numbers]
        found = vectors(model, part, rows, device).cpu().numpy().reshape(2, len(numbers), -1)
        return list(found.transpose(1, 0, 2))

    def validation_figures(self, part: EmbeddingTexts, predicted: Sequence[Floats]) -> Mapping[str, float]:
        """See the base class."""
        figures = self.figures(part, predicted)
        return {key: figures[key] for key in ("mrr", "recall_at_1", "loss")}

    def figures(self, part: EmbeddingTexts, predicted: Sequence[Floats]) -> dict[str, Any]:
        """See the base class; see `retrieval_figures`."""
        both = np.stack(predicted)
        return retrieval_figures(both[:, 0], both[:, 1], part.same, self.config.temperature)

    def prediction(self, example: TogetherTexts, predicted: Floats) -> dict[str, Any]:
        """See the base class."""
        vector = [round(float(value), 6) for value in predicted[0]]
        return {"id": example.id, "cosine": round(float(predicted[0] @ predicted[1]), 6), "vector": vector}

    def save(
        self, folder: Path, network: Any, weights: Mapping[str, torch.Tensor], pretrained: PretrainedModel
    ) -> None:
        """See the base class; a Hugging Face directory of the body alone."""
        from finetune.networks import save_network, save_tokenizer

        save_network(folder, network, weights)
        save_tokenizer(folder, pretrained, self._template(pretrained))

    def load(self, folder: Path) -> torch.nn.Module:
        """See the base class."""
        from finetune.embedding_network import load_body

        return load_body(folder)

    def baselines(
        self, examples: Mapping[str, Sequence[TogetherTexts]], encoded: Mapping[str, EmbeddingTexts], part: str
    ) -> dict[str, dict[str, Any]]:
        """See the base class; the vectors of the pretrained model, and those of TF-IDF."""
        systems: dict[str, dict[str, Any]] = {}
        if "pretrained" in self.config.baselines:
            systems[PRETRAINED] = self._of_the_pretrained(encoded[part])
        if "tfidf" in self.config.baselines:
            from finetune.tasks.embedding_baseline import tfidf_vectors

            train = [text for each in examples["train"] for text in (each.text, each.positive)]
            texts, right = ([getattr(each, side) for each in examples[part]] for side in ("text", "positive"))
            both = tfidf_vectors(train, texts), tfidf_vectors(train, right)
            systems[TFIDF] = retrieval_figures(*both, encoded[part].same, self.config.temperature)
        return systems

    def _of_the_pretrained(self, part: EmbeddingTexts) -> dict[str, Any]:
        import torch

        from finetune.batches import by_length
        from finetune.task_batches import predictions

        assert self._start is not None
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        groups = by_length(part.lengths, _AT_ONCE)
        found = predictions(self.predict, self.network(self._start).to(device), part, groups, device)
        return self.figures(part, [found[number] for number in range(part.count)])

    def _template(self, pretrained: PretrainedModel) -> TextTemplate:
        from finetune.text_template import text_template

        return text_template(pretrained, self.config.data.max_tokens)


def _numbers_of(texts: Sequence[str]) -> list[int]:
    """A number of each text that equal ones share, white space aside."""
    known: dict[str, int] = {}
    return [known.setdefault(" ".join(text.split()), len(known)) for text in texts]
