"""A pretrained model + examples of a task -> a fine-tuned model, its figures, its predictions: the same for every task.

Read, encode, fit, save, read back, measure. What is a task's own is in `finetune/tasks/`. A training that was stopped
or killed goes on from its newest checkpoint.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from configs.errors import DataError, ExitStatus
from data_prep.storage.publishing import staged_directory
from finetune.batches import by_length
from finetune.checkpoints import copy_curves, remove_training
from finetune.methods.saving import load_trained, save_trained
from finetune.stopping import stop_request, tidy_when_stopped
from finetune.task_fit import PreparedTask, check_batches, fit_task
from finetune.task_output import check_output, directory_kind, draw_plots, refuse_not_finite, write_lines, write_record
from finetune.tasks.base import FINE_TUNED, FROM_SCRATCH, EncodedPart, FinetuneTask
from finetune.tasks.base_config import TaskConfig

if TYPE_CHECKING:
    from finetune.loop import Fit
    from pretrain.stopping import StopRequest

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


def run_task(
    config: TaskConfig, log: Callable[[str], None] = print, *, measures_test: bool = True
) -> TaskResult | None:
    """Train, choose, save and measure; None on all processes but the first.

    Args:
        config: everything that can be told; its class says which task.
        log: prints a line; called by the first process only.
        measures_test: whether there is a test part; False: its examples are split off and left alone.

    Raises:
        UserError: anything that stands in the way, before training where it can be known.
        SystemExit: with status INTERRUPTED, after a signal asked for a stop; the same call goes on.
    """
    check_output(config)
    with stop_request() as stop:
        fits = _train(config, log, stop, measures_test)
    if fits is None:
        return None
    with tidy_when_stopped(ExitStatus.INTERRUPTED):
        result = _finish(*fits, log, measures_test)
        remove_training(config.output)
        return result


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


def _train(
    config: TaskConfig, log: Callable[[str], None], stop: StopRequest, measures_test: bool
) -> tuple[PreparedTask, Fit, Fit | None, dict[str, Any]] | None:
    """Train, and the baseline from random weights with it; None on all processes but the first.

    Raises:
        SystemExit: a signal asked for a stop.
    """
    task: FinetuneTask = config.implement()(config)
    examples = {part: found for part, found in task.read().items() if measures_test or part != "test"}
    for part in ("train", "validation"):
        if not examples.get(part):
            raise DataError("has no examples", where=f"the {part} part", expected="at least one")
    from finetune.pretrained import read_pretrained
    from pretrain.engine.task_engine import task_processes

    pretrained = read_pretrained(config.model, config.tokenizer_dir)
    if config.training.dropout is not None:
        from finetune.dropout import with_dropout

        pretrained = with_dropout(pretrained, config.training.dropout)
    encoded = {part: task.encode(pretrained, found) for part, found in examples.items()}
    augmented = None
    if config.augmentation is not None:
        from finetune.augmentation.examples import AugmentedExamples

        augmented = AugmentedExamples(config, task, pretrained, examples["train"])
    prepared = PreparedTask(config, task, examples, pretrained, encoded, augmented)
    with task_processes() as launch:
        stop.begin()  # from here on the ranks wait for each other: none may leave alone
        log_here = log if launch.rank == 0 else lambda line: None
        check_batches(config, launch.world_size)
        for line in task.describe(encoded):
            log_here(line)
        if augmented is not None and launch.rank == 0:
            for line in augmented.shown():
                log_here(line)
        if launch.rank == 0:
            for text in task.warnings(pretrained):
                print(f"warning: {text}", file=sys.stderr, flush=True)
        fitted, ran = fit_task(prepared, log_here, stop)
        scratch = None
        if "scratch" in config.baselines:
            log_here("the same network from random weights, for comparison")
            scratch, _ = fit_task(prepared, log_here, stop, from_scratch=True)
        return (prepared, fitted, scratch, ran) if launch.rank == 0 else None


def _finish(
    prepared: PreparedTask,
    fitted: Fit,
    scratch: Fit | None,
    ran: dict[str, Any],
    log: Callable[[str], None],
    measures_test: bool,
) -> TaskResult:
    """Save, read back what was saved, and measure that."""
    config, task, encoded = prepared.config, prepared.task, prepared.encoded
    with staged_directory(config.output, config.marker, config.overwrite, kind=directory_kind(config)) as folder:
        method = save_trained(folder, prepared, fitted.weights)
        saved = load_trained(config, task, prepared.pretrained, folder)
        if scratch is not None:
            network = task.network(prepared.pretrained, from_scratch=True)
            network.load_state_dict(scratch.weights)
        systems: dict[str, dict[str, dict[str, Any]]] = {}
        for part in (part for part in encoded if part != "train"):
            predicted = predict_all(task, saved, encoded[part])
            systems[part] = {FINE_TUNED: task.figures(encoded[part], predicted)}
            systems[part] |= task.baselines(prepared.examples, encoded, part)
            if scratch is not None:
                again = predict_all(task, network, encoded[part])
                systems[part][FROM_SCRATCH] = task.figures(encoded[part], again)
            lines = map(task.prediction, prepared.examples[part], predicted)
            write_lines(folder / f"predictions-{part}.jsonl", lines)
        record = {
            "task": config.name,
            "source": prepared.pretrained.provenance,
            "method": method,
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
        if measures_test:  # else a picture would be called after a part that is not measured
            draw_plots(task.plots(), result.test[FINE_TUNED], folder, log)
        copy_curves(config.output, folder)
        write_record(folder, record, config, log)
    return result


def predict_all(task: FinetuneTask, model: Any, part: EncodedPart) -> list[Any]:
    """What a saved model predicts for each example of a part, in their order."""
    import torch

    from finetune.task_batches import predictions

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    groups = by_length(part.lengths, _MEASURED_AT_ONCE)
    found = predictions(task.predict, model.to(device), part, groups, device)
    return [found[number] for number in range(len(part.lengths))]
