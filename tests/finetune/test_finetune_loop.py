"""The training loop's own checks; what it does as a whole is shown by the tests of the tasks."""

from __future__ import annotations

import pytest
import torch

from configs.durations import Duration
from configs.errors import ConfigError
from finetune.loop import _is_better
from finetune.task_schedule import TaskSchedule
from finetune.task_step import _float32_range
from finetune.tasks.base_config import TaskTraining
from pretrain.optimizers.adamw_config import AdamWConfig


def test_step_sizes_beyond_float32() -> None:
    """What torch says of them where its optimizer is not fused, in the user's words."""
    with pytest.raises(ConfigError, match="optimizer: the update of step 3 has a factor beyond float32"):
        with _float32_range(3, 3e38):
            torch.zeros(1).add_(torch.ones(1), alpha=1e300)


def test_the_best_value_may_be_the_lowest() -> None:
    for best_is, better in (("highest", 0.6), ("lowest", 0.4)):
        assert _is_better({"x": better}, {"x": 0.5}, "x", best_is)  # type: ignore[arg-type]
        assert not _is_better({"x": 1.0 - better}, {"x": 0.5}, "x", best_is)  # type: ignore[arg-type]
        assert not _is_better({"x": 0.5}, {"x": 0.5}, "x", best_is)  # type: ignore[arg-type]
        assert _is_better({"x": 0.5}, {}, "x", best_is)  # type: ignore[arg-type]


def test_of_equal_figures_the_smaller_loss_is_better() -> None:
    best = {"macro_f1": 0.5, "loss": 1.0}
    assert _is_better({"macro_f1": 0.5, "loss": 0.9}, best, "macro_f1", "highest")
    assert not _is_better({"macro_f1": 0.5, "loss": 1.0}, best, "macro_f1", "highest")
    assert not _is_better({"macro_f1": 0.4, "loss": 0.1}, best, "macro_f1", "highest")
    assert _is_better({"macro_f1": 0.6, "loss": 9.0}, best, "macro_f1", "highest")


def test_durations_become_steps() -> None:
    training = TaskTraining(duration=Duration(2, "epochs"), evaluate_every=Duration(48, "samples"), batch_size=16)
    schedule = TaskSchedule.resolve(training, AdamWConfig(lr=1.0, schedule="linear", min_lr=0.0), 7)
    assert (schedule.total_steps, schedule.evaluate_every) == (14, 3)
    rates = [schedule.learning_rate(step) for step in range(14)]
    assert rates == sorted(rates, reverse=True) and rates[0] <= 1.0 and rates[-1] > 0
