"""The declaration of tagging: texts whose words have tags, and what is made of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from finetune.tasks.base_config import TaskConfig, TaskTraining
from finetune.tasks.examples_config import ExamplesData


class TagData(ExamplesData):
    """Tagged texts, and how they are split."""

    format: Literal["auto", "conll"] = "auto"
    """conll: a word and its tag in each line, an empty line between texts; auto: that for files ending in .conll,
    .conllu, .bio, .iob, .iob2, .bioes or .txt, also compressed, and records for JSON and Parquet."""
    word_column: int = 0
    """Column of the word in CoNLL files, from 0; below 0, from the last. Columns are parted by tabs, or by spaces in
    texts without tabs. CoNLL-U has the words in column 1."""
    tag_column: int = -1
    """Column of the tag, likewise; of CoNLL-U 3 for universal parts of speech."""
    tokens_field: str = "tokens"
    """Field of a record that holds the words, a list of texts."""
    tags_field: str = "tags"
    """Field that holds the tag of each word: texts, or numbers in `tag_names`."""
    tag_names: list[str] | None = None
    """The tags by their numbers, for records that have numbers."""
    text_field: str | None = None
    """Field of records that hold a text and `spans_field` in place of words and tags; null: words and tags."""
    spans_field: str = "spans"
    """Field of such records that holds the entities: a list of [start, end, type], or of objects with these keys (or
    `label` for the type); characters counted from 0, `end` the one after the last."""
    scheme: Literal["auto", "none", "iob1", "iob2", "iobes"] = "auto"
    """How tags write entities; iobes is also BILOU and BMES; none: plain tags, such as parts of speech; auto: what the
    tags of each part's files show. All are converted to IOB2, and texts that break their scheme are unusable."""
    join_words: Literal["auto", "space", "none"] = "auto"
    """What stands between words that come without their text: a space or nothing; auto: nothing where the training
    texts are in a script without spaces (Chinese, with characters for words), else a space."""
    max_tokens: int = Field(default=256, ge=3)
    """Tokens that are read at once, special ones included; at most the model's context. Longer texts are read in
    windows."""
    stride: int = Field(default=64, ge=0)
    """Tokens that two windows share, at most, and at most half of a window; each word is judged in the window that
    shows most around it."""

    @model_validator(mode="after")
    def _names_fit(self) -> TagData:
        if self.text_field is not None and self.tag_names is not None:
            raise ValueError("tag_names are of records with words and tags; with text_field, spans have their types")
        if self.text_field is not None and self.scheme != "auto":
            raise ValueError("scheme is of tags; with text_field, entities are spans")
        return self


class TagTraining(TaskTraining):
    """How long, how much at a time, how precise, and which weights are kept."""

    select_by: Literal["micro_f1", "macro_f1", "accuracy", "loss"] = "micro_f1"
    """Validation figure whose best weights are kept; of equal ones, those of the smaller loss. F1 is of whole entities,
    or of plain tags, of which the micro F1 is the accuracy."""


class TagConfig(TaskConfig):
    """A tagger of words (named entities, parts of speech) made of a pretrained model."""

    implementation: ClassVar[str] = "finetune.tasks.tag:TagTask"
    adapted_as = "TOKEN_CLS"
    augments: ClassVar[tuple[str, ...]] = ("deletion", "synonyms", "keyboard", "ocr")
    distils: ClassVar[bool] = True
    product: ClassVar[str] = "tagger"
    marker: ClassVar[str] = "tag.json"
    marker_keys: ClassVar[tuple[str, ...]] = ("source", "labels", "scheme", "ran")
    files: ClassVar[tuple[str, ...]] = ("labels.json",)
    selects: ClassVar[Mapping[str, Literal["highest", "lowest"]]] = {
        "micro_f1": "highest",
        "macro_f1": "highest",
        "accuracy": "highest",
        "loss": "lowest",
    }

    name: str = "tag"
    """`tag`: the words of texts."""
    data: TagData
    """Tagged texts, and how they are split."""
    training: TagTraining = TagTraining()
    """How long, how much at a time, how precise, and which weights are kept."""
    # The base's, and one more.
    baselines: list[Literal["words", "scratch"]] = ["words"]  # type: ignore[assignment]
    """What is measured beside it on the same split: the most frequent tag of each word, and the same network from
    random weights (which costs as much again)."""
