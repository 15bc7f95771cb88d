"""Keys that had another name are taken by it, and the new one is told."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from configs.errors import ConfigError
from configs.load import find_recipe, load_config
from configs.section import Section
from finetune.config import ExportConfig
from finetune.tasks.classify_config import ClassifyConfig
from finetune.tasks.splitting import PARTS
from pretrain.config import RunConfig


@pytest.mark.parametrize(
    ("cls", "given", "renamed"),
    [
        (RunConfig, ["output_dir=a", "data.train=c"], {"output_dir": "output"}),
        (
            ClassifyConfig,
            ["output_dir=a", "model=b", "data.train=c", "data.validation=d", "data.test=e"],
            {"output_dir": "output"} | {f"data.{part}": f"data.{part}_texts" for part in PARTS},
        ),
        (ExportConfig, ["checkpoint=a", "output=b"], {"checkpoint": "model"}),
    ],
)
def test_the_names_of_before_are_taken(
    cls: type[Section], given: list[str], renamed: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = find_recipe("gpt-tiny", "pretrain") if cls is RunConfig else None
    old = load_config(cls, recipe, given)
    told = capsys.readouterr().err
    assert all(f"{before} is called {now} now" in told for before, now in renamed.items())
    present = [f"{renamed.get(key, key)}={value}" for key, value in (text.split("=") for text in given)]
    assert load_config(cls, recipe, present) == old and not capsys.readouterr().err


class OldItem(Section):
    renamed: ClassVar[dict[str, str]] = {"path": "corpus"}

    corpus: Path


class OldNames(Section):
    renamed: ClassVar[dict[str, str]] = {"output_dir": "output", "sources": "corpora"}

    output: Path
    corpora: list[OldItem] = []
    named: dict[str, OldItem] = {}


def test_old_names_are_taken_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "old.yaml"
    path.write_text("output_dir: a\nsources: [{path: x}, {corpus: y}]\n")
    config = load_config(OldNames, path)
    assert (str(config.output), [str(item.corpus) for item in config.corpora]) == ("a", ["x", "y"])
    told = capsys.readouterr().err.splitlines()
    assert told == [
        f"note: {path}: output_dir is called output now",
        f"note: {path}: sources is called corpora now",
        f"note: {path}: corpora.path is called corpora.corpus now",
    ]
    config = load_config(OldNames, path, ["output_dir=b", "sources=[{path: z}]"])
    assert (str(config.output), [str(item.corpus) for item in config.corpora]) == ("b", ["z"])
    assert "note: command line: output_dir is called output now" in capsys.readouterr().err


def test_in_a_mapping_the_names_that_somebody_chose_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "old.yaml"
    path.write_text("output: a\nnamed: {path: {path: x}, sources: {corpus: y}}\n")
    config = load_config(OldNames, path, ["named.z.path=w"])
    assert {name: str(item.corpus) for name, item in config.named.items()} == {"path": "x", "sources": "y", "z": "w"}
    assert capsys.readouterr().err.splitlines() == [
        f"note: {path}: named.path.path is called named.path.corpus now",
        "note: command line: named.z.path is called named.z.corpus now",
    ]


def test_a_key_by_both_of_its_names_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "old.yaml"
    path.write_text("output_dir: a\noutput: b\n")
    with pytest.raises(ConfigError, match="output_dir is the old name of output, and both are given"):
        load_config(OldNames, path)
