"""The patches of deepspeed and megatron-core: every comment or docstring of `pretrain` that names a line of theirs.

A patch is called after what it replaces, if its comment stands over an assignment to an attribute (the last two parts
of the attribute's name), and after the function or class that it stands in otherwise.
"""

from __future__ import annotations

import ast
import importlib.metadata
import io
import re
import sysconfig
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[3]
SITE = Path(sysconfig.get_paths()["purelib"])
LIBRARIES = ("deepspeed", "megatron")
UPSTREAM = re.compile(r"(?:deepspeed|megatron)/[\w/]+\.py|\b\w+\.py:\d+")
REFERENCE = re.compile(r"((?:deepspeed|megatron)/[\w/]+\.py):(\d+) \((\w+)\)")


@dataclass(frozen=True)
class Reference:
    """A line of an upstream file.

    Attributes:
        path: relative to where packages are installed.
        line: its number, from 1.
        scope: a function or class that the line is in.
    """

    path: str
    line: int
    scope: str

    @property
    def text(self) -> str:
        """The line as it is installed."""
        return (SITE / self.path).read_text().splitlines()[self.line - 1].strip()

    def is_in_scope(self) -> bool:
        """Whether the installed line is inside a function or class of that name."""
        return any(name == self.scope and self.line in lines for name, lines in _installed_scopes(self.path))


@dataclass(frozen=True)
class Patch:
    """One patch.

    Attributes:
        name: its module and what it replaces, such as `cpu_bridge_cuda_current_device`.
        place: file and line of the text that names the upstream lines.
        references: those lines.
        is_complete: whether the text names every upstream file with path, line and function.
    """

    name: str
    place: str
    references: tuple[Reference, ...]
    is_complete: bool


@cache
def _installed_scopes(path: str) -> list[tuple[str, range]]:
    """Name and lines of each function and class of an installed file."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    scopes = [node for node in ast.walk(ast.parse((SITE / path).read_text())) if isinstance(node, kinds)]
    return [(node.name, range(node.lineno, (node.end_lineno or node.lineno) + 1)) for node in scopes]


def patches_in(path: str, source: str) -> Iterator[Patch]:
    """The patches of one of our files."""
    tree = ast.parse(source)
    for line, end, text in _texts(tree, source):
        if named := UPSTREAM.findall(text):
            found = tuple(Reference(file, int(number), scope) for file, number, scope in REFERENCE.findall(text))
            name = _replaced_after(tree, end) or "_".join(_scopes(tree, line))
            yield Patch(_plain(f"{Path(path).stem}.{name}"), f"{path}:{line}", found, len(found) == len(named))


def unexplained_in(path: str, source: str) -> list[str]:
    """Assignments to attributes of imported libraries, outside functions and classes that name an upstream line."""
    tree = ast.parse(source)
    imported = {
        (alias.asname or alias.name).split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
        if (node.module or "" if isinstance(node, ast.ImportFrom) else alias.name).startswith(("torch", *LIBRARIES))
    }
    explained = {_scopes(tree, line)[:1] for line, _, text in _texts(tree, source) if UPSTREAM.search(text)}
    return [
        f"{path}:{node.lineno}: {ast.unparse(target)}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Attribute) and ast.unparse(target).split(".")[0] in imported
        if _scopes(tree, node.lineno)[:1] not in explained
    ]


@cache
def all_patches() -> dict[str, Patch]:
    """Every patch by name; two of one name are an error."""
    found: dict[str, Patch] = {}
    for path in sorted((ROOT / "pretrain").rglob("*.py")):
        for patch in patches_in(str(path.relative_to(ROOT)), path.read_text()):
            assert patch.name not in found, f"{patch.place} and {found[patch.name].place} are both {patch.name}"
            found[patch.name] = patch
    return found


def unexplained() -> list[str]:
    """Replacements in `pretrain` that no text with an upstream line explains."""
    paths = sorted((ROOT / "pretrain").rglob("*.py"))
    return [line for path in paths for line in unexplained_in(str(path.relative_to(ROOT)), path.read_text())]


def is_pinned_version(package: str) -> bool:
    """Whether the installed version is the one of constraints.txt, whose line numbers the texts give."""
    pinned = f"{package}=={importlib.metadata.version(package)}"
    return pinned in (ROOT / "constraints.txt").read_text().splitlines()


def _texts(tree: ast.Module, source: str) -> Iterator[tuple[int, int, str]]:
    """First line, last line and text of each docstring and each block of comment lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False):
            text = node.body[0]
            yield text.lineno, text.end_lineno or text.lineno, ast.get_docstring(node, clean=False) or ""
    held: list[tuple[int, str]] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT or not token.line.lstrip().startswith("#"):
            continue
        if held and held[-1][0] + 1 != token.start[0]:
            yield held[0][0], held[-1][0], " ".join(text for _, text in held)
            held = []
        held.append((token.start[0], token.string.lstrip("# ")))
    if held:
        yield held[0][0], held[-1][0], " ".join(text for _, text in held)


def _replaced_after(tree: ast.Module, line: int) -> str:
    """The last two parts of the attribute that the next line assigns to; empty if it does not."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and node.lineno == line + 1 and isinstance(node.targets[0], ast.Attribute):
            return ".".join(ast.unparse(node.targets[0]).split(".")[-2:])
    return ""


def _scopes(tree: ast.Module, line: int) -> tuple[str, ...]:
    """Names of the classes and functions around a line, the outermost first."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    around = [n for n in ast.walk(tree) if isinstance(n, kinds) and n.lineno <= line <= (n.end_lineno or n.lineno)]
    return tuple(node.name for node in sorted(around, key=lambda node: node.lineno))


def _plain(name: str) -> str:
    """A name as part of a test's name: in small letters, with one underscore between words."""
    parts = re.split(r"[._]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name))
    return "_".join(part.lower() for part in parts if part)
