"""Tasks over processes or MPI ranks behind the interface of `concurrent.futures`."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection, get_context, parent_process
from typing import TypeVar

from configs.errors import MachineError

MPI_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS")
Task = TypeVar("Task")
Result = TypeVar("Result")


def available_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class InlineExecutor(Executor):
    """Runs each task in this process, when it is submitted."""

    def submit(self, function, /, *args, **kwargs):  # type: ignore[no-untyped-def]
        """Run `function` now and return its finished future."""
        future: Future = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def launcher_of(asked: str, environment: Mapping[str, str] | None = None) -> str:
    """`processes`, `mpi` or `slurm`: as asked, or what this process was started under."""
    if asked != "auto":
        return asked
    known = os.environ if environment is None else environment
    if any(int(known.get(name) or 1) > 1 for name in MPI_SIZES):
        return "mpi"
    return "slurm" if slurm_share(known)[1] > 1 else "processes"


def slurm_share(environment: Mapping[str, str]) -> tuple[int, int]:
    """Number of this task in its Slurm array, or in the step that `srun` started; and how many there are."""
    if "SLURM_ARRAY_TASK_ID" in environment:
        number, lowest = int(environment["SLURM_ARRAY_TASK_ID"]), int(environment.get("SLURM_ARRAY_TASK_MIN", "0"))
        step = int(environment.get("SLURM_ARRAY_TASK_STEP", "1") or 1)
        return (number - lowest) // step, int(environment.get("SLURM_ARRAY_TASK_COUNT", "1"))
    if "SLURM_STEP_NUM_TASKS" in environment:
        return int(environment.get("SLURM_PROCID", "0")), int(environment["SLURM_STEP_NUM_TASKS"])
    return 0, 1


@contextmanager
def open_executor(workers: int, preload: Sequence[str] = (), mpi: bool = False) -> Iterator[Executor | None]:
    """An executor of `workers` processes; a single worker is this process itself.

    Args:
        workers: number of processes.
        preload: modules that are imported once, before the workers split off.
        mpi: the workers are the other MPI ranks; these get None, at the end, when there is no more to do.
    """
    if mpi:
        from mpi4py.futures import MPICommExecutor

        with MPICommExecutor() as ranks:
            yield ranks  # type: ignore[misc]
        return
    if workers == 1:
        yield InlineExecutor()
        return
    # A fork server: workers start in milliseconds with their imports done, and inherit no threads of this process.
    context = get_context("forkserver")
    context.set_forkserver_preload(["data_prep.parallel.executor", *preload])
    executor = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)
    try:
        yield executor
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def run_tasks(
    executor: Executor, function: Callable[[Task], Result], tasks: Sequence[Task], in_flight: int
) -> Iterator[tuple[int, Result]]:
    """Results with the number of their task, as they come; at most `in_flight` tasks are under way.

    Raises:
        MachineError: if a worker process died. Errors of a task are raised as they are.
    """
    under_way: dict[Future[Result], int] = {}
    waiting = iter(enumerate(tasks))
    while True:
        while len(under_way) < in_flight and (item := next(waiting, None)) is not None:
            under_way[executor.submit(function, item[1])] = item[0]
        if not under_way:
            return
        finished, _ = wait(under_way, return_when=FIRST_COMPLETED)
        for future in finished:
            number = under_way.pop(future)
            try:
                result = future.result()
            except BrokenProcessPool:
                raise MachineError(
                    "a worker process was killed, most likely for want of memory", expected="fewer workers"
                ) from None
            yield number, result


def _start_worker() -> None:
    # Ctrl-C goes to the whole foreground group: the parent alone answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    """End this worker when its parent is gone, also after a SIGKILL that leaves nobody to stop it."""
    connection.wait([sentinel])
    os._exit(1)
