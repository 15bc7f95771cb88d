from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_host import SlurmHost, SlurmUnavailable, install


@pytest.fixture(scope="session")
def slurm() -> Iterator[SlurmHost]:
    """Four nodes of a private Slurm on this host."""
    try:
        install()
    except SlurmUnavailable as why:
        pytest.skip(f"no Slurm on this host: {why}")
    # Not pytest's own folder: the path of a socket in it may have 107 characters at most.
    home = Path(tempfile.mkdtemp(prefix="slurm-"))
    host = SlurmHost(home, nodes=4)
    try:
        host.start()
        yield host
    finally:
        host.stop()
        shutil.rmtree(home, ignore_errors=True)
