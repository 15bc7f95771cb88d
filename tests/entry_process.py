"""A command of ours in a process that has imported torch already: what `python ARGUMENTS` does, sooner.

    done = run_entry(["pretrain/main.py", "--config", "gpt-tiny"], cwd=ROOT, timeout_s=60)

Starting Python, torch, DeepSpeed and megatron-core takes most of the time of a small command. The server of
`tests/distributed.py` has them, so the command runs in a fork of it. What is about the start itself belongs into a
process of its own.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import CompletedProcess

from tests.distributed import run_ranks

OF_LAUNCHERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def run_entry(
    arguments: Sequence[str],
    *,
    cwd: Path,
    preload: Sequence[str],
    environment: Mapping[str, str] | None = None,
    timeout_s: float = 180.0,
) -> CompletedProcess[str]:
    """Run `python ARGUMENTS` in a fork: a script and its arguments, or `-m` and a module.

    Args:
        arguments: what stands after `python`.
        cwd: where it runs, and where its modules are looked for first.
        preload: modules that the server imports before it forks.
        environment: more variables.
        timeout_s: limit, in seconds.

    Raises:
        RankFailure: the time ran out.
    """
    (found,) = run_ranks(
        _in_child, 1, list(arguments), str(cwd), dict(environment or {}), process_group=False, preload=preload,
        timeout_s=timeout_s,
    )  # fmt: skip
    status, output, errors = found
    return CompletedProcess([sys.executable, *arguments], status, output, errors)


def _in_child(arguments: list[str], cwd: str, environment: dict[str, str]) -> tuple[int, str, str]:
    """Status, standard output and standard error of the command, in a child: it may end its process as it likes."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        child = os.fork()
        if not child:
            os.dup2(output.fileno(), 1)
            os.dup2(errors.fileno(), 2)
            os._exit(_run(arguments, cwd, environment))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        texts = []
        for file in (output, errors):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    return status, texts[0], texts[1]


def _run(arguments: list[str], cwd: str, environment: dict[str, str]) -> int:
    for name in OF_LAUNCHERS:
        os.environ.pop(name, None)
    os.environ.update(environment)
    os.chdir(cwd)
    status = 1
    try:
        if arguments[0] == "-m":
            sys.argv = arguments[1:]
            sys.path.insert(0, cwd)
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = list(arguments)
            sys.path.insert(0, str(Path(arguments[0]).resolve().parent))
            runpy.run_path(arguments[0], run_name="__main__")
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
    return status
