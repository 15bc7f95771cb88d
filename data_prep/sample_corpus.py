"""`sample-corpus`: real documentation text that lies in every Python installation, as a small corpus to begin with.

Topics of Python's own help, and the docstrings of the standard library and the installed packages. Sources are parsed,
never imported. The order is fixed for an installation: packages take turns, one file each, so that even a small sample
has text from many of them.
"""

from __future__ import annotations

import ast
import inspect
import os
import sysconfig
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

import orjson
import xxhash

from configs.errors import DataError
from data_prep.config import SampleCorpusConfig
from data_prep.storage.publishing import staged_file

_MAX_SOURCE_BYTES = 1 << 20  # larger files are generated tables
_SKIPPED_DIRECTORIES = frozenset(
    {"test", "tests", "testing", "idlelib", "site-packages", "dist-packages", "_vendor", "__pycache__"}
)
_KINDS = {
    ast.Module: "module",
    ast.ClassDef: "class",
    ast.FunctionDef: "function",
    ast.AsyncFunctionDef: "function",
}


@dataclass(frozen=True)
class Sampled:
    """What `sample-corpus` collected."""

    documents: int
    text_bytes: int
    by_kind: dict[str, int]
    packages: int


def sample_corpus(config: SampleCorpusConfig) -> Sampled:
    """Write the documentation of this installation as JSON lines `text`, `id`, `kind`, `package`.

    Raises:
        DataError: if the output exists, or the installation holds less than `min_bytes` of text.
        MachineError: if the output cannot be written.
    """
    if config.output.is_dir() or (config.output.exists() and not config.overwrite):
        raise DataError("exists already", where=config.output, expected="a new file, or --overwrite to replace it")
    seen: set[bytes] = set()
    kinds: Counter[str] = Counter()
    packages: set[str] = set()
    least, most = config.text_bytes()
    text_bytes = 0
    with staged_file(config.output) as temporary, temporary.open("wb") as stream:
        for record in documentation():
            text = record["text"].encode()
            digest = xxhash.xxh3_128_digest(text)
            if len(text) < config.min_document_bytes or digest in seen:
                continue
            seen.add(digest)
            stream.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
            text_bytes += len(text)
            kinds[record["kind"]] += 1
            packages.add(record["package"])
            if text_bytes >= most:
                break
        stream.flush()
        if text_bytes < least:
            raise DataError(
                f"this Python installation holds {text_bytes:,} bytes of documentation",
                where="sample-corpus",
                expected=f"min_bytes = {least:,} or more; install packages or lower min_bytes",
            )
    return Sampled(sum(kinds.values()), text_bytes, dict(kinds), len(packages))


def documentation() -> Iterator[dict[str, str]]:
    """Every documentation text of this installation, in a fixed order, repeats included."""
    paths = sysconfig.get_paths()
    library = Path(paths["stdlib"])
    yield from _topics(library / "pydoc_data" / "topics.py")
    sources: dict[str, list[tuple[str, Path]]] = {}
    for root in dict.fromkeys([library, Path(paths["purelib"]), Path(paths["platlib"])]):
        for package, entry in _packages(root, "python" if root == library else None):
            sources.setdefault(package, []).extend(entry)
    # Files in an order that mixes deep and shallow modules, fixed by their names.
    queues = {
        package: sorted(files, key=lambda item: (xxhash.xxh3_64_intdigest(item[0].encode()), item))
        for package, files in sorted(sources.items())
    }
    for turn in range(max(map(len, queues.values()), default=0)):
        for package, files in queues.items():
            if turn < len(files):
                yield from _docstrings(package, *files[turn])


def _packages(root: Path, library: str | None) -> Iterator[tuple[str, list[tuple[str, Path]]]]:
    """Top-level modules of `root` with their source files as (dotted name, path)."""
    if not root.is_dir():
        return
    for entry in sorted(root.iterdir()):
        if entry.name.startswith((".", "_")) or entry.name in _SKIPPED_DIRECTORIES:
            continue
        if entry.suffix == ".py":
            yield library or entry.stem, [(entry.stem, entry)]
        elif entry.is_dir() and entry.name.isidentifier():
            yield library or entry.name, [(_dotted(path, root), path) for path in _sources(entry)]


def _sources(directory: Path) -> Iterator[Path]:
    for parent, directories, files in os.walk(directory):
        directories[:] = [name for name in directories if name not in _SKIPPED_DIRECTORIES]
        for name in files:
            if name.endswith(".py"):
                yield Path(parent, name)


def _dotted(path: Path, root: Path) -> str:
    parts = list(path.relative_to(root).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _parse(path: Path) -> ast.Module | None:
    """The syntax tree of a source file; None for files that hold no docstring or are not for this Python."""
    try:
        if path.stat().st_size > _MAX_SOURCE_BYTES:
            return None
        source = path.read_bytes()
        if b'"""' not in source and b"'''" not in source:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _topics(path: Path) -> Iterator[dict[str, str]]:
    tree = _parse(path) if path.is_file() else None
    if tree is None:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            for name, text in zip(node.keys, node.values):
                if _is_text(name) and _is_text(text):
                    yield _record(str(text.value).strip("\n"), f"topic:{name.value!s}", "topic", "python")
            return


def _is_text(node: ast.expr | None) -> TypeGuard[ast.Constant]:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _docstrings(package: str, module: str, path: Path) -> Iterator[dict[str, str]]:
    tree = _parse(path)
    if tree is not None:
        yield from _docstrings_below(tree, module, package, in_class=False)


def _docstrings_below(node: ast.AST, name: str, package: str, in_class: bool) -> Iterator[dict[str, str]]:
    kind = _KINDS.get(type(node))
    if kind is not None:
        text = _clean_docstring(node)
        if text:
            yield _record(text, name, "method" if kind == "function" and in_class else kind, package)
    for child in getattr(node, "body", []) if kind != "function" else []:
        if type(child) in _KINDS:
            yield from _docstrings_below(child, f"{name}.{child.name}", package, kind == "class")


def _clean_docstring(node: ast.AST) -> str | None:
    text = ast.get_docstring(node, clean=False)  # type: ignore[arg-type]
    if not text:
        return None
    text = inspect.cleandoc(text)
    # A docstring may spell half of a surrogate pair, which no UTF-8 file can hold.
    return text if text.isascii() or text.encode("utf-8", "ignore").decode() == text else None


def _record(text: str, name: str, kind: str, package: str) -> dict[str, str]:
    return {"text": text, "id": name, "kind": kind, "package": package}
