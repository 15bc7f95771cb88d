"""The tests of the masked objectives notice masks that rest on anything but seed and sample number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pretrain.data.samples import Samples
from pretrain.objectives.masked import MaskedObjective
from tests.pretrain.data.pretrain_data_corpora import random_lengths, write_corpus
from tests.pretrain.objectives import test_objectives_masked as masked_tests


def _numbers_restart_each_step(samples: Samples, number: int) -> np.ndarray:
    return samples.numbers - samples.batch_start


def _numbers_of_the_micro_batch(samples: Samples, number: int) -> np.ndarray:
    return np.arange(len(samples.numbers)) + number


def _numbers_of_the_rank(samples: Samples, number: int) -> np.ndarray:
    return samples.numbers % 2 + samples.numbers // 2 * (number % 2 + 1)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(
        tmp_path_factory.mktemp("corpus") / "c", random_lengths(400, seed=1), first_token=masked_tests.FIRST_TEXT_ID
    )


@pytest.mark.parametrize(
    ("numbers", "noticed_by"),
    [
        (_numbers_restart_each_step, "not torch.equal"),  # masks that repeat each step
        (_numbers_of_the_micro_batch, "array_equal"),  # masks that depend on the micro-batch size
        (_numbers_of_the_rank, "array_equal"),  # masks that depend on the data ranks
    ],
)
def test_masks_that_rest_on_something_else_are_noticed(
    path: Path, numbers: Callable[[Samples, int], np.ndarray], noticed_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = MaskedObjective.batch

    def mutated(self: MaskedObjective, samples: Samples, number: int) -> Any:
        return batch(self, replace(samples, numbers=numbers(samples, number)), number)

    masked_tests.test_masks_are_the_same_in_every_layout_and_after_every_resume(path, "token")
    monkeypatch.setattr(MaskedObjective, "batch", mutated)
    with pytest.raises(AssertionError) as caught:
        masked_tests.test_masks_are_the_same_in_every_layout_and_after_every_resume(path, "token")
    assert noticed_by in str(caught.traceback[-1].statement)
