"""ZeRO on two processes trains the classifier that one process trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.distributed import run_ranks
from tests.finetune.finetune_texts import prepare, train_on_rank

pytestmark = pytest.mark.slow
# 160 texts in batches of 24: the seventh step has 16 of them, so one rank has a micro-batch without any.
CHANGES: dict[str, Any] = {
    "baselines": [],
    "training__batch_size": 24,
    "training__duration": "8 steps",
    "training__evaluate_every": "4 steps",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("distributed")
    prepare(root)
    return root


def train(
    root: Path, world_size: int, zero_stage: int, **changes: Any
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    from safetensors.torch import load_file

    name = "-".join(["zero", str(zero_stage), str(world_size), *changes])
    settings = CHANGES | {"training__zero_stage": zero_stage} | changes
    records = run_ranks(
        train_on_rank,
        world_size,
        str(root),
        name,
        settings,
        process_group=False,
        preload=("deepspeed", "transformers"),
        timeout_s=300,
    )
    assert not any(records[1:])
    return records[0], load_file(root / name / "model.safetensors")


@pytest.fixture(scope="module")
def single(root: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    return train(root, 1, 0)


@pytest.mark.parametrize(
    ("zero_stage", "optimizer"),
    [(0, "AdamW"), (1, "DeepSpeedZeroOptimizer"), (2, "DeepSpeedZeroOptimizer"), (3, "DeepSpeedZeroOptimizer_Stage3")],
)
def test_two_processes_equal_one(root: Path, single: Any, zero_stage: int, optimizer: str) -> None:
    record, weights = train(root, 2, zero_stage, training__micro_batch_size=4)
    ran = {"engine": "DeepSpeedEngine", "zero_stage": zero_stage, "optimizer": optimizer, "world_size": 2}
    ran["device"] = "cuda" if torch.cuda.is_available() else "cpu"
    assert record["ran"] == ran and sum(record["examples"]["train"].values()) == 160
    assert len(record["history"]) == len(single[0]["history"]) == 10
    for mine, theirs in zip(record["history"], single[0]["history"]):
        assert mine == pytest.approx(theirs, rel=1e-4, abs=1e-5)
    for name, tensor in single[1].items():
        assert torch.allclose(weights[name], tensor, rtol=1e-3, atol=2e-4), name
    moved = {name for name, tensor in weights.items() if tensor.dim() == 2 and tensor.std() > 0}
    assert len(moved) > 10


def test_class_weights_do_not_depend_on_the_ranks(root: Path) -> None:
    one, _ = train(root, 1, 0, class_weights="balanced")
    two, _ = train(root, 2, 3, class_weights="balanced")
    assert [row for row in one["history"] if "loss" in row] != []
    for mine, theirs in zip(two["history"], one["history"]):
        assert mine == pytest.approx(theirs, rel=1e-4, abs=1e-5)
