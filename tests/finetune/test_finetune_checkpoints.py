"""A training that a signal or a kill ended goes on bitwise where it was, or says why it cannot."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from configs.errors import CheckpointError, DataError, ExitStatus
from finetune.run_task import run_task
from tests.distributed import run_ranks
from tests.finetune.finetune_texts import classify_config, prepare, write_texts

ROOT = Path(__file__).parents[2]
CHANGES: dict[str, Any] = {
    "baselines": ["scratch"],
    "training__dropout": 0.2,
    "training__duration": "9 steps",
    "training__evaluate_every": "2 steps",
    "training__log_interval": 2,
    "training__save_every": "4 steps",
}


SHORT: dict[str, Any] = {"training__duration": "1 steps", "baselines": []}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("checkpoints")
    prepare(root)
    return root


def stopping_at(text: str, number: signal.Signals) -> Any:
    """What logs, and sends this process a signal when a line begins so; says what it logged."""
    lines: list[str] = []

    def log(line: str) -> None:
        lines.append(line)
        if line.startswith(text):
            os.kill(os.getpid(), number)

    log.lines = lines  # type: ignore[attr-defined]
    return log


def stop(root: Path, name: str, at: str, number: signal.Signals = signal.SIGUSR2, **changes: Any) -> list[str]:
    """Train until a line, where a signal asks for a stop; the lines that were logged."""
    log = stopping_at(at, number)
    with pytest.raises(SystemExit) as end:
        run_task(classify_config(root, name, **(CHANGES | changes)), log)
    assert end.value.code == ExitStatus.INTERRUPTED and not (root / name).exists()
    return log.lines


def outcome(folder: Path) -> tuple[Any, ...]:
    record = json.loads((folder / "classify.json").read_text())
    record.pop("training_s")
    files = ("model.safetensors", "predictions-test.jsonl", "predictions-validation.jsonl")
    return record, *((folder / name).read_bytes() for name in files)


def drawn(directory: Path) -> dict[str, list[tuple[int, float]]]:
    """The points of each curve in event files, as TensorBoard shows them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(directory))
    events.Reload()
    return {tag: [(p.step, p.value) for p in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


@pytest.fixture(scope="module")
def undisturbed(root: Path) -> tuple[Any, ...]:
    assert run_task(classify_config(root, "undisturbed", **CHANGES), list) is not None
    return outcome(root / "undisturbed")


def test_a_stopped_training_goes_on_bitwise(root: Path, undisturbed: Any) -> None:
    # Between two lines of the log, between two validations, in the middle of the first of the two trainings.
    said = stop(root, "out", "  validation at step 4")
    assert said[-1].startswith("stopped after step 5, saved in ") and said[-1].endswith("the same command goes on")
    kept = root / "out.training" / "fine-tuned"
    assert {path.name for path in kept.glob("step_*")} == {"step_00000004", "step_00000005"}
    # In the second; the first is complete by then. Layout and intervals may change.
    said = stop(root, "out", "step     6/9  loss", number=signal.SIGINT, training__save_every=None)
    assert said.count("resumed at step 5/9") == 1
    said = stop(root, "out", "the same network", training__log_interval=2)
    assert said.count("resumed at step 7/9") == 1
    # At its end the result is being written: the training is not lost.
    said = []
    assert run_task(classify_config(root, "out", **CHANGES), said.append) is not None
    assert "resumed at step 9/9" in said
    assert outcome(root / "out") == undisturbed
    assert not (root / "out.training").exists()
    curves = {name: drawn(root / "out" / "tensorboard" / name) for name in ("fine-tuned", "from-scratch")}
    history = undisturbed[0]["history"]
    for found in curves.values():
        assert [step for step, _ in found["train/loss"]] == [2, 4, 6, 8, 9]
        assert [step for step, _ in found["validation/classify/macro_f1"]] == [2, 4, 6, 8, 9]
    told = [(row["step"], row["loss"]) for row in history if "loss" in row]
    assert curves["fine-tuned"]["train/loss"] == [(step, pytest.approx(loss)) for step, loss in told]
    rates = [rate for _, rate in curves["fine-tuned"]["train/learning_rate"]]
    assert rates[0] == pytest.approx(2 * 5e-3 / 4) and rates[-1] < rates[1]


@pytest.mark.slow
def test_another_training_is_refused_by_the_key(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop(root, "kept", "step     2", training__duration="8 steps")
    for changes, named in (
        ({"training__duration": "7 steps"}, r"training.duration +8 steps +7 steps"),
        ({"optimizer__lr": 1e-3}, r"optimizer.lr +0.005 +0.001"),
        ({"seed": 7}, r"seed +1234 +7"),
    ):
        with pytest.raises(CheckpointError, match=named):
            run_task(classify_config(root, "kept", **(CHANGES | {"training__duration": "8 steps"} | changes)), list)
    write_texts(root / "others.jsonl", seed=3)
    texts = (root / "texts.jsonl").read_bytes()
    try:
        (root / "texts.jsonl").write_bytes((root / "others.jsonl").read_bytes())
        with pytest.raises(CheckpointError, match=r"(?m)^  examples +\w+ +\w+$"):
            run_task(classify_config(root, "kept", **(CHANGES | {"training__duration": "8 steps"})), list)
    finally:
        (root / "texts.jsonl").write_bytes(texts)
    said: list[str] = []
    changes = {"optimizer__lr": 1e-3, "baselines": [], "training__resume": "never"}
    assert run_task(classify_config(root, "kept", **(CHANGES | changes)), said.append) is not None
    assert not any(line.startswith("resumed") for line in said) and not (root / "kept.training").exists()


@pytest.mark.slow
def test_a_damaged_checkpoint_gives_way_to_the_one_before(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    changes = {"baselines": [], "training__save_every": "1 steps"}
    stop(root, "damaged", "step     4", **changes)
    *_, before, newest = sorted((root / "damaged.training" / "fine-tuned").glob("step_*"))
    part = newest / "rank00000.safetensors"
    data = bytearray(part.read_bytes())
    data[-5] ^= 1  # in the best weights, which come last
    part.write_bytes(data)
    said: list[str] = []
    assert run_task(classify_config(root, "damaged", **(CHANGES | changes)), said.append) is not None
    assert f"resumed at step {int(before.name[5:])}/9" in said
    assert "IS DAMAGED, falling back" in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_a_signal_while_the_result_is_written_leaves_the_training(
    root: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(number)
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr(
            "finetune.tasks.classification_metrics.plot_confusion", lambda *given: os.kill(os.getpid(), number)
        )
        run_task(classify_config(root, "stopped", **SHORT), lambda line: None)
    assert end.value.code == ExitStatus.INTERRUPTED and signal.getsignal(number) == before
    assert not (root / "stopped").exists() and not list(root.glob(".*"))
    said: list[str] = []
    assert run_task(classify_config(root, "stopped", overwrite=True, **SHORT), said.append) is not None
    assert "resumed at step 1/1" in said
    assert {path.name for path in root.glob("stopped*")} == {"stopped"}
    (root / "stopped").rename(root / f"renamed-{number.name}")


def test_things_of_others_are_not_trained_beside(root: Path, tmp_path: Path) -> None:
    (tmp_path / "y.training").mkdir()
    (tmp_path / "y.training" / "fine-tuned").mkdir()
    (tmp_path / "y.training" / "notes.md").touch()
    with pytest.raises(DataError, match=r"y\.training: exists and holds other things: notes\.md"):
        run_task(classify_config(root, "x", output=tmp_path / "y", model="/nowhere"))


def one_rank(root: str, name: str, changes: dict[str, Any], stops_at: str | None) -> int:
    said = stopping_at(stops_at or "never", signal.SIGTERM)
    try:
        run_task(classify_config(Path(root), name, **changes), said)
    except SystemExit as end:
        return int(end.code)  # type: ignore[arg-type]
    return 0


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 2])
def test_two_ranks_go_on_bitwise(root: Path, stage: int) -> None:
    """Stage 3 is `kill_and_resume_task`'s, stage 1 keeps its state as 2 does; bf16 has fp32 weights of its own."""
    changes = CHANGES | {"baselines": ["majority"], "training__zero_stage": stage}
    if stage == 2:
        changes["training__precision"] = "bf16"
    for name, stops_at, status in (("s", None, 0), ("r", "step     4", 75), ("r", None, 0)):
        ends = run_ranks(
            one_rank, 2, str(root), f"{name}{stage}", changes, stops_at, process_group=False,
            preload=("deepspeed", "transformers"),
        )  # fmt: skip
        assert ends == [status, status]
    assert outcome(root / f"r{stage}") == outcome(root / f"s{stage}")


@pytest.mark.slow
def test_kills_change_nothing() -> None:
    command = [sys.executable, "-m", "tests.finetune.kill_and_resume_task", "--kills", "2", "--steps", "30"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
