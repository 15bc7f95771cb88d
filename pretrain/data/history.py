"""What a run has read so far: its data settings from one sample on, then others from a later one on.

It is recorded in every checkpoint. It decides, together with the seed in it, which sample is number n of the run, and
how far each corpus has been read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from configs.errors import CheckpointError
from configs.kinds import resolve
from pretrain.config import RunConfig
from pretrain.config.sampling import PairSampleCutting, SampleCutting
from pretrain.data.blend import Blend
from pretrain.schedule.sample_lengths import LengthPhase, SampleLengths

# Of corpora with more shards it is not noted which smaller ones they begin with: checkpoints would grow by megabytes.
_MOST_BEGINNINGS = 4096


@dataclass(frozen=True)
class MixedCorpus:
    """One corpus of a mixture that was read.

    Attributes:
        corpus: its fingerprint.
        path: where it was.
        weight: its relative weight.
        beginnings: the fingerprints of its first shards, of which a smaller corpus may be made, without its own; none
            in the history of older versions.
    """

    corpus: str
    path: str
    weight: float
    beginnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataPhase:
    """Consecutive samples of a run that were read under the same settings.

    Attributes:
        from_step: steps that were finished before the first of them.
        from_sample: number of the first of them.
        seq_length: tokens in each.
        sampling: how the corpora were cut.
        split: shares of the documents that train, validate and test.
        train: the mixture.
    """

    from_step: int
    from_sample: int
    seq_length: int
    sampling: SampleCutting
    split: tuple[float, float, float]
    train: tuple[MixedCorpus, ...]

    @property
    def cutting(self) -> SampleCutting:
        """What decides which tokens a sample has; whether documents are marked does not."""
        return replace(self.sampling, marks_documents=False)

    @property
    def blend(self) -> Blend:
        """The order in which the corpora gave samples."""
        return Blend([entry.weight for entry in self.train])


@dataclass(frozen=True)
class Reading:
    """How far a corpus was read in one cutting.

    Attributes:
        sampling: the cutting.
        samples: how many samples of it were read.
    """

    sampling: SampleCutting
    samples: int


@dataclass(frozen=True)
class DataHistory:
    """All phases of a run, in order.

    Attributes:
        seed: decides the order of documents and samples; that of the run's beginning.
        phases: at least one; the last has no end yet.
    """

    seed: int
    phases: tuple[DataPhase, ...]

    @property
    def lengths(self) -> SampleLengths:
        """Tokens in the samples."""
        return SampleLengths(tuple(LengthPhase(p.from_step, p.from_sample, p.seq_length) for p in self.phases))

    def continued(self, phase: DataPhase) -> DataHistory:
        """With `phase` from its first sample on; itself if its settings are those of the last."""
        last = self.phases[-1]
        if _settings(phase) == _settings(last):
            return self
        kept = self.phases if phase.from_sample > last.from_sample else self.phases[:-1]
        if not kept or _settings(phase) != _settings(kept[-1]):
            kept = (*kept, phase)
        return replace(self, phases=kept)

    def readings(self, corpus: str) -> list[Reading]:
        """How far a corpus was read before the last phase, one for each cutting, in order.

        Args:
            corpus: its fingerprint.
        """
        found: list[Reading] = []
        for phase, following in pairwise(self.phases):
            positions = [position for position, entry in enumerate(phase.train) if entry.corpus == corpus]
            if not positions:
                continue
            given = int(phase.blend.given(following.from_sample - phase.from_sample)[positions[0]])
            if found and found[-1].sampling == phase.cutting:
                found[-1] = replace(found[-1], samples=found[-1].samples + given)
            else:
                found.append(Reading(phase.cutting, given))
        return found

    def trained_split(self, corpora: Collection[str]) -> tuple[float, float, float] | None:
        """The split by which documents of one of some corpora were first trained on; None if none was."""
        wanted = {*corpora}
        entries = ((phase.split, entry) for phase in self.phases for entry in phase.train)
        return next((split for split, entry in entries if wanted & {entry.corpus, *entry.beginnings}), None)

    def notes(self, from_sample: int, beginnings: Mapping[str, Sequence[str]]) -> list[str]:
        """What is read from a sample on, a sentence; empty unless a phase begins there that is not the first.

        Args:
            from_sample: its number.
            beginnings: `Corpus.beginnings` of the corpora of the last phase, by fingerprint.
        """
        now = self.phases[-1]
        if len(self.phases) == 1 or now.from_sample != from_sample:
            return []
        told = []
        for entry, share in zip(now.train, now.blend.shares.tolist()):
            before = self._read_before(entry, beginnings[entry.corpus])
            told.append(f"{entry.path} {share:.1%} ({before or 'new'})")
        present = {corpus for entry in now.train for corpus in beginnings[entry.corpus]}
        gone = [entry for entry in self.phases[-2].train if entry.corpus not in present]
        told += [f"no more {entry.path} ({self._read_before(entry) or 'of which nothing was read'})" for entry in gone]
        return [f"from sample {from_sample:,} on, {now.seq_length:,} tokens each, data.train is " + ", ".join(told)]

    def _read_before(self, entry: MixedCorpus, beginnings: Sequence[str] = ()) -> str:
        """What was read of a corpus, or of the one that it grew from; empty if nothing was."""
        if samples := self._samples_of(entry.corpus):
            return f"after {samples:,} samples of it"
        for corpus in reversed(beginnings):
            if samples := self._samples_of(corpus):
                path = next(e.path for phase in self.phases for e in phase.train if e.corpus == corpus)
                return f"grew from {path} after {samples:,} samples of that, and is read from its beginning"
        return ""

    def _samples_of(self, corpus: str) -> int:
        return sum(reading.samples for reading in self.readings(corpus))

    def described(self, consumed_samples: int) -> list[dict[str, Any]]:
        """What was read in each phase up to a sample, for people: of each corpus its path and how many samples."""
        ends = [*(phase.from_sample for phase in self.phases[1:]), consumed_samples]
        told = []
        for phase, end in zip(self.phases, ends):
            given = phase.blend.given(end - phase.from_sample).tolist()
            train = [
                {"path": entry.path, "corpus": entry.corpus, "share": round(share, 6), "samples": samples}
                for entry, share, samples in zip(phase.train, phase.blend.shares.tolist(), given)
            ]
            settings = {"seq_length": phase.seq_length, "split": list(phase.split), "train": train}
            told.append({"from_step": phase.from_step, "from_sample": phase.from_sample, **settings})
        return told

    def encode(self) -> dict[str, Any]:
        """As JSON."""
        return {"seed": self.seed, "phases": [asdict(phase) | _class_of(phase.sampling) for phase in self.phases]}

    @classmethod
    def decode(cls, raw: Mapping[str, Any]) -> DataHistory:
        """Read what `encode` made."""
        return cls(raw["seed"], tuple(_decode_phase(phase) for phase in raw["phases"]))


def phase_of(
    config: RunConfig, beginnings: Mapping[Path, Sequence[str]], from_step: int, from_sample: int
) -> DataPhase:
    """The settings of `config` from a sample on.

    Args:
        config: the run.
        beginnings: `Corpus.beginnings` of its corpora, by path.
        from_step: steps that are finished before.
        from_sample: number of the first sample.
    """
    data = config.data
    return DataPhase(
        from_step=from_step,
        from_sample=from_sample,
        seq_length=config.model.seq_length,
        sampling=config.objective.sampling(config.model, documents_apart=data.reset_attention_at_documents),
        split=data.split,
        train=tuple(_mixed(beginnings[entry.corpus], str(entry.corpus), entry.weight) for entry in data.train),
    )


def _mixed(beginnings: Sequence[str], path: str, weight: float) -> MixedCorpus:
    before = tuple(beginnings[:-1])
    return MixedCorpus(beginnings[-1], path, weight, before if len(before) <= _MOST_BEGINNINGS else ())


def _settings(phase: DataPhase) -> tuple[Any, ...]:
    """What decides the samples of a phase beside where it begins."""
    blend = phase.blend
    mixture = tuple((entry.corpus, count) for entry, count in zip(phase.train, blend.counts.tolist()))
    return phase.seq_length, phase.sampling, phase.split, mixture


def _class_of(sampling: SampleCutting) -> dict[str, str]:
    """Where the class of somebody else's cutting stands; nothing for ours, which the fields tell."""
    cls = type(sampling)
    if cls in (SampleCutting, PairSampleCutting):
        return {}
    return {"sampling_class": f"{cls.__module__}:{cls.__name__}"}


def _decode_phase(raw: Mapping[str, Any]) -> DataPhase:
    sampling = raw["sampling"]
    cutting: type[SampleCutting] = PairSampleCutting if "pairs" in sampling else SampleCutting
    if "sampling_class" in raw:
        cutting = resolve(raw["sampling_class"])
        # Looked at before it is called: a name that comes out of a file may be that of anything.
        if not (isinstance(cutting, type) and issubclass(cutting, SampleCutting)):
            raise CheckpointError(
                f"names {raw['sampling_class']!r} for how samples were cut",
                where="data_history",
                expected="a class derived from SampleCutting",
            )
    return DataPhase(
        from_step=raw["from_step"],
        from_sample=raw["from_sample"],
        seq_length=raw["seq_length"],
        sampling=cutting(**sampling),
        split=split_of(raw["split"]),
        train=tuple(
            MixedCorpus(**entry | {"beginnings": tuple(entry.get("beginnings", ()))}) for entry in raw["train"]
        ),
    )


def split_of(shares: Sequence[float]) -> tuple[float, float, float]:
    """The shares of a split as they are compared."""
    train, validation, test = shares
    return train, validation, test
