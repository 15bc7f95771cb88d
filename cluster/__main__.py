"""`python -m cluster preflight`: can a job run on these nodes?"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence

from cluster.environment import whole_number
from configs.errors import ExitStatus, MachineError, guarded
from configs.paths import output_path


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m cluster", description="Tools for runs on many machines.")
    commands = parser.add_subparsers(dest="command", required=True)
    preflight = commands.add_parser(
        "preflight",
        help="check every node of a Slurm allocation, or this machine",
        description="Check python and package versions, devices, free disk, names and the port on every node of the "
        "Slurm allocation that this runs in, or on this machine; print a table; end with status 2 if a job would fail.",
    )
    preflight.add_argument(
        "--output", type=output_path, default="runs", help="folder that runs are written to (default: runs)"
    )
    preflight.add_argument("--port", type=_port, help="a port that has to be free, such as MASTER_PORT")
    preflight.add_argument("--min-free-gib", type=_gib, default=1.0, help="free space wanted there (default: 1)")
    preflight.add_argument("--this-node", action="store_true", help="only this machine, as one line of JSON")
    return parser.parse_args(arguments)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 0 < int(text) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, expected 1 to 65535")
    return int(text)


def _gib(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < 2**33:
        raise argparse.ArgumentTypeError(f"{text!r} is no size, expected GiB, 0 or more")
    return value


def main() -> None:
    """Run one command."""
    arguments = sys.argv[1:]
    options = parse(arguments)
    from cluster import preflight  # after the parser: --help needs none of it

    single = whole_number(os.environ, "SLURM_JOB_NUM_NODES", 1) == 1
    if options.this_node or single:
        mine = preflight.probe(options.output, options.port, int(options.min_free_gib * 2**30))
        if options.this_node:
            print(mine.to_json(), flush=True)
            return
        reports = [mine]
    else:
        reports = preflight.probe_all(arguments[1:], os.environ)
    print(preflight.table(reports), flush=True)
    problems = preflight.failures(reports)
    if problems:
        expected = "all checks to pass"
        raise MachineError("\n".join(problems), where="preflight", expected=expected, status=ExitStatus.USER_ERROR)


if __name__ == "__main__":
    guarded(main)
