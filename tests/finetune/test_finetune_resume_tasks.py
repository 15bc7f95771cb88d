"""Every task that is stopped on its way goes on bitwise; what decides the course of one may not change on the way."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from configs.errors import CheckpointError, ExitStatus
from finetune.run_task import run_task
from finetune.tasks.base_config import TaskConfig
from tests.finetune.finetune_texts import prepare
from tests.finetune.kill_and_resume_task import differences, task_config, write_examples

OFTEN = [
    "training.log_interval=1",
    "training.evaluate_every=2 steps",
    "training.save_every=null",
    "training.zero_stage=0",
]
"""`classify` is test_finetune_checkpoints's."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tasks")
    prepare(root)
    write_examples(root)
    return root


def stop_after_three_steps(config: TaskConfig) -> None:
    def log(line: str) -> None:
        if line.startswith("step     3"):
            os.kill(os.getpid(), signal.SIGUSR2)

    with pytest.raises(SystemExit) as end:
        run_task(config, log)
    assert end.value.code == ExitStatus.INTERRUPTED and not config.output.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("tag", ["training.label_smoothing=0.1"]),
        ("qa", ["training.freeze_layers=1"]),
        ("seq2seq", ["training.r_drop=1.0"]),
        ("prefer", ["loss=kto", "data.completion_field=completion"]),
        ("embed", ["training.adversarial=fgm"]),
    ],
)
def test_a_stopped_task_goes_on_bitwise(root: Path, name: str, more: list[str]) -> None:
    straight, stopped = (
        task_config(root, name, f"{name}-{kind}", [*OFTEN, *more], 6) for kind in ("straight", "stopped")
    )
    run_task(straight, lambda line: None)
    stop_after_three_steps(stopped)
    lines: list[str] = []
    if stopped.joins_micro_batch:
        changes = {"training": stopped.training.model_copy(update={"micro_batch_size": 4})}
        with pytest.raises(CheckpointError, match=r"samples of a micro-batch"):
            run_task(stopped.model_copy(update=changes), lambda line: None)
    run_task(stopped, lines.append)
    assert any(line.startswith("resumed at step 4/6") for line in lines), lines
    assert differences(straight, stopped) == []
