"""What happened to the documents: counts by stage, source and reason, with a few samples; kept as JSON by each task."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from data_prep.cleaning.scripts import language_of_script
from data_prep.storage.publishing import write_whole

MALFORMED = "malformed"
DAMAGED = "damaged_file"
_BINS_PER_DECADE = 4


@dataclass
class DocumentCounts:
    """Documents of one source at one stage, and the UTF-8 bytes of their texts."""

    documents_in: int = 0
    bytes_in: int = 0
    documents_out: int = 0
    bytes_out: int = 0
    changed: int = 0

    def add(self, other: DocumentCounts) -> None:
        """Add the counts of another task."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


@dataclass
class Sample:
    """A dropped document, cut to what a reader wants to see."""

    id: str
    source: str
    text: str
    detail: str = ""


@dataclass
class StageCounts:
    """One stage.

    Attributes:
        sources: counts by source.
        reasons: documents and bytes that were dropped, by reason and source.
        samples: the first dropped documents of each reason.
        seconds: processor time, of extraction wall time.
        words, characters, unspaced: what a comparison by n-grams saw; characters of scripts without spaces.
        units: sentences or lines that texts were divided into, to compare them.
        fields: by source and name: records that have a value there; of the fields that the recipe names in all
            records, of others in the first ones.
    """

    sources: dict[str, DocumentCounts] = field(default_factory=dict)
    reasons: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    seconds: float = 0.0
    words: int = 0
    characters: int = 0
    unspaced: int = 0
    units: int = 0
    fields: dict[str, dict[str, int]] = field(default_factory=dict)

    def tally(self, source: str) -> DocumentCounts:
        """The counts of `source`."""
        found = self.sources.get(source)
        if found is None:
            found = self.sources[source] = DocumentCounts()
        return found

    def drop(self, reason: str, size_bytes: int, sample: Sample, limit: int, documents: int = 1) -> None:
        """Count a document that was dropped, or several; keep a sample if there are fewer than `limit`."""
        counts = self.reasons.setdefault(reason, {}).setdefault(sample.source, [0, 0])
        counts[0] += documents
        counts[1] += size_bytes
        samples = self.samples.setdefault(reason, [])
        if len(samples) < limit:
            samples.append(sample)

    def dropped(self, source: str | None = None, prefix: str = "") -> int:
        """Documents that were dropped for reasons that begin with `prefix`, of one source or all."""
        return sum(
            counts[0]
            for reason, by_source in self.reasons.items()
            for name, counts in by_source.items()
            if reason.startswith(prefix) and source in (None, name)
        )

    def add(self, other: StageCounts, limit: int) -> None:
        """Add the counts of another task; samples stay at `limit` for each reason."""
        for source, tally in other.sources.items():
            self.tally(source).add(tally)
        for reason, by_source in other.reasons.items():
            for source, (documents, size) in by_source.items():
                counts = self.reasons.setdefault(reason, {}).setdefault(source, [0, 0])
                counts[0] += documents
                counts[1] += size
        for reason, samples in other.samples.items():
            kept = self.samples.setdefault(reason, [])
            kept.extend(samples[: max(0, limit - len(kept))])
        self.seconds += other.seconds
        self.words += other.words
        self.characters += other.characters
        self.unspaced += other.unspaced
        self.units += other.units
        for source, fields in other.fields.items():
            _add_counts(self.fields.setdefault(source, {}), fields)


@dataclass
class CleaningCounts:
    """All stages of a task or of the whole work, in the order in which documents pass them.

    Attributes:
        stages: by the stage's name.
        languages: documents by the language that was found, before any is dropped for it.
        lengths: `raw` and `clean`: documents by length class, see `length_class`.
        scripts: raw documents by a language of their script, see `language_of_script`; empty: another script.
    """

    stages: dict[str, StageCounts] = field(default_factory=dict)
    languages: dict[str, int] = field(default_factory=dict)
    lengths: dict[str, dict[str, int]] = field(default_factory=dict)
    scripts: dict[str, int] = field(default_factory=dict)

    def stage(self, name: str) -> StageCounts:
        """The counts of one stage."""
        return self.stages.setdefault(name, StageCounts())

    def count_length(self, kind: str, chars: int) -> None:
        """Count a document of so many characters in the histogram `kind`."""
        histogram = self.lengths.setdefault(kind, {})
        key = str(length_class(chars))
        histogram[key] = histogram.get(key, 0) + 1

    def count_script(self, text: str) -> None:
        """Count a document by its script."""
        code = language_of_script(text)
        self.scripts[code] = self.scripts.get(code, 0) + 1

    def add(self, other: CleaningCounts, limit: int) -> None:
        """Add another task's counts."""
        for name, stage in other.stages.items():
            self.stage(name).add(stage, limit)
        _add_counts(self.languages, other.languages)
        _add_counts(self.scripts, other.scripts)
        for kind, histogram in other.lengths.items():
            _add_counts(self.lengths.setdefault(kind, {}), histogram)

    def save(self, path: Path) -> None:
        """Write as JSON, in one step."""
        write_whole(path, orjson.dumps(asdict(self)))

    @classmethod
    def load(cls, path: Path) -> CleaningCounts:
        """Read what `save` wrote."""
        raw: dict[str, Any] = orjson.loads(path.read_bytes())
        stages = {
            name: StageCounts(
                {source: DocumentCounts(**tally) for source, tally in stage["sources"].items()},
                stage["reasons"],
                {reason: [Sample(**s) for s in samples] for reason, samples in stage["samples"].items()},
                stage["seconds"],
                stage.get("words", 0),
                stage.get("characters", 0),
                stage.get("unspaced", 0),
                stage.get("units", 0),
                stage.get("fields", {}),
            )
            for name, stage in raw["stages"].items()
        }
        return cls(stages, raw["languages"], raw["lengths"], raw.get("scripts", {}))


def length_class(chars: int) -> int:
    """The class of a length in a histogram of four classes per power of ten."""
    return int(_BINS_PER_DECADE * math.log10(max(1, chars)))


def length_of_class(number: int) -> float:
    """The least length of a class, in characters."""
    return 10 ** (number / _BINS_PER_DECADE)


def utf8_size(text: str) -> int:
    """Bytes of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _add_counts(to: dict[str, int], other: dict[str, int]) -> None:
    for key, value in other.items():
        to[key] = to.get(key, 0) + value
