"""Which files the sources mean, and which task reads what: a function of the files and the recipe alone."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from configs.errors import DataError, nearest
from data_prep.cleaning.config import CleanConfig, CleanSource, Format
from data_prep.reading.file_search import files_below, files_of_pattern

ENDINGS: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".warc": "warc",
    ".arc": "warc",
    ".wet": "warc",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".rst": "text",
}
LOCAL = ("file", "local")
COMPRESSIONS = (".gz", ".zst", ".bz2", ".xz")
_EXPECTED = f"files ending in {', '.join(ENDINGS)}, also with {', '.join(COMPRESSIONS)}; or `format` says what they are"

_SAVED = "a dataset written by save_to_disk"


@dataclass(frozen=True)
class Unit:
    """A file, or a part of one that a task reads.

    Attributes:
        path: the file within its file system.
        name: the file within its source, for ids.
        start, stop: byte range of a divided JSON lines file; `stop` None: to the end.
        size_bytes: size of the part.
        state: size and time of change of the whole file when the work was planned.
    """

    path: str
    name: str
    start: int
    stop: int | None
    size_bytes: int
    state: tuple[int, str]


@dataclass
class InputPart:
    """What one reader reads: the files of one source in one format, by task."""

    source: str
    format: Format
    protocol: str
    tasks: list[list[Unit]] = field(default_factory=list)


@dataclass
class CleaningPlan:
    """All input.

    Attributes:
        parts: the readers' shares.
        inputs: each file's address, size in bytes and time of change, to notice a changed one.
        empty: files of no bytes, which are passed over.
    """

    parts: list[InputPart]
    inputs: list[tuple[str, int, str]]
    empty: list[str]

    @property
    def size_bytes(self) -> int:
        """Bytes of all files, as they are stored."""
        return sum(size for _, size, _ in self.inputs)


@dataclass(frozen=True)
class _File:
    path: str
    format: Format
    size_bytes: int
    changed: str


def make_plan(config: CleanConfig) -> CleaningPlan:
    """Find the files of all sources and divide them between the tasks, the largest first to the least loaded task.

    Raises:
        DataError: if a path means no file, or a file is of an unknown kind or cannot be read.
    """
    parts: dict[tuple[str, Format], InputPart] = {}
    inputs: list[tuple[str, int, str]] = []
    empty: list[str] = []
    units: list[tuple[InputPart, Unit]] = []
    for source_name, source in config.sources.items():
        system, files = _find(source_name, source, config.own_paths())
        protocol = protocol_of(system)
        above = posixpath.commonpath([posixpath.dirname(file.path) or "/" for file in files]) if files else ""
        for file in files:
            inputs.append((system.unstrip_protocol(file.path), file.size_bytes, file.changed))
            if file.size_bytes == 0:
                empty.append(file.path)
                continue
            key = (source_name, file.format)
            part = parts.setdefault(key, InputPart(*key, protocol, [[] for _ in range(config.tasks)]))
            name = posixpath.relpath(file.path, above) if above else file.path
            units.extend((part, unit) for unit in _divide(file, name, protocol, config.unit_bytes))
    loads = [0] * config.tasks
    for part, unit in sorted(units, key=lambda item: -item[1].size_bytes):
        task = loads.index(min(loads))
        loads[task] += unit.size_bytes
        part.tasks[task].append(unit)
    for part in parts.values():
        for own in part.tasks:
            own.sort(key=lambda unit: (unit.path, unit.start))
    return CleaningPlan(list(parts.values()), inputs, empty)


def _divide(file: _File, name: str, protocol: str, unit_bytes: int) -> Iterator[Unit]:
    state = (file.size_bytes, file.changed)
    plain = posixpath.splitext(file.path.lower())[1] not in COMPRESSIONS
    if file.format == "jsonl" and plain and protocol in LOCAL and file.size_bytes > unit_bytes:
        for start in range(0, file.size_bytes, unit_bytes):
            stop = min(start + unit_bytes, file.size_bytes)
            yield Unit(file.path, name, start, stop, stop - start, state)
    else:
        yield Unit(file.path, name, 0, None, file.size_bytes, state)


def _find(name: str, source: CleanSource, left_out: tuple[Path, ...]) -> tuple[Any, list[_File]]:
    from fsspec.core import url_to_fs

    where = f"sources.{name}.input"
    found: dict[str, _File] = {}
    first: Any = None
    for pattern in source.input:
        try:
            system, path = url_to_fs(pattern)
        except (ValueError, ImportError) as error:
            raise DataError(f"{pattern}: {error}", where=where, expected="a path, or a URL fsspec knows") from None
        if first is not None and type(system) is not type(first):
            raise DataError(f"{pattern} is on another file system", where=where, expected="one source for each")
        first = system
        try:
            files = list(_files_of(system, path, source, left_out))
        except (OSError, PermissionError) as error:
            raise DataError(f"{pattern} cannot be read: {error}", where=where) from None
        if not files:
            is_directory = system.isdir(path)
            raise DataError(
                f"{pattern} holds no file of a known kind" if is_directory else f"there is no such input: {pattern}",
                where=where,
                expected=_EXPECTED,
                nearest=None if is_directory else _nearest(system, path),
            )
        found.update((file.path, file) for file in files)
    return first, [found[path] for path in sorted(found)]


def _files_of(system: Any, path: str, source: CleanSource, left_out: tuple[Path, ...]) -> Iterator[_File]:
    def is_wanted(name: str) -> bool:
        kind = format_of(name)
        return kind is not None and source.format in ("auto", kind)

    local = protocol_of(system) in LOCAL
    if system.isdir(path):
        saved = _files_of_saved(system, path, source)
        if saved is not None:
            yield from (_file(system, p, "huggingface") for p in saved)
            return
        names = files_below(path, is_wanted, left_out) if local else sorted(filter(is_wanted, system.find(path)))
        for p in names:
            kind = format_of(p)
            if kind is not None and not posixpath.basename(p).startswith("."):
                yield _file(system, p, kind)
        return
    if system.isfile(path):
        names = [path]
    elif local:
        names = files_of_pattern(path, is_wanted, left_out)
    else:
        names = [p for p in sorted(system.glob(path)) if system.isfile(p)]
    for p in names:
        kind = format_of(p) if source.format == "auto" else source.format
        if kind is None:
            raise DataError("is of an unknown kind", where=p, expected=_EXPECTED)
        yield _file(system, p, kind)


def _files_of_saved(system: Any, path: str, source: CleanSource) -> list[str] | None:
    """The Arrow files of a dataset written by `save_to_disk`, without caches; None: `path` is no such dataset."""
    splits = _list_in(system, posixpath.join(path, "dataset_dict.json"), "splits")
    if splits is not None:
        if source.dataset_split not in splits:
            raise DataError(
                f"has no split {source.dataset_split!r}",
                where=path,
                expected=f"one of {', '.join(sorted(map(str, splits)))}",
                nearest=nearest(source.dataset_split, map(str, splits)),
            )
        path = posixpath.join(path, source.dataset_split)
    entries = _list_in(system, posixpath.join(path, "state.json"), "_data_files")
    if entries is None:
        if splits is not None:
            raise DataError("has no state.json", where=path, expected=_SAVED)
        return None
    names = [entry.get("filename") if isinstance(entry, dict) else None for entry in entries]
    if not all(isinstance(name, str) for name in names):
        raise DataError("has a data file without a name", where=posixpath.join(path, "state.json"), expected=_SAVED)
    return [posixpath.join(path, str(name)) for name in names]


def _list_in(system: Any, path: str, key: str) -> list[Any] | None:
    """The list of that name in a JSON file; None: there is no such file."""
    if not system.isfile(path):
        return None
    try:
        value = orjson.loads(system.cat_file(path))[key]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        value = None
    if not isinstance(value, list):
        raise DataError(f"has no list {key!r}", where=path, expected=_SAVED)
    return value


def protocol_of(system: Any) -> str:
    """The first name of an fsspec file system."""
    return str(system.protocol if isinstance(system.protocol, str) else system.protocol[0])


def format_of(path: str) -> Format | None:
    """The format that a file's ending tells, compression aside."""
    base, ending = posixpath.splitext(path.lower())
    if ending in COMPRESSIONS:
        ending = posixpath.splitext(base)[1]
    return ENDINGS.get(ending)


def state_of(system: Any, path: str) -> tuple[int, str]:
    """How a change of a file is noticed: its size, and its time of change or what the file system has for that.

    Raises:
        DataError: if the size is not known.
    """
    info = system.info(path)
    changed = info.get("mtime") or info.get("LastModified") or info.get("ETag") or ""
    if info.get("size") is None:
        raise DataError("its server does not tell its size", where=path, expected="a file of known size")
    return int(info["size"]), str(changed)


def _file(system: Any, path: str, kind: Format) -> _File:
    return _File(path, kind, *state_of(system, path))


def _nearest(system: Any, path: str) -> str | None:
    parent = posixpath.dirname(path.rstrip("/"))
    try:
        names = [posixpath.basename(p.rstrip("/")) for p in system.ls(parent, detail=False)]
    except OSError:
        return None
    close = nearest(posixpath.basename(path.rstrip("/")), [name for name in names if not name.startswith(".")])
    return posixpath.join(parent, close) if close else None
