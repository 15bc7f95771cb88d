"""What `tokenize` is about to do, settled before it begins: input, units, engine; or what an earlier start settled."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from configs.errors import DataError
from data_prep.atomic import check_replaceable, writing
from data_prep.config import TokenizeConfig
from data_prep.corpus.manifest import MANIFEST, TOKENIZER, Manifest
from data_prep.parallel.claims import claimed
from data_prep.reading.documents import ReadCounts
from data_prep.reading.inputs import InputFile, find_files, group_units, unit_bytes, work_units
from data_prep.reading.metadata_fields import check_metadata_fields
from data_prep.reading.readers import read_batches
from data_prep.reading.work_unit import WorkUnit
from data_prep.sharding.encoding import ShardTask
from data_prep.sharding.plan import PLAN, Plan, differences, recipe_of, refuse_changes
from data_prep.sharding.shard_record import RECORDS
from data_prep.tokenizer import Tokenizer, choose_engine, load_tokenizer

LOCK = ".lock"
_PARITY_BYTES = 2_000_000
_PARITY_UNITS = 64


@dataclass(frozen=True)
class Work:
    """What is to be done.

    Attributes:
        partial: the directory of the corpus while it is made.
        plan: all units of work.
        tasks: one for each shard.
        sizes_bytes: input of each.
    """

    partial: Path
    plan: Plan
    tasks: list[ShardTask]
    sizes_bytes: list[int]


def begin(config: TokenizeConfig) -> Manifest | Work:
    """Plan the corpus that `config` describes, or take up the plan of an earlier start.

    Returns:
        the manifest, when the corpus is there and is what `config` describes; else the work.

    Raises:
        DataError: for input or a tokenizer that cannot be used, or an output that was made of something else.
        MachineError: if the output cannot be written.
    """
    tokenizer = load_tokenizer(config.tokenizer)
    if config.append_end_of_document and tokenizer.role("end_of_document") is None:
        raise DataError(
            "the tokenizer has no end-of-document token",
            where=config.tokenizer,
            expected="one that has, or append_end_of_document=false",
        )
    if config.sentences:
        from data_prep.sharding.sentences import check_sentences

        check_sentences()
    files = find_files(config)
    partial = config.partial
    with writing(partial), claimed(partial / LOCK, wait=True, make_parent=True):
        try:
            finished = _finished(config, tokenizer.fingerprint, files)
            if finished is not None:
                return finished
            plan = _plan(config, tokenizer, files, partial)
        finally:
            _remove_if_unused(partial)
    states = {file.path: file.state for file in plan.files}
    tasks = [
        ShardTask(
            name=f"shard_{number:05d}",
            units=units,
            states={unit.path: states[unit.path] for unit in units},
            config=config,
            engine="kitoken" if plan.engine == "kitoken" else "reference",
            tokenizer=partial.absolute() / TOKENIZER,
            directory=partial.absolute(),
        )
        for number, units in enumerate(plan.shards)
    ]
    return Work(partial, plan, tasks, [sum(unit.size_bytes for unit in units) for units in plan.shards])


def _finished(config: TokenizeConfig, fingerprint: str, files: list[InputFile]) -> Manifest | None:
    """The manifest of a whole corpus that is what is asked for; None: there is none, or it may be replaced."""
    output = config.output
    if (output / MANIFEST).is_file() and (output / PLAN).is_file():
        plan = Plan.read(output)
        if not differences(plan, config, fingerprint, files):
            return Manifest.read(output)
        if not config.overwrite:
            refuse_changes(plan, config, fingerprint, files, output)
    check_replaceable(output, MANIFEST, config.overwrite)
    return None


def _plan(config: TokenizeConfig, tokenizer: Tokenizer, files: list[InputFile], partial: Path) -> Plan:
    if (partial / PLAN).is_file():
        plan = Plan.read(partial)
        if not config.overwrite:
            refuse_changes(plan, config, tokenizer.fingerprint, files, partial)
        if not differences(plan, config, tokenizer.fingerprint, files):
            return plan
        for path in partial.iterdir():
            if path.name != LOCK:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    left_out: list[DataError] = []
    units = work_units(files, config, left_out)
    if not units:
        raise DataError("there is no text in any file", where=", ".join(config.input))
    check_metadata_fields(files, config)
    engine, reason = choose_engine(config.tokenizer, config.engine, _sample(units, config))
    if config.engine != "reference":
        print(f"engine: {reason}", file=sys.stderr, flush=True)
    plan = Plan(
        recipe=recipe_of(config),
        tokenizer=tokenizer.fingerprint,
        engine=engine,
        files=files,
        left_out=[f"{error.where}: {error.problem}" for error in left_out],
        shards=group_units(units, unit_bytes(files, config)),
    )
    (partial / RECORDS).mkdir(exist_ok=True)
    tokenizer.copy_to(partial / TOKENIZER)
    plan.write(partial)
    return plan


def _sample(units: list[WorkUnit], config: TokenizeConfig) -> Iterator[str]:
    """Text from all over the input, some megabytes of it: the first documents of units at equal distances."""
    lenient = config.model_copy(update={"malformed": "skip", "damaged_files": "skip"})
    chosen = units[:: -(-len(units) // _PARITY_UNITS)]
    for unit in chosen:
        left_bytes = _PARITY_BYTES // len(chosen)
        for batch in read_batches(unit, lenient, ReadCounts()):
            for text in batch.texts:
                yield text
                left_bytes -= len(text)
                if left_bytes <= 0:
                    break
            if left_bytes <= 0:
                break


def _remove_if_unused(partial: Path) -> None:
    """Remove a directory that holds no plan, so that a mistake leaves nothing behind."""
    if not (partial / PLAN).exists():
        shutil.rmtree(partial, ignore_errors=True)
