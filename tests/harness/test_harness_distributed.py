from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from configs.errors import CheckpointError
from tests.distributed import RankFailure, run_ranks


def sum_over_ranks(factor: int) -> tuple[int, float, str]:
    import torch
    import torch.distributed as dist

    total = torch.tensor(float(factor * (dist.get_rank() + 1)))
    dist.all_reduce(total)
    return dist.get_rank(), total.item(), os.environ["LOCAL_RANK"]


def fail_on_rank_1() -> None:
    import torch.distributed as dist

    if dist.get_rank() == 1:
        raise CheckpointError("nothing here", where="somewhere")
    dist.barrier()


def sleep_with_child(marker: str) -> None:
    child = subprocess.Popen(["sleep", "60"])
    Path(marker + os.environ["RANK"]).write_text(str(child.pid))
    time.sleep(60)


def die() -> None:
    if os.environ["RANK"] == "0":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def exit_hard() -> None:
    os._exit(7)


def environment(name: str) -> str | None:
    import torch.distributed as dist

    assert not dist.is_initialized()
    return os.environ.get(name)


def test_results_come_back_by_rank():
    assert run_ranks(sum_over_ranks, 3, 2) == [(0, 12.0, "0"), (1, 12.0, "1"), (2, 12.0, "2")]


def test_failure_names_the_rank_and_carries_its_exception():
    # The other rank sleeps for a minute: its end is not what told.
    with pytest.raises(RankFailure, match="rank 1 of 2 raised") as failure:
        run_ranks(fail_on_rank_1, 2)
    assert isinstance(failure.value.error, CheckpointError)
    assert "nothing here" in str(failure.value)


def test_timeout_kills_ranks_and_what_they_started(tmp_path):
    with pytest.raises(RankFailure, match=r"ranks \[0, 1\] did not end within 1"):
        run_ranks(sleep_with_child, 2, str(tmp_path / "pid"), timeout_s=1.0, process_group=False)
    for rank in range(2):
        pid = int((tmp_path / f"pid{rank}").read_text())
        for _ in range(100):
            if not running(pid):
                break
            time.sleep(0.05)
        assert not running(pid)


def running(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" not in status.read_text()


@pytest.mark.slow
def test_killed_rank_is_reported():
    with pytest.raises(RankFailure, match="rank 0 of 2 ended with status -9"):
        run_ranks(die, 2, process_group=False)


def test_rank_that_exits_without_a_result_is_reported():
    with pytest.raises(RankFailure, match="rank 0 of 1 ended with status 7"):
        run_ranks(exit_hard, 1, process_group=False)


def test_environment_reaches_the_ranks():
    assert run_ranks(environment, 1, "BESSEMER_X", process_group=False, environment={"BESSEMER_X": "7"}) == ["7"]
