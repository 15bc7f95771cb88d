"""Which files the input patterns mean, and how they are cut into units of work.

The cut depends on the files and the settings only, never on the number of workers, so the result does not either.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

from configs.errors import DataError, printable
from data_prep.config import SourceConfig
from data_prep.reading.archives import split_member
from data_prep.reading.documents import DamagedFileError
from data_prep.reading.encodings import UTF_8
from data_prep.reading.files import FileState, is_compressed, is_url
from data_prep.reading.input_patterns import PatternExpander, named_patterns
from data_prep.reading.json_layout import is_json_document
from data_prep.reading.kinds import COLUMNAR, PAGES
from data_prep.reading.work_unit import Kind, WorkUnit

_UNITS_PER_INPUT = 64
_UNIT_BYTES = (4 * 2**20, 256 * 2**20)


@dataclass(frozen=True)
class InputFile:
    """One input file as it was found: its path or URL, what is in it, and how a change of it is noticed."""

    path: str
    kind: Kind
    state: FileState


@dataclass(frozen=True)
class Inputs:
    """What there is to read.

    Attributes:
        files: in order, each once.
        empty: files without a byte, which some programs write for parts that got nothing.
        unread: files among them that hold no text, or describe the others.
    """

    files: list[InputFile]
    empty: list[str]
    unread: list[str]


def find_files(config: SourceConfig) -> list[InputFile]:
    """The input files in order; see `find_inputs`.

    Raises:
        DataError: as `find_inputs`; if all files are empty.
    """
    found = find_inputs(config)
    if not found.files:
        raise DataError("is empty", where=", ".join(found.empty[:4]), expected="at least one document")
    return found.files


def find_inputs(config: SourceConfig, pages: bool = False) -> Inputs:
    """The input files in order, each once; those of a directory or pattern in the order of their names.

    Said on standard error are files named again (who wants one to weigh more gives `mix` a weight), empty ones,
    and those that are not read.

    Args:
        config: where to look.
        pages: whether web pages are among what is read.

    Raises:
        DataError: if there is no such file, one is of an unknown kind, or one cannot be read.
    """
    found: dict[str, InputFile] = {}
    repeated: list[str] = []
    empty: list[str] = []
    unread: list[str] = []
    expander = PatternExpander(config, config.own_paths(), pages)
    for pattern in named_patterns(config.input):
        meant = expander.expand(pattern)
        unread += meant.unread
        for path, kind, state in meant.files:
            _check_name(path)
            inner = split_member(path)
            name = path if is_url(path) or inner is not None else os.path.realpath(path)
            if name in found or name in empty:
                repeated.append(path)
            elif not state.size_bytes:
                empty.append(name)
            else:
                found[name] = InputFile(path, kind, state)
    for what, paths in (("named twice, read once", repeated), ("empty, passed over", empty)):
        if paths and (found or repeated):
            more = f" and {len(paths) - 1:,} more" if len(paths) > 1 else ""
            print(printable(f"{what}: {paths[0]}{more}"), file=sys.stderr, flush=True)
    return Inputs(list(found.values()), empty, unread)


def _check_name(path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError:
        shown = path.encode(errors="surrogateescape").decode(errors="backslashreplace")
        raise DataError("its name is not UTF-8", where=shown, expected="a file renamed, or left out") from None


def work_units(files: list[InputFile], config: SourceConfig, left_out: list[DataError] | None = None) -> list[WorkUnit]:
    """All input files, cut into units in order.

    Args:
        files: from `find_files`.
        config: how they are read and cut.
        left_out: takes the errors about files that cannot be used, where `damaged_files` is `skip`.

    Raises:
        DataError: if a file lacks the text column or, where that is to stop the work, is damaged.
    """
    units: list[WorkUnit] = []
    step = unit_bytes(files, config)
    for file in files:
        try:
            units.extend(units_of(file, step, config))
        except DamagedFileError as error:
            if config.damaged_files == "stop" or left_out is None:
                raise
            left_out.append(error)
    return units


def unit_bytes(files: list[InputFile], config: SourceConfig) -> int:
    """Bytes of input per unit of work: as set, or chosen for the size of the input."""
    if config.work_unit_bytes is not None:
        return config.work_unit_bytes
    share = sum(file.state.size_bytes for file in files) // _UNITS_PER_INPUT
    return min(max(share, _UNIT_BYTES[0]), _UNIT_BYTES[1])


def group_units(units: list[WorkUnit], size_bytes: int) -> list[tuple[WorkUnit, ...]]:
    """Consecutive units joined into tasks of about `size_bytes`, so that many small files are few tasks."""
    tasks: list[tuple[WorkUnit, ...]] = []
    group: list[WorkUnit] = []
    held = 0
    for unit in units:
        if group and held + unit.size_bytes > size_bytes:
            tasks.append(tuple(group))
            group, held = [], 0
        group.append(unit)
        held += unit.size_bytes
    if group:
        tasks.append(tuple(group))
    return tasks


def units_of(file: InputFile, step: int, config: SourceConfig) -> list[WorkUnit]:
    """One file, cut into units of about `step` bytes where that can be done.

    Raises:
        DataError: if the file lacks the text column.
        DamagedFileError: if it cannot be read.
    """
    path, kind, size = file.path, file.kind, file.state.size_bytes
    if kind in COLUMNAR:
        from data_prep.reading.columnar import columnar_units

        return columnar_units(path, kind, step, config)
    if kind in ("csv", "tsv"):
        from data_prep.reading.separated import check_header

        check_header(path, kind, config)
        return [WorkUnit(path, kind, 0, None, size)]
    if kind == "jsonl" and is_json_document(path, config):
        return [WorkUnit(path, "json", 0, None, size)]
    if kind == "warc":
        from data_prep.reading.pages import check_encoding_of_pages

        check_encoding_of_pages(config, path)
    in_one_piece = (
        kind in PAGES or (kind == "text" and config.text_documents == "file") or split_member(path) is not None
    )
    if in_one_piece or config.encoding != UTF_8 or is_compressed(path):
        return [WorkUnit(path, kind, 0, None, size)]
    return [
        WorkUnit(path, kind, start, min(start + step, size), min(step, size - start)) for start in range(0, size, step)
    ]
