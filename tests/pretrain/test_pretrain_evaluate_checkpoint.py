"""A checkpoint is evaluated on given sets in any layout; a finished run measures a set that is new to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from configs.errors import CheckpointError, ConfigError
from configs.load import load_config
from pretrain.checkpoint.directory import step_name
from pretrain.evaluate_checkpoint import evaluation_config
from pretrain.parallel.launch import Launch
from tests.distributed import RankFailure, run_ranks
from tests.pretrain.engine.layout_cases import SESSION
from tests.pretrain.tiny_run import make_corpus, tiny_config


def train(output_dir: Path, corpus: Path, changes: dict[str, Any]) -> int:
    from pretrain import main

    return int(main.run(tiny_config(output_dir, corpus, **changes)))


def evaluate(run: Path, overrides: list[str], output: Path | None) -> dict[str, Any]:
    from pretrain.checkpoint.reader import find_checkpoints
    from pretrain.evaluate_checkpoint import evaluate_checkpoint

    checkpoint = find_checkpoints(run)[-1]
    return evaluate_checkpoint(checkpoint, evaluation_config(checkpoint, overrides), with_test=True, output=output)


def evaluated(ranks: int, run: Path, *overrides: str, output: Path | None = None) -> dict[str, Any]:
    options: dict[str, Any] = {"process_group": False, "preload": SESSION, "timeout_s": 200}
    found = run_ranks(evaluate, ranks, run, list(overrides), output, **options)
    assert found == [found[0]] * ranks
    return found[0]["sets"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    run = tmp_path_factory.mktemp("finished") / "run"
    run_ranks(train, 1, run, corpus, {}, process_group=False, preload=SESSION, timeout_s=200)
    return run


def other_corpus(directory: Path, corpus: Path) -> Path:
    """Other text, with the tokenizer of `corpus`."""
    from data_prep.config import TokenizeConfig
    from data_prep.sharding.tokenization import tokenize

    text = directory / "other.jsonl"
    text.write_text("".join(json.dumps({"text": f"a ship of {n} lights sails to sea"}) + "\n" for n in range(60)))
    given = [f"input={text}", f"tokenizer={corpus.parent}/tok", f"output={directory}/other"]
    tokenize(load_config(TokenizeConfig, None, given))
    return directory / "other"


def last_records(run: Path) -> dict[str, dict[str, Any]]:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {record["name"]: record for record in records if record["kind"] == "validation"}


@pytest.mark.slow
def test_every_layout_measures_what_the_run_did(finished: Path, tmp_path: Path) -> None:
    seen = last_records(finished)
    before = sorted(path.name for path in finished.rglob("*") if path.is_file())
    alone = evaluated(1, finished, output=tmp_path / "figures.json")
    assert {name: found["loss"] for name, found in alone.items()} == {n: r["loss"] for n, r in seen.items()}
    assert {name: found["set"]["fingerprint"] for name, found in alone.items()} == {
        name: record["fingerprint"] for name, record in seen.items()
    }
    assert json.loads((tmp_path / "figures.json").read_text())["sets"] == alone
    floors = {name: found["unigram_loss"] for name, found in alone.items()}
    assert floors == {name: record["unigram_loss"] for name, record in seen.items()}
    assert floors.keys() == {"validation", "test"} and all(2 < floor < 8 for floor in floors.values())
    for layout in (("parallel.tensor_size=2",), ("parallel.pipeline_size=2",), ("parallel.zero_stage=3",)):
        spread = evaluated(2, finished, *layout)
        assert {n: found["loss"] for n, found in spread.items()} == pytest.approx(
            {n: found["loss"] for n, found in alone.items()}, rel=1e-5
        )
        assert {n: found["unigram_loss"] for n, found in spread.items()} == pytest.approx(floors)
    assert sorted(path.name for path in finished.rglob("*") if path.is_file()) == before, "a run is only read"


@pytest.mark.slow
def test_other_sets_can_be_named_and_another_model_cannot(finished: Path, corpus: Path, tmp_path: Path) -> None:
    other = other_corpus(tmp_path, corpus)
    found = evaluated(1, finished, f"data.validation={{other: {other}}}", "training.micro_batch_size=1")
    assert set(found) == {"other", "test"} and 0 < found["other"]["loss"] < 10
    with pytest.raises((CheckpointError, RankFailure), match=r"model\.num_layers"):
        evaluated(1, finished, "model.num_layers=1")


@pytest.mark.slow
def test_a_finished_run_measures_a_set_that_is_new_and_trains_nothing(
    finished: Path, corpus: Path, tmp_path: Path
) -> None:
    other = other_corpus(tmp_path, corpus)
    saved = finished / "checkpoints" / step_name(12) / "manifest.json"
    before = saved.read_bytes()
    changes = {"data__validation": f"{{other: {other}, validation: {corpus}}}"}
    run_ranks(train, 1, finished, corpus, changes, process_group=False, preload=SESSION, timeout_s=200)
    seen = last_records(finished)
    assert seen["other"]["step"] == 12 and seen["other"]["loss"] is not None
    assert saved.read_bytes() == before


def test_the_config_is_the_checkpoints_with_overrides_and_lies_where_it_lies_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(Path("elsewhere/run"), Path("corpus"))
    checkpoint = tmp_path / "moved/checkpoints" / step_name(12)
    metadata = {"config": config.model_dump(mode="json")}
    monkeypatch.setattr("pretrain.evaluate_checkpoint.read_metadata", lambda path: metadata)
    found = evaluation_config(checkpoint, ["evaluation.batches=3"])
    assert (found.output, found.evaluation.batches, found.model) == (tmp_path / "moved", 3, config.model)
    with pytest.raises(ConfigError, match=r"evaluation\.batchs.*did you mean evaluation\.batches"):
        evaluation_config(checkpoint, ["evaluation.batchs=3"])
    assert evaluation_config(checkpoint, ["output=x"]).output == Path("x")


def test_on_fewer_ranks_than_the_model_was_cut_for_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parallel = {"parallel__tensor_size": 2, "parallel__pipeline_size": 2, "parallel__sequence_parallel": True}
    config = tiny_config(tmp_path / "run", Path("corpus"), **parallel)
    metadata = {"config": config.model_dump(mode="json")}
    monkeypatch.setattr("pretrain.evaluate_checkpoint.read_metadata", lambda path: metadata)
    found = evaluation_config(tmp_path / "step", []).parallel
    assert (found.tensor_size, found.pipeline_size, found.sequence_parallel) == (1, 1, False)
    assert "trained with 4 ranks for each copy of the model, evaluated with one" in capsys.readouterr().err
    assert evaluation_config(tmp_path / "step", ["parallel.pipeline_size=1"]).parallel.tensor_size == 2
    monkeypatch.setattr("pretrain.evaluate_checkpoint.discover", lambda: Launch(0, 8, 0, 8, None, None, "python"))
    assert evaluation_config(tmp_path / "step", []).parallel == config.parallel
