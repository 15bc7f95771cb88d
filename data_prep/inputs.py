"""Which files the input patterns mean, and how they are cut into units of work.

The cut depends on the files and the settings only, never on the number of workers, so the result does not either.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import orjson

from configs.errors import DataError, nearest
from data_prep.config import SourceConfig
from data_prep.documents import DamagedFileError
from data_prep.files import COMPRESSIONS, FileState, compression_of, file_state, is_url, remote
from data_prep.work_unit import Kind, WorkUnit

KINDS: dict[str, Kind] = {
    ".txt": "text",
    ".text": "text",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".arrow": "arrow",
}
_COLUMNAR = ("parquet", "arrow")
_EXPECTED = f"files ending in {', '.join(KINDS)}; text, JSON and CSV also with {', '.join(COMPRESSIONS)}"
_UNITS_PER_INPUT = 64
_UNIT_BYTES = (4 * 2**20, 256 * 2**20)


@dataclass(frozen=True)
class InputFile:
    """One input file as it was found: its path or URL, what is in it, and how a change of it is noticed."""

    path: str
    kind: Kind
    state: FileState


def find_files(config: SourceConfig) -> list[InputFile]:
    """The input files in order; those of a directory or pattern in the order of their names.

    Raises:
        DataError: if there is no such file, one is of an unknown kind, or one cannot be read.
    """
    return [
        InputFile(path, kind, file_state(path))
        for pattern in _patterns(config.input)
        for path, kind in _expand(pattern, config.dataset_split)
    ]


def work_units(files: list[InputFile], config: SourceConfig, left_out: list[DataError] | None = None) -> list[WorkUnit]:
    """All input files, cut into units in order.

    Args:
        files: from `find_files`.
        config: how they are read and cut.
        left_out: takes the errors about files that cannot be used, where `damaged_files` is `skip`.

    Raises:
        DataError: if a file lacks the text column or, where that is to stop the work, is empty or damaged.
    """
    units: list[WorkUnit] = []
    step = unit_bytes(files, config)
    for file in files:
        try:
            units.extend(_units_of(file, step, config))
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


def _units_of(file: InputFile, step: int, config: SourceConfig) -> list[WorkUnit]:
    path, kind, size = file.path, file.kind, file.state.size_bytes
    if size == 0:
        raise DamagedFileError("is empty", where=path, expected="at least one document, or damaged_files=skip")
    if kind in _COLUMNAR:
        from data_prep.columnar import columnar_units

        return columnar_units(path, kind, step, config)
    if kind in ("csv", "tsv"):
        from data_prep.separated import check_header

        check_header(path, kind, config)
        return [WorkUnit(path, kind, 0, None, size)]
    if compression_of(path) is not None or (kind == "text" and config.text_documents == "file"):
        return [WorkUnit(path, kind, 0, None, size)]
    return [
        WorkUnit(path, kind, start, min(start + step, size), min(step, size - start)) for start in range(0, size, step)
    ]


def _patterns(given: list[str]) -> Iterator[str]:
    """The patterns, with `@LIST` replaced by what the file LIST names."""
    for pattern in given:
        if not pattern.startswith("@"):
            yield pattern
            continue
        path = Path(pattern[1:])
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8"
            raise DataError(f"cannot be read: {reason}", where=path, expected="a list of files, one per line") from None
        named = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
        if not named:
            raise DataError("names no file", where=path, expected="a list of files, one per line")
        # Relative names are meant as everywhere else: from the directory that the command runs in.
        yield from named


def _expand(pattern: str, split: str) -> list[tuple[str, Kind]]:
    if is_url(pattern):
        return _expand_url(pattern)
    path = Path(pattern)
    if path.is_dir():
        found = _files_of_directory(path, split)
    elif path.is_file():
        found = [(str(path), kind_of(str(path)))]
    else:
        found = [
            (name, kind_of(name))
            for name in sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 (the pattern may be absolute)
            if Path(name).is_file()
        ]
    if not found:
        raise DataError("there is no such input", where=pattern, expected=_EXPECTED, nearest=_nearest_file(path))
    return found


def _expand_url(url: str) -> list[tuple[str, Kind]]:
    with remote(url) as (system, inner):
        if glob.has_magic(inner):
            names = sorted(system.glob(inner))
            found = [system.unstrip_protocol(name) for name in names]
        elif system.isdir(inner):
            known = [str(name) for name in sorted(system.find(inner))]
            found = [system.unstrip_protocol(name) for name in known if _kind_or_none(name) is not None]
        else:
            found = [url]
    if not found:
        raise DataError("there is no such input", where=url, expected=_EXPECTED)
    return [(name, kind_of(name)) for name in found]


def kind_of(path: str) -> Kind:
    """What is in a file, by its ending.

    Raises:
        DataError: if that is not known.
    """
    kind = _kind_or_none(path)
    if kind is None:
        raise DataError("is of an unknown kind", where=path, expected=_EXPECTED)
    if kind in _COLUMNAR and compression_of(path) is not None:
        raise DataError(f"is compressed {kind.capitalize()}", where=path, expected=_EXPECTED)
    return kind


def _kind_or_none(path: str) -> Kind | None:
    suffixes = PurePosixPath(path).suffixes
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    return KINDS.get(suffixes[-1].lower()) if suffixes else None


def _files_of_directory(directory: Path, split: str) -> list[tuple[str, Kind]]:
    if (directory / "dataset_dict.json").is_file():
        splits = _read_json(directory / "dataset_dict.json", "splits")
        if split not in splits:
            raise DataError(
                f"has no split {split!r}",
                where=f"dataset_split, {directory}",
                expected=f"one of {', '.join(map(str, splits))}",
                nearest=nearest(split, map(str, splits)),
            )
        directory = directory / split
    if (directory / "state.json").is_file():
        names = [str(entry["filename"]) for entry in _read_json(directory / "state.json", "_data_files")]
        return [(str(directory / name), "arrow") for name in names]
    known = [str(p) for p in sorted(directory.rglob("*")) if p.is_file() and not p.name.startswith(".")]
    return [(path, kind_of(path)) for path in known if _kind_or_none(path) is not None]


def _read_json(path: Path, key: str) -> list:
    try:
        value = orjson.loads(path.read_bytes())[key]
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError):
        value = None
    if not isinstance(value, list):
        raise DataError(f"has no list {key!r}", where=path, expected="a dataset written by save_to_disk")
    return value


def _nearest_file(path: Path) -> str | None:
    if not path.parent.is_dir():
        return None
    name = nearest(path.name, [p.name for p in path.parent.iterdir() if not p.name.startswith(".")])
    return str(path.parent / name) if name else None
