"""What is learned from a teacher, in numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from configs.errors import ConfigError
from finetune.distillation.config import DistillationConfig
from finetune.distillation.losses import soft_losses
from finetune.distillation.network import layer_pairs
from finetune.tasks.label_logits import LabelLogits
from tests.finetune.finetune_questions import qa_config
from tests.finetune.finetune_texts import classify_config


def test_soft_losses_are_the_divergence_from_the_teacher() -> None:
    generator = torch.Generator().manual_seed(0)
    own, theirs = torch.randn(5, 4, generator=generator), torch.randn(5, 4, generator=generator)
    gold, weights, owner = (
        torch.zeros(5, dtype=torch.int64),
        torch.tensor([1.0, 2, 1, 1, 1]),
        torch.tensor([0, 0, 1, 2, 2]),
    )
    found, taught = (LabelLogits(logits, gold, weights, owner) for logits in (own, theirs))
    losses = soft_losses(found, taught, 3.0, 3)
    each = torch.nn.functional.kl_div(
        (own / 3).log_softmax(-1), (theirs / 3).softmax(-1), reduction="none"
    ).sum(-1) * 9 * weights  # fmt: skip
    assert losses.tolist() == pytest.approx([float(each[:2].sum()), float(each[2]), float(each[3:].sum())], rel=1e-5)
    assert soft_losses(found, found, 3.0, 3).tolist() == [0, 0, 0]


def test_layers_are_paired_evenly() -> None:
    def config(**fields: Any) -> DistillationConfig:
        return DistillationConfig.model_validate({"teacher": "t", "hidden_weight": 1, **fields})

    assert layer_pairs(3, 12, config()) == [(1, 4), (2, 8), (3, 12)]
    assert layer_pairs(2, 5, config()) == [(1, 2), (2, 5)]
    assert layer_pairs(2, 5, config(layers=[[0, 0], [2, 5]])) == [(0, 0), (2, 5)]
    with pytest.raises(ConfigError, match=r"has the pair \[2, 6\], and the teacher has 5 layers"):
        layer_pairs(2, 5, config(layers=[[2, 6]]))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"distillation": {"weight": 0}}, "weight and hidden_weight are 0"),
        ({"distillation": {"layers": [[1, 1]]}}, "hidden_weight is 0"),
        ({"training__r_drop": 1.0}, "r_drop is 1.0, which goes with no distillation"),
        ({"training__adversarial": "fgm"}, "adversarial is fgm, which goes with no distillation"),
        ({"optimizer__layer_decay": 0.9}, "layer_decay is 0.9, which goes with no distillation"),
    ],
)
def test_contradictions_are_refused(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    given = {**changes, "distillation": {"teacher": tmp_path, **changes.get("distillation", {})}}
    with pytest.raises(ValidationError, match=named):
        classify_config(tmp_path, "out", **given)


def test_tasks_without_teachers_say_so(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="distillation: qa learns from no teacher"):
        qa_config(tmp_path, "out", distillation={"teacher": tmp_path})
