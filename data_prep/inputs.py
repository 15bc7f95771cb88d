"""Which files the input patterns mean, and how they are cut into units of work.

The cut depends on the files and `work_unit_bytes` only, never on the number of workers, so the result does not either.
"""

from __future__ import annotations

import glob
from pathlib import Path

import orjson

from configs.errors import DataError, nearest
from data_prep.config import SourceConfig
from data_prep.work_unit import COMPRESSIONS, Kind, WorkUnit

KINDS: dict[str, Kind] = {
    ".txt": "text",
    ".text": "text",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
}
_EXPECTED = f"files ending in {', '.join(KINDS)}, text and JSON also with {' or '.join(COMPRESSIONS)}"


def find_files(config: SourceConfig) -> list[tuple[Path, Kind]]:
    """The input files in order; those of a directory or pattern in the order of their names.

    Raises:
        DataError: if there is no such file, or one is of an unknown kind; names the nearest.
    """
    files: list[tuple[Path, Kind]] = []
    for pattern in config.input:
        path = Path(pattern)
        if path.is_dir():
            found = _files_of_directory(path, config.dataset_split)
        elif path.is_file():
            found = [(path, _kind_of(path))]
        else:
            found = [
                (Path(name), _kind_of(Path(name)))
                for name in sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 (the pattern may be absolute)
                if Path(name).is_file()
            ]
        if not found:
            raise DataError("there is no such input", where=pattern, expected=_EXPECTED, nearest=_nearest_file(path))
        files.extend(found)
    return files


def work_units(files: list[tuple[Path, Kind]], config: SourceConfig) -> list[WorkUnit]:
    """All input files, cut into units in order.

    Raises:
        DataError: if a file is empty or cannot be read, or a Parquet or Arrow file lacks the text column.
    """
    units: list[WorkUnit] = []
    for path, kind in files:
        try:
            size = path.stat().st_size
            path.open("rb").close()
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror}", where=path) from None
        if size == 0:
            raise DataError("is empty", where=path, expected="at least one document")
        if kind in ("parquet", "arrow"):
            from data_prep.columnar import columnar_units

            units.extend(columnar_units(path, kind, config))
        elif path.suffix in COMPRESSIONS or (kind == "text" and config.text_documents == "file"):
            units.append(WorkUnit(path, kind, 0, None, size))
        else:
            step = config.work_unit_bytes
            units.extend(
                WorkUnit(path, kind, start, min(start + step, size), min(step, size - start))
                for start in range(0, size, step)
            )
    return units


def group_units(units: list[WorkUnit], size_bytes: int) -> list[tuple[WorkUnit, ...]]:
    """Consecutive units joined into tasks of about `size_bytes`, so that many small files are few tasks."""
    tasks: list[tuple[WorkUnit, ...]] = []
    group: list[WorkUnit] = []
    for unit in units:
        if group and sum(u.size_bytes for u in group) + unit.size_bytes > size_bytes:
            tasks.append(tuple(group))
            group = []
        group.append(unit)
    if group:
        tasks.append(tuple(group))
    return tasks


def _kind_of(path: Path) -> Kind:
    suffixes = path.suffixes
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
        if suffixes and suffixes[-1] == ".parquet":
            raise DataError("is compressed Parquet", where=path, expected=_EXPECTED)
    if not suffixes or suffixes[-1] not in KINDS:
        raise DataError("is of an unknown kind", where=path, expected=_EXPECTED)
    return KINDS[suffixes[-1]]


def _files_of_directory(directory: Path, split: str) -> list[tuple[Path, Kind]]:
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
        return [(directory / name, "arrow") for name in names]
    known = [p for p in sorted(directory.rglob("*")) if p.is_file() and not p.name.startswith(".")]
    files: list[tuple[Path, Kind]] = []
    for path in known:
        suffixes = [s for s in path.suffixes if s not in COMPRESSIONS]
        if suffixes and suffixes[-1] in KINDS:
            files.append((path, _kind_of(path)))
    return files


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
