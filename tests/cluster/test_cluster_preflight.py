from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from slurm_host import SlurmHost

from cluster.preflight import Finding, NodeReport, failures, probe, table

ROOT = Path(__file__).parents[2]


def report(node: str, torch: str = "2.13.0", disk_ok: bool = True) -> NodeReport:
    return NodeReport(node, (Finding("torch", torch, True, alike=True), Finding("free in runs", "9 GiB", disk_ok)))


def preflight(*arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    command = [sys.executable, "-m", "cluster", "preflight", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False)


def test_nodes_that_are_alike_pass() -> None:
    assert failures([report("n1"), report("n2")]) == []


def test_a_bad_node_and_a_difference_are_named() -> None:
    found = failures([report("n1"), report("n2", torch="2.11.0"), report("n3", disk_ok=False)])
    assert found == ["n3: free in runs: 9 GiB", "torch differs: 2.13.0 on n1, n3; 2.11.0 on n2"]


def test_table_has_a_row_per_check_and_marks_failures() -> None:
    lines = table([report("n1"), report("n2", disk_ok=False)]).splitlines()
    assert [line.split() for line in lines if "-" * 9 not in line] == [
        ["n1", "n2"],
        ["torch", "2.13.0", "2.13.0"],
        ["free", "in", "runs", "9", "GiB", "!", "9", "GiB"],
    ]


def test_a_report_survives_the_way_between_nodes() -> None:
    assert NodeReport.from_json(report("n1").to_json()) == report("n1")


@pytest.mark.parametrize(
    ("option", "value"), [("--port", "99999999"), ("--port", "0"), ("--min-free-gib", "nan"), ("--min-free-gib", "-1")]
)
def test_a_number_that_cannot_be_is_one_message(option: str, value: str) -> None:
    done = preflight(f"{option}={value}")
    assert done.returncode == 2 and option in done.stderr and repr(value) in done.stderr
    assert "Traceback" not in done.stderr


def test_probe_sees_a_full_disk_and_a_taken_port(tmp_path: Path) -> None:
    with socket.socket() as server:
        server.bind(("", 0))
        server.listen()
        port = server.getsockname()[1]
        seen = {f.what: f for f in probe(tmp_path / "new" / "runs", port, min_free_bytes=2**60).findings}
    assert not seen[f"free in {tmp_path}/new/runs"].ok
    assert seen[f"write to {tmp_path}/new/runs"].ok
    assert (seen[f"port {port}"].ok, seen[f"port {port}"].value) == (False, "in use")
    assert seen["import torch"].ok and seen["torch"].alike


@pytest.mark.slow
def test_command_fails_when_a_check_does(tmp_path: Path) -> None:
    bad = preflight("--output", str(tmp_path), "--min-free-gib", "1e9")
    assert bad.returncode == 2
    assert "megatron-core" in bad.stdout and "! " in bad.stdout
    assert bad.stderr.startswith("error: preflight:") and "Traceback" not in bad.stderr


@pytest.mark.slow
@pytest.mark.slurm
def test_every_node_of_an_allocation_reports(slurm: SlurmHost, tmp_path: Path) -> None:
    command = ["salloc", "--quiet", "--nodes=3", sys.executable, "-m", "cluster", "preflight"]
    printed = slurm.client(*command, "--output", str(tmp_path), timeout=120, cwd=ROOT)
    assert printed.splitlines()[0].split() == ["n1", "n2", "n3"]
    row = next(line for line in printed.splitlines() if line.startswith("deepspeed"))
    assert len(set(row.split()[1:])) == 1 and len(row.split()) == 4
