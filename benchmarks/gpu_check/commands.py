"""Runs the commands of a piece, each until the piece's time is over."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TAIL_CHARACTERS = 3000


class PieceFailed(Exception):
    """A command of a piece did not do what it should; says which, and the end of what it printed.

    Attributes:
        found: the figures that there are all the same.
    """

    def __init__(self, message: str, found: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.found = found or {}


class Commands:
    """Runs the commands of one piece.

    Args:
        limit_s: when the piece has to be over.
        log: where their output goes as well.

    Attributes:
        ran: the commands, as one would type them.
    """

    def __init__(self, limit_s: float, log: Path) -> None:
        self.ran: list[str] = []
        self._ends_s = time.monotonic() + limit_s
        self._log = log

    def run(self, *arguments: str, allowed: Sequence[int] = (0,)) -> str:
        """Run Python with `arguments` from the root of the repository; returns what it printed.

        Raises:
            PieceFailed: another status than those allowed, or the piece's time is over.
        """
        command = shlex.join(["python", *arguments])
        self.ran.append(command)
        with subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            # Nothing may look for a network.
            env=os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as process:
            try:
                output, _ = process.communicate(timeout=max(0.0, self._ends_s - time.monotonic()))
            except BaseException as error:
                os.killpg(process.pid, signal.SIGKILL)
                output, _ = process.communicate()
                self._keep(command, output)
                if not isinstance(error, subprocess.TimeoutExpired):
                    raise
                raise PieceFailed(f"{command}: the piece's time is over\n{output[-TAIL_CHARACTERS:]}") from None
        self._keep(command, output)
        if process.returncode not in allowed:
            raise PieceFailed(f"{command}: status {process.returncode}\n{output[-TAIL_CHARACTERS:]}")
        return output

    def run_json(self, *arguments: str) -> dict[str, Any]:
        """The same, of a command whose last line is JSON.

        Raises:
            PieceFailed: as `run`, or there is no such line.
        """
        output = self.run(*arguments)
        lines = [line for line in output.splitlines() if line.startswith("{")]
        if not lines:
            raise PieceFailed(f"{self.ran[-1]}: printed no figures\n{output[-TAIL_CHARACTERS:]}")
        found: dict[str, Any] = json.loads(lines[-1])
        return found

    def _keep(self, command: str, output: str) -> None:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("a", encoding="utf-8") as log:
            log.write(f"$ {command}\n{output}\n")
