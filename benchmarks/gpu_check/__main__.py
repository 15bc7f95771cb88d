"""Checks this repository on a machine with a GPU, in pieces of at most nine minutes that need no network.

    python -m benchmarks.gpu_check [PIECE ...] [--dry-run]

Runs the pieces that are named, or all, and writes what came of each into benchmarks/results/gpu.json, beside what is
there of the others. Status 1 if one failed. `--tiny` tries the pieces on a CPU with a tiny model, into another file.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.gpu_check.commands import Commands, PieceFailed
from benchmarks.gpu_check.pieces import LIMIT_S, PIECES, Settings
from configs.errors import ConfigError, MachineError, UserError, nearest, report

RESULTS = Path(__file__).resolve().parents[1] / "results" / "gpu.json"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns its status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], prog="python -m benchmarks.gpu_check")
    parser.add_argument("pieces", nargs="*", metavar="PIECE", help=f"of {', '.join(PIECES)}; none: all")
    parser.add_argument("--output", type=Path, default=RESULTS, help="the JSON file (%(default)s)")
    parser.add_argument("--dry-run", action="store_true", help="show the pieces and stop")
    parser.add_argument("--tiny", action="store_true", help="try the pieces on a CPU, into another --output")
    options = parser.parse_args(arguments)
    try:
        names = chosen(options.pieces, tiny=options.tiny)
        if options.dry_run:
            for name in names:
                print(f"{name:<10} {PIECES[name].what} (at most {LIMIT_S // 60} minutes)")
            return 0
        if options.tiny and options.output.resolve() == RESULTS:
            raise ConfigError("is the file of the GPU's figures", where="--output", expected="another, with --tiny")
        results = read_results(options.output)
        log = options.output.with_suffix(".log")
        where = machine(log, tiny=options.tiny)
    except UserError as error:
        report(error)
        return int(error.status)
    failed = []
    for name in names:
        results[name] = run_piece(name, where, tiny=options.tiny, log=log)
        # After each: a later one may be cut off.
        write_results(options.output, results)
        print(f"{name}: {results[name]['status']} in {results[name]['seconds']:.0f} s", flush=True)
        if results[name]["status"] == "failed":
            failed.append(name)
            print(results[name]["error"], file=sys.stderr, flush=True)
    print(f"{len(names) - len(failed)} of {len(names)} pieces passed; {options.output}", flush=True)
    return 1 if failed else 0


def chosen(names: list[str], *, tiny: bool) -> list[str]:
    """The pieces to run.

    Raises:
        ConfigError: there is none of that name, or it needs a GPU.
    """
    for name in names:
        if name not in PIECES:
            raise ConfigError(
                f"there is no piece {name!r}", where="PIECE", expected=", ".join(PIECES), nearest=nearest(name, PIECES)
            )
        if tiny and PIECES[name].needs_gpu:
            raise ConfigError(f"{name} needs a GPU", where="PIECE", expected="another piece, or no --tiny")
    return names or [name for name, piece in PIECES.items() if not (tiny and piece.needs_gpu)]


def machine(log: Path, *, tiny: bool) -> dict[str, Any]:
    """What the figures depend on; see `benchmarks/gpu_check/machine.py`.

    Raises:
        MachineError: there is no GPU, or no torch that works.
    """
    try:
        found = Commands(LIMIT_S, log).run_json("-m", "benchmarks.gpu_check.machine")
    except PieceFailed as failure:
        raise MachineError(f"cannot be asked\n{failure}", where="this machine", expected="a torch that works") from None
    if tiny:
        return found | {"device": "cpu, tiny: the figures mean nothing"}
    if found["device"] is None:
        raise MachineError("shows no GPU", where="this machine", expected="a GPU, or --tiny to try the pieces without")
    return found


def run_piece(name: str, where: dict[str, Any], *, tiny: bool, log: Path) -> dict[str, Any]:
    """One piece; its record, whether it passed or not."""
    started_s, date = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    commands = Commands(LIMIT_S, log)
    record: dict[str, Any] = {"what": PIECES[name].what, "status": "passed"}
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as scratch:
        try:
            record["found"] = PIECES[name].run(Settings(commands, Path(scratch), tiny))
        except PieceFailed as failure:
            record |= {"status": "failed", "error": str(failure), "found": failure.found}
        except Exception:  # time on a GPU is dear: what breaks one piece leaves the others
            record |= {"status": "failed", "error": traceback.format_exc()}
        ran = [command.replace(scratch, "SCRATCH") for command in commands.ran]
    return record | {"date": date, "seconds": round(time.monotonic() - started_s, 1), "where": where, "commands": ran}


def read_results(path: Path) -> dict[str, Any]:
    """What earlier calls wrote, by piece.

    Raises:
        ConfigError: the file is none of ours.
    """
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot be read ({error})", where=path, expected="a file that this command wrote") from None
    if not isinstance(found, dict):
        raise ConfigError(f"holds a {type(found).__name__}", where=path, expected="a file that this command wrote")
    return found


def write_results(path: Path, results: dict[str, Any]) -> None:
    """Replace the file at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ordered = {name: results[name] for name in [*PIECES, *results] if name in results}
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(ordered, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)


if __name__ == "__main__":
    sys.exit(main())
