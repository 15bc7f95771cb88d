"""A run that was stopped, killed or moved to another layout goes on as if nothing had happened."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from configs.errors import CheckpointError, ExitStatus, UserError
from tests.distributed import RankFailure, run_ranks
from tests.pretrain.engine.layout_cases import SESSION
from tests.pretrain.tiny_run import BERT, make_corpus, states_differ, tiny_config, train_records


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


def run_session(output_dir: Path, corpus: Path, stop_after: int | None, changes: dict[str, Any]) -> int:
    """On each rank: a whole run, as the entry point does it; a SIGTERM comes to rank 0 after `stop_after` steps."""
    import os
    import signal

    import torch

    from pretrain import loop, main

    torch.set_num_threads(1)
    config = tiny_config(output_dir, corpus, **changes)
    original = loop.step_record

    def step_record(run: Any, progress: Any, *rest: Any) -> Any:
        if progress.step == stop_after and os.environ["RANK"] == "0":
            os.kill(os.getpid(), signal.SIGTERM)
        return original(run, progress, *rest)

    loop.step_record = step_record
    return int(main.run(config))


def session(output_dir: Path, corpus: Path, ranks: int, stop_after: int | None = None, **changes: Any) -> list[int]:
    return run_ranks(
        run_session, ranks, output_dir, corpus, stop_after, changes, process_group=False, preload=SESSION, timeout_s=200
    )


@pytest.mark.slow
def test_a_signal_saves_and_the_same_command_goes_on_bitwise(tmp_path: Path, corpus: Path) -> None:
    layout = {"parallel__zero_stage": 2}
    assert session(tmp_path / "straight", corpus, 2, **layout) == [0, 0]
    assert session(tmp_path / "stopped", corpus, 2, stop_after=4, **layout) == [75, 75]
    assert (tmp_path / "stopped/checkpoints/step_00000005").is_dir()
    assert session(tmp_path / "stopped", corpus, 2, **layout) == [0, 0]
    last = "checkpoints/step_00000012"
    assert states_differ(tmp_path / "straight" / last, tmp_path / "stopped" / last) == []
    assert train_records(tmp_path / "straight") == train_records(tmp_path / "stopped")
    assert len(train_records(tmp_path / "stopped")) == 12


def interrupt_a_forward_pass(output_dir: Path, corpus: Path, changes: dict[str, Any]) -> int:
    """On each rank: a run to which a SIGTERM comes while its third step goes forward."""
    import os
    import signal

    from pretrain.engine import pipeline

    run = pipeline.Pipeline.run

    def run_interrupted(*arguments: Any, **named: Any) -> Any:
        if named["step"] == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return run(*arguments, **named)

    pipeline.Pipeline.run = run_interrupted  # type: ignore[method-assign]
    return run_session(output_dir, corpus, None, changes)


def test_a_signal_within_a_step_ends_the_run_with_that_step(tmp_path: Path, corpus: Path) -> None:
    arguments = (tmp_path, corpus, {"evaluation__interval": "null"})
    statuses = run_ranks(interrupt_a_forward_pass, 1, *arguments, process_group=False, preload=SESSION, timeout_s=200)
    assert statuses == [75]
    assert [path.name for path in (tmp_path / "checkpoints").glob("step_*")] == ["step_00000003"]


def copy_late(output_dir: Path, corpus: Path, changes: dict[str, Any]) -> None:
    """On each rank: a run whose copies for the checkpoint begin only when the backward passes are over."""
    import threading

    from pretrain.checkpoint import writer
    from pretrain.engine import pipeline

    backward_over = threading.Event()
    prepare, run = writer.prepare_copy, pipeline.Pipeline.run

    def prepare_late(*arguments: Any) -> Any:
        backward_over.clear()
        copy = prepare(*arguments)
        return lambda: (backward_over.wait(3.0), time.sleep(0.4), copy())

    def run_and_tell(*arguments: Any, **named: Any) -> Any:
        result = run(*arguments, **named)
        if not named["forward_only"]:
            backward_over.set()
        return result

    writer.prepare_copy, pipeline.Pipeline.run = prepare_late, run_and_tell
    run_session(output_dir, corpus, None, changes)


@pytest.mark.slow
@pytest.mark.parametrize("zero_stage", [0, 2, 3])
def test_the_optimizer_waits_for_the_copy_of_the_state(tmp_path: Path, corpus: Path, zero_stage: int) -> None:
    changes = {"parallel__zero_stage": zero_stage, "training__duration": "4 steps", "checkpoint__keep_last": 9}
    changes |= {"checkpoint__interval": "1 steps", "evaluation__interval": "null"}
    session(tmp_path / "prompt", corpus, 1, **changes)
    run_ranks(copy_late, 1, tmp_path / "late", corpus, changes, process_group=False, preload=SESSION, timeout_s=200)
    for step in range(1, 5):
        name = f"checkpoints/step_{step:08d}"
        assert states_differ(tmp_path / "prompt" / name, tmp_path / "late" / name) == []
    stalls = re.findall(r"training stalled (\S+) s", (tmp_path / "late/metrics.jsonl").read_text())
    assert len(stalls) == 4 and all(float(stall) >= 0.1 for stall in stalls[:3])


def resave(source: Path, target: Path, corpus: Path, changes: dict[str, Any]) -> None:
    """On each rank: load a checkpoint and save what was loaded, without a step between."""
    from pretrain import preflight
    from pretrain.stopping import StopRequest
    from pretrain.trainer import Trainer

    config = tiny_config(source, corpus, checkpoint__resume="required", **changes)
    run = Trainer(preflight.check(config), StopRequest())
    from pretrain.checkpoint.writer import CheckpointWriter

    writer = CheckpointWriter(target, asynchronous=False)
    writer.save(run.progress.step, run.engine.shards(), run._metadata(run.progress))
    writer.close()
    run.close()


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("sentences"), sentences=True)


@pytest.mark.slow
def test_state_is_bitwise_equal_at_each_hand_over_between_layouts(tmp_path: Path, corpus: Path) -> None:
    check_hand_overs(tmp_path, corpus, {"model__tie_embeddings": "false"})


@pytest.mark.slow
def test_states_of_rows_columns_and_elements_are_handed_over(tmp_path: Path, corpus: Path) -> None:
    keys = {"optimizer__name": "adafactor", "optimizer__beta1": 0.9, "optimizer__average_decay": 0.9}
    check_hand_overs(tmp_path, corpus, keys | {"model__activation": "swiglu"})


@pytest.mark.slow
def test_a_bert_on_eight_ranks_goes_on_with_two_and_back(tmp_path: Path, sentences: Path) -> None:
    check_hand_overs(tmp_path, sentences, BERT, large_ranks=8)


def check_hand_overs(tmp_path: Path, corpus: Path, model: dict[str, Any], large_ranks: int = 4) -> None:
    """From ZeRO-3 with tensor and pipeline 2 to ZeRO-1 on two ranks, and back; BERT's embeddings are tied."""
    plain = model | {"model__hidden_dropout": 0, "model__attention_dropout": 0, "checkpoint__keep_last": 9}
    plain |= {"training__duration": "9 steps"}
    large = plain | {"parallel__zero_stage": 3, "parallel__tensor_size": 2, "parallel__pipeline_size": 2}
    large |= {"parallel__zero3_persistent_elements": 500}
    small = plain | {"parallel__zero_stage": 1}
    run, straight = tmp_path / "moved", tmp_path / "straight"
    session(straight, corpus, large_ranks, **large)
    for number, (ranks, layout, steps) in enumerate([(large_ranks, large, 3), (2, small, 6), (large_ranks, large, 9)]):
        if number:
            copy = tmp_path / f"copy{number}"
            arguments = (run, copy, corpus, layout)
            run_ranks(resave, ranks, *arguments, process_group=False, preload=SESSION, timeout_s=200)
            before = f"step_{steps - 3:08d}"
            assert states_differ(run / "checkpoints" / before, copy / before) == []
        assert session(run, corpus, ranks, stop_after=steps - 1 if steps < 9 else None, **layout)
    for moved, whole in zip(train_records(run), train_records(straight), strict=True):
        assert moved["consumed_samples"] == whole["consumed_samples"]
        assert moved["loss"] == pytest.approx(whole["loss"], rel=1e-4)
        assert moved["grad_norm"] == pytest.approx(whole["grad_norm"], rel=1e-3)


