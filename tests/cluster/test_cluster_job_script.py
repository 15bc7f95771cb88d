"""What `cluster/job.sh` does with a signal, with stand-ins for Slurm's commands."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SRUN = """#!/usr/bin/env bash
trap 'echo "srun got USR2" >> "$SEEN"; exit 75' USR2
echo started > "$READY"
while true; do sleep 0.05; done
"""
SCONTROL = """#!/usr/bin/env bash
echo "scontrol $*" >> "$SEEN"
"""


@pytest.mark.parametrize(
    ("number", "is_requeued"),
    [
        (signal.SIGUSR2, True),
        (signal.SIGUSR1, True),
        (signal.SIGTERM, False),
        (signal.SIGHUP, False),
        (signal.SIGINT, False),
    ],
)
def test_every_stop_signal_reaches_the_ranks_and_a_time_limits_requeues(
    tmp_path: Path, number: signal.Signals, is_requeued: bool
) -> None:
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    seen, ready = tmp_path / "seen", tmp_path / "ready"
    os.mkfifo(ready)
    slurm = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "1", "SLURM_JOB_NODELIST": "n1", "MASTER_ADDR": "127.0.0.1"}
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "BESSEMER_"))}
    environ |= slurm | {"PATH": f"{tmp_path}:{environ['PATH']}", "BESSEMER_VENV": sys.prefix}
    environ |= {"SEEN": str(seen), "READY": str(ready)}
    job = subprocess.Popen(
        ["bash", "cluster/job.sh"], cwd=ROOT, env=environ, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert ready.read_text() == "started\n"
    job.send_signal(number)
    _, said = job.communicate(timeout=60)
    assert job.returncode == 75, said
    assert seen.read_text().splitlines() == ["srun got USR2", *(["scontrol requeue 7"] if is_requeued else [])]
