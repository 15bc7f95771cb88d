"""What a model that `tag` saved says of the words of files: texts, lists of words, or CoNLL columns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import DataError
from finetune.batches import in_turn
from finetune.prediction_input import InputForm, PredictInput, as_in_training
from finetune.predictors import device
from finetune.tasks.tag_records import columns_of, list_of_words
from finetune.tasks.tagged_texts import CONLL_ENDINGS, TaggedText, has_ending
from finetune.tasks.unspaced import gaps_before, words_in

if TYPE_CHECKING:
    from data_prep.reading.documents import Document
    from finetune.tasks.tag_config import TagConfig

_COLUMN_ENDINGS = tuple(ending for ending in CONLL_ENDINGS if ending != ".txt")
"""Files that have columns here: a plain text file has a text in each line for every task."""


class Tagger:
    """A model of `tag`: the words of a text, their tags, and of entities their places in the text.

    Args:
        folder: what the task wrote.
        recipe: its settings.
    """

    def __init__(self, folder: Path, recipe: TagConfig) -> None:
        from finetune.networks import load_network
        from finetune.tasks.label_names import LABELS_FILE
        from finetune.text_codec import load_codec
        from finetune.text_template import TextTemplate

        self.data = recipe.data
        self.labels: list[str] = json.loads((folder / LABELS_FILE).read_text("utf-8"))
        record = json.loads((folder / recipe.marker).read_text("utf-8"))
        missing = [key for key in ("form", "joiner", "usual_tag") if key not in record]
        if missing:
            raise DataError(
                f"says no {', '.join(missing)}: an older version wrote it",
                where=folder / recipe.marker,
                expected="a tagger that is trained anew; transformers' pipeline of token-classification reads this one",
            )
        self.template, self.joiner = TextTemplate(**record["form"]), str(record["joiner"])
        self.usual = self.labels.index(record["usual_tag"])
        self.has_entities = record["scheme"]["train"] != "none"
        self.codec = load_codec(folder)
        self.network: Any = load_network("AutoModelForTokenClassification", folder).to(device())

    def form(self, given: PredictInput) -> InputForm:
        """See `TextPredictor`; a list of words is taken as it is, a text is cut into words."""
        data, settings = self.data, as_in_training(self.data)
        are_columns = data.format == "conll" and given.text_field is None
        has_columns = [are_columns or has_ending(path, _COLUMN_ENDINGS) for path in given.files]
        if any(has_columns) and not all(has_columns):
            raise DataError(
                f"names {given.files[has_columns.index(True)]}, which by its ending has columns, beside other files",
                where="--input",
                expected="files of one form",
            )
        if all(has_columns):
            settings |= {"format": "text", "text_documents": "paragraph"}
        field = given.text_field or data.text_field

        def parse(document: Document, name: str, where: str) -> TaggedText:
            if all(has_columns):
                columns = columns_of(document.text, data, where, needs_tags=False)
                return self._of_words(name, columns[0] if columns else [], where)
            if field is None and data.tokens_field in document.metadata:
                return self._of_words(name, list_of_words(document, data, where), where)
            found = words_in(document.text)
            words = tuple(match.group() for match in found)
            return _untagged(name, words, tuple(gaps_before(document.text, found)), where)

        return InputForm(field or data.tokens_field, parse, lambda text: len(text.text), settings)

    def __call__(self, records: Sequence[TaggedText]) -> list[dict[str, Any]]:
        """See `TextPredictor`."""
        from finetune.task_batches import predictions
        from finetune.tasks.tag_predictions import predict_words, word_line
        from finetune.tasks.tagged_words import EncodedTags, encode_tagged

        def predict(model: Any, part: EncodedTags, numbers: Sequence[int], device: Any) -> Sequence[Any]:
            return predict_words(model, part, numbers, device, self.usual, keeps_distributions=False)

        encoded = encode_tagged(records, self.codec, self.template, self.data.stride, self.labels)
        groups = in_turn([len(windows) for windows in encoded.windows], len(records))
        found = predictions(predict, self.network, encoded, groups, device())
        lines = []
        for number, text in enumerate(records):
            tags = [self.labels[label] for label in found[number].labels]
            line = word_line(text, tags, found[number], self.has_entities)
            lines.append({key: value for key, value in line.items() if key not in ("id", "gold")})
        return lines

    def _of_words(self, name: str, words: Sequence[str], where: str) -> TaggedText:
        return _untagged(name, tuple(words), ("", *[self.joiner] * (len(words) - 1)), where)


def _untagged(name: str, words: tuple[str, ...], gaps: tuple[str, ...], where: str) -> TaggedText:
    if not words:
        raise DataError("no words", where=where)
    return TaggedText(name, words, ("",) * len(words), gaps)
