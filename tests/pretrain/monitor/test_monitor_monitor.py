from __future__ import annotations

import math
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from monitor_runs import BATCH, SEQ, monitor, record, run_config

from configs.errors import ConfigError, MachineError
from pretrain.monitor import EvalRecord
from pretrain.monitor.flops import DevicePeak
from pretrain.monitor.metrics_file import read_metrics


def report(output_dir: Path, steps: range, resumed_step: int | None, *overrides: str, loss: float = 5.0) -> None:
    watched = monitor(run_config(output_dir, *overrides), resumed_step=resumed_step)
    for step in steps:
        watched.log_step(record(step, loss=loss))
        if step % 10 == 0:
            watched.log_eval(EvalRecord(step, "validation", loss, {"perplexity": math.exp(loss), "bits_per_byte": 2.5}))
    watched.close()


def curves(output_dir: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(output_dir / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(p.step, p.value) for p in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def records_of(output_dir: Path, kind: str) -> list[dict[str, Any]]:
    return [r for r in read_metrics(output_dir / "metrics.jsonl") if r["kind"] == kind]


def test_a_resumed_run_draws_no_step_twice(tmp_path: Path) -> None:
    report(tmp_path, range(1, 28), None, loss=5.0)
    report(tmp_path, range(11, 41), 10, loss=4.0)  # resumes from a checkpoint long before the end

    drawn = curves(tmp_path)
    logged = [5, 10, 15, 20, 25, 30, 35, 40]
    assert drawn["train/loss"] == [(1, 5.0), (5, 5.0), (10, 5.0), (11, 4.0)] + [(s, 4.0) for s in logged[2:]]
    assert drawn["validation/validation/loss"] == [(10, 5.0), (20, 4.0), (30, 4.0), (40, 4.0)]

    lines = records_of(tmp_path, "train")
    assert [(r["step"], r["loss"]) for r in lines] == drawn["train/loss"]
    assert [r["step"] for r in records_of(tmp_path, "validation")] == [10, 20, 30, 40]


def test_a_new_run_in_an_old_directory_shows_only_itself(tmp_path: Path) -> None:
    report(tmp_path, range(1, 21), None, loss=5.0)
    report(tmp_path, range(1, 6), None, loss=3.0)
    assert curves(tmp_path)["train/loss"] == [(1, 3.0), (5, 3.0)]
    assert max(Counter(r["step"] for r in records_of(tmp_path, "train")).values()) == 1


def test_a_finished_run_started_again_evaluates_without_drawing_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report(tmp_path, range(1, 21), None)
    watched = monitor(run_config(tmp_path), resumed_step=20)
    capsys.readouterr()
    watched.log_eval(EvalRecord(20, "validation", 5.0, {"perplexity": 148.4, "bits_per_byte": None}))
    watched.log_eval(EvalRecord(20, "test", 5.5, {"perplexity": 244.7, "bits_per_byte": None}))
    watched.close()
    assert [(r["name"], r["step"]) for r in records_of(tmp_path, "validation")] == [
        ("validation", 10), ("validation", 20), ("test", 20),
    ]  # fmt: skip
    assert [step for step, _ in curves(tmp_path)["validation/validation/loss"]] == [10, 20]
    assert "validation at step 20: loss 5.0000" in capsys.readouterr().out


def test_every_curve_is_drawn_with_the_value_that_was_reported(tmp_path: Path) -> None:
    watched = monitor(run_config(tmp_path))
    changes = {"loss_scale": 1024.0, "skipped_total": 3, "host_memory_bytes": 2**31, "device_memory_bytes": 3 * 2**30}
    for step in range(1, 6):
        watched.log_step(record(step, **changes))
    watched.log_eval(EvalRecord(5, "books", 2.0, {"perplexity": math.exp(2.0), "bits_per_byte": 1.5}))
    watched.close()
    last = {tag: points[-1] for tag, points in curves(tmp_path).items()}
    tokens_per_s = BATCH * SEQ / 0.5
    per_device = tokens_per_s * 1000 / 2
    expected = {
        "train/loss": 7.95,
        "train/learning_rate": 1e-3,
        "train/grad_norm": 1.0,
        "train/param_norm": 30.0,
        "train/global_batch_size": BATCH,
        "train/skipped_steps": 3,
        "train/loss_scale": 1024,
        "train/consumed_tokens": 5 * BATCH * SEQ,
        "speed/tokens_per_s": tokens_per_s,
        "speed/tflops_per_device": per_device / 1e12,
        "speed/mfu": per_device / 1e9,  # the configured peak of 0.001 TFLOP/s
        "speed/share_of_measured_matmul": per_device / 2e9,
        "speed/step_time_s": 0.5,
        "speed/data_time_s": 0.1,
        "memory/host_gib": 2.0,
        "memory/device_gib": 3.0,
        "validation/books/loss": 2.0,
        "validation/books/perplexity": math.exp(2.0),
        "validation/books/bits_per_byte": 1.5,
    }
    assert last == {tag: (5, pytest.approx(value)) for tag, value in expected.items()}


def test_the_config_and_events_are_in_the_text_tab(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    watched = monitor(run_config(tmp_path))
    watched.log_event("saved step_00000005")
    watched.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    (config,) = events.Tensors("config/text_summary")
    assert b"hidden_size: 128" in config.tensor_proto.string_val[0]
    (event,) = events.Tensors("events/text_summary")
    assert event.tensor_proto.string_val[0] == b"saved step_00000005"


def test_the_first_step_counts_for_no_speed(tmp_path: Path) -> None:
    watched = monitor(run_config(tmp_path, "monitor.tensorboard=false"))
    watched.log_step(record(1, step_time_s=100.0))
    for step in range(2, 6):
        watched.log_step(record(step))
    watched.close()
    first, fifth = records_of(tmp_path, "train")
    assert first["tokens_per_s"] is None and first["interval_time_s"] == 0
    assert fifth["tokens_per_s"] == BATCH * SEQ / 0.5
    assert fifth["interval_tokens"] == 4 * BATCH * SEQ


def test_the_last_step_is_written_even_between_two_lines(tmp_path: Path) -> None:
    report(tmp_path, range(1, 9), None, "monitor.tensorboard=false")
    assert [r["step"] for r in records_of(tmp_path, "train")] == [1, 5, 8]


def test_a_growing_batch_is_counted_as_it_was(tmp_path: Path) -> None:
    watched = monitor(run_config(tmp_path, "monitor.tensorboard=false"))
    for step, batch in enumerate([4, 4, 8, 8, 16], start=1):
        watched.log_step(record(step, global_batch_size=batch))
    watched.close()
    assert records_of(tmp_path, "train")[-1]["tokens_per_s"] == (4 + 8 + 8 + 16) * SEQ / 2.0


def test_other_ranks_write_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    watched = monitor(run_config(tmp_path / "run"), is_main=False)
    watched.log_step(record(5))
    watched.log_eval(EvalRecord(5, "validation", 2.0, {"perplexity": 7.4, "bits_per_byte": None}))
    watched.log_event("saved")
    watched.close()
    assert not (tmp_path / "run").exists()
    assert capsys.readouterr().out == ""


def test_a_skipped_step_is_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    watched = monitor(run_config(tmp_path, "monitor.tensorboard=false"))
    watched.log_step(record(1))
    watched.log_step(record(2, loss=math.nan, grad_norm=math.inf, skipped=True, skipped_total=1))
    assert "step 2 skipped: loss nan, gradient norm inf" in capsys.readouterr().out
    assert [r["step"] for r in records_of(tmp_path, "event")] == [2]
    watched.close()


def test_a_full_disk_ends_the_metrics_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    watched = monitor(run_config(tmp_path, "monitor.tensorboard=false"))

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pretrain.monitor.metrics_file.MetricsFile.write", no_space)
    watched.log_step(record(5))
    watched.log_step(record(10))
    watched.close()
    captured = capsys.readouterr()
    assert captured.err.count("MetricsFile stopped") == 1 and "No space left on device" in captured.err
    assert "step 10/40" in captured.out


def test_a_directory_that_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="cannot be written"):
        monitor(run_config(tmp_path / "file" / "run"))


def test_nothing_of_the_environment_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_TOKEN", "hunter2-very-secret")
    report(tmp_path, range(1, 12), None)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) >= 2
    for path in written:
        assert b"hunter2" not in path.read_bytes(), path


def test_wandb_without_the_package_is_one_error_that_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "wandb" else found(name))
    with pytest.raises(ConfigError, match=r"\[wandb\]"):
        monitor(run_config(tmp_path, "monitor.wandb_project=demo", "monitor.tensorboard=false"))


