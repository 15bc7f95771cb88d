"""Runs the project's own commands, as anybody would, with what they say in a file."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from configs.errors import MachineError

ROOT = Path(__file__).parents[2]
_SHOWN_LINES = 12


def run_command(words: Sequence[str], folder: Path) -> None:
    """Run `python WORDS` at the root of the project; the output is added to `log.txt` in `folder`.

    Raises:
        MachineError: it fails; with the end of what it said.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, *words]
    print(f"# python {' '.join(words)}", file=sys.stderr, flush=True)
    log = folder / "log.txt"
    with log.open("ab") as stream:
        environ = os.environ | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
        done = subprocess.run(command, cwd=ROOT, stdout=stream, stderr=subprocess.STDOUT, env=environ, check=False)
    if done.returncode:
        said = log.read_text("utf-8", "replace").splitlines()[-_SHOWN_LINES:]
        raise MachineError(
            "\n".join([f"ended with status {done.returncode}", *said]), where=" ".join(words[:3]), expected=f"see {log}"
        )
