"""The data of a run: its sample streams, its vocabulary, its fingerprint."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import DataError
from data_prep.corpus.split import PARTS, PartName
from pretrain.config import RunConfig, WeightedCorpus
from pretrain.data import unigram
from pretrain.data.corpora import Vocabulary, open_corpora, resolve_vocabulary
from pretrain.data.documents import Documents
from pretrain.data.evaluation_set import describe_set
from pretrain.data.sample_index import SampleIndex, notes_on, open_index
from pretrain.data.stream import SampleStream
from pretrain.data.token_facts import TokenFacts

if TYPE_CHECKING:
    from data_prep.corpus import Corpus
    from data_prep.tokenizer import Tokenizer

EVALUATION_SEED = 0
"""Decides which samples a validation reads first: the same for every run, so that losses compare between seeds."""


@dataclass(frozen=True)
class RunData:
    """What a run reads. Open it with `RunData.open`, before any process group exists.

    Attributes:
        train: the endless training stream.
        validation: evaluation streams by name; empty if there is nothing to validate on.
        test: likewise, for the end of the run.
        vocabulary: what the ids mean.
        evaluation_sets: by name, what decides which samples a validation or test set is, JSON-able; see `describe_set`.
        fingerprint: what decides which sample is number n of the run, JSON-able; to be compared on resume.
        notes: what was done about odd data, a sentence each, to be shown once.
        corpora: the opened corpora by path.
        labels_are_tokens: see `ObjectiveConfig`.
    """

    train: SampleStream
    validation: dict[str, SampleStream]
    test: dict[str, SampleStream]
    vocabulary: Vocabulary
    evaluation_sets: dict[str, dict[str, Any]]
    fingerprint: dict[str, Any]
    notes: tuple[str, ...]
    corpora: dict[Path, Corpus]
    labels_are_tokens: bool = True

    @classmethod
    def open(cls, config: RunConfig, *, tokenizer_required: bool = True) -> RunData:
        """Open and check everything that `config.data` names.

        Args:
            config: the run.
            tokenizer_required: refuse corpora without a tokenizer, whose text could never be shown.

        Raises:
            DataError: if a corpus is missing, damaged or too small, or corpora and tokenizer do not fit together.
            ConfigError: if the vocabulary size is not known or too small, or a mixture is not one.
        """
        corpora = open_corpora(config.data)
        vocabulary = resolve_vocabulary(
            config.data, corpora, config.model.vocab_size, tokenizer_required=tokenizer_required
        )
        builder = _StreamBuilder(config, corpora, vocabulary.size)
        train = builder.train()
        validation, test = builder.evaluation("validation"), builder.evaluation("test")
        for part in train.parts:
            if part.corpus.manifest is not None:
                part.corpus.token_counts()  # the summary needs them; damage is told now, not after the training
        return cls(
            train=train,
            validation=validation,
            test=test,
            vocabulary=vocabulary,
            evaluation_sets=builder.evaluation_sets,
            fingerprint=_fingerprint(config, corpora, train, vocabulary),
            notes=tuple(builder.notes),
            corpora=corpora,
            labels_are_tokens=config.objective.labels_are_tokens,
        )

    def prepare(self, consumed_samples: int = 0) -> None:
        """Build, or wait for, the indexes that training from `consumed_samples` on and evaluation need.

        Optional: they are otherwise made when first read. Uses no collective.
        """
        self.train.prepare(consumed_samples)
        for stream in (*self.validation.values(), *self.test.values()):
            stream.prepare(0)

    def first_epoch_notes(self) -> list[str]:
        """What the indexes of the training corpora had to do to the text; after `prepare`."""
        return [note for index in self.train.parts for note in notes_on(index)]

    @property
    def vocab_size(self) -> int:
        """Token ids that the model must know."""
        return self.vocabulary.size

    @property
    def tokenizer_fingerprint(self) -> str | None:
        """Fingerprint of the tokenizer; None if the corpora are bare and none is named."""
        return self.vocabulary.fingerprint

    @property
    def end_of_document_id(self) -> int | None:
        """The id that ends each document; None if it is not known, or none does."""
        return self.vocabulary.end_of_document_id

    @cached_property
    def tokenizer(self) -> Tokenizer | None:
        """The tokenizer, loaded when first asked for; None if the corpora are bare and none is named.

        Raises:
            DataError: if it is damaged.
        """
        if self.vocabulary.tokenizer_path is None:
            return None
        from data_prep.tokenizer import load_tokenizer

        return load_tokenizer(self.vocabulary.tokenizer_path)

    @cached_property
    def tokens(self) -> TokenFacts:
        """What is known of the token ids; loads the tokenizer.

        Raises:
            DataError: if it is damaged.
        """
        from data_prep.tokenizer.roles import ROLES

        tokenizer = self.tokenizer
        known = {} if tokenizer is None else {role: tokenizer.role(role) for role in ROLES}
        roles = {role: number for role, number in known.items() if number is not None}
        return TokenFacts(self.vocab_size, roles, tokenizer)

    def unigram_loss_nats(self, stream: SampleStream, max_samples: int) -> float:
        """Loss of a model that knows only the training corpora's token frequencies, nats per token; see `unigram`."""
        never_labels = None if self.labels_are_tokens else self.tokens.special_ids
        return unigram.unigram_loss_nats(self.train, stream, max_samples, never_labels)


