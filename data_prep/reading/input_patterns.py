"""What input patterns mean: files, directories, glob patterns, URLs, lists; and what is in a file, by its ending."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import orjson

from configs.errors import DataError, nearest
from configs.paths import expanded
from data_prep.reading.file_search import check_link, files_below, files_of_pattern
from data_prep.reading.files import COMPRESSIONS, compression_of, is_url, remote
from data_prep.reading.work_unit import Kind

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


def named_patterns(given: list[str]) -> Iterator[str]:
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
        try:
            yield from map(expanded, named)
        except ValueError as error:
            raise DataError(str(error), where=path) from None


def expand(pattern: str, split: str, left_out: Sequence[Path] = ()) -> list[tuple[str, Kind]]:
    """The files that a pattern means, and what is in each.

    Args:
        pattern: a file, directory, glob pattern or URL.
        split: which split of a saved dataset is meant.
        left_out: what is not looked at in directories.

    Raises:
        DataError: if it means no file, one of an unknown kind, or one that cannot be reached.
    """
    if is_url(pattern):
        return _expand_url(pattern)
    path = Path(pattern)
    try:
        check_link(path)
        if path.is_dir():
            found = _files_of_directory(path, split, left_out)
            if not found:
                raise DataError("holds no file of a known kind", where=pattern, expected=_EXPECTED)
            return found
        names = [str(path)] if path.is_file() else files_of_pattern(pattern, _is_known, left_out)
        if not names:
            raise DataError("there is no such input", where=pattern, expected=_EXPECTED, nearest=_nearest_file(path))
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=error.filename or pattern) from None
    return [(name, kind_of(name)) for name in names]


def _expand_url(url: str) -> list[tuple[str, Kind]]:
    with remote(url) as (system, inner):
        if glob.has_magic(inner):
            names = sorted(system.glob(inner))
            found = [system.unstrip_protocol(name) for name in names]
        elif system.isdir(inner):
            known = [str(name) for name in sorted(system.find(inner))]
            found = [system.unstrip_protocol(name) for name in known if _is_known(name)]
            if not found:
                raise DataError("holds no file of a known kind", where=url, expected=_EXPECTED)
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
    suffixes = PurePosixPath(path.lower()).suffixes
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    return KINDS.get(suffixes[-1]) if suffixes else None


def _is_known(path: str) -> bool:
    return _kind_or_none(path) is not None


def _files_of_directory(directory: Path, split: str, left_out: Sequence[Path]) -> list[tuple[str, Kind]]:
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
    return [(path, kind_of(path)) for path in files_below(str(directory), _is_known, left_out)]


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
