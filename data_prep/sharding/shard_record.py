"""What is known of a finished shard: written after its files, so that a shard with a record is whole."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import orjson

from data_prep.corpus.shards import bin_path, idx_path, metadata_path
from data_prep.sharding.plan import plan_identity
from data_prep.storage.durable import writing
from data_prep.storage.publishing import staged_file

RECORDS = "finished"
PULSE_INTERVAL_S = 2.0


@dataclass
class SourceCounts:
    """What one input file gave to one shard."""

    documents: int = 0
    tokens: int = 0
    text_bytes: int = 0
    left_out: int = 0


@dataclass
class ShardRecord:
    """One finished shard.

    Attributes:
        name: of its files, without endings.
        documents, sequences, tokens: what is in it.
        text_bytes: UTF-8 bytes of its documents.
        empty, malformed, too_long, damaged_files: what was left out.
        replaced: documents with U+FFFD in place of half a surrogate pair.
        first: what the first records left out were.
        bin_bytes, idx_bytes, bin_xxh3, idx_xxh3: its files.
        metadata_xxh3: hash of the metadata beside it; None: there is none.
        sources: by input file.
        fields: metadata fields that some document has.
        metadata_bytes: size of the metadata beside it.
        plan: identity of the plan that it was made under.
    """

    name: str
    documents: int = 0
    sequences: int = 0
    tokens: int = 0
    text_bytes: int = 0
    empty: int = 0
    malformed: int = 0
    too_long: int = 0
    damaged_files: int = 0
    replaced: int = 0
    first: list[str] = field(default_factory=list)
    bin_bytes: int = 0
    idx_bytes: int = 0
    bin_xxh3: str = ""
    idx_xxh3: str = ""
    metadata_xxh3: str | None = None
    sources: dict[str, SourceCounts] = field(default_factory=dict)
    fields: list[str] = field(default_factory=list)
    metadata_bytes: int = 0
    plan: str | None = None

    def write(self, directory: Path, counts: np.ndarray) -> None:
        """Write the record and how often each id occurs, int64 [vocab_size], into the corpus being made.

        Raises:
            MachineError: if they cannot be written.
        """
        with writing(directory / self.name):
            self.plan = plan_identity(directory)
            self.metadata_bytes = _metadata_bytes(self, directory)
        with staged_file(counts_path(directory, self.name)) as temporary, temporary.open("wb") as stream:
            np.save(stream, counts, allow_pickle=False)
        with staged_file(record_path(directory, self.name)) as temporary:
            temporary.write_bytes(orjson.dumps(asdict(self)) + b"\n")

    @classmethod
    def read(cls, directory: Path, name: str) -> ShardRecord | None:
        """The record of the shard `name`; None: it is not finished, or of another plan, or its files are others."""
        try:
            raw = orjson.loads(record_path(directory, name).read_bytes())
            raw["sources"] = {path: SourceCounts(**found) for path, found in raw["sources"].items()}
            record = cls(**raw)
            prefix = directory / name
            sizes = (bin_path(prefix).stat().st_size, idx_path(prefix).stat().st_size)
            whole = (
                record.plan == plan_identity(directory)
                and sizes == (record.bin_bytes, record.idx_bytes)
                and _metadata_bytes(record, directory) == record.metadata_bytes
                and counts_path(directory, name).is_file()
            )
        except (OSError, orjson.JSONDecodeError, KeyError, TypeError):
            return None
        return record if whole else None


def holds_documents(record: Path) -> bool:
    """Whether a record is of a shard with documents; one that cannot be read may be."""
    try:
        return bool(orjson.loads(record.read_bytes())["documents"])
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError):
        return True


@dataclass(frozen=True)
class Beat:
    """How far a shard in the making was at the time `told_s`: what its record will say, who makes it, how fast."""

    text_bytes: int
    tokens: int
    left_out: int
    worker: str
    bytes_per_s: float
    told_s: float


class Pulse:
    """Lets others see how far a shard in the making is, every few seconds, through a small file beside its record."""

    def __init__(self, directory: Path, name: str, worker: str) -> None:
        self._path = directory / RECORDS / f"{name}.pulse"
        self._worker = worker
        self._began_s = self._told_s = time.monotonic()

    def beat(self, text_bytes: int, tokens: int, left_out: int) -> None:
        """Tell it, if it is time."""
        now_s = time.monotonic()
        if now_s - self._told_s >= PULSE_INTERVAL_S:
            self._told_s = now_s
            rate = text_bytes / (now_s - self._began_s)
            beat = Beat(text_bytes, tokens, left_out, self._worker, rate, time.time())
            self._path.write_bytes(orjson.dumps(asdict(beat)))

    def end(self) -> None:
        """The shard is finished."""
        self._path.unlink(missing_ok=True)


def read_pulse(directory: Path, name: str) -> Beat | None:
    """The last beat of a shard in the making."""
    try:
        return Beat(**orjson.loads((directory / RECORDS / f"{name}.pulse").read_bytes()))
    except (OSError, orjson.JSONDecodeError, TypeError):
        return None


def _metadata_bytes(record: ShardRecord, directory: Path) -> int:
    return metadata_path(directory / record.name).stat().st_size if record.metadata_xxh3 is not None else 0


def record_path(directory: Path, name: str) -> Path:
    """Where the record of the shard `name` lies."""
    return directory / RECORDS / f"{name}.json"


def counts_path(directory: Path, name: str) -> Path:
    """Where the token counts of the shard `name` lie."""
    return directory / RECORDS / f"{name}.npy"


def lock_path(directory: Path, name: str) -> Path:
    """The lock of whoever makes the shard `name`."""
    return directory / RECORDS / f"{name}.lock"
