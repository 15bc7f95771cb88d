from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.rendezvous import FIRST_PORT, NUM_PORTS, choose, free_port, job_port, port_is_free
from configs.errors import ConfigError, MachineError

ROOT = Path(__file__).parents[2]
SCONTROL = """#!/bin/sh
case "$*" in
"show hostnames n[3-4]") echo n3; echo n4 ;;
"--oneliner show node n3") echo "NodeName=n3 Arch=x86_64 NodeAddr=10.1.2.3 NodeHostName=n3 Port=6818" ;;
*) echo "unexpected: $*" >&2; exit 1 ;;
esac
"""


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "scontrol"
    program.write_text(SCONTROL)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return program


def test_jobs_and_restarts_begin_at_different_ports_below_the_kernels() -> None:
    ports = [job_port(job, restart) for job in range(1, 200) for restart in range(3)]
    assert len(set(ports)) == len(ports)
    assert min(ports) >= FIRST_PORT and max(ports) < FIRST_PORT + NUM_PORTS <= 32768


def test_a_taken_port_is_passed_over() -> None:
    with socket.socket() as server:
        server.bind(("", free_port(FIRST_PORT + 11)))
        server.listen()
        taken = server.getsockname()[1]
        assert not port_is_free(taken)
        assert free_port(taken) != taken
        with pytest.raises(MachineError, match="no free port among 1"):
            free_port(taken, tries=1)
    assert port_is_free(taken)


def test_the_first_nodes_address_is_slurms(scontrol: Path) -> None:
    environ = {"SLURM_JOB_ID": "77", "SLURM_JOB_NODELIST": "n[3-4]"}
    address, port = choose(environ)
    assert address == "10.1.2.3"
    assert job_port(77, 0) <= port < job_port(77, 0) + 64


def test_what_the_user_sets_wins(scontrol: Path) -> None:
    port = free_port(FIRST_PORT + 500)
    assert choose({"MASTER_ADDR": "login1", "MASTER_PORT": str(port)}) == ("login1", port)


def test_a_chosen_port_in_use_is_named(scontrol: Path) -> None:
    with socket.socket() as server:
        server.bind(("", 0))
        server.listen()
        port = server.getsockname()[1]
        with pytest.raises(MachineError, match=rf"port {port} \(MASTER_PORT\): is in use"):
            choose({"MASTER_ADDR": "x", "MASTER_PORT": str(port)})
    with pytest.raises(ConfigError, match="'http' is not a port"):
        choose({"MASTER_ADDR": "x", "MASTER_PORT": "http"})


def test_outside_slurm_it_says_so_and_slurms_own_message_comes_through(scontrol: Path) -> None:
    with pytest.raises(ConfigError, match="SLURM_JOB_NODELIST: is not set"):
        choose({})
    with pytest.raises(MachineError, match=r"scontrol show hostnames n\[9: failed: unexpected"):
        choose({"SLURM_JOB_NODELIST": "n[9"})


def job_script(tmp_path: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "BESSEMER_"))}
    command = ["bash", str(ROOT / "cluster/job.sh"), "a=1"]
    return subprocess.run(
        command, env={**clean, **environ}, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
    )


def test_job_script_refuses_what_cannot_work(tmp_path: Path) -> None:
    outside = job_script(tmp_path)
    assert (outside.returncode, outside.stderr) == (
        2,
        "error: this is a batch script; submit it with: sbatch cluster/job.sh a=1\n",
    )
    elsewhere = job_script(tmp_path, SLURM_JOB_ID="1")
    assert elsewhere.returncode == 2 and "is not the repository" in elsewhere.stderr
    environ = {"SLURM_JOB_ID": "1", "BESSEMER_HOME": str(ROOT)}
    no_venv = job_script(tmp_path, **environ, BESSEMER_VENV=str(tmp_path / "none"))
    assert no_venv.returncode == 2 and f"no Python in {tmp_path / 'none'}" in no_venv.stderr
    no_nodes = job_script(tmp_path, **environ, BESSEMER_VENV=sys.prefix)
    assert no_nodes.returncode == 2 and "SLURM_JOB_NODELIST: is not set" in no_nodes.stderr
