"""Finds what docstrings, comments and pages name (paths, functions, classes, keys), and what of that there is.

The rules, for a word between backticks:

- `Class.member`, where the class is ours: the class, or one that it derives from, has the member.
- `room.module.name`: the module is there and defines the name.
- a name with capitals or underscores in it, a call, and the last part of any other dotted name: our code has the
  identifier (or the word in one of its texts, as a config key or a metric), or an installed library defines it.
- `room/path`: a tracked file or folder.

Backticks or not: a word that ends in .py, .sh or .md is a file of ours or of an installed library, and one that begins
as tests do is a test. A plain lower-case word, an option, a glob and a placeholder are not looked at.
"""

from __future__ import annotations

import ast
import builtins
import io
import re
import subprocess
import sys
import sysconfig
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("configs", "data_prep", "pretrain", "finetune", "cluster", "tests", "benchmarks")
FOLDERS = (*ROOMS, "docs")
LIBRARIES = (
    "torch",
    "deepspeed",
    "megatron",
    "transformers",
    "tokenizers",
    "datatrove",
    "datasets",
    "pydantic",
    "numpy",
)
LIBRARIES += ("sentencepiece", "tiktoken", "safetensors", "sklearn", "typer", "rich", "pyarrow", "fsspec", "pytest")
SITE = Path(sysconfig.get_paths()["purelib"])

TICKED = re.compile(r"``([^`\n]+)``|`([^`\n]+)`")
NAME = re.compile(r"(_*[A-Za-z]\w*(?:\.\w+)*)(\(.*\))?")
FILE = re.compile(r"(?<![\w/.*<>{}$~-])((?:[\w.-]+/)*[\w-]+\.(?:py|sh|md))(?![\w/*])(?!\.\w)")
FOLDER = re.compile(rf"(?:{'|'.join(FOLDERS)})(?:/[\w.-]+)+/?")
TEST = re.compile(r"(?<![\w/.])test_\w*[a-z]\b")


@dataclass(frozen=True)
class Written:
    """A stretch of text for readers.

    Attributes:
        path: the file, relative to the root.
        line: where the text begins, from 1.
        text: the docstring, the comment or the page.
        is_code: whether it is the inside of a page's fence: what stands there is an example.
    """

    path: str
    line: int
    text: str
    is_code: bool = False


@dataclass
class Known:
    """What our files define.

    Attributes:
        files: tracked paths, and the folders above them.
        words: identifiers, and the words of texts in code and of other files.
        definitions: names of functions, classes and modules.
        members: for each class, its own members; of several classes of one name, all.
        bases: for each class, the names that it derives from.
        modules: for each module by dotted name, what it defines or imports at its top.
    """

    files: set[str] = field(default_factory=set)
    words: set[str] = field(default_factory=set)
    definitions: set[str] = field(default_factory=set)
    members: dict[str, set[str]] = field(default_factory=dict)
    bases: dict[str, set[str]] = field(default_factory=dict)
    modules: dict[str, set[str]] = field(default_factory=dict)

    def has_member(self, name: str, member: str) -> bool:
        """Whether a class of ours has a member, or derives from something of a library that may have it."""
        if member in self.members[name]:
            return True
        bases = self.bases[name] - {"Protocol", "ABC", "Generic", "object"}
        return any(base not in self.members or self.has_member(base, member) for base in bases)


def tracked(*patterns: str) -> list[str]:
    """Paths that git tracks or would, relative to the root."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *patterns]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def docstrings(tree: ast.AST) -> Iterator[ast.Constant]:
    """Docstrings, those below attributes included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for inner in node.body:
                value = inner.value if isinstance(inner, ast.Expr) else None
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield value


def written(path: str, source: str) -> Iterator[Written]:
    """The texts for readers in a Python file or a page."""
    if path.endswith(".py"):
        for node in docstrings(ast.parse(source)):
            yield Written(path, node.lineno, str(node.value))
        lines: list[tuple[int, str]] = []
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT:
                lines.append((token.start[0], token.string.lstrip("# ")))
        yield from (Written(path, line, text) for line, text in lines)
        return
    is_code, start, held = False, 1, []
    for number, line in enumerate(source.splitlines(), 1):
        if re.match(r" *(```|~~~)", line):
            yield Written(path, start, "\n".join(held), is_code)
            is_code, start, held = not is_code, number + 1, []
        else:
            held.append(line)
    yield Written(path, start, "\n".join(held), is_code)


def learn(known: Known, path: str, source: str) -> None:
    """Add what a Python file defines."""
    tree = ast.parse(source)
    texts = {id(node) for node in docstrings(tree)}
    top = known.modules.setdefault(path.removesuffix(".py").replace("/", ".").removesuffix(".__init__"), set())
    known.definitions.add(Path(path).stem)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            known.definitions.add(node.name)
        if isinstance(node, ast.ClassDef):
            known.bases.setdefault(node.name, set()).update(ast.unparse(b).partition("[")[0] for b in node.bases)
            known.members.setdefault(node.name, set()).update(_bound(node.body), _set_on_self(node))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in texts:
            known.words.update(re.findall(r"\w+", node.value))
        for value in vars(node).values():
            if isinstance(value, str) and not isinstance(node, ast.Constant):
                known.words.update(value.split("."))
    top.update(_bound(tree.body))


def _bound(body: list[ast.stmt]) -> set[str]:
    """Names that statements bind in their own scope."""
    found: set[str] = set()
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found.update((alias.asname or alias.name).split(".")[0] for alias in node.names)
        else:
            names = (n for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))
            found.update(name.id for name in names)
    return found


def _set_on_self(node: ast.ClassDef) -> set[str]:
    return {
        n.attr
        for n in ast.walk(node)
        if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name) and n.value.id in ("self", "cls")
        if isinstance(n.ctx, ast.Store)
    }


@cache
def known_names() -> Known:
    """What the tracked files define."""
    known = Known()
    for path in tracked():
        known.files.update([path, *map(str, Path(path).parents)])
        if path.endswith(".py"):
            learn(known, path, (ROOT / path).read_text())
        elif path.endswith((".sh", ".yaml", ".toml", "Makefile")) or path.startswith("configs/schema/"):
            known.words.update(re.findall(r"\w+", (ROOT / path).read_text()))
    known.words |= known.definitions
    return known


def library_names(names: set[str]) -> set[str]:
    """Those of `names` that an installed library defines as a class, a function, a parameter or an attribute."""
    found = {name for name in names if hasattr(builtins, name) or name in sys.stdlib_module_names}
    wanted = sorted(names - found)
    folders = [str(SITE / name) for name in LIBRARIES if (SITE / name).is_dir()]
    standard = sysconfig.get_paths()["stdlib"]
    if wanted and folders:
        alternatives = "|".join(map(re.escape, wanted))
        pattern = rf"\b(class|def) +({alternatives})\b|\b({alternatives}) *[=:]"
        command = ["grep", "-rohE", "--include=*.py", "--include=*.pyi", "--exclude-dir=site-packages", pattern]
        listed = subprocess.run([*command, *folders, standard], capture_output=True, text=True, check=False).stdout
        words = set(re.findall(r"\w+", listed))
        found |= words & set(wanted)
    return found


@cache
def library_files() -> frozenset[str]:
    """Paths of the installed libraries' Python files, relative to where they are installed, and their bare names."""
    paths = [p.relative_to(SITE).as_posix() for name in LIBRARIES for p in (SITE / name).rglob("*.py")]
    return frozenset(paths) | {path.rpartition("/")[2] for path in paths}
