"""Checks every node of a job before it starts: same software, room on disk, devices, names and ports.

Inside a Slurm allocation one probe per node runs under `srun`; elsewhere this machine alone is checked.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cluster.rendezvous import port_is_free
from configs.errors import MachineError

PACKAGES = ("torch", "deepspeed", "megatron-core", "numpy")
SRUN_LIMIT_S = 300


@dataclass(frozen=True)
class Finding:
    """One thing seen on one node.

    Attributes:
        what: name of the check, a row of the table.
        value: what was seen, printable.
        ok: whether a job can run with it.
        alike: whether all nodes have to show the same value.
    """

    what: str
    value: str
    ok: bool
    alike: bool = False


@dataclass(frozen=True)
class NodeReport:
    """All findings of one node."""

    node: str
    findings: tuple[Finding, ...]

    @classmethod
    def from_json(cls, line: str) -> NodeReport:
        """Read what `to_json` wrote."""
        raw = json.loads(line)
        return cls(raw["node"], tuple(Finding(**finding) for finding in raw["findings"]))

    def to_json(self) -> str:
        """The report as one line."""
        return json.dumps(asdict(self))


def probe(output: Path, port: int | None, min_free_bytes: int) -> NodeReport:
    """Look at this machine.

    Args:
        output: folder that runs are written to; it, or the nearest folder above that exists, has to be writable.
        port: the port that has to be free here, or None.
        min_free_bytes: what `output` has to have free.
    """
    findings = [
        Finding("python", platform.python_version(), sys.version_info >= (3, 11), alike=True),
        *(_package(name) for name in PACKAGES),
        *_devices(),
        *_disk(output, min_free_bytes),
        _name_resolves(),
    ]
    if port is not None:
        free = port_is_free(port)
        findings.append(Finding(f"port {port}", "free" if free else "in use", free))
    return NodeReport(os.environ.get("SLURMD_NODENAME") or socket.gethostname(), tuple(findings))


def _package(name: str) -> Finding:
    try:
        return Finding(name, importlib.metadata.version(name), True, alike=True)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "not installed", False, alike=True)


def _devices() -> list[Finding]:
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a shared library of it does not load
        return [Finding("import torch", str(error).splitlines()[0], False)]
    gpus = torch.cuda.device_count()
    kind = torch.cuda.get_device_name(0) if gpus else "CPU only"
    return [Finding("import torch", "yes", True), Finding("devices", f"{gpus} x {kind}" if gpus else kind, True, True)]


def _disk(output: Path, min_free_bytes: int) -> list[Finding]:
    existing = next(p for p in [output.absolute(), *output.absolute().parents] if p.is_dir())
    free_bytes = shutil.disk_usage(existing).free
    writable = os.access(existing, os.W_OK | os.X_OK)
    return [
        Finding(f"free in {output}", f"{free_bytes / 2**30:.1f} GiB", free_bytes >= min_free_bytes),
        Finding(f"write to {output}", "yes" if writable else "no permission", writable),
    ]


def _name_resolves() -> Finding:
    name = socket.gethostname()
    try:
        return Finding("own name resolves", socket.gethostbyname(name), True)
    except OSError as error:
        return Finding("own name resolves", f"{name}: {error.strerror or error}", False)


def probe_all(arguments: Sequence[str], environ: Mapping[str, str]) -> list[NodeReport]:
    """Run the probe once on each node of the Slurm allocation that this process is in.

    Args:
        arguments: those of `python -m cluster preflight`, passed on.
        environ: tells the number of nodes.

    Raises:
        MachineError: if a node gives no report; says what `srun` said.
    """
    nodes = environ["SLURM_JOB_NUM_NODES"]
    command = ["srun", f"--nodes={nodes}", "--ntasks-per-node=1", "--overlap", sys.executable, "-m", "cluster"]
    command += ["preflight", "--this-node", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SRUN_LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        raise MachineError(f"gave no answer from all nodes in {SRUN_LIMIT_S} s", where="srun") from None
    reports = [NodeReport.from_json(line) for line in done.stdout.splitlines() if line.startswith('{"node"')]
    if len(reports) != int(nodes):
        raise MachineError(f"{len(reports)} of {nodes} nodes reported: {done.stderr.strip()}", where="srun")
    return sorted(reports, key=lambda report: report.node)


def failures(reports: Sequence[NodeReport]) -> list[str]:
    """What keeps a job from running on these nodes, a sentence each; empty when nothing does."""
    found = [f"{r.node}: {f.what}: {f.value}" for r in reports for f in r.findings if not f.ok]
    for what in dict.fromkeys(f.what for r in reports for f in r.findings if f.alike):
        seen: dict[str, list[str]] = {}
        for report in reports:
            value = next((f.value for f in report.findings if f.what == what), "nothing")
            seen.setdefault(value, []).append(report.node)
        if len(seen) > 1:
            found.append(f"{what} differs: " + "; ".join(f"{value} on {', '.join(n)}" for value, n in seen.items()))
    return found


def table(reports: Sequence[NodeReport]) -> str:
    """One row per check, one column per node."""
    rows = [["", *(report.node for report in reports)]]
    for what in dict.fromkeys(f.what for report in reports for f in report.findings):
        row = [what]
        for report in reports:
            finding = next((f for f in report.findings if f.what == what), None)
            row.append("-" if finding is None else finding.value if finding.ok else f"! {finding.value}")
        rows.append(row)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])
