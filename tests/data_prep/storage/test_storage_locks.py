"""Locks where the file system has none, and whose they are."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from data_prep.storage.locks import holder_of, is_here, is_locked, locked

HOLD = """
import errno, fcntl, sys
from pathlib import Path
from data_prep.storage.locks import locked
if sys.argv[2] == "no locks":
    sound = fcntl.lockf
    def lockf(descriptor, how):
        import os
        if os.readlink(f"/proc/self/fd/{descriptor}") == sys.argv[1]:
            raise OSError(errno.ENOLCK, "No locks available")
        sound(descriptor, how)
    fcntl.lockf = lockf
with locked(Path(sys.argv[1]), named=True):
    print(flush=True); input()
"""


@pytest.mark.slow
@pytest.mark.parametrize("file_system", ["locks", "no locks"])
def test_another_process_has_it_also_where_the_file_system_has_no_locks(tmp_path, monkeypatch, file_system):
    lock = tmp_path / "x.lock"
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    if file_system == "no locks":
        sound = fcntl.lockf

        def lockf(descriptor, how):
            if Path(f"/proc/self/fd/{descriptor}").readlink() == lock:
                raise OSError(errno.ENOLCK, "No locks available")
            sound(descriptor, how)

        monkeypatch.setattr(fcntl, "lockf", lockf)
    command = [sys.executable, "-c", HOLD, str(lock), file_system]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "\n"
        assert is_locked(lock)
        if file_system == "locks":
            assert holder_of(lock).startswith(f"process {other.pid} on ") and is_here(holder_of(lock))
        other.communicate("\n")
    assert not is_locked(lock)
    with locked(lock) as mine:
        assert mine


def test_a_lock_for_who_is_forked_too_is_another_than_one_of_the_process_alone(tmp_path: Path) -> None:
    """The parent closes its descriptor; the child, which has it still, holds the lock."""
    lock = tmp_path / "x.lock"
    for inherited in (True, False):
        read, write = os.pipe()
        with locked(lock, inherited=inherited):
            child = os.fork()
            if not child:
                os.close(write)
                os.read(read, 1)
                os._exit(0)
        with locked(lock, inherited=inherited) as mine:
            assert mine is not inherited
        os.close(write)
        os.waitpid(child, 0)
        os.close(read)
