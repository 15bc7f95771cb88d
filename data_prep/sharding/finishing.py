"""The end of `tokenize`: when all shards are there, the manifest is written and the corpus gets its name."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from configs.errors import DataError
from data_prep.config import TokenizeConfig
from data_prep.corpus.manifest import (
    MANIFEST,
    MAX_LEFT_OUT,
    TOKEN_COUNTS,
    CorpusManifest,
    ShardEntry,
    SourceEntry,
    dtype_name,
    program,
)
from data_prep.corpus.shards import bin_path, idx_path, metadata_path
from data_prep.sharding.held_tokenizer import held_tokenizer, let_tokenizer_go
from data_prep.sharding.plan import PLAN, ShardingPlan
from data_prep.sharding.planning import LOCK, Work, check_output, check_plan
from data_prep.sharding.shard_record import RECORDS, ShardRecord, SourceCounts, counts_path
from data_prep.storage.durable import writing
from data_prep.storage.locks import locked
from data_prep.storage.publishing import publish_directory, staged_file

_MIN_RECORDS = 1000
_SHOWN = 5


def finish(work: Work, config: TokenizeConfig) -> CorpusManifest | None:
    """Complete the corpus if all its shards are there; None if others are still at work on some.

    Whoever comes last does it. A process that is killed here leaves what the next start completes.

    Raises:
        DataError: if too many records were left out, or there is no text at all.
        MachineError: if it cannot be written.
    """
    partial, output = work.partial, config.output
    try:
        with locked(partial / LOCK, wait=True):
            if not (partial / PLAN).exists():
                return CorpusManifest.read(output)
            check_plan(work)
            if (partial / MANIFEST).exists():
                manifest = CorpusManifest.read(partial)
            else:
                records = [ShardRecord.read(partial, task.name) for task in work.tasks]
                whole = [record for record in records if record is not None]
                if len(whole) < len(records):
                    return None
                manifest = _manifest(work, config, whole)
                _write_counts(partial, whole, manifest.vocab_size)
                for record in whole:
                    if not record.documents:
                        for path in (bin_path, idx_path, metadata_path):
                            path(partial / record.name).unlink(missing_ok=True)
                manifest.write(partial)
            # It may have come to be since the work was begun.
            check_output(config, [file.path for file in work.plan.files])
            with writing(output):
                shutil.rmtree(partial / RECORDS, ignore_errors=True)
                # What was being written, other than a shard, when a process was killed.
                for leftover in partial.glob(".*.tmp-*"):
                    leftover.unlink(missing_ok=True)
                (partial / LOCK).unlink(missing_ok=True)
                publish_directory(partial, output)
            return manifest
    except FileNotFoundError:
        # Another process was quicker: the directory has its final name.
        return CorpusManifest.read(output)


@dataclass
class ShardTally:
    """Counts the records of shards, good and left out."""

    good: int = 0
    bad: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, record: ShardRecord) -> None:
        """Count those of one shard."""
        self.good += record.documents + record.empty
        self.bad += record.malformed + record.too_long
        self.first += record.first[: _SHOWN - len(self.first)]

    def check(self, config: TokenizeConfig, at_end: bool) -> None:
        """Stop when more were left out than the settings allow.

        Raises:
            DataError: with the counts, and the first records left out.
        """
        seen = self.good + self.bad
        if self.bad <= config.max_malformed_share * seen or (seen < _MIN_RECORDS and not at_end):
            return
        shown = "".join(f"\n- {line}" for line in self.first)
        raise DataError(
            f"{self.bad:,} of {seen:,} records cannot be read:{shown}",
            where=", ".join(config.input),
            expected=f"at most max_malformed_share = {config.max_malformed_share:g} of them"
            + ("; what is done is kept" if self.good else ""),
        )


def _manifest(work: Work, config: TokenizeConfig, records: list[ShardRecord]) -> CorpusManifest:
    tally = ShardTally()
    for record in records:
        tally.add(record)
    tally.check(config, at_end=True)
    if not any(record.documents for record in records):
        raise DataError("there is no text in any document", where=", ".join(config.input))
    seen = {name for record in records for name in record.fields}
    for name in config.metadata_fields:
        if name not in seen:
            print(f"metadata_fields: no record has the field {name!r}", file=sys.stderr, flush=True)
    tokenizer = held_tokenizer(work.tasks[0].tokenizer, work.tasks[0].engine)
    let_tokenizer_go()
    begin = tokenizer.role("beginning_of_document") if config.prepend_beginning_of_document else None
    end = tokenizer.role("end_of_document") if config.append_end_of_document else None
    return CorpusManifest(
        created_by=program(),
        dtype=dtype_name(tokenizer.vocab_size),
        vocab_size=tokenizer.vocab_size,
        end_of_document=end,
        beginning_of_document=begin,
        tokenizer_fingerprint=tokenizer.fingerprint,
        engine=work.plan.engine,
        sentences=config.sentences,
        text_bytes=sum(record.text_bytes for record in records),
        empty_documents=sum(record.empty for record in records),
        malformed_records=sum(record.malformed for record in records),
        too_long_records=sum(record.too_long for record in records),
        replaced_records=sum(record.replaced for record in records),
        damaged_files=sum(record.damaged_files for record in records) + len(work.plan.left_out),
        left_out=[*work.plan.left_out, *(line for record in records for line in record.first)][:MAX_LEFT_OUT],
        shards=[_shard_entry(record) for record in records if record.documents],
        sources=_sources(work.plan, records),
    )


def _shard_entry(record: ShardRecord) -> ShardEntry:
    return ShardEntry(
        name=record.name,
        documents=record.documents,
        tokens=record.tokens,
        bin_bytes=record.bin_bytes,
        idx_bytes=record.idx_bytes,
        bin_xxh3=record.bin_xxh3,
        idx_xxh3=record.idx_xxh3,
        metadata_xxh3=record.metadata_xxh3,
    )


def _sources(plan: ShardingPlan, records: list[ShardRecord]) -> list[SourceEntry]:
    total: dict[str, SourceCounts] = {file.path: SourceCounts() for file in plan.files}
    for record in records:
        for path, found in record.sources.items():
            so_far = total[path]
            so_far.documents += found.documents
            so_far.tokens += found.tokens
            so_far.text_bytes += found.text_bytes
            so_far.left_out += found.left_out
    return [
        SourceEntry(
            path=file.path,
            bytes=file.state.size_bytes,
            documents=total[file.path].documents,
            tokens=total[file.path].tokens,
            text_bytes=total[file.path].text_bytes,
            malformed=total[file.path].left_out,
        )
        for file in {file.path: file for file in plan.files}.values()
    ]


def _write_counts(partial: Path, records: list[ShardRecord], vocab_size: int) -> None:
    counts = np.zeros(vocab_size, dtype=np.int64)
    for record in records:
        counts += np.load(counts_path(partial, record.name), allow_pickle=False)
    with staged_file(partial / TOKEN_COUNTS) as temporary, temporary.open("wb") as stream:
        np.save(stream, counts, allow_pickle=False)
