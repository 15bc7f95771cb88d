"""A font with a few letters, made on the spot: every one is a triangle."""

from __future__ import annotations

from pathlib import Path

import matplotlib.font_manager
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen


def write_font(path: Path, letters: str, style: str = "Regular") -> Path:
    """Write a TrueType font named after its file."""
    names = [".notdef", *(f"glyph{number}" for number in range(len(letters)))]
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    pen.lineTo((0, 700))
    pen.lineTo((600, 350))
    pen.closePath()
    triangle = pen.glyph()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(letter): name for letter, name in zip(letters, names[1:])})
    builder.setupGlyf(dict.fromkeys(names, triangle))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (700, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": path.stem, "styleName": style})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return path


def install_fonts(monkeypatch: pytest.MonkeyPatch, *fonts: Path) -> None:
    """Let these be the fonts of the system, beside the ones that matplotlib brings."""
    monkeypatch.setattr(matplotlib.font_manager, "findSystemFonts", lambda: [str(font) for font in fonts])
    listed = list(matplotlib.font_manager.fontManager.ttflist)
    monkeypatch.setattr(matplotlib.font_manager.fontManager, "ttflist", listed)
