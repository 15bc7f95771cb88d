"""datatrove's executors, kept quiet, with a user's mistake carried from a task to the command that started it."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datatrove.utils.logging
import dill
from datatrove.executor import LocalPipelineExecutor, RayPipelineExecutor, SlurmPipelineExecutor
from datatrove.executor.base import PipelineExecutor
from datatrove.pipeline.dedup import exact_dedup, minhash, sentence_dedup
from datatrove.utils.stats import PipelineStats
from loguru._error_interceptor import ErrorInterceptor
from tqdm import tqdm

from configs.errors import ConfigError, DataError, ExitStatus, MachineError, UserError
from configs.extras import install_command
from data_prep.cleaning.config import CleanConfig
from data_prep.cleaning.phases import Phase
from data_prep.cleaning.workspace import LOGS, SLURM_JOB
from data_prep.parallel.executor import available_cores, open_executor, run_tasks
from data_prep.storage.publishing import write_whole


def quiet() -> None:
    """Keep datatrove's log lines and bars off the terminal; the files in `logs/` get all of them."""
    for module in (exact_dedup, minhash, sentence_dedup):
        module.tqdm = partial(tqdm, disable=True)  # type: ignore[attr-defined]
    nowhere = SimpleNamespace(write=lambda message: None, flush=lambda: None)
    datatrove.utils.logging.sys = SimpleNamespace(stderr=nowhere)  # type: ignore[attr-defined]
    # A log that cannot be written, as on a full disk, is told by the error that stops the task.
    ErrorInterceptor.print = lambda *arguments, **more: None  # type: ignore[method-assign]
    datatrove.utils.logging.setup_default_logger()


class _Reporting(PipelineExecutor):
    """What the executors share: comes before datatrove's in the order of base classes."""

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1) -> PipelineStats:
        quiet()
        try:
            return super()._run_for_rank(rank, local_rank, node_rank)
        except UserError as error:
            # On a cluster nothing else comes back to the command.
            _note_error(self.logging_dir.resolve_paths("errors"), rank, error)
            raise
        except OSError as error:
            where = error.filename or Path(self.logging_dir.resolve_paths("")).parents[1]
            failed = MachineError(f"cannot be read or written: {error.strerror or error}", where=where)
            with suppress(OSError):
                _note_error(self.logging_dir.resolve_paths("errors"), rank, failed)
            raise failed from error


class LocalRun(_Reporting, LocalPipelineExecutor):
    """Processes of this machine; datatrove's own pool waits for ever for a worker that was killed."""

    def run(self) -> None:
        """Run the tasks that are not complete.

        Raises:
            MachineError: if a worker was killed. A task's error is raised as it is.
        """
        ranks = self.get_incomplete_ranks()
        self.save_executor_as_json()
        me = dill.dumps(self)
        with open_executor(min(self.workers, len(ranks)), ["data_prep.cleaning.preload"]) as executor:
            assert executor is not None
            try:
                for _ in run_tasks(executor, _run_rank, [(me, rank) for rank in ranks], self.workers):
                    pass
            except BaseException:
                # Tasks may take hours: whoever stops the command does not wait for those that run.
                for worker in multiprocessing.active_children():
                    worker.terminate()
                raise


def _run_rank(task: tuple[bytes, int]) -> None:
    # A fresh copy for each task, as steps count and may remember.
    executor = dill.loads(task[0])  # noqa: S301 (made by this command)
    executor._run_for_rank(task[1])


class RayRun(_Reporting, RayPipelineExecutor):
    """Tasks of a Ray cluster."""


class SlurmRun(_Reporting, SlurmPipelineExecutor):
    """Elements of a Slurm job array."""

    def launch_merge_stats(self) -> None:
        """Nothing: the counts are merged by the command that waits."""

    def get_sbatch_args(self, max_array: int = 1) -> dict[str, Any]:
        """The options, without those that the recipe leaves to the cluster."""
        return {key: value for key, value in super().get_sbatch_args(max_array).items() if value is not None}


