"""What input patterns mean: files, directories, glob patterns, URLs, archives, lists."""

from __future__ import annotations

import glob
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import orjson

from configs.errors import DataError, nearest, nearest_path
from configs.paths import expanded
from data_prep.config import SourceConfig
from data_prep.reading.archives import is_archive, member_path, split_member
from data_prep.reading.describing_files import describes_others
from data_prep.reading.file_search import check_link, files_below, files_of_pattern
from data_prep.reading.files import FileState, archive_members, file_state, is_url, remote
from data_prep.reading.kinds import PAGES, check_columns_are_plain, kind_by_name, kind_of, shown_endings
from data_prep.reading.named_format import is_of_format
from data_prep.reading.standard_input import is_read_once, kept_stream
from data_prep.reading.work_unit import Format

_SHOWN = 8


@dataclass
class FoundFiles:
    """What a pattern means.

    Attributes:
        files: path, content and state of each file.
        unread: paths of others that lie among them.
    """

    files: list[tuple[str, Format, FileState]] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)


def named_patterns(given: list[str]) -> Iterator[str]:
    """The patterns, with `@LIST` replaced by what the file LIST names."""
    for pattern in given:
        if not pattern.startswith("@"):
            yield pattern
            continue
        path = Path(pattern[1:])
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
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


