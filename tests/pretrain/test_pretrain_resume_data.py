"""What a resume makes of changed data, by what the checkpoint says; without ranks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from configs.errors import CheckpointError
from pretrain.config import RunConfig
from pretrain.data.history import DataHistory
from pretrain.data.run_data import RunData
from pretrain.resume import Resumed, continued_data
from pretrain.schedule.progress import Progress
from pretrain.schedule.run_schedule import RunSchedule
from pretrain.schedule.sample_lengths import SampleLengths
from tests.pretrain.data.pretrain_data_corpora import random_lengths, run_config, write_corpus
from tests.pretrain.tiny_run import BERT, make_corpus, tiny_config


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("corpora")
    return [write_corpus(root / name, random_lengths(80, seed=i)) for i, name in enumerate("ab")]


def config_of(tmp_path: Path, train: Any, *, allow: Sequence[str] = (), **other: Any) -> RunConfig:
    data = {"train": train, "split": [0.8, 0.1, 0.1]} | other.pop("data", {})
    return run_config(tmp_path, data, checkpoint={"allow_changes": list(allow)}, **other)


def saved_by(config: RunConfig, samples: int = 80) -> dict[str, Any]:
    """The metadata of a checkpoint of a run with this config."""
    data = RunData.open(config)
    metadata = {
        "step": samples // 8,
        "consumed_samples": samples,
        "config": config.model_dump(mode="json"),
        "model": config.model.model_dump(mode="json"),
        "data_fingerprint": data.fingerprint,
        "data_history": data.history.encode(),
        "tokenizer_fingerprint": data.tokenizer_fingerprint,
    }
    return json.loads(json.dumps(metadata))


def resumed(metadata: dict[str, Any], config: RunConfig) -> tuple[RunData, list[str]]:
    return continued_data(metadata, config, RunData.open(config), Path("runs/x/checkpoints"))


def test_accepted_changes_of_the_data_begin_a_phase_where_the_checkpoint_stands(
    tmp_path: Path, corpora: list[Path]
) -> None:
    a, b = ({"corpus": str(path)} for path in corpora)
    before = config_of(tmp_path, [a, b])
    for metadata in (saved_by(before), {k: v for k, v in saved_by(before).items() if k != "data_history"}):
        after = config_of(tmp_path, [a | {"weight": 9}, b], allow=["data.train", "model.seq_length"], seq_length=32)
        data, accepted = resumed(metadata, after)
        assert [line.partition(":")[0] for line in accepted] == ["data.train", "model.seq_length"]
        assert [(p.from_step, p.from_sample, p.seq_length) for p in data.history.phases] == [(0, 0, 16), (10, 80, 32)]
        assert data.train.first_sample == 80 and data.train.sampling.stride_tokens == 32
        assert resumed(metadata, before)[0].history.phases == RunData.open(before).history.phases


def test_a_split_that_changes_sides_is_refused_whatever_is_accepted(tmp_path: Path, corpora: list[Path]) -> None:
    metadata = saved_by(config_of(tmp_path, str(corpora[0])))
    for allow in ([], ["data"], ["data.split"]):
        after = config_of(tmp_path, str(corpora[0]), allow=allow, data={"split": [0.6, 0.3, 0.1]})
        with pytest.raises(CheckpointError, match=r"data\.split: .*20\.0% of its documents were trained on") as error:
            resumed(metadata, after)
        assert "allow_changes" not in str(error.value)
    shared = config_of(tmp_path, str(corpora[0]), allow=["data.split"], data={"split": [0.8, 0.2, 0.0]})
    assert resumed(metadata, shared)[1] == ["data.split: [0.8, 0.1, 0.1] -> [0.8, 0.2, 0.0]"]


def test_an_index_that_cannot_go_on_within_an_epoch_is_refused_with_its_corpus(
    tmp_path: Path, corpora: list[Path]
) -> None:
    metadata = saved_by(config_of(tmp_path, str(corpora[0])))
    phase = metadata["data_history"]["phases"][0]
    phase["sampling"]["index"] = "tests.pretrain.test_pretrain_resume_data:Fixed"
    after = config_of(tmp_path, str(corpora[0]), allow=["model.seq_length"], seq_length=32)
    with pytest.raises(
        CheckpointError, match=r"80 samples of it were trained on; its index .*:Fixed cannot cut"
    ) as error:
        resumed(metadata, after)
    assert str(corpora[0]) in str(error.value)


def test_a_change_that_no_run_can_go_on_with_is_not_offered(tmp_path: Path) -> None:
    """Within an epoch pairs stay of the kind that they were cut as, whatever is accepted."""
    corpus = make_corpus(tmp_path, documents=60, sentences=True)

    def config(**changes: Any) -> RunConfig:
        return tiny_config(tmp_path / "run", corpus, **BERT | changes)

    epoch = RunData.open(config()).train.num_samples_per_epoch
    swapped: dict[str, Any] = {"objective__pairs": "sentence_order"}
    allowed = {"checkpoint__allow_changes": "[objective.pairs]"}
    for changes, table in ((swapped, "objective.pairs  next_sentence  sentence_order"), (swapped | allowed, "")):
        with pytest.raises(CheckpointError, match="begun with second parts of another kind") as error:
            resumed(saved_by(config(), epoch - 1), config(**changes))
        assert "allow_changes" not in str(error.value) and table in str(error.value)
    with pytest.raises(CheckpointError, match=r"allow_changes=\[objective\.pairs\]"):
        resumed(saved_by(config(), epoch), config(**swapped))
    assert len(resumed(saved_by(config(), epoch), config(**swapped | allowed))[1]) == 1
    # What is cut as before is offered as ever.
    with pytest.raises(CheckpointError, match=r"allow_changes=\[objective\.mask_rate\]"):
        resumed(saved_by(config(), epoch - 1), config(objective__mask_rate=0.3))


class Fixed:
    """An index that knows nothing of going on."""

    def __init__(self, *given: Any, **named: Any) -> None:
        self.given = given


def test_what_was_read_has_to_be_known_where_it_matters(tmp_path: Path, corpora: list[Path]) -> None:
    metadata = saved_by(config_of(tmp_path, str(corpora[0])))
    del metadata["data_history"]
    metadata["config"]["objective"] = {"name": "no.such:Objective"}
    after = config_of(tmp_path, str(corpora[0]), allow=["objective"])
    with pytest.raises(CheckpointError, match=r"does not say what was read before it.*objective\.name"):
        resumed(metadata, after)


@pytest.mark.parametrize(("planned", "told"), [(None, 0), (5e-4, 1), (1e-3, 0), (1.04e-3, 0), (1.1e-3, 1)])
def test_a_learning_rate_that_jumps_is_told(
    tmp_path: Path, corpora: list[Path], planned: float | None, told: int
) -> None:
    config = config_of(tmp_path, str(corpora[0]), optimizer={"lr": 1e-3, "schedule": "constant"})
    progress = Progress(step=4, consumed_samples=32)
    schedule = RunSchedule(config.training, config.optimizer, SampleLengths.constant(16), progress)
    found = Resumed(progress, RunData.open(config), ["seed: 1 -> 2"], planned, "5 steps").notes(config, schedule)
    assert found[0] == "accepted change: seed: 1 -> 2" and len(found) == 1 + told
    if told:
        assert "goes on at 0.001" in found[1] and "training.duration was 5 steps and is 10 steps" in found[1]
    # The decay of an extended run goes back on its way to the final one: 0.1 to 0 over 10 steps, of which 4 are done.
    falling = config_of(tmp_path, str(corpora[0]), optimizer={"lr": 1e-3, "weight_decay": 0.1, "final_weight_decay": 0})
    schedule = RunSchedule(falling.training, falling.optimizer, SampleLengths.constant(16), progress)
    for decay, jumps in ((0.06, []), (0.02, ["the weight decay jumps: it goes on at 0.06, and 0.02 was planned"])):
        known = Resumed(progress, RunData.open(falling), [], None, "5 steps", decay).notes(falling, schedule)
        assert [line.partition(" for this step")[0] for line in known] == jumps
    # At its end a run has no next step.
    over = Progress(step=10, consumed_samples=80)
    assert Resumed(over, RunData.open(config), [], planned, "10 steps").notes(config, schedule) == []


def test_a_history_is_written_and_read_as_it_is(tmp_path: Path, corpora: list[Path]) -> None:
    history = RunData.open(config_of(tmp_path, [str(path) for path in corpora])).history
    assert DataHistory.decode(json.loads(json.dumps(history.encode()))) == history
