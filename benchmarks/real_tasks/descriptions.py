"""Descriptions of Debian's packages -> their section, their synopsis; a source package is a group."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.real_tasks.parts import GroupedExample

TOPICS = (
    "admin", "database", "editors", "electronics", "fonts", "games", "graphics", "mail", "math", "net", "science",
    "sound", "text", "video", "web",
)  # fmt: skip
"""Sections that say what a package is about; those that say what it is made of (`libs`, `python`) are left out."""
_LONGEST = 600
_SHORTEST = 80


@dataclass(frozen=True)
class PackageDescription:
    """A package.

    Attributes:
        source: the source package.
        section: where Debian sorts it.
        synopsis: the first line of its description.
        text: the others, as one line.
    """

    source: str
    section: str
    synopsis: str
    text: str


def descriptions_of(lists: Path) -> Iterator[PackageDescription]:
    """The packages of apt's lists."""
    known: dict[str, tuple[str, str]] = {}
    for file in sorted(lists.rglob("*_Packages")):
        for paragraph in file.read_text("utf-8").split("\n\n"):
            fields = dict(re.findall(r"^(Package|Source|Section): (\S+)", paragraph, re.MULTILINE))
            if "Package" in fields and "Section" in fields:
                known[fields["Package"]] = fields.get("Source", fields["Package"]), fields["Section"]
    for file in sorted(lists.rglob("*Translation-en")):
        for paragraph in file.read_text("utf-8").split("\n\n"):
            found = described(paragraph)
            if found and found[0] in known:
                yield PackageDescription(*known[found[0]], *found[1:])


def described(paragraph: str) -> tuple[str, str, str] | None:
    """Package, synopsis and text of a paragraph of apt's list of descriptions."""
    name = re.search(r"^Package: (\S+)", paragraph, re.MULTILINE)
    text = re.search(r"^Description-en: (.*)\n((?: .*\n?)*)", paragraph, re.MULTILINE)
    if not name or not text:
        return None
    lines = ("" if line.strip() == "." else line.strip() for line in text[2].splitlines())
    return name[1], text[1].strip(), " ".join(" ".join(lines).split())


def sections(packages: Iterable[PackageDescription]) -> Iterator[GroupedExample]:
    """Descriptions whose section is to be told."""
    for package in packages:
        if package.section in TOPICS:
            text = f"{package.synopsis}. {package.text}"[:_LONGEST]
            yield GroupedExample(package.source, package.text[:200], {"text": text, "label": package.section})


def synopses(packages: Iterable[PackageDescription]) -> Iterator[GroupedExample]:
    """Descriptions and their synopses."""
    for package in packages:
        source = package.text[:_LONGEST]
        if len(source) >= _SHORTEST and package.section in TOPICS:
            yield GroupedExample(package.source, source[:200], {"source": source, "target": package.synopsis})
