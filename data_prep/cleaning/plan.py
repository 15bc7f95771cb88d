"""Which files the sources mean, and which task reads what: a function of the files and the recipe alone."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from configs.errors import DataError
from data_prep.cleaning.config import CleanConfig, CleanSource
from data_prep.config import ReadingSettings, SourceConfig
from data_prep.reading.archives import split_member
from data_prep.reading.documents import DamagedFileError
from data_prep.reading.files import FileState, is_url
from data_prep.reading.inputs import InputFile, find_inputs, unit_bytes, units_of
from data_prep.reading.kinds import COLUMNAR
from data_prep.reading.work_unit import Kind, WorkUnit

# Longer documents than `max_document_chars` are counted as such; beyond this they are not held in memory to see that.
_LONGEST_RECORD_BYTES = 16 * 2**20
_BYTES_PER_CHAR = 4


@dataclass
class InputPart:
    """What one reader reads: the files of one source that hold documents of one kind, by task.

    Attributes:
        source: name of the source.
        pages: whether these are web pages, whose text is taken out next.
        reading: how the files are read.
        names: each file's name within its source, for ids.
        states: each file's state when the work was planned.
        tasks: the units of each task.
    """

    source: str
    pages: bool
    reading: SourceConfig
    names: dict[str, str] = field(default_factory=dict)
    states: dict[str, FileState] = field(default_factory=dict)
    tasks: list[list[WorkUnit]] = field(default_factory=list)


@dataclass
class CleaningPlan:
    """All input.

    Attributes:
        parts: the readers' shares.
        inputs: each file's address, size in bytes and time of change, to notice a changed one.
        kinds: what the files hold.
        empty: files of no bytes, which are passed over.
        unread: files in the directories that hold no text.
    """

    parts: list[InputPart]
    inputs: list[tuple[str, int, str]]
    kinds: set[Kind]
    empty: list[str]
    unread: list[str]

    @property
    def size_bytes(self) -> int:
        """Bytes of all files, as they are stored."""
        return sum(size for _, size, _ in self.inputs)


def make_plan(config: CleanConfig) -> CleaningPlan:
    """Find the files of all sources and divide them between the tasks, the largest first to the least loaded task.

    Raises:
        DataError: if a path means no file, or a file is of an unknown kind, lacks the text column or cannot be read.
    """
    plan = CleaningPlan([], [], set(), [], [])
    units: list[tuple[InputPart, WorkUnit]] = []
    for name in config.sources:
        reading = reading_settings(config, name)
        with _naming(name):
            found = find_inputs(reading, pages=True)
        plan.empty += found.empty
        plan.unread += found.unread
        above = _common_directory([_outside(file.path) for file in found.files])
        for pages in (False, True):
            files = [file for file in found.files if (file.kind in ("html", "warc")) == pages]
            if not files:
                continue
            part = InputPart(name, pages, reading, tasks=[[] for _ in range(config.tasks)])
            plan.parts.append(part)
            for file in files:
                plan.inputs.append((_address(file.path), file.state.size_bytes, file.state.version))
                plan.kinds.add(file.kind)
                part.names[file.path] = file.path[len(above) :]
                part.states[file.path] = file.state
                with _naming(name):
                    _check_columns(file, config.sources[name])
                    units.extend((part, unit) for unit in _units(file, reading, found.files))
    _share_out(units, config.tasks)
    return plan


@contextmanager
def _naming(source: str) -> Iterator[None]:
    try:
        yield
    except DataError as error:
        where = f"sources.{source}.input, {error.where}"
        # What is said to be set is a setting of the source here.
        problem, close = (
            said and re.sub(r"(?<![\w.])(encoding|delimiter)=", rf"sources.{source}.\1=", said)
            for said in (error.problem, error.nearest)
        )
        raise DataError(problem or error.problem, where=where, expected=error.expected, nearest=close) from None


def reading_settings(config: CleanConfig, name: str) -> SourceConfig:
    """How the files of a source are read."""
    source = config.sources[name]
    shared = {key: getattr(source, key) for key in ReadingSettings.model_fields}
    settings = SourceConfig(
        **shared,
        malformed="skip" if config.max_malformed_share else "stop",
        damaged_files="skip" if config.max_damaged_files else "stop",
        max_malformed_share=config.max_malformed_share,
        max_document_bytes=max(_LONGEST_RECORD_BYTES, _BYTES_PER_CHAR * config.max_document_chars),
        work_unit_bytes=config.work_unit_bytes,
    )
    settings._own = config.own_paths()
    return settings


def _check_columns(file: InputFile, source: CleanSource) -> None:
    """See that of the columns that are kept no two have one name, of which only one could be.

    Raises:
        DataError: if two have.
    """
    if file.kind not in COLUMNAR:
        return
    from data_prep.reading.columnar import check_columns_differ, column_names

    fields = source.metadata_fields
    wanted = None if fields is None else [*source.text_field, *fields, source.id_field]
    with contextlib.suppress(DamagedFileError):  # which is met again when it is divided
        check_columns_differ(file.path, column_names(file.path, file.kind), wanted)


def _units(file: InputFile, reading: SourceConfig, files: list[InputFile]) -> list[WorkUnit]:
    try:
        return units_of(file, unit_bytes(files, reading), reading)
    except DamagedFileError:
        # Whoever reads it tells what is wrong, and counts it.
        return [WorkUnit(file.path, file.kind, 0, None, file.state.size_bytes)]


def _share_out(units: list[tuple[InputPart, WorkUnit]], tasks: int) -> None:
    loads = [0] * tasks
    order = {(id(part), unit): number for number, (part, unit) in enumerate(units)}
    for part, unit in sorted(units, key=lambda item: -item[1].size_bytes):
        task = loads.index(min(loads))
        loads[task] += unit.size_bytes
        part.tasks[task].append(unit)
    for part in {id(part): part for part, _ in units}.values():
        for own in part.tasks:
            # In the order of the files, and of the members of an archive.
            own.sort(key=lambda unit: order[id(part), unit])


def _common_directory(paths: list[str]) -> str:
    """The directory that holds all files, with a slash at its end; empty: there is none."""
    # The first and the last in order differ the most.
    folders = sorted(path.split("/")[:-1] for path in paths)
    pairs = zip(folders[0], folders[-1]) if folders else ()
    common = [name for name, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)]
    return "/".join([*common, ""]) if common else ""


def _outside(path: str) -> str:
    member = split_member(path)
    return path if member is None else member[0]


def _address(path: str) -> str:
    if is_url(path):
        return path
    return f"file://{Path(path).absolute()}"


def check_states(part: InputPart, path: str, now: FileState | None) -> None:
    """See that a file is what it was when the work was planned.

    Raises:
        DataError: if it was changed since.
    """
    before = part.states[path]
    if now == before:
        return
    size = f"{before.size_bytes:,} bytes when the work began, "
    found = (
        "gone"
        if now is None
        else f"{now.size_bytes:,} now"
        if now.size_bytes != before.size_bytes
        else "now written anew"
    )
    raise DataError(
        f"was changed while it was read: {size}{found}",
        where=path,
        expected="input that stays as it is; the same command with --overwrite begins anew",
    )
