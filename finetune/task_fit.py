"""One training of a task: its network, regularisers, engine and checkpoints put together, then the loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from configs.errors import ConfigError, ExitStatus
from configs.load import to_yaml
from finetune.tasks.base import EncodedPart, FinetuneTask
from finetune.tasks.base_config import TaskConfig

if TYPE_CHECKING:
    import torch

    from finetune.adversarial import InputPerturbation
    from finetune.augmentation.examples import AugmentedExamples
    from finetune.distillation.config import DistillationConfig
    from finetune.loop import Fit
    from finetune.pretrained import PretrainedModel
    from pretrain.engine.task_partitioning import Partitioner
    from pretrain.stopping import StopRequest


@dataclass(frozen=True)
class PreparedTask:
    """A task with its examples and the model that it starts from.

    Attributes:
        config: everything that can be told.
        task: what is learned.
        examples: of each part.
        pretrained: the model.
        encoded: the examples as numbers.
        augmented: the training examples of each epoch; None: they are the same in all.
    """

    config: TaskConfig
    task: FinetuneTask
    examples: Mapping[str, Sequence[Any]]
    pretrained: PretrainedModel
    encoded: Mapping[str, EncodedPart]
    augmented: AugmentedExamples | None = None


def fit_task(
    prepared: PreparedTask, log: Callable[[str], None], stop: StopRequest, *, from_scratch: bool = False
) -> tuple[Fit, dict[str, Any]]:
    """Train, from the newest checkpoint where there is one. Collective.

    Args:
        prepared: what is learned.
        log: prints a line (on one rank).
        stop: says whether a signal came.
        from_scratch: whether the network begins with random weights, all of which are trained.

    Returns:
        the training's outcome, and what the engine really was.

    Raises:
        SystemExit: a signal asked for a stop.
        UserError: the options do not fit the network, or the training diverged.
    """
    import torch.distributed as dist

    from finetune.checkpoints import TaskCheckpoints, examples_fingerprint, weights_fingerprint
    from finetune.loop import TaskRun, fit
    from finetune.task_batches import TaskBatches
    from finetune.task_monitor import TaskMonitor
    from finetune.task_output import FINE_TUNED_DIR, FROM_SCRATCH_DIR, TENSORBOARD_DIR, training_directory
    from finetune.task_schedule import TaskSchedule
    from pretrain.engine.task_engine import describe, task_engine
    from pretrain.engine.task_state import TaskState

    config, task, training = prepared.config, prepared.task, prepared.config.training
    network = _network(prepared, log, from_scratch=from_scratch)
    layers_above, perturbation = _regularisers(network, config)
    distillation = None if from_scratch else config.distillation
    if distillation is not None:
        network = _taught(network, prepared, distillation, log)
    course = {"examples": examples_fingerprint(prepared.encoded), "weights": weights_fingerprint(network)}
    data = TaskBatches(
        task,
        training,
        prepared.encoded["train"],
        prepared.encoded["validation"],
        seed=config.training_seed,
        rank=dist.get_rank(),
        world_size=dist.get_world_size(),
        augmented=prepared.augmented,
        distillation=distillation,
    )
    if prepared.augmented is not None:
        course["augmentation"] = prepared.augmented.fingerprint
    if config.joins_micro_batch:
        course["samples of a micro-batch"] = str(data.micro_batch_size)
    schedule = TaskSchedule.resolve(training, config.optimizer, data.steps_per_epoch)
    for note in schedule.learning_rates.notes():
        log(note)
    engine = task_engine(
        network,
        config.optimizer,
        zero_stage=training.zero_stage,
        precision=training.precision,
        micro_batch_size=data.micro_batch_size,
        accumulation_steps=data.accumulation_steps * (1 if perturbation is None else 2),
        layers_above=layers_above,
    )
    state = TaskState(engine, config.optimizer)
    root = training_directory(config.output) / (FROM_SCRATCH_DIR if from_scratch else FINE_TUNED_DIR)
    curves = root / TENSORBOARD_DIR if training.tensorboard and dist.get_rank() == 0 else None
    with (
        closing(TaskCheckpoints(root, state, config, course)) as checkpoints,
        closing(TaskMonitor(log, curves, config.name, to_yaml(config))) as monitor,
    ):
        fitted = fit(TaskRun(config, engine, state, data, schedule, checkpoints, stop, monitor, perturbation))
    if fitted.stopped:
        log(f"stopped after step {fitted.steps}, saved in {root}; the same command goes on")
        raise SystemExit(int(ExitStatus.INTERRUPTED))
    if distillation is not None:
        from finetune.distillation.network import student_weights

        fitted.weights = student_weights(fitted.weights)
    return fitted, describe(engine)


def _network(prepared: PreparedTask, log: Callable[[str], None], *, from_scratch: bool) -> torch.nn.Module:
    """The network of a task before its training: with its adapter, or its lower layers frozen, where asked for.

    Raises:
        UserError: the pretrained model or the method does not fit, or not so many layers can be frozen.
    """
    import torch

    from finetune.layer_depth import freeze_lower
    from finetune.methods.adapter import count_weights
    from finetune.methods.chosen import adapter_of
    from finetune.network_building import built_by

    config, frozen = prepared.config, prepared.config.training.freeze_layers
    torch.manual_seed(config.training_seed)
    with built_by(_partitioner(config)):
        network = prepared.task.network(prepared.pretrained, from_scratch=from_scratch)
    adapter = None if from_scratch else adapter_of(config)
    if adapter is not None:
        network = adapter.try_out(network, prepared.task, prepared.encoded["train"])
        log("{:,} of {:,} weights are trained".format(*count_weights(network)))
    elif frozen is not None and not from_scratch:
        log(f"{freeze_lower(network, frozen):,} weights are trained, the others are frozen")
    return network


def _taught(
    network: torch.nn.Module, prepared: PreparedTask, distillation: DistillationConfig, log: Callable[[str], None]
) -> torch.nn.Module:
    """A network with its teacher.

    Raises:
        UserError: the teacher reads or says other things, or has no such layers.
    """
    from finetune.distillation.network import with_teacher
    from finetune.network_building import built_by
    from pretrain.engine.task_partitioning import whole_shape

    def count_all(part: torch.nn.Module) -> int:
        return sum(math.prod(whole_shape(parameter)) for parameter in part.parameters())

    config, partitioner = prepared.config, _partitioner(prepared.config)
    with built_by(partitioner):
        teacher = prepared.task.teacher_network(distillation.teacher, prepared.pretrained, prepared.encoded["train"])
    both = with_teacher(network, teacher, distillation, config.training_seed, partitioner)
    told = f"the teacher {distillation.teacher} has {count_all(teacher):,} weights, the network {count_all(network):,}"
    log(told + "".join(f"; its layer {own} follows {theirs}" for own, theirs in both.layers))
    return both


def _partitioner(config: TaskConfig) -> Partitioner | None:
    """What partitions the network while it is built; None: it is built whole."""
    import torch.distributed as dist

    training, ranks = config.training, dist.get_world_size()
    if training.zero_stage < 3 or ranks == 1 or config.method.needs_whole_weights:
        return None
    from pretrain.engine.task_partitioning import Partitioner

    return Partitioner(training.precision, training.micro_batch_size or training.batch_size // ranks)


def _regularisers(
    network: torch.nn.Module, config: TaskConfig
) -> tuple[Mapping[str, int] | None, InputPerturbation | None]:
    """The layers above each parameter, where rates differ by layer, and what is added to the input embeddings.

    Raises:
        ConfigError: the network cannot be trained so.
    """
    from finetune.adversarial import InputPerturbation
    from finetune.dropout import check_dropout, refuse_equal_passes
    from finetune.layer_depth import LayerDepths

    training = config.training
    if training.dropout is not None:
        check_dropout(network, training.dropout)
    if training.r_drop:
        refuse_equal_passes(network, training.r_drop)
    layers_above = None
    if config.optimizer.layer_decay != 1:
        layers_above = LayerDepths(network, "optimizer.layer_decay").above
    elif training.unfreeze_every is not None:
        layers_above = LayerDepths(network, "training.unfreeze_every").above
    return layers_above, None if training.adversarial == "none" else InputPerturbation(network, training)


def check_batches(config: TaskConfig, world_size: int) -> None:
    """Refuse batches that so many processes cannot share evenly.

    Raises:
        ConfigError: names the key and what it has to divide.
    """
    training = config.training
    if training.batch_size % world_size:
        raise ConfigError(
            f"is {training.batch_size}",
            where="training.batch_size",
            expected=f"a multiple of {world_size}, the processes",
        )
    per_rank = training.batch_size // world_size
    if training.micro_batch_size is not None and per_rank % training.micro_batch_size:
        raise ConfigError(
            f"is {training.micro_batch_size}",
            where="training.micro_batch_size",
            expected=f"a divisor of {per_rank} (batch_size {training.batch_size} over {world_size} processes)",
        )
