"""Whole runs that start from other weights: the same course as transformers' own model, in every layout; resuming."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from configs.errors import CheckpointError, ConfigError, DataError
from pretrain import preflight
from pretrain.checkpoint.reader import read_metadata
from tests.distributed import run_ranks
from tests.pretrain.engine.layout_cases import SESSION
from tests.pretrain.starting.continued_runs import (
    LAYOUTS,
    LIMIT,
    Trajectory,
    continued,
    continued_config,
    largest_difference,
    plain,
    run_here,
    write_llama,
)
from tests.pretrain.starting.source_in_memory import change_config
from tests.pretrain.tiny_run import make_corpus, train_records

STEPS = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus in `text` and a Llama in `llama`."""
    root = tmp_path_factory.mktemp("starting")
    make_corpus(root / "text")
    write_llama(root / "llama")
    return root


@pytest.fixture(scope="module")
def expected(folder: Path) -> Trajectory:
    return plain(folder / "text" / "corpus", folder / "llama", STEPS)


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["one process", "ZeRO-3, data 2", "tensor 2"])
def test_a_run_takes_the_course_of_transformers_own_model(
    layout: str, folder: Path, expected: Trajectory, tmp_path: Path
) -> None:
    found = continued(layout, tmp_path / "run", folder / "text" / "corpus", folder / "llama", STEPS)
    assert largest_difference(found, expected) < LIMIT
    assert expected[-1][0] < expected[0][0] - 0.5
    saved = read_metadata(tmp_path / "run")
    assert saved["start_from"]["path"] == str(folder / "llama")
    assert saved["start_from"]["architecture"] == "LlamaForCausalLM"


def run_as_the_first_tensor_rank(*arguments: Any) -> int:
    """On each rank: the run, whose weights are read as if every tensor rank were the first."""
    from pretrain.starting import values

    own = values.rectangles
    values.rectangles = lambda shape, start, stop: own(replace(shape, tensor_rank=0), start, stop)
    return run_here(*arguments)


@pytest.mark.slow
def test_shards_of_the_wrong_rank_show(folder: Path, expected: Trajectory, tmp_path: Path) -> None:
    changes = {f"parallel__{key}": value for key, value in LAYOUTS["tensor 2"][1].items()}
    arguments = (tmp_path / "run", folder / "text" / "corpus", folder / "llama", 1, changes)
    run_ranks(run_as_the_first_tensor_rank, 2, *arguments, process_group=False, preload=SESSION)
    record = train_records(tmp_path / "run")[0]
    assert largest_difference([(record["loss"], record["grad_norm"])], expected[:1]) > LIMIT


@pytest.mark.slow
def test_a_run_with_checkpoints_goes_on_and_does_not_read_its_source_again(folder: Path, tmp_path: Path) -> None:
    corpus, source = folder / "text" / "corpus", tmp_path / "llama"
    shutil.copytree(folder / "llama", source)

    def run(steps: int, **changes: Any) -> None:
        # A fresh config: what is left out of the model is asked anew.
        arguments = (tmp_path / "run", corpus, source, steps, {"optimizer__schedule": "constant", **changes})
        assert run_ranks(run_here, 1, *arguments, process_group=False, preload=SESSION) == [0]

    run(2)
    shutil.rmtree(source)
    run(4)
    assert [record["step"] for record in train_records(tmp_path / "run")] == [1, 2, 3, 4]
    first = read_metadata(tmp_path / "run" / "checkpoints" / "step_00000002")["start_from"]
    assert first["path"] == str(source) and read_metadata(tmp_path / "run")["start_from"] == first
    assert f"started from  {source}" in (tmp_path / "run" / "summary.txt").read_text()
    told = preflight.check(continued_config(tmp_path / "run", corpus, tmp_path / "other", 4)).start
    assert told is not None and told.source is None
    assert f"began with the weights of {source}, and start_from={tmp_path / 'other'} is ignored" in told.notes[0]
    with pytest.raises(DataError, match="does not exist"):
        continued_config(tmp_path / "run", corpus, source, 4, checkpoint__resume="never")
    # The newest is damaged: the resume falls back to the one before, and so does what is asked of it.
    (tmp_path / "run" / "checkpoints" / "step_00000004" / "manifest.json").write_text("{}")
    told = preflight.check(continued_config(tmp_path / "run", corpus, source, 4)).start
    assert told is not None and "its checkpoint of step 2" in told.notes[0]


def test_what_cannot_be_started_from_is_refused_before_there_are_ranks(folder: Path, tmp_path: Path) -> None:
    corpus = folder / "text" / "corpus"

    def check(source: Path = folder / "llama", **changes: Any) -> preflight.Plan:
        return preflight.check(continued_config(tmp_path / "run", corpus, source, 4, **changes))

    plan = check()
    assert plan.config.model.vocab_size == 300 and plan.config.model.padded_vocab_size == 300
    assert plan.config.model.num_query_groups == 2  # type: ignore[attr-defined]
    with pytest.raises(DataError, match=r"(?s)start_from = .*lama: does not exist.*did you mean: .*/llama"):
        check(folder / "lama")
    with pytest.raises(
        CheckpointError, match=r"(?s)another architecture.*model.rotary_base +10000.0 +5000.0.*rescale_rotary=true"
    ):
        check(model__rotary_base=5000)
    slower = {"model__rotary_base": 5000, "start_from_options__rescale_rotary": "true"}
    rescaled = check(**slower)
    assert rescaled.start is not None and rescaled.config.model.rotary_base == 5000  # type: ignore[attr-defined]
    assert "model.rotary_base is 5000.0, the source's 10000.0: other rotary angles" in rescaled.start.notes
    with pytest.raises(CheckpointError, match=r"(?s)another architecture.*model.rotary_percent +1.0 +0.5"):
        check(**slower, model__rotary_percent=0.5)
    with pytest.raises(ConfigError, match=r"bert, and .* is of the family gpt"):
        check(model__name="bert")
    grown = check(model__vocab_size=320)
    assert grown.start is not None and "the vocabulary grows from 300 to 320 ids" in " ".join(grown.start.notes)
    damaged = tmp_path / "damaged"
    shutil.copytree(folder / "llama", damaged)
    weights = damaged / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(DataError, match=r"model.safetensors: is damaged"):
        check(damaged)
    change_config(damaged, model_type="mamba")
    with pytest.raises(DataError, match="model_type is 'mamba'"):
        check(damaged)


def test_another_tokenizer_is_refused_until_it_is_accepted(folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "llama"
    shutil.copytree(folder / "llama", source)
    (source / "export.json").write_text('{"tokenizer_fingerprint": "0123", "step": 7}')
    corpus = folder / "text" / "corpus"
    with pytest.raises(DataError, match=r"(?s)another tokenizer \(0123\) than data.tokenizer.*accept_tokenizer=true"):
        preflight.check(continued_config(tmp_path / "run", corpus, source, 4))
    accepted = continued_config(tmp_path / "run", corpus, source, 4, start_from_options__accept_tokenizer="true")
    start = preflight.check(accepted).start
    assert start is not None and "which is accepted" in " ".join(start.notes)
    assert start.source is not None and start.source.record()["export"] == {"step": 7}
