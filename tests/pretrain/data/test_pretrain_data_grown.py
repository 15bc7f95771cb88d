"""A corpus that grew by `tokenize append=true` since a run trained on it has the documents of that run in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pretrain_data_corpora import grown_corpus, random_lengths, run_config, write_corpus

from configs.errors import CheckpointError
from pretrain.config import RunConfig
from pretrain.data.history import DataHistory
from pretrain.data.run_data import RunData


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Corpora a, b and c, and what a and b became when the documents of c were appended."""
    root = tmp_path_factory.mktemp("corpora")
    found = {
        name: write_corpus(root / name, random_lengths(60, seed=number), first_token=20_000 * number, shards=1 + number)
        for number, name in enumerate("abc")
    }
    return found | {f"grown {name}": grown_corpus(found[name], found["c"], root / f"grown-{name}") for name in "ab"}


def opened(directory: Path, train: Any, split: list[float], **other: Any) -> tuple[RunData, RunConfig]:
    config = run_config(directory, {"train": train, "split": split} | other)
    return RunData.open(config), config


def resumed(directory: Path, before: DataHistory, train: Any, split: list[float], **other: Any) -> RunData:
    """What a run reads that goes on at sample 40."""
    data, config = opened(directory, train, split, **other)
    return data.continuing(config, before, 5, 40)


def test_another_training_share_is_refused(tmp_path: Path, corpora: dict[str, Path]) -> None:
    before = opened(tmp_path, str(corpora["a"]), [0.9, 0.1, 0.0])[0].history
    sets = {"validation": {"v": str(corpora["grown a"])}}
    for now, config in (
        opened(tmp_path, str(corpora["grown a"]), [0.5, 0.5, 0.0]),
        opened(tmp_path, str(corpora["c"]), [0.5, 0.5, 0.0], **sets),
    ):
        with pytest.raises(CheckpointError, match=r"(?s)40\.0% of its documents were trained on.*expected: 0\.9"):
            now.check_split(config, before)
    for name, split in (("grown a", [0.9, 0.05, 0.05]), ("grown b", [0.5, 0.5, 0.0])):
        now, config = opened(tmp_path, str(corpora[name]), split)
        now.check_split(config, before)


def test_the_smaller_corpus_is_known_when_the_grown_one_was_trained_on(
    tmp_path: Path, corpora: dict[str, Path]
) -> None:
    before = opened(tmp_path, str(corpora["grown a"]), [0.9, 0.1, 0.0])[0].history
    saved = DataHistory.decode(before.encode())
    assert saved == before and saved.phases[0].train[0].beginnings
    now, config = opened(tmp_path, str(corpora["a"]), [0.5, 0.5, 0.0])
    with pytest.raises(CheckpointError, match=r"40\.0% of its documents were trained on"):
        now.check_split(config, saved)


def test_a_corpus_keeps_the_split_that_an_older_version_let_it_have(tmp_path: Path, corpora: dict[str, Path]) -> None:
    first = opened(tmp_path, str(corpora["a"]), [0.9, 0.1, 0.0])[0].history.phases[0]
    second, config = opened(tmp_path, str(corpora["grown a"]), [0.5, 0.5, 0.0])
    phases = (first, replace(second.history.phases[0], from_step=5, from_sample=40))
    without = tuple(replace(phase, train=tuple(replace(e, beginnings=()) for e in phase.train)) for phase in phases)
    for history in (phases, without):
        second.check_split(config, DataHistory(7, history))


@pytest.mark.parametrize(("trained", "evaluated"), [("a", "grown a"), ("grown a", "a")])
def test_only_what_was_held_out_is_evaluated(
    tmp_path: Path, corpora: dict[str, Path], trained: str, evaluated: str
) -> None:
    sets = {"validation": {"v": str(corpora[evaluated]), "other": str(corpora["b"])}}
    split = [0.6, 0.2, 0.2]

    def documents(data: RunData) -> list[str]:
        return [data.evaluation_sets[name]["corpora"][0]["documents"] for name in ("v", "other")]

    assert documents(opened(tmp_path, str(corpora[trained]), split, **sets)[0]) == ["validation", "all"]
    before = opened(tmp_path, str(corpora[trained]), split)[0].history
    assert documents(resumed(tmp_path, before, str(corpora["c"]), split, **sets)) == ["validation", "all"]


def test_it_is_told_that_it_grew_and_is_read_anew(tmp_path: Path, corpora: dict[str, Path]) -> None:
    a, b, grown = ({"corpus": str(corpora[name])} for name in ("a", "b", "grown a"))
    before = opened(tmp_path, [a, b], [1.0, 0.0, 0.0])[0].history
    assert resumed(tmp_path, before, [grown, b], [1.0, 0.0, 0.0]).notes == (
        f"from sample 40 on, 16 tokens each, data.train is {corpora['grown a']} 50.0% (grew from {corpora['a']} after"
        f" 20 samples of that, and is read from its beginning), {corpora['b']} 50.0% (after 20 samples of it)",
    )
