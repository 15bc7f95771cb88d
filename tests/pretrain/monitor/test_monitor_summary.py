from __future__ import annotations

import io
import json
import math
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from monitor_runs import BATCH, SEQ, monitor, record, run_config

from configs.columns import width
from configs.errors import DataError
from pretrain.config import RunConfig
from pretrain.monitor import EvalRecord
from pretrain.monitor.metrics_file import MetricsFile
from pretrain.monitor.plots import _losses, plot_run
from pretrain.monitor.records import RunOutcome
from pretrain.monitor.summary import figures_of, write_summary

ROOT = Path(__file__).parents[3]


def outcome(**changes: Any) -> RunOutcome:
    values: dict[str, Any] = {
        "ended_by": "finished",
        "step": 40,
        "total_steps": 40,
        "consumed_tokens": 40 * BATCH * SEQ,
        "skipped_steps": 1,
        "num_parameters": 1_240_000,
        "layout": "tensor 1 x pipeline 1 x data 2",
        "device_name": "cpu",
        "checkpoint": Path("run/checkpoints/step_00000040"),
    }
    return RunOutcome(**(values | changes))


def trained(output_dir: Path, *overrides: str) -> RunConfig:
    config = run_config(output_dir, "monitor.tensorboard=false", *overrides)
    for resumed_step, steps in ((None, range(1, 21)), (20, range(21, 41))):
        watched = monitor(config, resumed_step=resumed_step)
        for step in steps:
            watched.log_step(record(step))
            if step % 10 == 0:
                loss = {10: 5.0, 20: 4.0, 30: 3.5, 40: 3.75}[step]
                watched.log_eval(
                    EvalRecord(step, "validation", loss, {"perplexity": math.exp(loss), "bits_per_byte": loss / 2})
                )
        if resumed_step:
            watched.log_eval(EvalRecord(40, "test", 3.0, {"perplexity": math.exp(3.0), "bits_per_byte": None}))
        watched.close()
    return config


def test_the_summary_says_what_how_well_where_and_what_next(tmp_path: Path) -> None:
    config = trained(tmp_path / "run")
    output = io.StringIO()
    summary = write_summary(config, outcome(), output)
    text = (tmp_path / "run" / "summary.txt").read_text()
    assert output.getvalue().strip() == text.strip()
    for expected in (
        "finished at step 40 of 40",
        "1.24M parameters (4 layers, hidden 128)",
        "81.9k tokens",
        "tensor 1 x pipeline 1 x data 2, ZeRO-1, fp32",
        "4.1k tokens/s, MFU 0.2%",
        "\nvalidation       loss 3.7500, perplexity 42.52, 1.8750 bits per byte, at step 40\n",
        "best validation  loss 3.5000, perplexity 33.12, 1.7500 bits per byte, at step 30\n",
        "\ntest             loss 3.0000, perplexity 20.09, at step 40\n",
        "skipped          1 step\n",
        "run/checkpoints/step_00000040",
        f"{tmp_path}/run/metrics.jsonl",
        "python -m finetune export",
    ):
        assert expected in text, text
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == summary
    assert summary["best"]["validation"] == {
        "step": 30, "loss": 3.5, "perplexity": math.exp(3.5), "bits_per_byte": 1.75, "evaluations": 4,
    }  # fmt: skip
    assert {name: record["loss"] for name, record in summary["last"].items()} == {"validation": 3.75, "test": 3.0}


def evaluated(directory: Path, losses: dict[int, float], tests: dict[int, float], step: int) -> list[str]:
    """The rows about losses in the summary of a run that ended at `step`."""
    directory.mkdir()
    file = MetricsFile(directory / "metrics.jsonl", None)
    for name, measured in (("validation", losses), ("test", tests)):
        for at, loss in measured.items():
            values = {"name": name, "loss": loss, "perplexity": math.exp(min(loss, 9)), "bits_per_byte": None}
            file.write("validation", at, values)
    file.close()
    summary = write_summary(run_config(directory), outcome(step=step), io.StringIO())
    assert "test" not in summary["best"]
    rows = (directory / "summary.txt").read_text().splitlines()
    return [" ".join(row.split()) for row in rows if "loss" in row]


