"""What is proposed where a layout and the batch sizes do not fit each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from configs.errors import ConfigError
from pretrain.parallel.layout import resolve_layout
from tests.pretrain.tiny_run import tiny_config


def refusal(world_size: int, **changes: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        resolve_layout(tiny_config(Path("run"), Path("corpus"), **changes), world_size)
    return caught.value.render()


@pytest.mark.parametrize(
    ("changes", "proposed"),
    [
        (
            {"training__batch_ramp": "{start: 4, increment: 3, samples: 100}"},
            "a training.batch_ramp.increment such as 4\n",
        ),
        (
            {"training__batch_ramp": "{start: 6, increment: 9, samples: 100}"},
            "a training.batch_ramp.start such as 4 or 8 and a training.batch_ramp.increment such as 8 or 12\n",
        ),
        ({"training__global_batch_size": 7}, "a training.global_batch_size such as 4 or 8\n"),
        (
            {"training__global_batch_size": 7, "parallel__pipeline_size": 2, "model__num_layers": 3},
            "a training.global_batch_size such as 4 or 8 and other sizes of the model\n",
        ),
    ],
)
def test_the_nearest_that_fits_is_proposed_of_the_key_that_does_not(changes: dict[str, Any], proposed: str) -> None:
    world_size = 2 if "parallel__pipeline_size" in changes else 1
    said = refusal(world_size, training__micro_batch_size=4, **changes)
    assert f"expected: {proposed}" in f"{said}\n"


def test_what_is_proposed_fits() -> None:
    fits = {"training__micro_batch_size": 4, "training__batch_ramp": "{start: 4, increment: 4, samples: 100}"}
    assert resolve_layout(tiny_config(Path("run"), Path("corpus"), **fits), 1).data == 1
