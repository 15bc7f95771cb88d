"""Starts and watches the ranks of one node: `python -m cluster.node_launcher ENTRY ARGUMENTS...`.

One of these runs per node, started by `srun`. Why not torchrun or the deepspeed launcher: both replace the ranks'
exit status or lose signals, and a batch job decides by the status whether it goes on (see `docs/cluster.md`).

- A stop signal (USR2, USR1, TERM, INT, HUP) goes on to every rank once; the ranks save and end with status 75.
- When a rank fails, the others of this node and those of all other nodes are ended, not left in a collective that
  its dead peer never joins.
- The status is the most telling one of its own ranks; a node that was ended for another's failure gives 1, so that
  srun, which reports the highest status, reports the failure's.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType

from cluster.environment import whole_number
from configs.errors import ConfigError, ExitStatus, MachineError, guarded

STOP_SIGNALS = (signal.SIGUSR2, signal.SIGUSR1, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
PEER_FAILED = signal.SIGURG
"""Sent to all tasks of the job step when a rank of any node failed; the ranks, which get it too, ignore it."""
SETTLE_S = 3.0
"""How long other ranks may end by themselves after a failure: the one that knows why may be the slower one."""
POLL_S = 0.1
START_S = 10.0
"""How long after its own start a launcher takes it that others still start, who miss what they are told."""
TELL_AGAIN_S = 1.0
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class NodePlace:
    """Which ranks this node runs.

    Attributes:
        node: index of this node, 0 to `num_nodes` - 1.
        num_nodes: how many nodes the job has.
        ranks_per_node: how many ranks every node runs.
        step: the job step, as `JOB.STEP`, whose tasks are told of a failure; None outside Slurm.
    """

    node: int
    num_nodes: int
    ranks_per_node: int
    step: str | None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> NodePlace:
        """Read Slurm's variables; ranks per node are `BESSEMER_RANKS_PER_NODE`, else the node's GPUs, else 1.

        Raises:
            ConfigError: if the number of ranks is not a positive number, or another one is none.
        """
        ranks = environ.get("BESSEMER_RANKS_PER_NODE") or environ.get("SLURM_GPUS_ON_NODE") or "1"
        if not ranks.isdecimal() or int(ranks) < 1:
            raise ConfigError(f"{ranks!r} is no number of ranks", where="BESSEMER_RANKS_PER_NODE", expected="1 or more")
        job, step = environ.get("SLURM_JOB_ID"), environ.get("SLURM_STEP_ID")
        return cls(
            node=whole_number(environ, "SLURM_NODEID", 0),
            num_nodes=whole_number(environ, "SLURM_STEP_NUM_NODES", 1),
            ranks_per_node=int(ranks),
            step=f"{job}.{step}" if job and step else None,
        )

    def rank_environment(self, local_rank: int, environ: Mapping[str, str]) -> dict[str, str]:
        """The environment of one rank: `environ` and the variables that torch's `env://` rendezvous reads."""
        cores = whole_number(environ, "SLURM_CPUS_ON_NODE", os.cpu_count() or 1)
        return {
            "OMP_NUM_THREADS": str(max(1, cores // self.ranks_per_node)),
            **environ,
            "RANK": str(self.node * self.ranks_per_node + local_rank),
            "LOCAL_RANK": str(local_rank),
            "WORLD_SIZE": str(self.num_nodes * self.ranks_per_node),
            "LOCAL_WORLD_SIZE": str(self.ranks_per_node),
            "LOCAL_SIZE": str(self.ranks_per_node),  # DeepSpeed's name, its CPU accelerator counts devices by it
        }


def verdict(statuses: Iterable[int]) -> int:
    """One status for several ranks, given in the order in which they ended.

    What a user has to act on (2, 3) comes before everything: its peers fail of a closed connection, sometimes sooner.
    Then the first failure, then 75 (saved), then 0.
    """
    ended = list(statuses)
    for telling in (ExitStatus.USER_ERROR, ExitStatus.DIVERGED):
        if telling in ended:
            return int(telling)
    failed = [s for s in ended if s not in (ExitStatus.OK, ExitStatus.INTERRUPTED)]
    if failed:
        return failed[0]
    return int(ExitStatus.INTERRUPTED if ExitStatus.INTERRUPTED in ended else ExitStatus.OK)


@dataclass
class NodeLauncher:
    """The ranks of one node, from start to verdict."""

    place: NodePlace
    command: Sequence[str]
    ranks: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    ended: dict[int, int] = field(default_factory=dict)
    forwarded: set[int] = field(default_factory=set)
    peer_failed: bool = False
    started_s: float = field(default_factory=time.monotonic)

    def run(self) -> int:
        """Start the ranks, wait for them, return the status to exit with."""
        # Ranks start with the default handlers, and a signal waits until all of them exist.
        handled = {*STOP_SIGNALS, PEER_FAILED}
        signal.pthread_sigmask(signal.SIG_BLOCK, handled)
        for number in STOP_SIGNALS:
            signal.signal(number, self._forward)
        signal.signal(PEER_FAILED, self._on_peer_failure)
        self._start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, handled)
        while len(self.ended) < len(self.ranks) and not self.peer_failed and not self._failures():
            self._collect()
            time.sleep(POLL_S)
        if self._failures():
            return self._end_after_failure()
        if self.peer_failed:
            self._kill()
            return int(ExitStatus.BUG)
        return verdict(self.ended.values())

    def _start(self) -> None:
        parent = os.getpid()

        def prepare() -> None:
            # Should this launcher be killed, no rank stays behind with the node's devices.
            if sys.platform == "linux":
                ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {*STOP_SIGNALS, PEER_FAILED})

        for local_rank in range(self.place.ranks_per_node):
            environ = self.place.rank_environment(local_rank, os.environ)
            self.ranks[local_rank] = subprocess.Popen(self.command, env=environ, preexec_fn=prepare)

    def _collect(self) -> None:
        for local_rank, process in self.ranks.items():
            status = process.poll()
            if status is not None and local_rank not in self.ended:
                if -status in self.forwarded:
                    # It did not listen yet: a rank that still starts has nothing to lose.
                    status = int(ExitStatus.INTERRUPTED)
                self.ended[local_rank] = status if status >= 0 else 128 - status

    def _failures(self) -> list[int]:
        return [rank for rank, s in self.ended.items() if s not in (ExitStatus.OK, ExitStatus.INTERRUPTED)]

    def _end_after_failure(self) -> int:
        deadline = time.monotonic() + SETTLE_S
        while time.monotonic() < deadline and len(self.ended) < len(self.ranks):
            self._collect()
            time.sleep(POLL_S)
        result = verdict(self.ended.values())  # before the kill: only ranks that ended by themselves count
        local_rank = next(rank for rank, status in self.ended.items() if status == result)
        rank = self.place.node * self.place.ranks_per_node + local_rank
        self._kill()
        if not self.peer_failed:
            others = " on all nodes" if self.place.num_nodes > 1 else ""
            print(f"rank {rank} ended with status {result}; ending the others{others}", file=sys.stderr, flush=True)
            self._tell_peers()
        elif result not in (ExitStatus.USER_ERROR, ExitStatus.DIVERGED):
            # Another node failed before, and these ranks of a closed connection.
            return int(ExitStatus.BUG)
        return result

    def _tell_peers(self) -> None:
        if self.place.step is None or self.place.num_nodes == 1:
            return
        signal.signal(PEER_FAILED, signal.SIG_IGN)
        command = ["scancel", f"--signal={int(PEER_FAILED)}", self.place.step]
        told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        while told.returncode == 0 and time.monotonic() - self.started_s < START_S:
            # A launcher that does not listen yet loses the signal, and its ranks would wait for ever.
            time.sleep(TELL_AGAIN_S)
            told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            if told.returncode != 0:
                return  # the step is over
        if told.returncode != 0:
            print(f"the other nodes could not be told: {told.stderr.strip()}", file=sys.stderr, flush=True)

    def _forward(self, number: int, frame: FrameType | None) -> None:
        # Slurm may signal the launcher and its ranks both, and more than once.
        if number in self.forwarded:
            return
        self.forwarded.add(number)
        for process in self.ranks.values():
            process.send_signal(number)

    def _on_peer_failure(self, number: int, frame: FrameType | None) -> None:
        self.peer_failed = True

    def _kill(self) -> None:
        for process in self.ranks.values():
            process.kill()
        for process in self.ranks.values():
            process.wait()


def entry_command(entry: str, arguments: Sequence[str]) -> list[str]:
    """The argv of a rank: `entry` is a Python file, or a module to run with `-m`.

    Raises:
        MachineError: if `entry` looks like a file and is none.
    """
    if not entry.endswith(".py"):
        return [sys.executable, "-m", entry, *arguments]
    if not os.path.isfile(entry):  # noqa: PTH113 - pathlib would double the start-up time
        raise MachineError("there is no such file", where=entry, expected="a script, seen from the repository's root")
    return [sys.executable, entry, *arguments]


def main() -> None:
    """Run the ranks of this node and exit with their verdict."""
    if len(sys.argv) < 2:
        raise ConfigError("no entry given", where="node_launcher", expected="ENTRY [ARGUMENTS...]")
    launcher = NodeLauncher(NodePlace.from_environment(os.environ), entry_command(sys.argv[1], sys.argv[2:]))
    raise SystemExit(launcher.run())


if __name__ == "__main__":
    guarded(main)
