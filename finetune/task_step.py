"""One optimizer step of a fine-tuning: its micro-batches forward and backward, and what the ranks tell each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from configs.errors import ConfigError, ExitStatus, UserError
from finetune.adversarial import InputPerturbation
from finetune.task_batches import TaskBatches


@dataclass(frozen=True)
class StepOutcome:
    """What all ranks know after a step.

    Attributes:
        loss: the mean over the step's batch.
        stop: whether any rank was asked to stop.
        save: whether it is time to save.
    """

    loss: float
    stop: bool
    save: bool


def train_step(
    engine: Any,
    data: TaskBatches,
    step: int,
    rate: float,
    *,
    seed: int,
    before_update: Callable[[], None],
    flags: Callable[[], tuple[bool, bool]],
    open_layers: int | None = None,
    perturbation: InputPerturbation | None = None,
) -> StepOutcome:
    """Train on the batch of a step. Collective.

    Args:
        engine: a DeepSpeed engine (`pretrain/engine/task_engine.py`).
        data: gives the losses of this rank's micro-batches.
        step: from 0.
        rate: the learning rate.
        seed: decides dropout, with the step and the micro-batch's place in it: no state that a checkpoint would hold.
        before_update: called before the weights change.
        flags: whether this rank was asked to stop, and whether it is time to save; asked after the backward passes.
        open_layers: layers below the head that have a learning rate; None: all.
        perturbation: of the input embeddings; its second pass is half of the step, which the engine has to know.

    Raises:
        UserError: the loss is not a number (status DIVERGED), or the update is beyond float32.
    """
    import torch
    import torch.distributed as dist

    from pretrain.engine.task_engine import set_learning_rate
    from pretrain.models.dropout_seeds import seed_micro_batch

    set_learning_rate(engine, rate, open_layers)
    engine.train()
    micro_batches = data.losses(engine, step)
    first = dist.get_rank() * len(micro_batches)
    total = torch.zeros(3, device=engine.device)
    for number, compute in enumerate(micro_batches):
        seed_micro_batch(seed, step, first + number)
        is_last = number == len(micro_batches) - 1
        for passed, loss in enumerate(perturbation.passes(compute) if perturbation else (compute(),)):
            engine.backward(loss)
            if is_last and passed == int(perturbation is not None):
                before_update()
            with _float32_range(step + 1, rate):
                engine.step()
            if passed == 0:  # what is told is the loss of the examples as they are
                total[0] += loss.detach().float() / len(micro_batches)
    total[1:] = torch.tensor(flags(), dtype=total.dtype)
    dist.all_reduce(total)
    mean, stop, save = total.tolist()
    mean /= dist.get_world_size()
    if not math.isfinite(mean):
        raise diverged(f"the loss is {mean}", step + 1, rate)
    return StepOutcome(mean, stop > 0, save > 0)


def diverged(what: str, done: int, rate: float) -> UserError:
    """The error of a training that does not give finite numbers any more; status DIVERGED."""
    return UserError(
        f"{what} at step {done}",
        where="training",
        expected=f"finite numbers; a smaller optimizer.lr (it is {rate:.2g} there) or precision=fp32 may help",
        status=ExitStatus.DIVERGED,
    )


@contextmanager
def _float32_range(done: int, rate: float) -> Iterator[None]:
    """Torch computes step sizes in double precision and refuses those that its float32 kernels cannot take."""
    try:
        yield
    except RuntimeError as error:
        if "without overflow" not in str(error):
            raise
        raise ConfigError(
            f"the update of step {done} has a factor beyond float32",
            where="optimizer",
            expected=f"a smaller optimizer.lr (it is {rate:.2g} there) or optimizer.weight_decay",
        ) from None
