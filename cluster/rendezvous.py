"""Where the ranks of a Slurm job meet: the first node's address and a free port, the same for every node.

`python -m cluster.rendezvous` runs on the job's first node, before any rank, and prints `ADDRESS PORT`.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Mapping

from cluster.environment import whole_number
from configs.errors import ConfigError, MachineError, guarded

# Below every usual range of ports that the kernel hands out by itself (Linux: 32768 and up).
FIRST_PORT = 15000
NUM_PORTS = 15000
TRIES = 64


def job_port(job_id: int, restart: int) -> int:
    """The port that a job tries first: jobs on one host, and starts of one job, begin at different ones."""
    return FIRST_PORT + (job_id * 97 + restart) % NUM_PORTS


def port_is_free(port: int) -> bool:
    """Whether a server on this machine could listen on `port` on all its addresses now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def free_port(first: int, tries: int = TRIES) -> int:
    """The first free port of this machine from `first` on.

    Raises:
        MachineError: if `tries` ports in a row are taken.
    """
    for offset in range(tries):
        port = FIRST_PORT + (first - FIRST_PORT + offset) % NUM_PORTS
        if port_is_free(port):
            return port
    raise MachineError(
        f"no free port among {tries}", where=f"port {first}", expected="a port to meet on, or set MASTER_PORT"
    )


def first_node_address(environ: Mapping[str, str]) -> str:
    """The address of the first node of the job, as Slurm knows it; its name where Slurm tells no address.

    Raises:
        ConfigError: outside a Slurm job.
        MachineError: if Slurm does not answer.
    """
    nodes = environ.get("SLURM_JOB_NODELIST")
    if not nodes:
        raise ConfigError("is not set", where="SLURM_JOB_NODELIST", expected="to run inside a Slurm job")
    first = _ask_slurm("show", "hostnames", nodes).split()[0]
    # A node's name need not resolve, its NodeAddr does.
    address = re.search(r"\bNodeAddr=(\S+)", _ask_slurm("--oneliner", "show", "node", first))
    return address.group(1) if address else first


def _ask_slurm(*arguments: str) -> str:
    command = ["scontrol", *arguments]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except FileNotFoundError:
        raise MachineError("is not on the PATH", where="scontrol", expected="Slurm's commands on the node") from None
    except subprocess.TimeoutExpired:
        raise MachineError("did not answer within 60 s", where=" ".join(command)) from None
    except subprocess.CalledProcessError as error:
        raise MachineError(f"failed: {error.stderr.strip()}", where=" ".join(command)) from None
    return answer.stdout


def choose(environ: Mapping[str, str]) -> tuple[str, int]:
    """Address and port for this start of this job; what `MASTER_ADDR` and `MASTER_PORT` say wins.

    Raises:
        ConfigError: outside a Slurm job, or a `MASTER_PORT` that is no port.
        MachineError: a `MASTER_PORT` that is taken, no free port, or Slurm not answering.
    """
    address = environ.get("MASTER_ADDR") or first_node_address(environ)
    wanted = environ.get("MASTER_PORT")
    if wanted is None:
        job, restart = (whole_number(environ, f"SLURM_{name}", 0) for name in ("JOB_ID", "RESTART_COUNT"))
        return address, free_port(job_port(job, restart))
    if not wanted.isdecimal() or not 0 < int(wanted) < 65536:
        raise ConfigError(f"{wanted!r} is not a port", where="MASTER_PORT", expected="1 to 65535")
    if not port_is_free(int(wanted)):
        raise MachineError("is in use", where=f"port {wanted} (MASTER_PORT)", expected="a free port")
    return address, int(wanted)


def main() -> None:
    """Print `ADDRESS PORT` for this job."""
    address, port = choose(os.environ)
    print(address, port)


if __name__ == "__main__":
    guarded(main)
