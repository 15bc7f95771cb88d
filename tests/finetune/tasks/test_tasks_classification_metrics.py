"""Figures against hand-counted ones, tables and plot, baselines."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import pytest

from finetune.tasks.base import FINE_TUNED, FROM_SCRATCH
from finetune.tasks.classification_baselines import MAJORITY, TFIDF, TextFeatures, majority, text_features, tfidf
from finetune.tasks.classification_metrics import (
    classification_figures,
    comparison_table,
    confusion_table,
    label_table,
    plot_confusion,
)
from finetune.tasks.classification_report import result_tables
from tests.finetune.finetune_texts import classify_config

GOLD = [0, 0, 0, 1, 1, 2]
PREDICTED = [0, 0, 1, 1, 0, 1]
LABELS = ["class", "function", "module", "topic"]


def test_figures_are_those_counted_by_hand() -> None:
    figures = classification_figures(GOLD, PREDICTED, LABELS)
    assert figures["accuracy"] == pytest.approx(3 / 6)
    assert figures["confusion"] == [[2, 1, 0, 0], [1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    assert figures["labels"]["class"] == pytest.approx({"precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3, "support": 3})
    assert figures["labels"]["function"] == pytest.approx(
        {"precision": 1 / 3, "recall": 1 / 2, "f1": 0.4, "support": 2}
    )
    assert figures["labels"]["module"]["f1"] == 0
    assert figures["labels"]["topic"] == {"precision": None, "recall": None, "f1": None, "support": 0}
    assert figures["macro_f1"] == pytest.approx((2 / 3 + 0.4) / 3)


def test_macro_means_are_over_the_labels_that_occur() -> None:
    from sklearn.metrics import f1_score

    assert classification_figures([0, 1, 1], [0, 1, 1], LABELS)["macro_f1"] == 1
    for gold, predicted in ((GOLD, PREDICTED), ([0, 0, 0], [0, 0, 3]), ([1, 1], [2, 2])):
        figures = classification_figures(gold, predicted, LABELS)
        assert figures["macro_f1"] == pytest.approx(f1_score(gold, predicted, average="macro", zero_division=0))


def test_tables_show_every_label() -> None:
    from rich.console import Console

    figures = classification_figures(GOLD, PREDICTED, LABELS)
    console = Console(width=100, file=io.StringIO())
    for table in (label_table(figures), confusion_table(figures), comparison_table({"ours": figures}, "test")):
        console.print(table)
    text = console.file.getvalue()
    assert all(text.count(label) >= 3 for label in LABELS)
    assert "0.667" in text and "0.500" in text and "ours" in text
    assert "macro mean of 3 labels that occur" in text and "- " in text


def test_the_plot_is_a_picture_of_the_matrix(tmp_path: Path) -> None:
    import matplotlib.image

    right = classification_figures([0, 1, 2, 3], [0, 1, 2, 3], LABELS)
    wrong = classification_figures([0, 1, 2, 3], [1, 0, 3, 2], LABELS)
    pictures = []
    for name, figures in (("right", right), ("wrong", wrong)):
        plot_confusion(figures, tmp_path / f"{name}.png")
        pictures.append(matplotlib.image.imread(tmp_path / f"{name}.png"))
    assert pictures[0].shape == pictures[1].shape and min(pictures[0].shape[:2]) > 300
    assert (pictures[0] != pictures[1]).mean() > 0.05


ODD_LABELS = ["$_GET", "$_^$", "[/b]", "list[int]", "list[str]", "[bold]x[/bold]", "日本", "x" * 300]


def test_labels_are_no_markup() -> None:
    from rich.console import Console

    figures = classification_figures(list(range(8)), list(range(8)), ODD_LABELS)
    console = Console(width=1000, file=io.StringIO())
    console.print(label_table(figures))
    console.print(confusion_table(figures))
    text = console.file.getvalue()
    assert [text.count(label) for label in ODD_LABELS] == [3] * 8


def test_of_many_labels_the_largest_errors_are_listed() -> None:
    from rich.console import Console

    labels = [f"[n{number}]" for number in range(800)]
    figures = classification_figures([0, 1, 1, 2, 3], [0, 5, 5, 7, 3], labels)
    console = Console(width=100, file=io.StringIO())
    console.print(confusion_table(figures))
    rows = [line.split() for line in console.file.getvalue().splitlines() if "[n" in line]
    assert [[row[1], row[3], row[5]] for row in rows] == [["[n1]", "[n5]", "2"], ["[n2]", "[n7]", "1"]]


@pytest.mark.slow
@pytest.mark.parametrize("labels", [ODD_LABELS, [f"label {number}" for number in range(800)]], ids=["odd", "many"])
def test_the_plot_takes_any_labels_and_stays_small(tmp_path: Path, labels: list[str]) -> None:
    from PIL import Image

    numbers = list(range(len(labels)))
    plot_confusion(classification_figures(numbers, numbers[::-1], labels), tmp_path / "plot.png")
    assert max(Image.open(tmp_path / "plot.png").size) <= 3000


WORDS, CHARACTERS = TextFeatures("word", 2), TextFeatures("char", 3)


def test_labels_without_a_font_are_numbered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", lambda: [])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot_confusion(classification_figures([0, 1], [0, 1], ["影评", "news"]), tmp_path / "plot.png")
    assert "#0 影评; a font is in the package fonts-noto-cjk" in capsys.readouterr().err


def test_baselines() -> None:
    assert majority([1, 2, 2, 1, 0], 3) == [1, 1, 1]
    train = ["raise an error", "return a list", "error raised", "a returned list"] * 5
    labels = [0, 1, 0, 1] * 5
    given: dict[str, Any] = {"features": WORDS, "balanced": True, "seed": 0}
    assert tfidf(train, labels, ["error", "list of", "error"], **given) == [0, 1, 0]
    assert tfidf(["...", "!!!", "???"], [1, 1, 0], ["x", "y"], **given) == [1, 1]


def test_what_is_counted_is_chosen_by_the_text() -> None:
    assert str(text_features(["a film that I like", "I do not"])) == "words, 1 to 2"
    assert str(text_features(["这部电影我很喜欢", "我不喜欢 this film"])) == "characters, 1 to 3"
    assert text_features(["ภาพยนตร์ที่ฉันชอบ"]) == CHARACTERS and text_features(["영화가 좋아요"]) == WORDS
    assert text_features(["One name 李明 in a sentence of many words"]) == WORDS
    # Words between white space are never seen twice here: only characters tell the two apart.
    train = [f"{number}号电影我很喜欢" for number in range(8)] + [f"{number}号电影真难看" for number in range(8)]
    labels, asked = [0] * 8 + [1] * 8, ["我很喜欢九号", "难看死了", "难看"]
    found = {f: tfidf(train, labels, asked, features=f, balanced=False, seed=0) for f in (WORDS, CHARACTERS)}
    assert found[CHARACTERS] == [0, 1, 1] != found[WORDS]


def test_what_is_better_is_told_with_what_to_try(tmp_path: Path) -> None:
    from rich.console import Console

    config = classify_config(tmp_path, "out")
    perfect, worse = (classification_figures([0, 1, 2], chosen, LABELS) for chosen in ([0, 1, 2], [0, 1, 1]))
    better = perfect | {"features": str(CHARACTERS)}
    for name, told in (
        (FROM_SCRATCH, "a smaller optimizer.lr (now 0.005)"),
        (TFIDF, "a longer training.duration (now 6 epochs), data.max_tokens (now 256)"),
        (TFIDF, "baselines=[scratch] shows if the pretraining helped"),
        (MAJORITY, "class_weights=balanced"),
    ):
        console = Console(width=400, file=io.StringIO())
        for table in result_tables({FINE_TUNED: worse, name: better}, "test", config):
            console.print(table, markup=False)
        text = console.file.getvalue()
        assert f"{name} has a better macro F1 than the fine-tuned model, 1.000 against 0.556." in text and told in text
        assert f"{name} (characters, 1 to 3)" in text
    notes = [
        line for line in result_tables({FINE_TUNED: perfect, TFIDF: perfect}, "test", config) if isinstance(line, str)
    ]
    assert notes == []
