"""What `tokenize` is about to do, settled before it begins: input, units, engine; or what an earlier start settled."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from configs.errors import DataError, MachineError
from data_prep.config import TokenizeConfig
from data_prep.corpus.manifest import MANIFEST, TOKEN_COUNTS, TOKENIZER, CorpusManifest
from data_prep.corpus.shards import bin_path, idx_path, metadata_path
from data_prep.reading.files import is_url
from data_prep.reading.input_patterns import named_patterns
from data_prep.reading.inputs import InputFile, find_files, group_units, unit_bytes, work_units
from data_prep.reading.metadata_fields import check_metadata_fields
from data_prep.sharding.encoding import ShardTask
from data_prep.sharding.held_tokenizer import hold_tokenizer
from data_prep.sharding.plan import PLAN, ShardingPlan, plan_differences, plan_identity, recipe_of, refuse_changes
from data_prep.sharding.shard_record import RECORDS, holds_documents
from data_prep.storage.durable import writing
from data_prep.storage.locks import is_locked, locked
from data_prep.storage.replaceable import check_replaceable, foreign_entry
from data_prep.tokenizer import Tokenizer, load_tokenizer
from data_prep.tokenizer.light import keep_light

LOCK = ".lock"
# Held, with the others, by each process that works on the shards; `*.lock` beside it by who makes a shard.
_AT_WORK = "at_work.lock"
_UNPLANNED = (LOCK, RECORDS, TOKENIZER)
_UNFINISHED = (
    *(*_UNPLANNED, PLAN, MANIFEST, TOKEN_COUNTS),
    *("shard_*.bin", "shard_*.idx", "shard_*.meta.jsonl", ".shard_*.tmp", ".shard_*.tmp-*"),
)


@dataclass(frozen=True)
class Work:
    """What is to be done.

    Attributes:
        partial: the directory of the corpus while it is made.
        plan: all units of work.
        identity: of the plan's file.
        tasks: one for each shard.
        sizes_bytes: input of each.
    """

    partial: Path
    plan: ShardingPlan
    identity: str | None
    tasks: list[ShardTask]
    sizes_bytes: list[int]


def begin(config: TokenizeConfig) -> CorpusManifest | Work:
    """Plan the corpus that `config` describes, or take up the plan of an earlier start.

    Returns:
        the manifest, when the corpus is there and is what `config` describes; else the work.

    Raises:
        DataError: for input or a tokenizer that cannot be used, or an output that was made of something else.
        MachineError: if the output cannot be written.
    """
    tokenizer = load_tokenizer(config.tokenizer, config.engine)
    for wanted, role, other in (
        (config.append_end_of_document, "end_of_document", "append_end_of_document=false"),
        (config.prepend_beginning_of_document, "beginning_of_document", "prepend_beginning_of_document=false"),
    ):
        if wanted and tokenizer.role(role) is None:
            raise DataError(
                f"the tokenizer has no {role.replace('_', '-')} token",
                where=config.tokenizer,
                expected=f"one that has, or {other}",
            )
    if config.sentences:
        from data_prep.sharding.sentences import check_sentences

        check_sentences()
    files = find_files(config)
    partial = config.partial
    with writing(partial):
        _refuse_foreign(partial)
    with writing(partial), locked(partial / LOCK, wait=True, make_parent=True):
        try:
            finished = _finished(config, tokenizer.fingerprint, files)
            if finished is not None:
                return finished
            plan = _plan(config, tokenizer, files, partial)
            identity = plan_identity(partial)
        finally:
            _remove_if_unused(partial)
    hold_tokenizer(partial.absolute() / TOKENIZER, tokenizer)
    states = {file.path: file.state for file in plan.files}
    tasks = [
        ShardTask(
            name=f"shard_{number:05d}",
            units=units,
            states={unit.path: states[unit.path] for unit in units},
            config=config,
            engine="reference" if plan.engine == "reference" else "auto",
            tokenizer=partial.absolute() / TOKENIZER,
            directory=partial.absolute(),
        )
        for number, units in enumerate(plan.shards)
    ]
    return Work(partial, plan, identity, tasks, [sum(unit.size_bytes for unit in units) for units in plan.shards])


@contextmanager
def working(work: Work) -> Iterator[bool]:
    """Tell others, in the block, that there is work in the directory; yields False when the corpus is whole by now.

    Raises:
        DataError: if another process began it anew in the meantime.
        MachineError: if it cannot be written.
    """
    with ExitStack() as held:
        with writing(work.partial):
            with suppress(FileNotFoundError):
                held.enter_context(locked(work.partial / RECORDS / _AT_WORK, wait=True, shared=True))
            there = plan_identity(work.partial) is not None
        check_plan(work)
        yield there


def check_plan(work: Work) -> None:
    """Refuse to go on in a directory that another process has begun anew since.

    Raises:
        DataError: if the plan is another one.
    """
    with writing(work.partial):
        found = plan_identity(work.partial)
    if found not in (None, work.identity):
        raise DataError("was begun anew by another process", where=work.partial, expected="one process at a time")


def discard_if_unused(partial: Path) -> None:
    """Remove what a start leaves that failed, unless something in it is finished or other processes work in it."""
    try:
        with locked(partial / LOCK, wait=True):
            if (
                not _is_worth_keeping(partial)
                and not _is_in_use(partial)
                and foreign_entry(partial, _UNFINISHED) is None
            ):
                shutil.rmtree(partial, ignore_errors=True)
    except OSError:
        return  # it stays: what is asked for went wrong before, and is told


def _is_worth_keeping(partial: Path) -> bool:
    """Whether some shard with a document is finished: of input in which none was read nothing is lost."""
    return (partial / MANIFEST).exists() or any(map(holds_documents, (partial / RECORDS).glob("*.json")))


def _is_in_use(partial: Path) -> bool:
    return any(is_locked(lock) for lock in sorted((partial / RECORDS).glob("*.lock")))


def _refuse_foreign(partial: Path) -> None:
    """Refuse a directory of that name that is not of our making, or that holds what is not."""
    # A start that was killed before it had a plan leaves a lock, and perhaps a tokenizer.
    allowed = _UNFINISHED if (partial / PLAN).is_file() else _UNPLANNED if (partial / LOCK).is_file() else ()
    name = None
    with suppress(FileNotFoundError):
        name = foreign_entry(partial, allowed)
    if name is not None:
        raise DataError(
            f"holds other things than an unfinished corpus: {name}",
            where=partial,
            expected="this place free for the corpus while it is made, or another output",
        )


def _finished(config: TokenizeConfig, fingerprint: str, files: list[InputFile]) -> CorpusManifest | None:
    """The manifest of a whole corpus that is what is asked for; None: there is none, or it may be replaced."""
    output = config.output
    if (output / MANIFEST).is_file() and (output / PLAN).is_file():
        try:
            plan, manifest = ShardingPlan.read(output), CorpusManifest.read(output)
            if not config.overwrite:
                refuse_changes(plan, config, fingerprint, files, output)
            if not plan_differences(plan, config, fingerprint, files):
                refuse_damage(output, manifest)
                return manifest
        except DataError:
            if not config.overwrite:
                raise
    check_output(config, [file.path for file in files])
    return None


def check_output(config: TokenizeConfig, files: list[str]) -> None:
    """Refuse an output that may not be replaced by the corpus.

    Raises:
        DataError: if it holds anything else than a corpus, or what is read, or `overwrite` is not given.
    """
    named = [*named_patterns(config.input), *files]
    inputs: list[str | Path] = [config.tokenizer, *(path for path in named if not is_url(path))]
    check_replaceable(config.output, MANIFEST, config.overwrite, inputs)


def refuse_damage(output: Path, manifest: CorpusManifest) -> None:
    """Look at the sizes of a finished corpus' files.

    Raises:
        DataError: if one is missing or of another size than was written.
    """
    expected: dict[Path, int | None] = {output / TOKEN_COUNTS: None}
    for shard in manifest.shards:
        expected |= {bin_path(output / shard.name): shard.bin_bytes, idx_path(output / shard.name): shard.idx_bytes}
        if shard.metadata_xxh3 is not None:
            expected[metadata_path(output / shard.name)] = None
    for path, size in expected.items():
        found = path.stat().st_size if path.is_file() else None
        if found is None or size not in (None, found):
            raise DataError(
                "is missing" if found is None else f"holds {found:,} bytes, {size:,} were written: it is damaged",
                where=path,
                expected="a corpus as it was made; `verify` looks at all of it, --overwrite makes it again",
            )


def _plan(config: TokenizeConfig, tokenizer: Tokenizer, files: list[InputFile], partial: Path) -> ShardingPlan:
    if (partial / PLAN).is_file():
        plan = ShardingPlan.read(partial)
        if not config.overwrite and _is_worth_keeping(partial):
            refuse_changes(plan, config, tokenizer.fingerprint, files, partial)
        if not plan_differences(plan, config, tokenizer.fingerprint, files):
            (partial / RECORDS).mkdir(exist_ok=True)
            return plan
        if _is_in_use(partial):
            raise MachineError("another process works in it", where=partial)
        for path in partial.iterdir():
            if path.name != LOCK:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    left_out: list[DataError] = []
    units = work_units(files, config, left_out)
    if not units:
        raise DataError("there is no text in any file", where=", ".join(config.input))
    check_metadata_fields(files, config)
    print(f"engine: {tokenizer.explain_engine()}", file=sys.stderr, flush=True)
    plan = ShardingPlan(
        recipe=recipe_of(config),
        tokenizer=tokenizer.fingerprint,
        engine=config.engine,
        files=files,
        left_out=[f"{error.where}: {error.problem}" for error in left_out],
        shards=group_units(units, unit_bytes(files, config)),
    )
    (partial / RECORDS).mkdir(exist_ok=True)
    tokenizer.copy_to(partial / TOKENIZER)
    keep_light(tokenizer, partial / RECORDS)
    plan.write(partial)
    return plan


def _remove_if_unused(partial: Path) -> None:
    """Remove a directory that holds no plan, so that a mistake leaves nothing behind."""
    if not (partial / PLAN).exists():
        shutil.rmtree(partial, ignore_errors=True)
