"""Reads the commands out of the README and the pages in `docs/`.

What a fence is called says what a test does with it:

- ```` ```bash ```` a command for any machine: it is run, the blocks of a page in their order, from the root of a fresh
  copy of the repository. A page that goes on from what `make quickstart` leaves in `runs/` says so in a comment:
  `<!-- after: make quickstart -->`. `make quickstart` runs once for all pages, and `make test` is only looked up.
- ```` ```sh ```` a command for a cluster or a GPU: it is not run, but its recipe, its `key=value` settings, its
  options and its files have to exist.
- ```` ```python file=extensions/my_kind.py ```` a file that the commands below it need: it is written first.
- anything else (`console`, `text`, `yaml`, `python`, ...) is only shown. A fence without a name is an error.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

AFTER_QUICKSTART = "<!-- after: make quickstart -->"
FENCE = re.compile(r"^( *)(```+|~~~+) *(\S*)([^\n]*)\n(.*?)^\1\2 *$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"\bfile=(\S+)")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
ASSIGNMENT = re.compile(r"^[A-Za-z_][\w.]*=")


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        language: what the fence is called, empty when it has no name.
        text: its lines, without the indentation of the fence.
        line: number of its first line in the page, from 1.
        file: the file that it is; empty if it is none.
    """

    language: str
    text: str
    line: int
    file: str = ""

    def commands(self) -> Iterator[list[str]]:
        """The words of each command; continued lines joined, comments and redirections dropped."""
        for line in self.text.replace("\\\n", " ").splitlines():
            for part in re.split(r"&&|\|\||[;|]", line):
                words = shlex.split(part, comments=True)
                if words:
                    yield words


def blocks(text: str) -> list[Block]:
    """All fenced blocks of a page, in their order."""
    found = []
    for match in FENCE.finditer(text):
        indent, _, language, options, body = match.groups()
        body = re.sub(rf"^{indent}", "", body, flags=re.MULTILINE)
        file = FILE.search(options)
        found.append(Block(language, body, text.count("\n", 0, match.start(5)) + 1, file[1] if file else ""))
    return found


def links(text: str) -> list[str]:
    """The targets of the page's links, those in fenced blocks left out."""
    return LINK.findall(FENCE.sub("", text))


@dataclass(frozen=True)
class EntryCall:
    """A call of one of our entries inside a command.

    Attributes:
        entry: `pretrain/main.py`, or a room that is run with `-m`.
        subcommand: of the entry; empty for the one that has no name.
        recipe: what `--config` names, None without it.
        settings: the `key=value` arguments.
        options: the options, without their values.
    """

    entry: str
    subcommand: str
    recipe: str | None
    settings: tuple[str, ...]
    options: tuple[str, ...]

    @property
    def room(self) -> str:
        """The room that the entry is in."""
        return self.entry.split("/")[0]


def entry_call(words: list[str]) -> EntryCall | None:
    """The call of our entry in a command, whatever launcher stands before it; None for other commands."""
    for index, word in enumerate(words):
        if word in ("pretrain/main.py", "cluster/job.sh"):
            rest = words[index + 1 :]
            subcommand = "evaluate" if rest[:1] == ["evaluate"] else ""
            return _call("pretrain/main.py", subcommand, rest[1:] if subcommand else rest)
        rooms = ("configs", "data_prep", "finetune", "cluster")
        if word == "-m" and words[index + 1 : index + 2] and words[index + 1] in rooms:
            rest = words[index + 2 :]
            subcommand = rest[0] if rest and not rest[0].startswith("-") else ""
            return _call(words[index + 1], subcommand, rest[1:] if subcommand else rest)
    return None


def _call(entry: str, subcommand: str, rest: list[str]) -> EntryCall:
    recipe = None
    options = []
    for index, word in enumerate(rest):
        if word.startswith("-"):
            name, _, value = word.partition("=")
            options.append(name)
            if name in ("--config", "-c"):
                recipe = value or rest[index + 1]
    settings = tuple(w for w in rest if ASSIGNMENT.match(w))
    return EntryCall(entry, subcommand, recipe, settings, tuple(options))
