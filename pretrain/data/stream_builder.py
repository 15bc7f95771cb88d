"""Turns the mixtures of a run into streams of samples."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import DataError
from data_prep.corpus.split import PARTS, PartName
from pretrain.config import RunConfig, WeightedCorpus
from pretrain.data.continuing import continued_index
from pretrain.data.documents import Documents
from pretrain.data.evaluation_set import describe_set
from pretrain.data.history import DataHistory
from pretrain.data.sample_index import open_index
from pretrain.data.stream import SampleStream

if TYPE_CHECKING:
    from data_prep.corpus import Corpus

EVALUATION_SEED = 0
"""Decides which samples a validation reads first: the same for every run, so that losses compare between seeds."""


class StreamBuilder:
    """Turns mixtures into streams; collects notes and the descriptions of evaluation sets.

    Args:
        config: the run.
        corpora: those that it names, opened, by path.
        vocab_size: ids must be below it.
        history: what decided the samples up to now, the settings of `config` last.
    """

    def __init__(self, config: RunConfig, corpora: dict[Path, Corpus], vocab_size: int, history: DataHistory) -> None:
        self._config = config
        self._history = history
        self._data = config.data
        apart = config.data.reset_attention_at_documents
        self._sampling = config.objective.sampling(config.model, documents_apart=apart)
        self._corpora = corpora
        self._vocab_size = vocab_size
        self._cache = config.data.index_cache or config.output / "index"
        # Of a corpus that was trained on once, evaluations may only ever see what was held out; so of one that grew
        # from it, or that it grew from: what they share has the same numbers in both.
        entries = [entry for phase in history.phases for entry in phase.train]
        self._trained = {fingerprint for entry in entries for fingerprint in (entry.corpus, *entry.beginnings)}
        for corpus in corpora.values():
            if corpus.fingerprint in self._trained:
                self._trained.update(corpus.beginnings)
        self.notes: list[str] = []
        self.evaluation_sets: dict[str, dict[str, Any]] = {}

    def train(self) -> SampleStream:
        """The training stream.

        Raises:
            DataError: if a corpus' training part is shorter than a sample.
            CheckpointError: if an epoch was begun in a way that cannot be gone on with.
        """
        parts, given = [], []
        for entry in self._data.train:
            documents = self._documents(entry.corpus, "train")
            corpus = self._corpora[entry.corpus]
            try:
                index, taken = continued_index(corpus, documents, self._sampling, self._history)
            except ValueError as problem:
                raise self._too_small(entry.corpus, "train", documents, problem) from None
            parts.append(index)
            given.append(taken)
        return SampleStream(
            "train",
            parts,
            [entry.weight for entry in self._data.train],
            self._sampling,
            self._vocab_size,
            first_sample=self._history.phases[-1].from_sample,
            given=given,
        )

    def evaluation(self, part: PartName) -> dict[str, SampleStream]:
        """The validation or test streams by name.

        Raises:
            DataError: if a set has no tokens at all.
        """
        own = self._data.validation if part == "validation" else self._data.test
        if own:
            return {name: self._evaluation_stream(name, mixture, part) for name, mixture in own.items()}
        if self._data.split[PARTS.index(part)] == 0:
            return {}
        return {part: self._evaluation_stream(part, self._data.train, part)}

    def _evaluation_stream(self, name: str, mixture: list[WeightedCorpus], part: PartName) -> SampleStream:
        parts, weights, empty = [], [], []
        held_out: list[PartName] = []
        for entry, corpus_part in self._with_parts(mixture, part):
            documents = self._documents(entry.corpus, corpus_part)
            try:
                index = open_index(
                    self._corpora[entry.corpus], documents, self._sampling, EVALUATION_SEED, endless=False
                )
            except ValueError as problem:
                empty.append(self._too_small(entry.corpus, corpus_part, documents, problem))
                continue
            parts.append(index)
            weights.append(entry.weight)
            held_out.append(corpus_part)
        if not parts:
            raise empty[0]
        self.notes += [f"the {part} set {name!r} goes without {error.where}: {error.problem}" for error in empty]
        stream = SampleStream(name, parts, weights, self._sampling, self._vocab_size)
        samples = self._config.evaluation.batches * self._config.training.global_batch_size
        self.evaluation_sets[name] = describe_set(
            self._data, self._config.objective, stream, held_out, self._config.model.seq_length, samples
        )
        return stream

    def _with_parts(self, mixture: list[WeightedCorpus], part: PartName) -> Iterator[tuple[WeightedCorpus, PartName]]:
        # A set that names a training corpus means what is held out of it, never what is trained on.
        for entry in mixture:
            is_trained = not self._trained.isdisjoint(self._corpora[entry.corpus].beginnings)
            yield entry, part if is_trained else "all"

    def _documents(self, path: Path, part: PartName) -> Documents:
        return Documents(self._corpora[path], part, self._data.split, self._cache)

    def _too_small(self, path: Path, part: PartName, documents: Documents, problem: ValueError) -> DataError:
        corpus = self._corpora[path]
        share = 1.0 if part == "all" else self._data.split[PARTS.index(part)]
        held_out = f"; or name {part} sets of your own in data.{part}" if part in ("validation", "test") else ""
        return DataError(
            f"its {part} part has {len(documents):,} of {corpus.num_documents:,} documents and"
            f" {documents.num_tokens:,} of {corpus.num_tokens:,} tokens; {problem}",
            where=path,
            expected=f"a larger corpus, one cut into smaller documents, or a larger {part} share in data.split"
            f" (now {share:g}){held_out}",
        )
