"""What was read stands in a checkpoint, whoever's class says how."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import ClassVar

import pytest

from configs.errors import CheckpointError
from pretrain.config.sampling import SampleCutting
from pretrain.data.history import DataHistory, DataPhase, MixedCorpus
from pretrain.data.saved_history import saved_history


@dataclass(frozen=True)
class ForeignCutting(SampleCutting):
    """An extension's cutting, with a rule and a field of its own."""

    rule: ClassVar[str | None] = "of its own"
    span: int = 3


def test_a_cutting_of_somebody_elses_class_comes_back_as_it_was() -> None:
    foreign = ForeignCutting("module:Index", 16, span=5)
    history = DataHistory(7, (DataPhase(0, 0, 16, foreign, (1.0, 0.0, 0.0), (MixedCorpus("a", "a", 1.0),)),))
    found = saved_history({"data_history": json.loads(json.dumps(history.encode()))})
    assert found == history and found is not None and type(found.phases[0].sampling) is ForeignCutting
    lost = json.loads(json.dumps(history.encode()).replace("ForeignCutting", "NotThereAnyMore"))
    assert saved_history({"data_history": lost}) is None


def called(**fields: object) -> None:
    raise AssertionError("what a file named was called")


def test_a_name_that_is_no_cutting_is_refused_and_never_called() -> None:
    own = SampleCutting("module:Index", 16)
    history = DataHistory(7, (DataPhase(0, 0, 16, own, (1.0, 0.0, 0.0), (MixedCorpus("a", "a", 1.0),)),))
    raw = history.encode()
    raw["phases"][0]["sampling_class"] = f"{__name__}:called"
    with pytest.raises(CheckpointError, match="a class derived from SampleCutting"):
        saved_history({"data_history": raw})