def test_the_run_record_says_what_the_speeds_are_compared_with(tmp_path: Path) -> None:
    report(tmp_path, range(1, 3), None, "monitor.tensorboard=false")
    (run,) = records_of(tmp_path, "run")
    assert run["layout"] == "tensor 1 x pipeline 1 x data 2"
    assert (run["peak_flops_per_s"], run["peak_source"]) == (1e9, "monitor.peak_tflops")
    assert run["config"]["model"]["hidden_size"] == 128


def test_an_unknown_device_is_said_once_and_leaves_the_mfu_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = run_config(tmp_path, "monitor.tensorboard=false", "monitor.peak_tflops=null")
    watched = monitor(config, device_name="Imaginary 9000")
    for step in range(1, 11):
        watched.log_step(record(step))
    watched.close()
    out = capsys.readouterr().out
    assert out.count("unknown device 'Imaginary 9000'; set monitor.peak_tflops") == 1
    assert "MFU" not in out.replace("no MFU", "")
    assert records_of(tmp_path, "train")[-1]["mfu"] is None


@pytest.mark.parametrize("is_measured", [True, False])
def test_a_peak_that_training_exceeds_is_told_once_and_a_measured_one_gives_no_share(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, is_measured: bool
) -> None:
    peak = DevicePeak(1.0, 1.0, "of a test", is_measured=is_measured)
    monkeypatch.setattr("pretrain.monitor.monitor.device_peak", lambda *_: peak)
    watched = monitor(run_config(tmp_path, "monitor.tensorboard=false"))
    for step in range(1, 21):
        watched.log_step(record(step))
    watched.close()
    out = capsys.readouterr().out
    assert out.count("more than the peak of") == 1 and ("busy" if is_measured else "set it higher") in out
    shares = {r["mfu"] for r in records_of(tmp_path, "train") if r["tflops_per_device"]}
    assert shares == {None} if is_measured else min(shares) > 1


def test_the_watchdog_runs_on_every_rank_and_ends_with_the_monitor(tmp_path: Path) -> None:
    import threading

    def watchdogs() -> int:
        return sum(thread.name == "watchdog" for thread in threading.enumerate())

    before = watchdogs()
    os.environ.pop("RANK", None)
    watched = monitor(run_config(tmp_path), is_main=False)
    assert watchdogs() == before + 1
    watched.close()
    watched.close()
    assert watchdogs() == before
