"""`cluster/job.sh` on a real Slurm of four nodes; what runs in it is `stand_in.py`."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from slurm_host import Job, SlurmHost

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

ROOT = Path(__file__).parents[2]
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")


class Run:
    """A job of the stand-in, its folder and its log."""

    def __init__(self, slurm: SlurmHost, folder: Path) -> None:
        self.slurm, self.folder, self.log = slurm, folder, folder / "job.log"

    def submit(
        self,
        *arguments: str,
        nodes: int,
        ranks_per_node: int = 1,
        options: tuple[str, ...] = (),
        variables: Mapping[str, str] | None = None,
    ) -> Job:
        environ = {
            **(variables or {}),
            "BESSEMER_VENV": sys.prefix,
            "BESSEMER_ENTRY": "tests/cluster/stand_in.py",
            "BESSEMER_RANKS_PER_NODE": str(ranks_per_node),
            "OMP_NUM_THREADS": "1",
        }
        command = [f"--nodes={nodes}", f"--output={self.log}", *options, "cluster/job.sh"]
        return self.slurm.submit(*command, f"folder={self.folder}", *arguments, cwd=ROOT, environ=environ)

    def seen(self, rank: int, start: int = 0, limit_s: float = 60) -> dict[str, object]:
        """What a rank saw, as soon as it has written that: ranks start seconds apart on a busy machine."""
        path, deadline = self.folder / f"rank{rank}.start{start}.json", time.monotonic() + limit_s
        while True:
            with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
                return json.loads(path.read_text())
            assert time.monotonic() < deadline, f"no {path.name}\n{self.text()}"
            time.sleep(0.2)

    def step(self) -> int:
        return json.loads((self.folder / "state.json").read_text())["step"]

    def wait_until_step(self, step: int, limit_s: float = 60) -> None:
        deadline = time.monotonic() + limit_s
        while not ((self.folder / "state.json").exists() and self.step() >= step):
            assert time.monotonic() < deadline, self.text()
            time.sleep(0.2)

    def text(self) -> str:
        return self.log.read_text() if self.log.exists() else "(no log)"


@pytest.fixture
def run(slurm: SlurmHost, tmp_path: Path) -> Iterator[Run]:
    yield Run(slurm, tmp_path)
    # What a failed test leaves would be in the next one's way.
    slurm.client("scancel", "--user=root", check=False)
    slurm.wait_until_idle()


def test_four_nodes_meet(run: Run) -> None:
    job = run.submit("--config", "gpt-tiny", "meet=yes", nodes=4, ranks_per_node=2)
    ended = job.wait_for(*ENDED, limit_s=240)
    assert (ended["JobState"], ended["ExitCode"]) == ("COMPLETED", "0:0"), run.text()
    seen = [run.seen(rank) for rank in range(8)]
    assert {s["sum"] for s in seen} == {28}
    assert [s["node"] for s in seen] == ["n1", "n1", "n2", "n2", "n3", "n3", "n4", "n4"]
    assert [(s["RANK"], s["LOCAL_RANK"]) for s in seen] == [(str(r), str(r % 2)) for r in range(8)]
    assert {(s["WORLD_SIZE"], s["LOCAL_WORLD_SIZE"], s["LOCAL_SIZE"]) for s in seen} == {("8", "2", "2")}
    assert len({(s["MASTER_ADDR"], s["MASTER_PORT"]) for s in seen}) == 1
    assert seen[0]["arguments"] == [f"folder={run.folder}", "--config", "gpt-tiny", "meet=yes"]


@pytest.mark.parametrize("status", [1, 2, 3, 9])
def test_the_failing_ranks_status_is_the_jobs(run: Run, status: int) -> None:
    # The others hang: without being told, their nodes would hold the job until its time limit.
    job = run.submit("meet=no", "hang=yes", f"fail_rank={status % 4}", f"fail_status={status}", nodes=4)
    ended = job.wait_for(*ENDED, limit_s=60)
    assert (ended["JobState"], ended["ExitCode"], ended["Restarts"]) == ("FAILED", f"{status}:0", "0"), run.text()
    assert f"rank {status % 4} ended with status {status}; ending the others on all nodes" in run.text()


LATE_NODE = """import os, sys, time
# The launcher of the first node starts when the rank of another has failed and everybody was told of it.
if os.environ.get("SLURM_NODEID") == "0" and "cluster.node_launcher" in sys.orig_argv:
    while not os.path.exists(os.environ["FAILED_RANK_WAS_HERE"]):
        time.sleep(0.1)
    time.sleep(1.5)
