"""The same bytes from this machine's processes and from a job array on a real Slurm of several nodes."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from cleaning_inputs import prose, write_json_lines, write_web

ROOT = Path(__file__).parents[3]
STAGES = "stages=[unicode,gopher_quality,exact_dedup,minhash_dedup]"


def slurm_host() -> ModuleType:
    path = ROOT / "tests" / "cluster" / "slurm_host.py"
    spec = importlib.util.spec_from_file_location("slurm_host_for_cleaning", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which `sbatch` reaches a private Slurm."""
    import shutil
    import tempfile

    module = slurm_host()
    try:
        module.install()
    except module.SlurmUnavailable as why:
        pytest.skip(f"no Slurm on this host: {why}")
    home = Path(tempfile.mkdtemp(prefix="slurm-"))
    host = module.SlurmHost(home, nodes=2)
    try:
        host.start()
        yield host.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    finally:
        host.stop()
        shutil.rmtree(home, ignore_errors=True)


def cleaned(recipe: Path, environ: dict[str, str], *settings: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "data_prep", "clean", str(recipe), *settings]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=400)


def shards(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((output / "documents").iterdir())}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    write_web(tmp_path / "raw" / "a.jsonl.gz")
    write_json_lines(tmp_path / "raw" / "b.jsonl", [{"text": prose(700 + i), "id": f"b{i}"} for i in range(40)])
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"sources: {{web: {{input: {tmp_path / 'raw'}}}}}\nminhash_dedup: {{buckets: 4}}\n"
        "tasks: 2\nmax_malformed_share: 0.2\nunit_bytes: 9000\n"
        "slurm: {partition: main, memory_per_cpu_gb: null, poll_s: 0.5}\n"
    )
    return path


@pytest.mark.slow
@pytest.mark.slurm
def test_slurm_writes_what_local_processes_write(recipe: Path, environ: dict[str, str]) -> None:
    folder = recipe.parent
    done = cleaned(recipe, environ, STAGES, f"output={folder / 'slurm'}", "executor=slurm")
    assert done.returncode == 0, done.stderr
    local = cleaned(recipe, dict(os.environ) | {"PYTHONPATH": str(ROOT)}, STAGES, f"output={folder / 'local'}")
    assert local.returncode == 0, local.stderr
    assert shards(folder / "slurm") == shards(folder / "local") and len(shards(folder / "local")) == 2
    jobs = sorted(path.name for path in (folder / "slurm" / "logs").glob("*/slurm/*.out"))
    assert len(jobs) >= 10, jobs


@pytest.mark.slow
@pytest.mark.slurm
def test_a_mistake_that_a_task_finds_is_told_by_the_command(recipe: Path, environ: dict[str, str]) -> None:
    output = recipe.parent / "strict"
    done = cleaned(recipe, environ, STAGES, f"output={output}", "executor=slurm", "max_malformed_share=0")
    assert done.returncode == 2 and not output.exists()
    assert "sources.web, " in done.stderr and "a.jsonl.gz, line 51: is not valid JSON" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