def run_phase(phase: Phase, config: CleanConfig, root: Path) -> None:
    """Run what is missing of a phase; return when all its tasks are complete.

    Raises:
        UserError: what went wrong in a task, if a user can mend it.
        MachineError: if tasks did not end, or Slurm or Ray is not there.
    """
    folder = root / LOGS / phase.name
    if len(_completed(folder)) >= phase.tasks:
        return
    for note in (folder / "errors").glob("*.json"):
        note.unlink()
    if config.executor == "local":
        workers = min(phase.tasks, config.workers or available_cores())
        LocalRun(phase.steps, tasks=phase.tasks, workers=workers, logging_dir=str(folder)).run()
    elif config.executor == "ray":
        check_ray()
        RayRun(phase.steps, tasks=phase.tasks, workers=config.workers or phase.tasks, logging_dir=str(folder)).run()
    else:
        _run_on_slurm(phase, config, folder)
    missing = phase.tasks - len(_completed(folder))
    if missing:
        raise _failure(folder, f"{missing} of {phase.tasks} tasks of {phase.name} did not end")


def check_ray() -> None:
    """See that Ray is there.

    Raises:
        ConfigError: if not.
    """
    if find_spec("ray") is None:
        raise ConfigError(
            "executor = 'ray' needs the package ray, which is not installed",
            where="executor",
            expected=f"{install_command('ray')}, or executor=local or slurm",
        )


def _run_on_slurm(phase: Phase, config: CleanConfig, folder: Path) -> None:
    settings = config.slurm
    extra: dict[str, Any] = dict(settings.sbatch)
    if settings.memory_per_cpu_gb is None:
        extra.setdefault("mem-per-cpu", None)
    run = SlurmRun(
        phase.steps,
        tasks=phase.tasks,
        time=settings.time,
        partition=str(settings.partition),
        cpus_per_task=settings.cpus_per_task,
        mem_per_cpu_gb=settings.memory_per_cpu_gb or 1,
        workers=config.workers or -1,
        job_name=f"clean-{phase.name}",
        qos=settings.qos or "",
        env_command=settings.environment_command or _environment_command(),
        sbatch_args=extra,
        logging_dir=str(folder),
        slurm_logs_folder=str(folder / "slurm"),
        requeue_signals=None,
    )
    job_file = folder / SLURM_JOB
    # A command that was stopped while its job runs waits for that job instead of a second one.
    job = json.loads(job_file.read_bytes())["id"] if job_file.is_file() else None
    if job is None or not _in_queue(job):
        try:
            run.run()
        except FileNotFoundError as error:
            raise MachineError(
                "is not installed here", where=error.filename, expected="a host that submits to Slurm"
            ) from None
        except subprocess.CalledProcessError as error:
            raise MachineError(
                f"sbatch refused the job with status {error.returncode} (its message is above)", where="slurm"
            ) from None
        job = str(run.job_id)
        write_whole(job_file, json.dumps({"id": job}).encode())
    while len(_completed(folder)) < phase.tasks and _in_queue(job):
        time.sleep(settings.poll_s)
    # The last markers may show late on a network file system.
    for _ in range(10):
        if len(_completed(folder)) >= phase.tasks:
            return
        time.sleep(min(1.0, settings.poll_s))


def _in_queue(job: str) -> bool:
    command = ["squeue", "--noheader", "--array", "--format=%T", f"--jobs={job}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    # Slurm forgets an ended job after a while and then calls its number invalid.
    return done.returncode == 0 and bool(done.stdout.split())


def _environment_command() -> str:
    import shlex

    root = Path(__file__).parents[2]
    path = shlex.quote(str(Path(sys.executable).parent))
    return f'export PATH={path}:"$PATH" PYTHONPATH={shlex.quote(str(root))}:"$PYTHONPATH"'


def _completed(folder: Path) -> list[Path]:
    return list((folder / "completions").glob("[0-9]*"))


def _note_error(folder: str, rank: int, error: UserError) -> None:
    parts = [type(error).__name__, error.problem, error.where, error.expected, error.nearest, int(error.status)]
    text = json.dumps([part if part is None or isinstance(part, int) else str(part) for part in parts])
    write_whole(Path(folder) / f"{rank:05d}.json", text.encode())


def _failure(folder: Path, problem: str) -> UserError:
    """The first task's error, or where to look."""
    for note in sorted((folder / "errors").glob("*.json")):
        kind, what, where, expected, close, status = json.loads(note.read_bytes())
        cls = {"ConfigError": ConfigError, "MachineError": MachineError}.get(kind, DataError)
        return cls(what, where=where, expected=expected, nearest=close, status=ExitStatus(status))
    logs = sorted((folder / "slurm").glob("*.out"), key=lambda path: path.stat().st_mtime)
    tail = "\n  ".join(logs[-1].read_text(errors="replace").splitlines()[-5:]) if logs else ""
    return MachineError(problem + (f"; the last log says\n  {tail}" if tail else ""), where=folder)