class _StreamBuilder:
    """Turns mixtures into streams; collects notes and the descriptions of evaluation sets."""

    def __init__(self, config: RunConfig, corpora: dict[Path, Corpus], vocab_size: int) -> None:
        self._config = config
        self._data = config.data
        apart = config.data.reset_attention_at_documents
        self._sampling = config.objective.sampling(config.model, documents_apart=apart)
        self._corpora = corpora
        self._vocab_size = vocab_size
        self._cache = config.data.index_cache or config.output_dir / "index"
        self._train_fingerprints = {corpora[entry.corpus].fingerprint for entry in config.data.train}
        self.notes: list[str] = []
        self.evaluation_sets: dict[str, dict[str, Any]] = {}

    def train(self) -> SampleStream:
        """The training stream.

        Raises:
            DataError: if a corpus' training part is shorter than a sample.
        """
        parts = []
        for entry in self._data.train:
            documents = self._documents(entry.corpus, "train")
            try:
                index = open_index(
                    self._corpora[entry.corpus], documents, self._sampling, self._config.seed, endless=True
                )
            except ValueError as problem:
                raise self._too_small(entry.corpus, "train", documents, problem) from None
            parts.append(index)
        return self._stream("train", parts, [entry.weight for entry in self._data.train])

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
        stream = self._stream(name, parts, weights)
        samples = self._config.evaluation.batches * self._config.training.global_batch_size
        self.evaluation_sets[name] = describe_set(
            self._data, self._config.objective, stream, held_out, self._config.model.seq_length, samples
        )
        return stream

    def _with_parts(self, mixture: list[WeightedCorpus], part: PartName) -> Iterator[tuple[WeightedCorpus, PartName]]:
        # A set that names a training corpus means what is held out of it, never what is trained on.
        for entry in mixture:
            held_out = self._corpora[entry.corpus].fingerprint in self._train_fingerprints
            yield entry, part if held_out else "all"

    def _documents(self, path: Path, part: PartName) -> Documents:
        return Documents(self._corpora[path], part, self._data.split, self._cache)

    def _stream(self, name: str, parts: list[SampleIndex], weights: list[float]) -> SampleStream:
        return SampleStream(name, parts, weights, self._sampling, self._vocab_size)

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


def _fingerprint(
    config: RunConfig, corpora: dict[Path, Corpus], train: SampleStream, vocabulary: Vocabulary
) -> dict[str, Any]:
    counts = train.blend.counts.tolist()
    cutting = {} if train.sampling.rule is None else {"cutting": train.sampling.rule}
    return {
        **cutting,
        "seed": config.seed,
        "seq_length": config.model.seq_length,
        "split": list(config.data.split),
        "reset_attention_at_documents": config.data.reset_attention_at_documents,
        "tokenizer": vocabulary.fingerprint,
        "train": [
            {"corpus": corpora[entry.corpus].fingerprint, "share": f"{count}/{train.blend.period}"}
            for entry, count in zip(config.data.train, counts)
        ],
    }
