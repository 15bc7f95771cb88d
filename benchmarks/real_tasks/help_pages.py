"""LibreOffice's help pages: headings and paragraphs by their identities, which are the same in every language."""

from __future__ import annotations

import gettext
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

TEXTS = {"en": "en-US", "zh": "zh-CN"}
_MARKS = re.compile(r"\(_\w\)|[_~]")
"""What says which letter of a menu is a shortcut."""


@dataclass(frozen=True)
class PageBlock:
    """A heading or a paragraph.

    Attributes:
        identity: the same in every language.
        kind: which of both.
        text: without markup, on one line.
    """

    identity: str
    kind: Literal["heading", "paragraph"]
    text: str


@dataclass(frozen=True)
class HelpPage:
    """A page.

    Attributes:
        name: its path, the same in every language.
        application: the first folder, such as `swriter`.
        blocks: what is on it, in order.
    """

    name: str
    application: str
    blocks: tuple[PageBlock, ...]

    def headed(self) -> Iterator[tuple[str, str]]:
        """Headings, each with the paragraph that follows it."""
        for first, second in zip(self.blocks, self.blocks[1:]):
            if first.kind == "heading" and second.kind == "paragraph":
                yield first.text, second.text


def pages_of(root: Path, language: str) -> list[HelpPage]:
    """The pages below an unpacked package."""
    (folder,) = root.glob(f"**/help/{TEXTS[language]}/text")
    found = []
    for file in sorted(folder.rglob("*.html")):
        name = str(file.relative_to(folder))
        blocks = tuple(blocks_of(file.read_bytes()))
        found.append(HelpPage(name, name.partition("/")[0], blocks))
    return found


def blocks_of(html: bytes) -> Iterator[PageBlock]:
    """The headings and paragraphs of a page that have an identity."""
    import lxml.html

    tree = lxml.html.fromstring(html)
    for element in list(tree.iter("script", "style", "nav")):
        element.drop_tree()
    for element in tree.find_class("MAC"):  # beside each key's name for other systems
        element.drop_tree()
    for element in tree.iter("h1", "h2", "h3", "h4", "p"):
        identity, text = element.get("id", ""), " ".join(element.text_content().split())
        if text and identity.startswith(("hd_", "par_")):
            yield PageBlock(identity, "paragraph" if element.tag == "p" else "heading", text)


def aligned_blocks(english: list[HelpPage], other: list[HelpPage]) -> Iterator[tuple[str, str, str]]:
    """The page, the English and the other text of what has the same identity on it."""
    others = {page.name: page for page in other}
    for page in english:
        if page.name in others:
            texts = {block.identity: block.text for block in others[page.name].blocks}
            for block in page.blocks:
                if block.identity in texts:
                    yield page.name, block.text, texts[block.identity]


def interface_texts(root: Path) -> Iterator[tuple[str, str]]:
    """English texts of the program's interface and their translations, from gettext's catalogues."""
    for file in sorted(root.rglob("*.mo")):
        with file.open("rb") as stream:
            catalogue = gettext.GNUTranslations(stream)
        for key, translated in catalogue._catalog.items():  # type: ignore[attr-defined]
            if isinstance(key, str) and key:
                english = key.rpartition("\x04")[2]  # after the context
                yield (without_marks(english), without_marks(translated))


def without_marks(text: str) -> str:
    """A text of the interface without the marks of its shortcut, on one line."""
    return " ".join(_MARKS.sub("", text).split())