def test_the_final_model_stands_beside_the_best_and_no_test_is_chosen(tmp_path: Path) -> None:
    # Extended twice; the model was best, on the test set too, long before its end.
    rows = evaluated(tmp_path / "a", {10: 2.0, 20: 3.0, 40: 4.0}, {10: 2.5, 20: 3.5, 40: 4.5}, step=40)
    assert rows == [
        "validation loss 4.0000, perplexity 54.60, at step 40",
        "best validation loss 2.0000, perplexity 7.39, at step 10",
        "test loss 4.5000, perplexity 90.02, at step 40",
    ]
    rows = evaluated(tmp_path / "b", {10: 4.0, 20: 3.0}, {}, step=20)
    assert rows == ["validation loss 3.0000, perplexity 20.09, at step 20, the best of 2"]
    # Stopped between two validations; what an earlier end reached on the test set is not this model's.
    rows = evaluated(tmp_path / "c", {10: 2.0, 20: 3.0}, {10: 2.5}, step=25)
    assert rows == [
        "last validation loss 3.0000, perplexity 20.09, at step 20",
        "best validation loss 2.0000, perplexity 7.39, at step 10",
    ]
    rows = evaluated(tmp_path / "d", {10: 2.0, 20: math.nan}, {}, step=20)
    assert rows == [
        "validation loss not finite, at step 20",
        "best validation loss 2.0000, perplexity 7.39, at step 10",
    ]


@pytest.mark.parametrize(
    ("loss", "ended_by", "is_told"),
    [(6.15, "finished", True), (6.15, "diverged", False), (4.0, "finished", False), (math.nan, "SIGTERM", False)],
)
def test_where_token_frequencies_do_better_the_summary_says_what_to_do(
    tmp_path: Path, loss: float, ended_by: str, is_told: bool
) -> None:
    watched = monitor(config := run_config(tmp_path / "run", "monitor.tensorboard=false"), resumed_step=None)
    watched.log_eval(EvalRecord(40, "validation", loss, {"unigram_loss": 4.61}))
    watched.log_eval(EvalRecord(40, "test", 9.0, {"unigram_loss": 4.61}))
    watched.log_eval(EvalRecord(40, "of an older version", 9.0, {}))
    watched.close()
    write_summary(config, outcome(ended_by=ended_by), io.StringIO())
    rows = (tmp_path / "run" / "summary.txt").read_text().splitlines()
    found = [row for row in rows if row.startswith("unigram")]
    assert len(found) == is_told
    if is_told:
        assert "better than this model, 4.6100 against 6.1500 on validation: train longer" in found[0]
        assert "training.duration" in found[0] and "optimizer.lr" in found[0]


def test_a_run_beyond_its_duration_had_nothing_to_train(tmp_path: Path) -> None:
    config = run_config(tmp_path, "training.duration=3 steps")
    write_summary(config, outcome(step=6, total_steps=3), io.StringIO())
    first = (tmp_path / "summary.txt").read_text().splitlines()[0]
    assert first.split(maxsplit=1)[1] == (
        "nothing to train: the run stands at step 6, beyond training.duration (3 steps)"
    )


def test_a_stopped_run_without_validation_has_a_summary_too(tmp_path: Path) -> None:
    config = run_config(tmp_path)
    tmp_path.mkdir(exist_ok=True)
    ended = outcome(ended_by="SIGTERM", step=3, total_steps=None, checkpoint=None)
    summary = write_summary(config, ended, io.StringIO())
    text = (tmp_path / "summary.txt").read_text()
    assert "the same command starts from the beginning: no checkpoint was saved" in text
    assert "SIGTERM at step 3\n" in text and "unknown, MFU unknown" in text
    assert f"tensorboard --logdir {tmp_path}/tensorboard --host 127.0.0.1" in summary["next_commands"]
    assert summary["best"] == summary["last"] == {} and summary["checkpoint"] is None


def test_an_interrupted_run_goes_on_with_the_same_command(tmp_path: Path) -> None:
    summary = write_summary(run_config(tmp_path), outcome(ended_by="SIGTERM"), io.StringIO())
    text = (tmp_path / "summary.txt").read_text()
    assert "continue    the same command goes on from the newest checkpoint\n" in text
    assert any("finetune export" in command for command in summary["next_commands"])


def test_a_run_that_diverged_is_told_what_to_change(tmp_path: Path) -> None:
    config = run_config(tmp_path, "optimizer.lr=0.5")
    write_summary(config, outcome(ended_by="diverged"), io.StringIO())
    text = (tmp_path / "summary.txt").read_text()
    assert "goes on" not in text and "the same command diverges again" in text
    assert "a lower optimizer.lr (now 0.5), a longer optimizer.warmup (now " in text
    assert "checkpoint.allow_changes=[optimizer] to go on from the newest checkpoint" in text
    assert "finetune export" in text and "precision=bf16" not in text
    fp16 = config.model_copy(update={"training": config.training.model_copy(update={"precision": "fp16"})})
    write_summary(fp16, outcome(ended_by="diverged"), io.StringIO())
    text = (tmp_path / "summary.txt").read_text()
    assert "or training.precision=bf16" in text and "allow_changes=[optimizer,training.precision]" in text


