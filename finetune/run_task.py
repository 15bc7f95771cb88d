"""A pretrained model + examples of a task -> a fine-tuned model, its figures, its predictions: the same for every task.

Read, encode, fit, save, read back, measure. What is a task's own is in `finetune/tasks/`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from configs.errors import ConfigError, DataError
from data_prep.storage.publishing import staged_directory
from finetune.batches import by_length
from finetune.stopping import tidy_when_stopped
from finetune.task_output import check_output, directory_kind, draw_plots, refuse_not_finite, write_lines, write_record
from finetune.tasks.base import FINE_TUNED, FROM_SCRATCH, EncodedPart, FinetuneTask
from finetune.tasks.base_config import TaskConfig

if TYPE_CHECKING:
    from finetune.loop import Fit
    from finetune.pretrained import PretrainedModel

_MEASURED_AT_ONCE = 32
"""Examples of a batch while the saved model is measured."""


@dataclass(frozen=True)
class TaskResult:
    """What was measured.

    Attributes:
        task: as it ran.
        record: what the marker file (`TaskConfig.marker`) says.
        systems: by part (all but `train`): the figures of every system, the fine-tuned one first.
    """

    task: FinetuneTask
    record: dict[str, Any]
    systems: dict[str, dict[str, dict[str, Any]]]

    @property
    def test(self) -> dict[str, dict[str, Any]]:
        """Figures of every system on the test part; on the last measured part where there is no such part."""
        return self.systems.get("test") or list(self.systems.values())[-1]


@dataclass(frozen=True)
class _Prepared:
    """A task with its examples and the model that it starts from.

    Attributes:
        config: everything that can be told.
        task: what is learned.
        examples: of each part.
        pretrained: the model.
        encoded: the examples as numbers.
    """

    config: TaskConfig
    task: FinetuneTask
    examples: Mapping[str, Sequence[Any]]
    pretrained: PretrainedModel
    encoded: Mapping[str, EncodedPart]


def run_task(config: TaskConfig, log: Callable[[str], None] = print) -> TaskResult | None:
    """Train, choose, save and measure; None on all processes but the first.

    Args:
        config: everything that can be told; its class says which task.
        log: prints a line; called by the first process only.

    Raises:
        UserError: anything that stands in the way, before training where it can be known.
    """
    check_output(config)
    task: FinetuneTask = config.implement()(config)
    examples = task.read()
    for part in ("train", "validation"):
        if not examples.get(part):
            raise DataError("has no examples", where=f"the {part} part", expected="at least one")
    from finetune.pretrained import read_pretrained
    from pretrain.engine.task_engine import task_processes

    pretrained = read_pretrained(config.model, config.tokenizer_dir)
    encoded = {part: task.encode(pretrained, found) for part, found in examples.items()}
    prepared = _Prepared(config, task, examples, pretrained, encoded)
    with task_processes() as launch:
        log_here = log if launch.rank == 0 else lambda line: None
        _check_batches(config, launch.world_size)
        for line in task.describe(encoded):
            log_here(line)
        if launch.rank == 0:
            for text in task.warnings(pretrained):
                print(f"warning: {text}", file=sys.stderr, flush=True)
        fitted, ran = _fit(prepared, log_here)
        scratch = None
        if "scratch" in config.baselines:
            log_here("the same network from random weights, for comparison")
            scratch, _ = _fit(prepared, log_here, from_scratch=True)
        if launch.rank != 0:
            return None
    with tidy_when_stopped():
        return _finish(prepared, fitted, scratch, ran, log)


def show(result: TaskResult, config: TaskConfig) -> None:
    """Print the tables of what every system did, where the rest lies, and how to go on."""
    from rich.console import Console

    folder, (part, systems) = config.output, list(result.systems.items())[-1]
    console = Console()
    for table in result.task.tables(systems, part):
        console.print(table, markup=False)  # of a line of text: brackets are brackets
    print(f"{config.product:<11}  {folder}")
    print(f"predictions  {folder / f'predictions-{part}.jsonl'}")
    written = [folder / name for name in (config.marker, *result.task.plots())]
    print(f"figures      {', '.join(str(path) for path in written if path.exists())}", flush=True)
    command = result.task.next_command(folder)
    if command is not None:
        print(f"next: {command}", flush=True)


def _fit(prepared: _Prepared, log: Callable[[str], None], *, from_scratch: bool = False) -> tuple[Fit, dict[str, Any]]:
    """Returns the training's outcome, and what the engine really was."""
    import torch
    import torch.distributed as dist

    from finetune.loop import TaskSchedule, fit
    from finetune.task_batches import TaskBatches
    from pretrain.engine.task_engine import describe, task_engine

    config, task, training = prepared.config, prepared.task, prepared.config.training
    torch.manual_seed(config.seed)
    network = task.network(prepared.pretrained, from_scratch=from_scratch)
    data = TaskBatches(
        task,
        training,
        prepared.encoded["train"],
        prepared.encoded["validation"],
        seed=config.seed,
        rank=dist.get_rank(),
        world_size=dist.get_world_size(),
    )
    schedule = TaskSchedule.resolve(training, config.optimizer, data.steps_per_epoch)
    if dist.get_rank() == 0:
        for note in schedule.learning_rates.notes():
            log(note)
    engine = task_engine(
        network,
        config.optimizer,
        zero_stage=training.zero_stage,
        precision=training.precision,
        micro_batch_size=data.micro_batch_size,
        accumulation_steps=data.accumulation_steps,
    )
    torch.manual_seed(config.seed + 1 + dist.get_rank())  # dropout differs between ranks
    fitted = fit(engine, data, schedule, training, config.selects[training.select_by], log)
    return fitted, describe(engine)


