"""The check on a GPU, as far as it goes without one: what it runs, what it makes of what it sees, what it writes."""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks.gpu_check import __main__ as check
from benchmarks.gpu_check import pieces
from benchmarks.gpu_check.commands import ROOT, Commands, PieceFailed
from benchmarks.gpu_check.kernels import Kernel, busy_us, kernel_table, kernels_of
from benchmarks.gpu_check.pieces import MEMORY, PIECES, STAGES, Piece, Settings
from benchmarks.gpu_check.pieces import test_counts as counts_of
from configs.errors import ConfigError
from configs.load import find_recipe, load_config
from pretrain.config import RunConfig
from pretrain.parallel.layout import resolve_layout

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="is for machines without a GPU")
KERNELS = [Kernel("gemm", 0, 40), Kernel("nccl", 30, 70), Kernel("gemm", 50, 60), Kernel("copy", 90, 100)]


def test_time_in_which_no_kernel_ran() -> None:
    assert busy_us(KERNELS) == 80  # 0 to 70 and 90 to 100
    assert busy_us(reversed(KERNELS)) == 80
    assert busy_us([]) == 0


def test_the_table_names_what_takes_most_time() -> None:
    assert kernel_table(KERNELS, steps=2, rows=1) == [
        {"kernel": "gemm", "calls_per_step": 1.0, "ms_per_step": 0.025, "share": 0.5},
        {"kernel": "2 others", "calls_per_step": 1.0, "ms_per_step": 0.025, "share": 0.5},
    ]
    assert [row["kernel"] for row in kernel_table(KERNELS, steps=2, rows=5)] == ["gemm", "nccl", "copy"]


def test_kernels_are_what_ran_on_the_gpu() -> None:
    from torch.autograd import DeviceType

    def event(device: Any, is_user_annotation: bool = False) -> SimpleNamespace:
        time_range = SimpleNamespace(start=1.0, end=3.0)
        return SimpleNamespace(
            name="k", device_type=device, time_range=time_range, is_user_annotation=is_user_annotation
        )

    events = [event(DeviceType.CPU), event(DeviceType.CUDA), event(DeviceType.CUDA, True)]
    assert kernels_of(SimpleNamespace(events=lambda: events)) == [Kernel("k", 1.0, 3.0)]


def test_a_real_profile_has_what_is_read() -> None:
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as seen:
        torch.ones(4) + 1
    assert list(seen.events()) and kernels_of(seen) == []
    assert all(event.is_user_annotation in (True, False) for event in seen.events())


@pytest.mark.parametrize(
    ("last", "counts"),
    [
        ("19 passed, 300 deselected in 100.0s", {"passed": 19}),
        ("18 passed, 1 failed in 1s", None),
        ("18 passed, 1 skipped in 1s", None),
        ("300 deselected in 1s", None),
    ],
)
def test_tests_count_only_if_all_passed(last: str, counts: dict[str, int] | None) -> None:
    if counts is None:
        with pytest.raises(PieceFailed, match=re.escape(last)):
            counts_of(f"...\n{last}\n")
    else:
        assert counts_of(f"...\n{last}\n") == counts


def test_every_layout_of_the_check_is_one() -> None:
    for layout in (*STAGES.values(), *MEMORY.values()):
        config = load_config(RunConfig, find_recipe("gpt-125m", "pretrain"), ["training.global_batch_size=64", *layout])
        assert resolve_layout(config, 1).world_size == 1


def settings(tmp_path: Path, limit_s: float = 60.0, *, tiny: bool = False) -> Settings:
    return Settings(Commands(limit_s, tmp_path / "log" / "log.txt"), tmp_path, tiny)