def test_without_a_checkpoint_nothing_that_needs_one_is_proposed(tmp_path: Path) -> None:
    summary = write_summary(run_config(tmp_path), outcome(ended_by="diverged", checkpoint=None), io.StringIO())
    text = (tmp_path / "summary.txt").read_text()
    assert "diverges again" in text and "no checkpoint was saved: it starts from the beginning" in text
    assert "export" not in text and "newest checkpoint" not in text and "allow_changes" not in text
    assert not any("export" in command for command in summary["next_commands"])
    assert f"next        {summary['next_commands'][0]}\n" in text


def test_figures_add_up_over_sessions() -> None:
    step = {"kind": "train", "mfu": 0.2, "interval_time_s": 10.0, "interval_tokens": 1000}
    records = [
        {"kind": "run", "step": 0},
        step | {"step": 5, "session_s": 12.0},
        {"kind": "event", "step": 5, "text": "saved", "session_s": 15.0},
        {"kind": "run", "step": 5},
        step | {"step": 10, "session_s": 32.0, "interval_time_s": 30.0, "mfu": 0.4},
        {"kind": "validation", "step": 10, "name": "v", "loss": None, "perplexity": None, "bits_per_byte": None},
    ]
    figures = figures_of(records)
    assert figures.time_s == 47.0
    assert figures.tokens_per_s == 2000 / 40
    assert figures.mfu == pytest.approx((0.2 * 10 + 0.4 * 30) / 40)
    assert figures.best == {}  # a loss that was not finite is never the best


def test_a_terminal_gets_a_framed_summary(tmp_path: Path) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    output = Terminal()
    write_summary(run_config(tmp_path), outcome(), output)
    assert "╭" in output.getvalue() and "summary" in output.getvalue()


@pytest.mark.slow
def test_the_curves_are_a_picture_of_the_run(tmp_path: Path) -> None:
    from PIL import Image

    trained(tmp_path / "run")
    path = plot_run(tmp_path / "run")
    assert path == tmp_path / "run" / "curves.png"
    with Image.open(path) as picture:
        assert picture.format == "PNG" and picture.width > 1000
        # Curves and text: far more than a white page, yet mostly white.
        assert sum(pixel < 128 for pixel in picture.convert("L").tobytes()) / (picture.width * picture.height) > 0.001


@pytest.mark.slow
def test_names_of_wide_letters_stay_in_their_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    watched = monitor(config := run_config(tmp_path / "run", "monitor.tensorboard=false"), resumed_step=None)
    watched.log_step(record(1))
    watched.log_eval(EvalRecord(1, "新闻报道与评论文章", 5.0, {"perplexity": None, "bits_per_byte": None}))
    watched.log_eval(EvalRecord(1, "news", 5.0, {"unigram_loss": 6.25}))
    watched.close()
    write_summary(config, outcome(step=1), io.StringIO())
    rows = (tmp_path / "run" / "summary.txt").read_text().splitlines()
    starts = [width(row[: row.index("loss")]) for row in rows if row.startswith(("新闻", "news"))]
    assert starts == [20, 20]
    capsys.readouterr()
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", lambda: [])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot_run(tmp_path / "run")
    assert "#2 新闻报道与评论文章; a font is in the package fonts-noto-cjk" in capsys.readouterr().err


def test_nothing_to_draw_is_one_error_with_a_status(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no training records"):
        plot_run(tmp_path)
    command = [sys.executable, "-m", "pretrain.monitor", "plot", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr.startswith("error:") and "Traceback" not in done.stderr


def test_several_losses_are_drawn_apart() -> None:
    steps: list[dict[str, Any]] = [
        {"step": 1, "loss": 9.0, "losses": {"mlm": 8.0, "pair": 1.0}},
        {"step": 2, "loss": None, "losses": {"mlm": None, "pair": 0.5}},
    ]
    assert _losses(steps) == {"training, mlm": [(1, 8.0)], "training, pair": [(1, 1.0), (2, 0.5)]}
    assert _losses([{"step": 1, "loss": 9.0}, {"step": 2, "loss": 8.0, "losses": {"lm": 8.0}}]) == {
        "training": [(1, 9.0), (2, 8.0)]
    }
