"""Names in pictures: drawn with a font that has their letters, or numbered and told; never boxes."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from small_font import install_fonts, write_font

from data_prep.plot_names import drawable, plot_names

NAMES = ["film", "新闻", "日本", "ไทย"]


def draw(names: list[str], path: Path) -> None:
    """Draw the names, where a letter that is missing is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = Figure()
        FigureCanvasAgg(figure)
        figure.add_subplot().set_xticks(range(len(names)), names)
        figure.savefig(path)


def test_letters_that_the_usual_font_has_need_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    install_fonts(monkeypatch)
    found = plot_names(["film", "naïve Ærø", "новости", "a $b$"])
    assert found.names == ["film", "naïve Ærø", "новости", "a $b$"] and found.note is None
    assert "font.family" not in found.settings


def test_installed_fonts_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    han, thai = write_font(tmp_path / "Small Han.ttf", "新闻日本"), write_font(tmp_path / "Small Thai.ttf", "ไทย")
    bold = write_font(tmp_path / "A Bold Han.ttf", "新闻日本", style="Bold")
    install_fonts(monkeypatch, tmp_path / "broken.ttf", bold, thai, han)
    found = plot_names(NAMES)
    assert found.names == NAMES and found.note is None
    assert found.settings["font.family"][-2:] == ["Small Han", "Small Thai"]
    with drawable(NAMES) as names:
        draw(names, tmp_path / "with fonts.png")
    install_fonts(monkeypatch)
    with pytest.raises(UserWarning, match="missing from font"):
        draw(NAMES, tmp_path / "without.png")


def test_without_a_font_names_are_numbered_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install_fonts(monkeypatch, write_font(tmp_path / "Small Han.ttf", "新闻"))
    with drawable(NAMES) as names:
        assert names == ["film", "新闻", "#2", "#3"]
        draw(names, tmp_path / "numbered.png")
    told = capsys.readouterr().err
    assert "#2 日本, #3 ไทย" in told and "fonts-noto-cjk" in told and told.startswith("note: no installed font has ")
    with drawable(["ไทย"]):
        pass
    assert "fonts-noto-core" in capsys.readouterr().err