def _finish(
    prepared: _Prepared, fitted: Fit, scratch: Fit | None, ran: dict[str, Any], log: Callable[[str], None]
) -> TaskResult:
    """Save, read back what was saved, and measure that."""
    config, task, encoded = prepared.config, prepared.task, prepared.encoded
    with staged_directory(config.output, config.marker, config.overwrite, kind=directory_kind(config)) as folder:
        network = task.network(prepared.pretrained, from_scratch=True)
        task.save(folder, network, fitted.weights, prepared.pretrained)
        saved = task.load(folder)
        if scratch is not None:
            network.load_state_dict(scratch.weights)
        systems: dict[str, dict[str, dict[str, Any]]] = {}
        for part in (part for part in encoded if part != "train"):
            predicted = _predict_all(task, saved, encoded[part])
            systems[part] = {FINE_TUNED: task.figures(encoded[part], predicted)}
            systems[part] |= task.baselines(prepared.examples, encoded, part)
            if scratch is not None:
                again = _predict_all(task, network, encoded[part])
                systems[part][FROM_SCRATCH] = task.figures(encoded[part], again)
            lines = map(task.prediction, prepared.examples[part], predicted)
            write_lines(folder / f"predictions-{part}.jsonl", lines)
        record = {
            "task": config.name,
            "source": prepared.pretrained.provenance,
            **task.facts(),
            "ran": ran,
            "steps": fitted.steps,
            "best_step": fitted.best_step,
            "training_s": round(fitted.seconds, 2),
            "history": fitted.history,
            **systems,
        }
        refuse_not_finite(systems, config)
        result = TaskResult(task, record, systems)
        draw_plots(task.plots(), result.test[FINE_TUNED], folder, log)
        write_record(folder, record, config, log)
    return result


def _predict_all(task: FinetuneTask, model: Any, part: EncodedPart) -> list[Any]:
    import torch

    from finetune.task_batches import predictions

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    groups = by_length(part.lengths, _MEASURED_AT_ONCE)
    found = predictions(task.predict, model.to(device), part, groups, device)
    return [found[number] for number in range(len(part.lengths))]


def _check_batches(config: TaskConfig, world_size: int) -> None:
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
