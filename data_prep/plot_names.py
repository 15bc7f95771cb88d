"""Names in pictures: a font that has their letters, or numbers in their place, so that none is drawn as boxes."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

_MOST_FONTS = 4
_SHOWN = 10
_EAST_ASIAN = (("\u1100", "\u11ff"), ("\u2e80", "\ua4cf"), ("\uac00", "\ud7ff"), ("\uf900", "\ufaff"),
               ("\uff00", "\uffef"), ("\U00020000", "\U0003ffff"))  # fmt: skip


@dataclass(frozen=True)
class PlotNames:
    """Names as a picture shows them.

    Attributes:
        names: in their order; `#3` stands for the fourth where no font has its letters.
        settings: for `matplotlib.rc_context`, while the picture is drawn.
        note: which names are numbered and what to install; None: all are there.
    """

    names: list[str]
    settings: Any
    note: str | None


@contextmanager
def drawable(names: Sequence[str]) -> Iterator[list[str]]:
    """While a picture is drawn: its names as they can be drawn. Says on standard error which ones are numbered."""
    from matplotlib import rc_context

    found = plot_names(names)
    # Of a font without a normal weight it would say, line by line, that it takes another.
    log = logging.getLogger("matplotlib.font_manager")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with rc_context(found.settings):
            yield found.names
    finally:
        log.setLevel(level)
    if found.note is not None:
        print(found.note, file=sys.stderr, flush=True)


def plot_names(names: Sequence[str]) -> PlotNames:
    """See which installed fonts are needed to draw names, beside the one that matplotlib draws with."""
    from matplotlib import rcParams
    from matplotlib.font_manager import FontProperties, findfont

    # A user's matplotlibrc may ask for LaTeX, which reads names as its language.
    settings: dict[str, Any] = {"text.usetex": False}
    missing = {letter for name in names for letter in name if not letter.isspace()}
    missing -= _letters(findfont(FontProperties()))
    if not missing:
        return PlotNames(list(names), settings, None)
    families: list[str] = []
    while missing and len(families) < _MOST_FONTS:
        best = _best_font(missing)
        if best is None:
            break
        families.append(_add(best))
        missing -= _letters(best)
    if families:
        settings["font.family"] = [*rcParams["font.family"], *families]
    numbered = [number for number, name in enumerate(names) if missing.intersection(name)]
    drawn = [f"#{number}" if missing.intersection(name) else name for number, name in enumerate(names)]
    return PlotNames(drawn, settings, _note([(f"#{n}", names[n]) for n in numbered], missing) if numbered else None)


def _note(numbered: Sequence[tuple[str, str]], missing: Iterable[str]) -> str:
    letters = sorted(missing)
    first = " ".join(letters[:_SHOWN]) + (" ..." if len(letters) > _SHOWN else "")
    shown = ", ".join(f"{number} {name}" for number, name in numbered[:_SHOWN])
    more = f" and {len(numbered) - _SHOWN} more" if len(numbered) > _SHOWN else ""
    east_asian = any(low <= letter <= high for letter in letters for low, high in _EAST_ASIAN)
    package = "fonts-noto-cjk" if east_asian else "fonts-noto-core"
    return (
        f"note: no installed font has {first}, so numbers stand in the picture: {shown}{more}; a font is in the package"
        f" {package} of Debian and Ubuntu"
    )


def _best_font(missing: set[str]) -> str | None:
    """The font file that has most of the letters, upright and of normal weight if there is the choice."""
    # Not the list that matplotlib keeps: it does not know what was installed since it was made.
    from matplotlib.font_manager import findSystemFonts

    scored = []
    for path in findSystemFonts():
        found = len(missing & _letters(path))
        if found:
            scored.append((-found, _is_slanted_or_bold(path), path))
    return min(scored)[2] if scored else None


def _letters(path: str) -> set[str]:
    """What a font file has; nothing where it cannot be drawn with."""
    font = _open(path)
    if font is None or not font.scalable:  # pictures of letters (emoji) have no outlines
        return set()
    return set(map(chr, font.get_charmap()))


def _is_slanted_or_bold(path: str) -> bool:
    font = _open(path)
    return font is None or bool(font.style_flags) or font.style_name.lower() not in ("regular", "book", "normal")


def _add(path: str) -> str:
    """Make a font file known to matplotlib; returns the name of its family."""
    from matplotlib.font_manager import FontProperties, fontManager

    fontManager.addfont(path)
    return FontProperties(fname=path).get_name()


def _open(path: str) -> Any:
    from matplotlib.ft2font import FT2Font

    try:
        return FT2Font(path)
    except (OSError, RuntimeError):
        return None
