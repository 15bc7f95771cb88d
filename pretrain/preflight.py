"""Everything about a run that can be checked before a process group or a GPU is touched.

Imports neither torch's distributed parts nor DeepSpeed, so a wrong config is refused within a second or two.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from configs.errors import ConfigError, MachineError
from pretrain.config import ModelConfig, MonitorConfig, ObjectiveConfig, RunConfig, TrainingConfig
from pretrain.parallel.launch import Launch, discover
from pretrain.parallel.layout import Layout, resolve_layout
from pretrain.parallel.state_memory import state_memory, weights_of_stages
from pretrain.schedule.progress import Progress
from pretrain.schedule.run_schedule import RunSchedule
from pretrain.schedule.sample_lengths import SampleLengths

if TYPE_CHECKING:
    from pretrain.data.run_data import RunData
    from pretrain.starting.start import Start


@dataclass(frozen=True)
class Plan:
    """A checked run.

    Attributes:
        config: with `model.vocab_size` filled in from the data.
        launch: where this process stands among the ranks.
        layout: what each rank does.
        data: the opened corpora.
        start: the weights that it starts from; None: they are drawn.
    """

    config: RunConfig
    launch: Launch
    layout: Layout
    data: RunData
    start: Start | None = None


def check(config: RunConfig) -> Plan:
    """Check `config` against the ranks, the corpora and the machine.

    Raises:
        UserError: the first thing that will not work, with what would.
    """
    lengths = SampleLengths.constant(config.model.seq_length)
    schedule = RunSchedule(config.training, config.optimizer, lengths, Progress())
    _check_restarts(config, os.environ)
    start = _find_start(config)
    plan = check_model_and_data(config, trains=True, least_vocabulary=start.vocab_size if start else None)
    start = start.checked(plan.config, plan.data) if start else None
    # Last, since it makes the directory.
    if plan.launch.rank == 0:
        branch_step = _find_branch(config)
        _check_output(config.output, config.monitor)
        _check_space(plan.config, schedule.total_steps, branch_step)
        # One process compares, while the others wait for it to meet them.
        start = start.with_equal_logits(plan.config) if start else None
    return replace(plan, start=start)


def _find_start(config: RunConfig) -> Start | None:
    if config.start_from is None:
        return None
    from pretrain.starting.start import find_start

    return find_start(config)


def _find_branch(config: RunConfig) -> int | None:
    if config.checkpoint.branch_from is None:
        return None
    from pretrain.branching import find_branch

    return find_branch(config)


def check_model_and_data(config: RunConfig, *, trains: bool = False, least_vocabulary: int | None = None) -> Plan:
    """What `check` looks at before there is something to train or to write: ranks, device, corpora, vocabulary.

    Args:
        config: the run.
        trains: whether there are gradients and states of an optimizer.
        least_vocabulary: token ids that the model has at least, where `model.vocab_size` is null.

    Raises:
        UserError: the first thing that will not work, with what would.
    """
    launch = discover()
    layout = resolve_layout(config, launch.world_size)
    _check_device(config.training)

    from pretrain.data.run_data import RunData

    data = RunData.open(config)
    for role in (*config.objective.roles(), *config.model.roles):
        data.tokens.role(role)
    data.tokens.sentinel_ids(config.objective.num_sentinels(config.model))
    if config.objective.reads_words:
        data.tokens.require_word_starts()
    model = _with_target_length(_with_vocabulary(config.model, data, least_vocabulary), config.objective)
    config = config.model_copy(update={"model": model})
    _check_memory(config, layout, launch, trains)
    return Plan(config=config, launch=launch, layout=layout, data=data)


def _check_restarts(config: RunConfig, environment: Mapping[str, str]) -> None:
    """Refuse to begin anew each time that a scheduler or launcher starts the same command again."""
    for name in ("SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT"):
        if config.checkpoint.resume == "never" and environment.get(name, "0") != "0":
            raise ConfigError(
                f"never, and {name}={environment[name]}: this command was started again by itself, and would throw"
                " away what its first start trained",
                where="checkpoint.resume",
                expected="auto, to go on from the newest checkpoint, if that is of the first start",
            )


def _check_device(training: TrainingConfig) -> None:
    if training.precision != "fp16":
        return
    import torch

    if not torch.cuda.is_available():
        raise ConfigError(
            "fp16 needs a GPU and this machine shows none",
            where="training.precision = 'fp16'",
            expected="bf16 or fp32 on a CPU",
            nearest="training.precision=bf16",
        )


def _check_memory(config: RunConfig, layout: Layout, launch: Launch, trains: bool) -> None:
    """Refuse what cannot fit even without activations."""
    from pretrain.monitor.memory import device_total_bytes, host_total_bytes

    stages = weights_of_stages(config.model, layout, config.trained_parameters())
    frozen = weights_of_stages(config.model, layout) if config.method.freezes else [0] * layout.pipeline
    # Which stages this machine has is not known yet: at least the smallest.
    most, least = (
        state_memory(config, layout, choose(stages), frozen=choose(frozen), trains=trains) for choose in (max, min)
    )
    device_bytes, ranks = device_total_bytes(launch.local_rank), launch.local_world_size
    host_needed = ranks * (least.host_bytes + (0 if device_bytes else least.device_bytes))
    on_host = f"{ranks} ranks hold" if ranks > 1 else "it holds"
    for holder, needed, what, there_is in (
        ("a rank holds", most.device_bytes, "weights, gradients and optimizer state on its GPU", device_bytes),
        (on_host, host_needed, "state and the copy for checkpoints in this machine's memory", host_total_bytes()),
    ):
        if there_is is not None and needed > there_is:
            raise MachineError(
                f"{holder} {needed / 1e9:.1f} GB of {what}, beside activations; there are {there_is / 1e9:.1f} GB",
                where=f"{config.model.num_parameters():,} weights, {layout}, ZeRO {config.parallel.zero_stage}",
                expected="more ranks or machines, another layout (see docs/layouts.md), or a smaller model",
            )


def _check_output(output: Path, monitor: MonitorConfig) -> None:
    from pretrain.checkpoint.directory import check_writable
    from pretrain.monitor.tensorboard_server import check_port_free

    check_writable(output / "checkpoints")
    if monitor.serve_tensorboard:
        check_port_free(monitor.serve_tensorboard)


def _check_space(config: RunConfig, total_steps: int | None, branch_step: int | None) -> None:
    from pretrain.checkpoint.directory import (
        check_free_space,
        estimated_bytes,
        left_over_bytes,
        list_checkpoints,
        most_at_once,
    )

    root, saving = config.output / "checkpoints", config.checkpoint
    steps = [step for step, _ in list_checkpoints(root)]
    # What is of another run is set aside, and stays.
    present = [] if saving.resume == "never" else steps[-saving.keep_last :]
    # Samples of another length before make the end in tokens another step than `total_steps`.
    known = total_steps if not (present or branch_step) or config.training.duration.unit == "steps" else None
    saves = saving.num_saves(known, after=max(present, default=branch_step or 0))
    # What a dead attempt left is removed before the first save.
    check_free_space(
        root,
        estimated_bytes(
            sum(spec.elements for spec in config.trained_parameters()),
            config.optimizer.states_per_weight(config.trained_parameters()),
        ),
        soon_free_bytes=left_over_bytes(root),
        count=most_at_once(len(present), saves, saving.keep_last),
    )


def _with_target_length(model: ModelConfig, objective: ObjectiveConfig) -> ModelConfig:
    """The model with the length of its decoder, where that is left to the objective."""
    if not model.is_encoder_decoder or getattr(model, "decoder_seq_length", 0) is not None:
        return model
    return model.model_copy(update={"decoder_seq_length": objective.target_tokens(model)})


def _with_vocabulary(model: ModelConfig, data: RunData, least: int | None) -> ModelConfig:
    wanted = model.vocab_size
    if wanted is not None and wanted < data.vocab_size:
        raise ConfigError(
            f"the corpus has {data.vocab_size} token ids, more than the model's {wanted}",
            where=f"model.vocab_size = {wanted}",
            expected=f"at least {data.vocab_size}, or null to take it from the corpus",
        )
    return model.model_copy(update={"vocab_size": wanted or max(data.vocab_size, least or 0)})
