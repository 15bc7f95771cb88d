"""A real Slurm of several nodes on this one host: one munged, one slurmctld, one slurmd per node.

Nothing of it lies outside a private directory and the loopback address, and it does not touch an existing Slurm.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"

CONF = """
ClusterName=onehost
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={first_node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={home}/munge.socket
CryptoType=crypto/munge
StateSaveLocation={home}/state
SlurmdSpoolDir={home}/spool-%n
SlurmctldPidFile={home}/slurmctld.pid
SlurmdPidFile={home}/slurmd-%n.pid
SlurmctldLogFile={home}/slurmctld.log
SlurmdLogFile={home}/slurmd-%n.log
MpiDefault=none
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobRequeue=1
KillWait=10
SlurmdTimeout=10
SlurmctldTimeout=10
InactiveLimit=0
MinJobAge=600
ReturnToService=2
NodeName=n[1-{nodes}] NodeHostname={host} NodeAddr=127.0.0.1 Port={ports} CPUs=2 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class SlurmUnavailable(RuntimeError):
    """This host cannot run the Slurm of the tests; says why."""


def install() -> None:
    """Make sure that Slurm's programs are there.

    Installs them with apt-get only where `BESSEMER_INSTALL_SLURM=1` allows it, as CI does.

    Raises:
        SlurmUnavailable: not root, or the packages are neither here nor installable.
    """
    if os.geteuid() != 0:
        raise SlurmUnavailable("a private Slurm needs root")
    if all(shutil.which(program, path=PATH) for program in PROGRAMS):
        return
    if os.environ.get("BESSEMER_INSTALL_SLURM") != "1":
        raise SlurmUnavailable("not installed; BESSEMER_INSTALL_SLURM=1 lets the tests install Debian's packages")
    if not shutil.which("apt-get"):
        raise SlurmUnavailable("Slurm is not installed and there is no apt-get")
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update"], ["install", "-y", "--no-install-recommends", "slurm-wlm", "munge"]):
        done = subprocess.run(
            ["apt-get", "-qq", *arguments], env=environ, capture_output=True, text=True, timeout=600, check=False
        )
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise SlurmUnavailable(f"apt-get {arguments[0]} failed: {last}")


def _free_ports(count: int) -> int:
    # Consecutive, for the node list's short form.
    for first in range(12000, 14900, count):
        with contextlib.ExitStack() as stack:
            try:
                for port in range(first, first + count):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
    raise SlurmUnavailable("no free ports on the loopback address")


class SlurmHost:
    """The daemons, and a client for them.

    Args:
        home: an empty private directory; short, as a socket lies in it.
        nodes: how many nodes, named n1, n2, ...
    """

    def __init__(self, home: Path, nodes: int) -> None:
        self.home, self.nodes = home, nodes
        self.environ = {**os.environ, "PATH": PATH, "SLURM_CONF": str(home / "slurm.conf")}
        for name in [n for n in self.environ if n.startswith(("SLURM_", "SBATCH_")) and n != "SLURM_CONF"]:
            del self.environ[name]
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start everything and wait until all nodes are idle.

        Raises:
            SlurmUnavailable: if that does not happen within a minute; the logs are in `home`.
        """
        host = socket.gethostname().split(".")[0]
        first = _free_ports(self.nodes + 1)
        conf = CONF.format(
            home=self.home,
            host=host,
            port=first + self.nodes,
            first_node_port=first,
            nodes=self.nodes,
            ports=f"[{first}-{first + self.nodes - 1}]",
        )
        (self.home / "slurm.conf").write_text(conf)
        (self.home / "state").mkdir()
        key = self.home / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o600)
        self._spawn(
            "munged",
            *("--foreground", "--force", f"--key-file={key}", f"--socket={self.home}/munge.socket"),
            *(f"--pid-file={self.home}/munge.pid", f"--seed-file={self.home}/munge.seed"),
            f"--log-file={self.home}/munge.log",
        )
        self._until(lambda: (self.home / "munge.socket").exists(), 15, "munged to listen")
        self._spawn("slurmctld", "-D")
        for index in range(1, self.nodes + 1):
            self.start_node(f"n{index}")
        self.wait_until_idle()

    def wait_until_idle(self, limit_s: float = 60) -> None:
        """Wait until every node is up and without a job."""
        self._until(lambda: self.states().count("idle") == self.nodes, limit_s, "all nodes to be idle")

    def start_node(self, node: str) -> None:
        """Start the daemon of `node`."""
        (self.home / f"spool-{node}").mkdir(exist_ok=True)
        self._spawn(f"slurmd-{node}", "-D", "-N", node, program="slurmd")

    def kill_node(self, node: str) -> None:
        """The node dies: its daemon and everything that it started are killed, and say nothing any more."""
        daemon = self.daemons.pop(f"slurmd-{node}")
        steps = list(_steps_of(node, self.home))
        doomed = [daemon.pid, *(one.pid for step in steps for one in (step, *step.children(recursive=True)))]
        for pid in doomed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        daemon.wait(10)

    def stop(self) -> None:
        """End all jobs and daemons."""
        with contextlib.suppress(subprocess.SubprocessError, OSError):
            self.client("scancel", "--user=root", timeout=20, check=False)
            self.client("scancel", "--user=root", "--signal=KILL", "--full", timeout=20, check=False)
            self._until(lambda: not self.client("squeue", "-h").split(), 20, "the jobs to end")
        for daemon in reversed(self.daemons.values()):
            daemon.terminate()
        for daemon in self.daemons.values():
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait(10)

    def client(self, *command: str, timeout: float = 60, check: bool = True, cwd: Path | None = None) -> str:
        """The standard output of one of Slurm's commands."""
        done = subprocess.run(
            command, env=self.environ, capture_output=True, text=True, timeout=timeout, check=False, cwd=cwd
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(command)}: status {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout.strip()

    def states(self) -> list[str]:
        """The state of each node, as `sinfo` names it."""
        return self.client("sinfo", "-h", "-N", "-o", "%T", check=False).split()

    def submit(self, *arguments: str, cwd: Path, environ: Mapping[str, str]) -> Job:
        """Submit a batch script.

        Args:
            arguments: what comes after `sbatch --parsable`.
            cwd: where it is submitted from; relative output files lie there.
            environ: variables for the job on top of this process's.
        """
        names = {**self.environ, **environ}
        done = subprocess.run(
            ["sbatch", "--parsable", *arguments],
            env=names,
            capture_output=True,
            text=True,
            cwd=cwd,
            timeout=60,
            check=True,
        )
        return Job(self, int(done.stdout.strip().split(";")[0]))

    def _spawn(self, name: str, *arguments: str, program: str | None = None) -> None:
        executable = shutil.which(program or name, path=PATH)
        assert executable
        log = (self.home / f"{name}.out").open("ab")
        self.daemons[name] = subprocess.Popen(
            [executable, *arguments], env=self.environ, stdout=log, stderr=log, start_new_session=True
        )
        log.close()

    def _until(self, happened: object, limit_s: float, what: str) -> None:
        assert callable(happened)
        deadline = time.monotonic() + limit_s
        while not happened():
            if time.monotonic() > deadline:
                logs = "\n".join(p.read_text(errors="replace")[-600:] for p in sorted(self.home.glob("*.out")))
                raise SlurmUnavailable(f"waited {limit_s:.0f} s for {what}\n{logs}")
            time.sleep(0.25)


class Job:
    """One submitted job."""

    def __init__(self, host: SlurmHost, job_id: int) -> None:
        self.host, self.id = host, job_id

    def describe(self) -> dict[str, str]:
        """`scontrol show job` as a mapping."""
        text = self.host.client("scontrol", "--oneliner", "show", "job", str(self.id))
        return dict(part.split("=", 1) for part in text.split() if "=" in part)

    def wait_for(self, *states: str, limit_s: float) -> dict[str, str]:
        """Wait until the job is in one of `states`, return its description.

        Only for states that stay: the job may pass through others between two looks.
        """
        return self._wait(lambda job: job["JobState"] in states, limit_s, " or ".join(states))

    def wait_until_requeued(self, limit_s: float) -> dict[str, str]:
        """Wait until the job waits for its second or a later start, return its description."""
        return self._wait(lambda job: job["JobState"] == "PENDING" and job["Restarts"] != "0", limit_s, "requeued")

    def start_again(self, limit_s: float) -> None:
        """Drop the pause of two minutes that Slurm puts before a requeued job, and wait until it runs."""

        def runs(job: dict[str, str]) -> bool:
            # Again and again: refused as long as the nodes still clean up after the first start.
            if job["JobState"] == "PENDING":
                self.host.client("scontrol", "update", f"JobId={self.id}", "StartTime=now", check=False)
            return job["JobState"] == "RUNNING"

        self._wait(runs, limit_s, "running again")

    def _wait(self, reached: Callable[[dict[str, str]], bool], limit_s: float, what: str) -> dict[str, str]:
        deadline = time.monotonic() + limit_s
        while not reached(job := self.describe()):
            if time.monotonic() > deadline:
                raise AssertionError(f"job {self.id} is {job['JobState']} after {limit_s} s, not {what}: {job}")
            time.sleep(0.25)
        return job


def _steps_of(node: str, home: Path) -> Iterator[psutil.Process]:
    """The step daemons of a node: they leave the process tree of their slurmd, but hold its log open."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.name() == "slurmstepd" and f"{home}/slurmd-{node}.log" in _open_files(process.pid):
                yield process


def _open_files(pid: int) -> Iterator[str]:
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            yield str(link.readlink())
