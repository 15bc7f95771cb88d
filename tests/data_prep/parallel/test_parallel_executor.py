"""Tasks on worker processes."""

from __future__ import annotations

import os

import pytest

from configs.errors import MachineError
from data_prep.parallel.executor import open_executor, run_tasks


def _square(number: int) -> int:
    if number == 13:
        os._exit(9)
    return number * number


def test_tasks_come_back_with_their_number():
    for workers in (1, 2):
        with open_executor(workers) as executor:
            assert dict(run_tasks(executor, _square, range(10), in_flight=3)) == {n: n * n for n in range(10)}


def test_a_worker_that_dies_is_one_message():
    with open_executor(2) as executor, pytest.raises(MachineError, match="a worker process was killed"):
        list(run_tasks(executor, _square, range(10, 20), in_flight=4))
