"""Who a process is among how many, from what its launcher left in the environment; how long a run is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from configs.errors import ConfigError
from pretrain.parallel.launch import discover
from pretrain.schedule.progress import Progress
from pretrain.schedule.run_schedule import RunSchedule
from pretrain.schedule.sample_lengths import SampleLengths
from tests.pretrain.tiny_run import tiny_config

SLURM = {"SLURM_PROCID": "2", "SLURM_NTASKS": "4", "SLURM_LOCALID": "0", "SLURM_STEP_ID": "0", "SLURM_JOB_ID": "7"}


def test_no_launcher_is_one_process() -> None:
    launch = discover({})
    assert (launch.rank, launch.world_size, launch.master_address, launch.launcher) == (0, 1, None, "python")


def test_torchrun() -> None:
    env = {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "a"}
    launch = discover(env | {"MASTER_PORT": "5", "TORCHELASTIC_RUN_ID": "x"})
    assert (launch.rank, launch.world_size, launch.local_rank, launch.local_world_size) == (3, 8, 1, 2)
    assert (launch.master_address, launch.master_port, launch.launcher) == ("a", 5, "torchrun")


def test_srun_even_where_it_speaks_pmi() -> None:
    env = SLURM | {"SLURM_STEP_NODELIST": "n1,n2", "SLURM_TASKS_PER_NODE": "2(x2)", "PMI_RANK": "2", "PMI_SIZE": "4"}
    launch = discover(env)
    assert (launch.rank, launch.world_size, launch.local_world_size) == (2, 4, 2)
    assert (launch.master_address, launch.master_port, launch.launcher) == ("n1", 20007, "srun")


def test_an_allocation_without_srun_is_one_process() -> None:
    assert discover({"SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_STEP_ID": "0"}).world_size == 1


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"RANK": "x", "WORLD_SIZE": "2"}, "RANK is 'x'"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK is 2 of WORLD_SIZE 2"),
        (SLURM | {"SLURM_NTASKS": "many"}, "SLURM_NTASKS is 'many'"),
    ],
)
def test_contradictions_are_told(environment: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        discover(environment)


def schedule(progress: Progress | None = None, **changes: Any) -> RunSchedule:
    config = tiny_config(Path("x"), Path("y"), **changes)
    return RunSchedule(
        config.training, config.optimizer, SampleLengths.constant(config.model.seq_length), progress or Progress()
    )


def test_a_run_in_steps_ends_after_its_steps() -> None:
    plan = schedule(training__duration="10 steps")
    assert plan.total_steps == 10
    assert not plan.is_done(Progress(step=9, consumed_samples=10**6))
    assert plan.is_done(Progress(step=10))


def test_a_run_in_tokens_ends_at_its_tokens_though_the_batch_was_changed_on_the_way() -> None:
    # 16 tokens a sample, 8 samples a step: 100 steps. Half-way, the batch is doubled.
    half_way = Progress(step=50, consumed_samples=400)
    plan = schedule(half_way, training__duration="12800 tokens", training__global_batch_size=16)
    assert plan.total_steps == 75
    assert not plan.is_done(half_way)
    progress = half_way
    while not plan.is_done(progress):
        progress = progress.after(plan.global_batch_size(progress), applied=True)
    assert progress == Progress(step=75, consumed_samples=800)


def test_durations_on_two_clocks_are_refused() -> None:
    with pytest.raises(ConfigError, match="optimizer"):
        schedule(optimizer__warmup="100 tokens", optimizer__decay="5 steps")
