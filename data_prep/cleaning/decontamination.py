"""Evaluation files -> the index of n-grams that datatrove's decontamination filter looks up."""

from __future__ import annotations

import posixpath
from pathlib import Path
from typing import Any

import numpy as np
from datatrove.pipeline.decont import NGramsDecontConfig, NGramsDecontFilter, NGramsDecontIndexer

from configs.errors import DataError
from data_prep.cleaning.config import CleanConfig
from data_prep.cleaning.counts import StageCounts
from data_prep.cleaning.evaluation_texts import evaluation_files, texts_of
from data_prep.cleaning.words import CountingSplitter, text_simplification, word_splitter


class EvaluationIndexer(NGramsDecontIndexer):
    """datatrove's indexer for files at hand.

    datatrove's own takes its tasks from lighteval, which loads them from the network; the n-grams, their hashes and
    the index are the same.
    """

    def __new__(cls, *args: object, **settings: object) -> EvaluationIndexer:
        """Past the question whether lighteval is installed."""
        return object.__new__(cls)

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        """Write one index for each evaluation file in the metadata-free way that the filter reads."""
        for name, texts in self.evaluation_texts.items():
            hashes = {value for text in texts for value in self.compute_hashes(text)}
            self.stat_update("ngrams", value=len(hashes))
            array = np.array(sorted(hashes), dtype=self.config.hash_config.np_descr)
            with self.output_folder.open(f"{name}.index.hashes", mode="wb") as stream:
                stream.write(array.tobytes())

    evaluation_texts: dict[str, list[str]]


def indexer(config: CleanConfig, folder: Path) -> EvaluationIndexer:
    """The step that writes the index of the recipe's evaluation files into `folder`.

    Raises:
        DataError: if a file is missing, is damaged, or holds no n-gram.
    """
    step = EvaluationIndexer(
        str(folder),
        config=_ngrams(config),
        language=word_splitter(config.word_language),  # type: ignore[arg-type]
    )
    step.evaluation_texts = {}
    for file in evaluation_files(config.decontaminate):
        name = _unique(posixpath.basename(file.path).split(".")[0], step.evaluation_texts)
        texts = list(texts_of(file, config.decontaminate))
        if not any(step.compute_hashes(text) for text in texts):
            raise DataError(
                f"holds no text of {config.decontaminate.n_grams} words",
                where=f"decontaminate.files, {file.path}",
                expected=f"evaluation texts, or a smaller decontaminate.n_grams, or another word_language than "
                f"{config.word_language}",
            )
        step.evaluation_texts[name] = texts
    return step


def contamination_filter(config: CleanConfig, folder: Path, note: Any, stage: StageCounts) -> NGramsDecontFilter:
    """The filter that drops documents with an n-gram of the index in `folder`; `stage` gets the words that it saw."""
    words: Any = CountingSplitter(word_splitter(config.word_language), stage)
    return NGramsDecontFilter(str(folder), _ngrams(config), note, language=words)


def _ngrams(config: CleanConfig) -> NGramsDecontConfig:
    settings = config.decontaminate
    simplified = text_simplification(config.word_language, settings.ignore_numbers)
    return NGramsDecontConfig(n_grams=settings.n_grams, norm_config=simplified)


def _unique(name: str, taken: dict[str, list[str]]) -> str:
    number, unique = 2, name
    while unique in taken:
        unique, number = f"{name}-{number}", number + 1
    return unique