class PatternExpander:
    """Finds the files that patterns mean.

    Args:
        config: how files are read.
        left_out: what is not looked at in directories.
        pages: whether web pages are among what is read.
    """

    def __init__(self, config: SourceConfig, left_out: Sequence[Path], pages: bool) -> None:
        self.config, self.left_out, self.pages = config, left_out, pages
        self.expected = shown_endings(pages) + "; `format` says what others hold"

    def expand(self, pattern: str) -> FoundFiles:
        """The files that a pattern means: a file, directory, glob pattern, URL, or `-`.

        Raises:
            DataError: if it means no file, one of an unknown kind, or one that cannot be reached.
        """
        found = FoundFiles()
        if is_read_once(pattern):
            self._add(found, kept_stream(pattern, self.config.encoding), named=pattern)
        elif is_url(pattern):
            self._expand_url(pattern, found)
        else:
            self._expand_local(pattern, found)
        if not found.files and not found.unread:
            raise DataError("holds no file of a known kind", where=pattern, expected=self.expected)
        self._say_unread(pattern, found)
        if not found.files:
            expected = f"{self.expected} (a pattern such as 'DIR/*.dat' names text and tables of other endings)"
            raise DataError("holds no file of a known kind", where=pattern, expected=expected)
        return found

    def _expand_local(self, pattern: str, found: FoundFiles) -> None:
        path = Path(pattern)
        try:
            check_link(path)
            if path.is_dir():
                self._expand_directory(path, found)
                return
            names = [str(path)] if path.is_file() else files_of_pattern(pattern, self.left_out)
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror}", where=error.filename or pattern) from None
        if not names:
            raise DataError("there is no such input", where=pattern, expected=self.expected, nearest=nearest_path(path))
        for name in names:
            self._add(found, name, named=name)

    def _expand_directory(self, directory: Path, found: FoundFiles) -> None:
        if (directory / "dataset_dict.json").is_file():
            splits = _read_json(str(directory / "dataset_dict.json"), "splits")
            directory = directory / self._split_of(splits, str(directory))
        if (directory / "state.json").is_file():
            for name in _data_files(str(directory / "state.json")):
                self._add(found, str(directory / name), kind="arrow")
            return
        names, others = files_below(str(directory), self._is_known, self.left_out)
        self._add_listed(found, names, others)

    def _expand_url(self, url: str, found: FoundFiles) -> None:
        with remote(url) as (system, inner):
            # In addresses of the web, the question mark begins a query.
            query = url.startswith(("http://", "https://"))
            if glob.has_magic(inner.replace("?", "") if query else inner):
                names = [system.unstrip_protocol(name) for name in sorted(system.glob(inner)) if system.isfile(name)]
                if not names:
                    raise DataError("there is no such input", where=url, expected=self.expected)
            elif not (query and _names_a_file(url)) and system.isdir(inner):
                base = url.rstrip("/")
                if system.isfile(f"{inner}/dataset_dict.json"):
                    base += f"/{self._split_of(_read_json(f'{base}/dataset_dict.json', 'splits'), url)}"
                    inner = url_path(base)
                if system.isfile(f"{inner}/state.json"):
                    for name in _data_files(f"{base}/state.json"):
                        self._add(found, f"{base}/{name}", kind="arrow")
                    return
                known = [str(name) for name in sorted(system.find(inner))]
                listed = [
                    system.unstrip_protocol(name) for name in known if not PurePosixPath(name).name.startswith(".")
                ]
                names = [name for name in listed if self._is_known(name)]
                self._add_listed(found, names, [name for name in listed if name not in set(names)])
                return
            else:
                names = [url]
        for name in names:
            self._add(found, name, named=name)

    def _add_listed(self, found: FoundFiles, names: list[str], others: list[str]) -> None:
        for name in self._data_of(found, names, others):
            self._add(found, name)

    def _data_of(self, found: FoundFiles, names: list[str], others: list[str]) -> list[str]:
        """Of files that lie together those that hold documents; the rest is noted as not read."""
        kinds = {kind_by_name(name) for name in names}
        data = [name for name in names if not describes_others(name, kinds, self.config.text_field)]
        found.unread += sorted({*others, *names} - {*data})
        return data

    def _add(self, found: FoundFiles, path: str, named: str | None = None, kind: Format | None = None) -> None:
        """Add a file, or what is in an archive.

        Args:
            found: gets it.
            path: the file.
            named: how the user named it, if by its own name.
            kind: what is known to be in it.
        """
        if is_archive(path) and kind is None:
            self._add_members(found, path)
            return
        state = file_state(path)
        if kind is None:
            # What is in a file without a byte only its ending tells; it is passed over as an empty one.
            untold = not state.size_bytes and kind_by_name(path) is None and self.config.format == "auto"
            kind = "text" if untold else self._kind(path, named)
        check_columns_are_plain(path, kind)
        found.files.append((path, kind, state))

    def _add_members(self, found: FoundFiles, archive: str) -> None:
        state = file_state(archive)
        if not state.size_bytes:
            found.files.append((archive, "text", state))  # to be told with the empty ones
            return
        sizes: dict[str, int] = {}
        names: list[str] = []
        others: list[str] = []
        for member in archive_members(archive, may_break=self.config.damaged_files == "skip"):
            if any(part.startswith(".") for part in PurePosixPath(member.name).parts if part not in (".", "..")):
                continue
            name = member_path(archive, member.name)
            sizes[name] = member.size_bytes
            (names if member.is_file and self._is_known(name) else others).append(name)
        for name in self._data_of(found, names, others):
            kind = self._kind(name, None)
            check_columns_are_plain(name, kind)
            found.files.append((name, kind, FileState(sizes[name], state.version)))

    def _kind(self, path: str, named: str | None) -> Format:
        if self.config.format != "auto":
            # Files of tabs are tables like others.
            is_tabs = self.config.format == "csv" and kind_by_name(path) == "tsv"
            return "tsv" if is_tabs else self.config.format
        kind = kind_of(path, self.config.encoding)
        if kind is None:
            raise DataError("is of an unknown kind", where=named or path, expected=self.expected)
        if not self._is_read(kind):
            raise DataError(
                "is a web page, or an archive of such",
                where=named or path,
                expected="text; `clean` takes it out of pages",
            )
        return kind

    def _is_read(self, kind: Format) -> bool:
        return self.pages or kind not in PAGES

    def _is_known(self, path: str) -> bool:
        if is_archive(path):
            return split_member(path) is None
        if self.config.format != "auto":
            return is_of_format(path, self.config.format, self.config.encoding)
        kind = kind_of(path, self.config.encoding)
        return kind is not None and self._is_read(kind)

    def _split_of(self, splits: list, where: str) -> str:
        split = self.config.dataset_split
        if split not in splits:
            raise DataError(
                f"has no split {split!r}",
                where=f"dataset_split, {where}",
                expected=f"one of {', '.join(map(str, splits))}",
                nearest=nearest(split, map(str, splits)),
            )
        return split

    def _say_unread(self, pattern: str, found: FoundFiles) -> None:
        if not found.unread:
            return
        endings = Counter(PurePosixPath(name).suffix.lower() or PurePosixPath(name).name for name in found.unread)
        shown = [f"{count:,} {ending}" for ending, count in endings.most_common(_SHOWN)]
        rest = len(found.unread) - sum(count for _, count in endings.most_common(_SHOWN))
        named = ", ".join([*shown, *([f"{rest:,} others"] if rest else [])])
        print(
            f"not read in {pattern}: {len(found.unread):,} files that hold no text or tell of others: {named}; "
            f"the first is {found.unread[0]}",
            file=sys.stderr,
            flush=True,
        )


def url_path(url: str) -> str:
    """The path of an address within its file system."""
    with remote(url) as (_, inner):
        return inner


def _names_a_file(address: str) -> bool:
    """Whether an address of the web is that of a file; any page with links looks like a directory there."""
    return not address.endswith("/") and (kind_by_name(address) is not None or is_archive(address))


def _data_files(state: str) -> list[str]:
    """The Arrow files that the state of a saved dataset names."""
    names = [entry.get("filename") if isinstance(entry, dict) else None for entry in _read_json(state, "_data_files")]
    if not all(isinstance(name, str) for name in names):
        raise DataError("has a data file without a name", where=state, expected="a dataset written by save_to_disk")
    return [str(name) for name in names]


def _read_json(path: str, key: str) -> list:
    from data_prep.reading.files import open_raw

    try:
        with open_raw(path) as raw:
            value = orjson.loads(raw.read())[key]
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError):
        value = None
    if not isinstance(value, list):
        raise DataError(f"has no list {key!r}", where=path, expected="a dataset written by save_to_disk")
    return value
