"""The data of a run: its sample streams, its vocabulary, its fingerprint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pretrain.config import RunConfig
from pretrain.data.continuing import check_split
from pretrain.data.corpora import Vocabulary, open_corpora, resolve_vocabulary
from pretrain.data.document_borders import DocumentBorders, document_borders
from pretrain.data.history import DataHistory, phase_of
from pretrain.data.sample_index import notes_on, rest_notes_on
from pretrain.data.stream import SampleStream
from pretrain.data.stream_builder import StreamBuilder
from pretrain.data.token_facts import TokenFacts
from pretrain.data.unigram import unigram_nats

if TYPE_CHECKING:
    import numpy as np

    from data_prep.corpus import Corpus
    from data_prep.tokenizer import Tokenizer


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
        history: what decided the samples up to now, the present settings last.
        notes: what was done about odd data, a sentence each, to be shown once.
        corpora: the opened corpora by path.
        labels_are_tokens, labels_special_tokens: see `ObjectiveConfig`.
    """

    train: SampleStream
    validation: dict[str, SampleStream]
    test: dict[str, SampleStream]
    vocabulary: Vocabulary
    evaluation_sets: dict[str, dict[str, Any]]
    fingerprint: dict[str, Any]
    history: DataHistory
    notes: tuple[str, ...]
    corpora: dict[Path, Corpus]
    labels_are_tokens: bool = True
    labels_special_tokens: bool = True

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
        phase = phase_of(config, _beginnings(corpora), from_step=0, from_sample=0)
        history = DataHistory(config.seed, (phase,))
        builder = StreamBuilder(config, corpora, vocabulary.size, history)
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
            history=history,
            notes=tuple(builder.notes),
            corpora=corpora,
            labels_are_tokens=config.objective.labels_are_tokens,
            labels_special_tokens=config.objective.labels_special_tokens,
        )

    def continuing(self, config: RunConfig, before: DataHistory, from_step: int, from_sample: int) -> RunData:
        """The same data, read on from where an earlier session of the run stopped.

        Each corpus goes on at its own next sample, whatever became of the mixture and of the length of the samples;
        one that is new begins at its first.

        Args:
            config: the run, of which this is the data.
            before: what was read up to there.
            from_step: steps that are finished.
            from_sample: number of the next sample.

        Raises:
            CheckpointError: if an epoch was begun in a way that cannot be gone on with.
        """
        history = before.continued(phase_of(config, _beginnings(self.corpora), from_step, from_sample))
        if len(history.phases) == 1 and history.seed == config.seed:
            return replace(self, history=history)
        builder = StreamBuilder(config, self.corpora, self.vocab_size, history)
        train = builder.train()
        return replace(
            self,
            train=train,
            validation=builder.evaluation("validation"),
            test=builder.evaluation("test"),
            evaluation_sets=builder.evaluation_sets,
            history=history,
            notes=(*builder.notes, *_continuing_notes(config, history, train, from_sample)),
        )

    def check_split(self, config: RunConfig, before: DataHistory) -> None:
        """Refuse a split under which documents that were trained on are held out, or the other way round.

        Raises:
            CheckpointError: names the corpus, both splits, and how many documents it is about.
        """
        check_split(before, config.data.split, _beginnings(self.corpora))

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
    def document_borders(self) -> DocumentBorders:
        """The ids at the ends of the training documents; may load the tokenizer.

        Raises:
            DataError: if it, or the index of a bare corpus, is damaged.
        """
        corpora = [part.corpus for part in self.train.parts]
        is_bare = any(corpus.manifest is None for corpus in corpora)
        return document_borders(corpora, self.tokens.roles if is_bare else {})

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
        return TokenFacts(self.vocab_size, roles, tokenizer, () if tokenizer is None else tuple(tokenizer.sentinels))

    def unigram_nats(self) -> np.ndarray | None:
        """What each id costs a model that knows only the training corpora's token frequencies; see `unigram_nats`."""
        return unigram_nats(self.train, None if self.labels_special_tokens else self.tokens.special_ids)


def _continuing_notes(config: RunConfig, history: DataHistory, train: SampleStream, from_sample: int) -> Iterator[str]:
    """What a run is told that goes on with its data at a sample."""
    if history.seed != config.seed:
        yield f"the order of the data stays that of seed {history.seed}, with which the run began"
    begins = history.notes(from_sample, {part.corpus.fingerprint: part.corpus.beginnings for part in train.parts})
    yield from begins
    for part, given in zip(train.parts, train.given.tolist()):
        if begins and not given:
            yield from rest_notes_on(part)


def _beginnings(corpora: Mapping[Path, Corpus]) -> dict[Path, tuple[str, ...]]:
    return {path: corpus.beginnings for path, corpus in corpora.items()}


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