@pytest.mark.slow
def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path, corpus: Path) -> None:
    session(tmp_path, corpus, 1, training__duration="3 steps")
    with pytest.raises(RankFailure) as failure:
        session(tmp_path, corpus, 1, optimizer__lr=0.01, model__num_layers=3)
    assert isinstance(failure.value.error, CheckpointError)
    assert "model.num_layers" in str(failure.value.error)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ["--kills", "3", "--steps", "48"],
        ["--kills", "1", "--steps", "24", "--bert"],
    ],
    ids=["gpt", "bert"],
)
def test_kills_change_nothing(options: list[str]) -> None:
    command = [sys.executable, "-m", "tests.pretrain.kill_and_resume", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]


def diverge(output_dir: Path, corpus: Path) -> None:
    """On each rank: a run whose losses are not finite from the third step on."""
    import torch

    from pretrain import main
    from pretrain.engine import engine

    torch.set_num_threads(1)
    original = engine.TrainEngine.train_batch

    def train_batch(self: Any, batches: Any, *, step: int, **rest: Any) -> Any:
        if step >= 2:
            for batch in batches:
                batch.loss_mask_BS[0, 0] = float("nan")
        return original(self, batches, step=step, **rest)

    engine.TrainEngine.train_batch = train_batch
    main.run(tiny_config(output_dir, corpus, training__max_skipped_steps=3, checkpoint__interval="1 steps"))


@pytest.mark.slow
def test_a_run_that_diverges_ends_itself_with_a_report(tmp_path: Path, corpus: Path) -> None:
    with pytest.raises(RankFailure) as failure:
        run_ranks(diverge, 2, tmp_path, corpus, process_group=False, preload=SESSION)
    error = failure.value.error
    assert isinstance(error, UserError)
    assert error.status == ExitStatus.DIVERGED
    assert "3 steps in a row" in str(error)
    assert "diverged at step 5" in (tmp_path / "summary.txt").read_text()
    records = train_records(tmp_path)
    assert [record["skipped_total"] for record in records] == [0, 0, 1, 2, 3]
    # What was skipped changed nothing.
    assert states_differ(tmp_path / "checkpoints/step_00000003", tmp_path / "checkpoints/step_00000004") == []
