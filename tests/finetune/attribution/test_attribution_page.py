"""The page of what a classifier goes by: complete scores, whole texts, nothing that a text could smuggle in."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest

from configs.errors import ConfigError, DataError
from finetune.attribution.command import attribute_command
from finetune.attribution.gradients import Attributor
from finetune.predictors import Classifier, TextRecord, load_predictor
from finetune.run_task import run_task
from tests.finetune.finetune_texts import classify_config, prepare

pytestmark = pytest.mark.slow
HOSTILE = "<script>alert('raises')</script> & 今天天气很好 🙂 opens  path"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("attribution")
    prepare(root)
    run_task(classify_config(root, "classifier", training__duration="40 steps", baselines=[]), lambda line: None)
    return root


def shown(page: str) -> list[str]:
    """The texts of a page, as a browser shows them."""
    blocks = re.findall(r"<div class='x'>\n(.*?)\n</div>", page, re.DOTALL)
    return [html.unescape(re.sub(r"<span class='s'.*?</span>|<[^>]+>", "", block)) for block in blocks]


def test_scores_are_complete_and_name_the_words_of_the_label(root: Path) -> None:
    classifier = load_predictor(root / "classifier")
    assert isinstance(classifier, Classifier)
    found = Attributor(classifier, steps=128)(TextRecord("a", "the object raises exception of name"))
    total = sum(token.score for token in found.tokens)
    assert total == pytest.approx(found.logit - found.baseline + found.delta, abs=1e-3)
    assert abs(found.delta) < 0.05 * abs(found.logit - found.baseline) and found.target == found.predicted
    assert (
        "".join(token.text for token in found.tokens if not token.is_special) == "the object raises exception of name"
    )
    other = Attributor(classifier, label="value", steps=8)(TextRecord("a", "opens path"))
    assert other.target == "value"


def test_the_page_shows_texts_and_runs_nothing_of_them(root: Path, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text(f"{HOSTILE}\nreturns value\n", "utf-8")
    output = tmp_path / "page.html"
    attribute_command(root / "classifier", [str(tmp_path / "in.txt")], output, steps=4)
    page = output.read_text("utf-8")
    assert "<script" not in page and "delta" in page
    assert shown(page) == [HOSTILE, "returns value"]
    with pytest.raises(ConfigError, match="exists already"):
        attribute_command(root / "classifier", [str(tmp_path / "in.txt")], output)
    texts, other = [str(root / "texts.jsonl")], tmp_path / "other.html"
    attribute_command(root / "classifier", texts, other, id=["n3", "n7"], steps=2)
    assert len(shown(other.read_text("utf-8"))) == 2
    with pytest.raises(DataError, match="no text with the id 'n999'"):
        attribute_command(root / "classifier", texts, tmp_path / "no.html", id=["n999"])
    with pytest.raises(ConfigError, match="--label"):
        attribute_command(root / "classifier", texts, tmp_path / "no.html", label="valeu")
