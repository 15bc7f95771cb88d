from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from cluster import node_launcher
from cluster.node_launcher import PEER_FAILED, STOP_SIGNALS, NodePlace, entry_command, verdict
from configs.errors import ConfigError, MachineError

ROOT = Path(__file__).parents[2]
STAND_IN = "tests/cluster/stand_in.py"


def start(ranks: int, *arguments: str, entry: str = STAND_IN) -> subprocess.Popen[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    environ |= {"BESSEMER_RANKS_PER_NODE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "cluster.node_launcher", entry, "meet=no", *arguments],
        cwd=ROOT,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(path: Path, limit_s: float = 20) -> None:
    deadline = time.monotonic() + limit_s
    while not path.exists():
        assert time.monotonic() < deadline, f"no {path.name}"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("ended", "status"),
    [
        ([0, 0], 0),
        ([75, 75], 75),
        ([0, 75], 75),
        ([75, 1], 1),
        ([1, 137], 1),
        ([1, 2], 2),
        ([1, 3, 1], 3),
        ([3, 2], 2),
    ],
)
def test_verdict_is_the_status_that_tells_most(ended: list[int], status: int) -> None:
    assert verdict(ended) == status


def test_rank_environment_counts_over_nodes() -> None:
    environ = {"SLURM_NODEID": "2", "SLURM_STEP_NUM_NODES": "4", "SLURM_GPUS_ON_NODE": "8", "SLURM_CPUS_ON_NODE": "96"}
    place = NodePlace.from_environment(environ)
    rank = place.rank_environment(3, {**environ, "MASTER_PORT": "15000"})
    assert (rank["RANK"], rank["LOCAL_RANK"], rank["WORLD_SIZE"], rank["LOCAL_WORLD_SIZE"]) == ("19", "3", "32", "8")
    assert (rank["OMP_NUM_THREADS"], rank["MASTER_PORT"]) == ("12", "15000")
    assert place.rank_environment(0, {"OMP_NUM_THREADS": "5"})["OMP_NUM_THREADS"] == "5"


def test_the_chosen_number_of_ranks_wins_over_the_gpus() -> None:
    environ = {"SLURM_GPUS_ON_NODE": "8", "BESSEMER_RANKS_PER_NODE": "2"}
    assert NodePlace.from_environment(environ).ranks_per_node == 2


def test_a_number_of_ranks_that_is_none() -> None:
    with pytest.raises(ConfigError, match="BESSEMER_RANKS_PER_NODE: 'all' is no number of ranks"):
        NodePlace.from_environment({"BESSEMER_RANKS_PER_NODE": "all"})


@pytest.mark.parametrize("name", ["SLURM_NODEID", "SLURM_STEP_NUM_NODES"])
def test_a_number_of_slurms_that_is_none(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}: 'x' is no number"):
        NodePlace.from_environment({name: "x"})


def test_entry_is_a_file_or_a_module(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.touch()
    assert entry_command(str(script), ["a=1"]) == [sys.executable, str(script), "a=1"]
    assert entry_command("finetune", ["classify"]) == [sys.executable, "-m", "finetune", "classify"]
    with pytest.raises(MachineError, match="there is no such file"):
        entry_command("missing.py", [])


def test_ranks_run_to_their_end(tmp_path: Path) -> None:
    launcher = start(2, f"folder={tmp_path}")
    out, _ = launcher.communicate(timeout=30)
    assert launcher.returncode == 0, out
    assert [json.loads((tmp_path / f"rank{r}.start0.json").read_text())["RANK"] for r in (0, 1)] == ["0", "1"]


@pytest.mark.slow
def test_one_failure_ends_all_with_its_status(tmp_path: Path) -> None:
    launcher = start(3, f"folder={tmp_path}", "fail_rank=1", "fail_status=3", "hang=yes")
    out, _ = launcher.communicate(timeout=30)  # returns only when no rank holds the pipe any more
    assert launcher.returncode == 3, out
    assert "rank 1 ended with status 3; ending the others" in out


@pytest.mark.parametrize(
    "number", [pytest.param(n, marks=() if n == signal.SIGTERM else pytest.mark.slow) for n in STOP_SIGNALS]
)
def test_a_stop_signal_reaches_every_rank_once_and_they_may_save(tmp_path: Path, number: int) -> None:
    launcher = start(2, f"folder={tmp_path}", "steps=100000", "step_s=1.5")
    wait_for(tmp_path / "rank0.start0.json")
    wait_for(tmp_path / "rank1.start0.json")
    launcher.send_signal(number)
    time.sleep(0.4)  # in the same step, and late enough not to melt into one signal
    launcher.send_signal(number)
    out, _ = launcher.communicate(timeout=30)
    assert launcher.returncode == 75, out
    assert [json.loads((tmp_path / f"rank{r}.saved0.json").read_text()) for r in (0, 1)] == [[number], [number]]


def test_what_tells_of_a_failure_means_nothing_else() -> None:
    # Slurm sends it to every process of the step, ranks too, and a user may choose any stop signal with --signal.
    from pretrain.stopping import StopRequest

    assert set(STOP_SIGNALS) == set(StopRequest.SIGNALS) and PEER_FAILED not in STOP_SIGNALS


@pytest.mark.parametrize(
    ("age_s", "succeeds", "sent"),
    [
        (0.0, 99, 11),  # others may still start: told again until they cannot any more
        (7.5, 99, 4),
        (60.0, 99, 1),
        (0.0, 3, 4),  # the step is over
        (0.0, 0, 1),
    ],
)
def test_nodes_that_still_start_are_told_again(
    age_s: float, succeeds: int, sent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []
    clock = SimpleNamespace(now_s=100.0)

    def run(command: list[str], **options: object) -> SimpleNamespace:
        commands.append(command)
        return SimpleNamespace(returncode=int(len(commands) > succeeds), stderr="no step")

    def sleep(seconds: float) -> None:
        clock.now_s += seconds

    monkeypatch.setattr(node_launcher.subprocess, "run", run)
    monkeypatch.setattr(node_launcher, "time", SimpleNamespace(monotonic=lambda: clock.now_s, sleep=sleep))
    monkeypatch.setattr(node_launcher.signal, "signal", lambda number, handler: None)
    launcher = node_launcher.NodeLauncher(NodePlace(0, 2, 1, "7.0"), [], started_s=100.0 - age_s)
    launcher._tell_peers()
    assert commands == [["scancel", f"--signal={int(PEER_FAILED)}", "7.0"]] * sent


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGTERM])
def test_a_rank_that_still_starts_when_the_signal_comes_did_not_fail(tmp_path: Path, number: int) -> None:
    entry = tmp_path / "starts.py"
    entry.write_text("import sys, time\nopen(sys.argv[2], 'w').close()\ntime.sleep(60)\n")
    launcher = start(1, str(tmp_path / "started"), entry=str(entry))
    wait_for(tmp_path / "started")
    launcher.send_signal(number)
    out, _ = launcher.communicate(timeout=30)
    assert launcher.returncode == 75, out


def test_a_peers_failure_ends_the_ranks_and_counts_less_than_it(tmp_path: Path) -> None:
    launcher = start(2, f"folder={tmp_path}", "hang=yes")
    wait_for(tmp_path / "rank0.start0.json")
    launcher.send_signal(PEER_FAILED)
    out, _ = launcher.communicate(timeout=30)
    assert launcher.returncode == 1, out


@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's")
def test_a_killed_launcher_leaves_no_rank_behind(tmp_path: Path) -> None:
    launcher = start(2, f"folder={tmp_path}", "hang=yes")
    wait_for(tmp_path / "rank0.start0.json")
    wait_for(tmp_path / "rank1.start0.json")
    launcher.kill()
    launcher.communicate(timeout=20)  # ranks hold the pipe: returns when the last one is gone


def test_the_entry_that_is_missing_is_one_message() -> None:
    out, _ = (launcher := start(1, entry="pretrain/mian.py")).communicate(timeout=30)
    assert launcher.returncode == 2
    assert out.startswith("error: pretrain/mian.py: there is no such file")
