"""The settings of cleaning: sources, stages in order with their thresholds, and where the work runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import BeforeValidator, Field, StringConstraints, field_validator, model_validator

from configs.paths import OutputPath
from configs.section import Section
from data_prep.cleaning.stage_config import (
    C4Settings,
    DecontaminationSettings,
    ExactDedupSettings,
    ExtractionSettings,
    FineWebSettings,
    GopherQualitySettings,
    GopherRepetitionSettings,
    LanguageSettings,
    MinhashDedupSettings,
    PiiSettings,
    SentenceDedupSettings,
    UnicodeSettings,
    UrlDedupSettings,
)
from data_prep.config import ReadingSettings

StageName = Literal[
    "unicode",
    "language",
    "gopher_repetition",
    "gopher_quality",
    "c4",
    "fineweb",
    "pii",
    "url_dedup",
    "exact_dedup",
    "sentence_dedup",
    "minhash_dedup",
    "decontaminate",
]
STAGES: tuple[str, ...] = get_args(StageName)
# What may be changed while a work is unfinished: it decides where and how carefully it runs, not what comes out.
NOT_OF_THE_RESULT = frozenset(
    {"output", "executor", "workers", "slurm", "overwrite", "max_malformed_share", "max_damaged_files"}
)
SourceName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+$")]


def _clock_time(value: object) -> object:
    # YAML reads 8:00:00 without quotes as a number of seconds to the base 60.
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value // 3600}:{value // 60 % 60:02}:{value % 60:02}"
    return value


ClockTime = Annotated[str, BeforeValidator(_clock_time)]


class CleanSource(ReadingSettings):
    """One source of raw documents; its name is in the metadata of each."""

    renamed: ClassVar[dict[str, str]] = {"paths": "input", "split": "dataset_split"}

    id_field: str = "id"
    """Field or column that tells documents apart; where there is none, source, file and position do."""
    metadata_fields: list[str] | None = None
    """Other fields that are kept beside the text; null: all."""
    rate: float = Field(default=1.0, gt=0, le=1)
    """Share of the documents that is taken, the same ones in each run."""

    @field_validator("format", mode="before")
    @classmethod
    def _arrow(cls, given: object) -> object:
        if given != "huggingface":
            return given
        print("format=huggingface is called arrow now", file=sys.stderr, flush=True)
        return "arrow"


class SlurmSettings(Section):
    """How tasks are submitted to Slurm; each task is one element of a job array."""

    partition: str | None = None
    """Partition of the jobs; needed with `executor: slurm`."""
    time: ClockTime = "24:00:00"
    """Time limit of a task as Slurm writes it: hours:minutes:seconds, or days-hours:minutes:seconds."""
    cpus_per_task: int = Field(default=1, ge=1)
    """Processor cores of a task; more than one only to get more memory."""
    memory_per_cpu_gb: int | None = Field(default=2, ge=1)
    """Memory of a core in gigabytes; null: what the partition gives."""
    qos: str | None = None
    """Quality of service of the jobs."""
    sbatch: dict[str, str] = {}
    """Other options of sbatch, without the dashes."""
    environment_command: str | None = None
    """Shell line that makes this environment on a node; null: the paths of this Python are exported."""
    poll_s: float = Field(default=5.0, gt=0)
    """Seconds between two looks at the jobs."""


class CleanConfig(Section):
    """`clean`: raw files -> cleaned documents as JSON lines, and a report of what was dropped and why."""

    renamed: ClassVar[dict[str, str]] = {"unit_bytes": "work_unit_bytes"}

    output: OutputPath
    """The directory to write: `documents/`, `report.json`, `report.html`, `logs/`."""
    sources: dict[SourceName, CleanSource] = Field(min_length=1)
    """The sources by name."""
    stages: list[StageName]
    """What is done, in this order; a stage that is not named is left out."""
    word_language: str = "en"
    """ISO 639 code of the language whose rules split words and sentences in the quality filters and n-grams (zh, zho
    and cmn are one); xx: mixed languages, words stand between spaces."""
    extraction: ExtractionSettings = ExtractionSettings()
    """Text out of WARC and HTML files."""
    unicode: UnicodeSettings = UnicodeSettings()
    """Settings of the stage unicode."""
    language: LanguageSettings = LanguageSettings()
    """Settings of the stage language."""
    gopher_repetition: GopherRepetitionSettings = GopherRepetitionSettings()
    """Settings of the stage gopher_repetition."""
    gopher_quality: GopherQualitySettings = GopherQualitySettings()
    """Settings of the stage gopher_quality."""
    c4: C4Settings = C4Settings()
    """Settings of the stage c4."""
    fineweb: FineWebSettings = FineWebSettings()
    """Settings of the stage fineweb."""
    pii: PiiSettings = PiiSettings()
    """Settings of the stage pii."""
    url_dedup: UrlDedupSettings = UrlDedupSettings()
    """Settings of the stage url_dedup."""
    exact_dedup: ExactDedupSettings = ExactDedupSettings()
    """Settings of the stage exact_dedup."""
    sentence_dedup: SentenceDedupSettings = SentenceDedupSettings()
    """Settings of the stage sentence_dedup."""
    minhash_dedup: MinhashDedupSettings = MinhashDedupSettings()
    """Settings of the stage minhash_dedup."""
    decontaminate: DecontaminationSettings = DecontaminationSettings()
    """Settings of the stage decontaminate."""
    tasks: int = Field(default=8, ge=1)
    """Parts that the input is divided into; each makes one output shard, whatever the number of workers."""
    work_unit_bytes: int = Field(default=64 * 2**20, ge=1)
    """Bytes at which a large file is divided between tasks: lines, or row groups of Parquet."""
    executor: Literal["local", "slurm", "ray"] = "local"
    """Where tasks run."""
    workers: int | None = Field(default=None, ge=1)
    """Tasks at a time; null: one for each processor core, with Slurm and Ray all."""
    slurm: SlurmSettings = SlurmSettings()
    """How tasks are submitted to Slurm."""
    compression: Literal["zstd", "none"] = "zstd"
    """Compression of the output shards."""
    max_document_chars: int = Field(default=1_000_000, ge=1)
    """Characters above which a document is dropped; the repetition filter needs some hundred bytes for each."""
    max_malformed_share: float = Field(default=0.01, ge=0, le=1)
    """Share of a source's records that may be unreadable; they are left out and counted. 0: any is an error."""
    max_damaged_files: int = Field(default=0, ge=0)
    """Files per source that may break off (truncated archives); what comes before the damage is kept."""
    samples_per_reason: int = Field(default=4, ge=0)
    """Dropped documents that the report shows for each reason."""
    sample_chars: int = Field(default=600, ge=1)
    """Characters that the report shows of a dropped document."""
    seed: int = Field(default=1, ge=0, lt=2**63)
    """Chooses the documents of a source that is sampled."""
    overwrite: bool = False
    """Replace the output if it exists, and begin anew if it is unfinished."""
    _own: tuple[Path, ...] = ()

    @model_validator(mode="after")
    def _fits_together(self) -> CleanConfig:
        repeated = sorted({name for name in self.stages if self.stages.count(name) > 1})
        if repeated:
            raise ValueError(f"stages names {repeated[0]} twice")
        if "decontaminate" in self.stages and not self.decontaminate.files:
            raise ValueError("the stage decontaminate needs decontaminate.files, the evaluation files")
        if self.executor == "slurm" and self.slurm.partition is None:
            raise ValueError("executor = 'slurm' needs slurm.partition")
        return self

    def result_settings(self) -> dict[str, object]:
        """The settings that decide the result, as plain values; those of unused stages left out."""
        unused = {name for name in STAGES if name not in self.stages}
        return self.model_dump(mode="json", exclude=set(NOT_OF_THE_RESULT | unused))

    @property
    def partial(self) -> Path:
        """Where the output lies while it is made."""
        output = self.output.absolute()
        return output.with_name(output.name + ".partial")

    def own_paths(self) -> tuple[Path, ...]:
        """What the command writes: no input, also where it lies in a directory of it."""
        return self.output, self.partial, *self._own