@pytest.mark.parametrize("tiny", [True, False])
def test_what_is_measured_is_a_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: bool) -> None:
    asked: list[tuple[str, ...]] = []

    def run_json(self: Commands, *arguments: str) -> dict[str, Any]:
        asked.append(arguments)
        return {"losses": [5.0, 4.0]}

    monkeypatch.setattr(Commands, "run_json", run_json)
    for name in ("gpt-1.3b", "zero", "memory"):
        found = PIECES[name].run(settings(tmp_path, tiny=tiny))
        assert (
            found.get("losses") == [5.0, 4.0]
            if name == "gpt-1.3b"
            else all(figures["losses_from_first"] == 0 for figures in found.values())
        )
    assert len(asked) == 1 + len(STAGES) + len(MEMORY)
    for arguments in asked:
        recipe = arguments[arguments.index("--recipe") + 1]
        assert recipe == "gpt-tiny" if tiny else recipe in ("gpt-1.3b", "gpt-125m")
        config = load_config(RunConfig, find_recipe(recipe, "pretrain"), [a for a in arguments if "=" in a])
        assert (config.training.device == "cpu") is tiny
        resolve_layout(config, 1)


def test_layouts_whose_losses_differ_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_json(self: Commands, *arguments: str) -> dict[str, Any]:
        if "parallel.zero_stage=2" in arguments:
            raise PieceFailed("out of memory")
        return {"losses": [5.0, float("nan") if "parallel.zero_stage=1" in arguments else 4.0]}

    monkeypatch.setattr(Commands, "run_json", run_json)
    with pytest.raises(PieceFailed, match="the losses of zero 1 are inf from those of zero 0") as failed:
        PIECES["zero"].run(settings(tmp_path))
    assert "out of memory" in str(failed.value)
    # What was found of the others is kept.
    assert list(failed.value.found) == ["zero 0", "zero 1", "zero 3", "zero 3, overlap and prefetch"]
    assert pieces.largest_difference([5.0, 4.4], [5.0, 4.0]) == pytest.approx(0.1)


def test_commands_keep_their_output_and_tell_their_failure(tmp_path: Path) -> None:
    commands = settings(tmp_path).commands
    assert commands.run_json("-c", "print('hello'); print('{\"a\": 1}')") == {"a": 1}
    with pytest.raises(PieceFailed, match="status 3\nsorry"):
        commands.run("-c", "print('sorry'); raise SystemExit(3)")
    assert commands.run("-c", "raise SystemExit(75)", allowed=(75,)) == ""
    with pytest.raises(PieceFailed, match="printed no figures"):
        commands.run_json("-c", "print('none')")
    kept = (tmp_path / "log" / "log.txt").read_text()
    assert "hello" in kept and "sorry" in kept
    assert len(commands.ran) == 4 and shlex.split(commands.ran[1])[:2] == ["python", "-c"]


def test_a_piece_ends_with_its_time(tmp_path: Path) -> None:
    commands = settings(tmp_path, limit_s=0.0).commands
    with pytest.raises(PieceFailed, match="the piece's time is over"):
        commands.run("-c", "import signal; signal.pause()")