"""


def test_a_node_that_still_starts_when_another_fails_is_ended_too(run: Run) -> None:
    late = run.folder / "late"
    late.mkdir()
    (late / "sitecustomize.py").write_text(LATE_NODE)
    variables = {"PYTHONPATH": f"{late}:{ROOT}", "FAILED_RANK_WAS_HERE": str(run.folder / "rank1.start0.json")}
    job = run.submit("meet=no", "hang=yes", "fail_rank=1", "fail_status=9", nodes=2, variables=variables)
    ended = job.wait_for(*ENDED, limit_s=60)
    assert (ended["JobState"], ended["ExitCode"], ended["Restarts"]) == ("FAILED", "9:0", "0"), run.text()
    assert "rank 1 ended with status 9; ending the others on all nodes" in run.text()


def test_a_user_error_outlives_the_broken_collectives_of_its_peers(run: Run) -> None:
    job = run.submit("fail_rank=1", "fail_status=2", nodes=2)
    ended = job.wait_for(*ENDED, limit_s=120)
    assert ended["ExitCode"] == "2:0", run.text()


def test_the_time_limits_signal_saves_and_requeues_until_done(run: Run) -> None:
    # The real thing: Slurm's own lead signal before a limit of one minute, its shortest. It comes 25 s after the start
    # or up to 30 s later (Slurm looks at limits every 30 s).
    options = ("--time=1", "--signal=B:USR2@35")
    job = run.submit("meet=no", "steps=1000000", "step_s=0.2", nodes=2, ranks_per_node=2, options=options)
    requeued = job.wait_until_requeued(limit_s=150)
    assert requeued["Restarts"] == "1", run.text()
    saved_at = run.step()
    assert all((run.folder / f"rank{rank}.saved0.json").exists() for rank in range(4)), run.text()
    assert saved_at > 0

    run.slurm.client("scontrol", "update", f"JobId={job.id}", "TimeLimit=60")
    job.start_again(limit_s=60)
    run.wait_until_step(saved_at + 1)
    assert run.seen(0, start=1)["first_step"] == saved_at
    assert all(run.seen(rank, start=1)["first_step"] >= saved_at for rank in (1, 2, 3))
    assert run.seen(0)["MASTER_PORT"] != run.seen(0, start=1)["MASTER_PORT"]

    # A cancel saves too, and does not come back.
    run.slurm.client("scancel", str(job.id))
    ended = job.wait_for(*ENDED, limit_s=60)
    assert (ended["JobState"], ended["Restarts"]) == ("CANCELLED", "1"), run.text()
    assert all((run.folder / f"rank{rank}.saved1.json").exists() for rank in range(4)), run.text()
    assert run.text().count("stopped and saved (status 75)") == 2


def test_requeue_can_be_switched_off(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(run.slurm.environ, "BESSEMER_REQUEUE", "0")
    job = run.submit("meet=no", "steps=1000000", "step_s=0.2", nodes=2)
    run.wait_until_step(2)
    run.slurm.client("scancel", "--batch", "--signal=USR2", str(job.id))
    ended = job.wait_for(*ENDED, limit_s=60)
    assert (ended["JobState"], ended["ExitCode"], ended["Restarts"]) == ("FAILED", "75:0", "0"), run.text()


def test_a_dead_node_requeues_the_job_and_it_continues_on_the_others(run: Run) -> None:
    job = run.submit("meet=no", "steps=1000000", "step_s=0.2", nodes=3)
    run.wait_until_step(2)
    died = "n3"
    assert run.seen(2)["node"] == died
    run.slurm.kill_node(died)
    try:
        requeued = job.wait_until_requeued(limit_s=90)
        assert requeued["Restarts"] == "1", run.text()
        assert not (run.folder / "rank2.saved0.json").exists(), "it outlived its node"
        job.start_again(limit_s=60)
        reached = run.step()
        run.wait_until_step(reached + 2)
        assert run.seen(2, start=1)["node"] == "n4"
        assert run.seen(0, start=1)["first_step"] >= 2
    finally:
        run.slurm.client("scancel", str(job.id), check=False)
        run.slurm.start_node(died)
        job.wait_for(*ENDED, limit_s=60)
    run.slurm.wait_until_idle()