@pytest.mark.slow
def test_the_file_keeps_what_other_pieces_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(settings: Settings) -> dict[str, Any]:
        settings.commands.run("-c", f"raise SystemExit('{settings.scratch}')")
        return {}

    def break_down(settings: Settings) -> dict[str, Any]:
        return {"rest": 1 // 0}

    output = tmp_path / "found.json"
    output.write_text(json.dumps({"zero": {"status": "passed"}, "bad": {"status": "old"}}))
    monkeypatch.setitem(PIECES, "bad", Piece("fails", fail))
    monkeypatch.setitem(PIECES, "broken", Piece("has a bug", break_down))
    monkeypatch.setitem(PIECES, "good", Piece("passes", lambda settings: {"answer": 42}))
    assert check.main(["bad", "broken", "good", "--tiny", "--output", str(output)]) == 1
    found = json.loads(output.read_text())
    assert list(found) == ["zero", "bad", "broken", "good"]
    assert found["zero"] == {"status": "passed"}
    assert found["good"]["found"] == {"answer": 42} and found["good"]["status"] == "passed"
    assert found["bad"]["status"] == "failed" and "status 1" in found["bad"]["error"]
    assert [shlex.split(command) for command in found["bad"]["commands"]] == [
        ["python", "-c", "raise SystemExit('SCRATCH')"]
    ]
    assert found["broken"]["status"] == "failed" and "ZeroDivisionError" in found["broken"]["error"]
    assert found["good"]["where"]["torch"].startswith(torch.__version__.partition("+")[0])
    assert check.main(["good", "--tiny", "--output", str(output)]) == 0


@pytest.mark.slow
@no_gpu
def test_without_a_gpu_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main(["--output", str(tmp_path / "gpu.json")]) == 2
    assert "this machine: shows no GPU" in capsys.readouterr().err


def test_a_machine_that_cannot_be_asked_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_json(self: Commands, *arguments: str) -> dict[str, Any]:
        raise PieceFailed("no module named torch")

    monkeypatch.setattr(Commands, "run_json", run_json)
    assert check.main(["--output", str(tmp_path / "gpu.json")]) == 2
    assert "no module named torch" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["zeor"], "there is no piece 'zeor'"),
        (["tests", "--tiny", "--output", "x.json"], "tests needs a GPU"),
        (["zero", "--tiny"], "is the file of the GPU's figures"),
        (["zero", "--tiny", "--output", str(ROOT / "README.md")], "cannot be read"),
    ],
)
def test_what_cannot_be_asked_is_refused(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main(arguments) == 2
    assert says in capsys.readouterr().err
    if arguments == ["zeor"]:
        with pytest.raises(ConfigError, match="zero"):
            check.chosen(arguments, tiny=False)


def test_a_dry_run_shows_all_pieces(capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main(["--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(PIECES)
    assert all("at most 9 minutes" in line for line in lines)


def test_make_runs_the_check_without_making_an_environment() -> None:
    import subprocess

    # As if typed: `make test` tells what it starts that it is a make inside another.
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    for piece in ("", "zero"):
        command = ["make", "--dry-run", "gpu-check", f"PIECE={piece}"]
        done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["python", "-m", "benchmarks.gpu_check", *([piece] if piece else [])]


@pytest.mark.slow
def test_two_trainings_and_a_resumed_one_are_compared(tmp_path: Path) -> None:
    output = tmp_path / "found.json"
    assert check.main(["bitwise", "--tiny", "--output", str(output)]) == 0
    (found,) = json.loads(output.read_text())["bitwise"]["found"].values()
    assert found["two"] == found["resumed"]
    assert found["two"]["different"] == 0 < found["two"]["tensors"]


@pytest.mark.parametrize("tiny", [True, False])
def test_trainings_that_differ_fail_only_where_they_must_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: bool
) -> None:
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(Commands, "run", lambda self, *arguments, **options: asked.append(arguments) or "")
    differ = {"tensors": 9, "different": 1, "largest_difference": 0.5}
    monkeypatch.setattr(pieces, "different_tensors", lambda one, other: differ)
    monkeypatch.setattr(pieces.TrainingConfig, "model_fields", {})
    if tiny:
        with pytest.raises(PieceFailed, match="as it is: runs of the same training differ") as failed:
            PIECES["bitwise"].run(settings(tmp_path, tiny=True))
        assert failed.value.found == {"as it is": {"two": differ, "resumed": differ}}
    else:
        assert PIECES["bitwise"].run(settings(tmp_path)) == {"as it is": {"two": differ, "resumed": differ}}
    trained = [arguments for arguments in asked if arguments[0] == "pretrain/main.py"]
    for arguments in trained:
        given = [argument for argument in arguments[1:] if "=" in argument]
        config = load_config(RunConfig, find_recipe("gpt-tiny", "pretrain"), given)
        assert (config.training.device == "cpu") is tiny
    assert [any("session_limit" in argument for argument in arguments) for arguments in trained] == [0, 0, 1, 0]
