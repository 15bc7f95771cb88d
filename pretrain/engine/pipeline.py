"""Runs micro-batches through megatron-core's schedules, with the DeepSpeed engine as this rank's stage.

Shape letters: B micro-batch, S sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from megatron.core.pipeline_parallel import get_forward_backward_func, schedules

from pretrain.data.batch import MicroBatch
from pretrain.models import dropout_seeds
from pretrain.models.family import ModelFamily, Output


class Stage:
    """What megatron's schedules take for the model: this rank's stage, called through its DeepSpeed engine."""

    def __init__(self, engine: Any, config: Any) -> None:
        self.engine = engine
        self.config = config
        self.model_type = None

    def set_input_tensor(self, tensor: Any) -> None:
        """Take what the stage before sent."""
        self.engine.module.set_input_tensor(tensor)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the stage forward."""
        return self.engine(*args, **kwargs)


LossFunction = Callable[[Output, MicroBatch], torch.Tensor]
"""The last stage's output for a micro-batch -> the scalar whose gradient is taken."""


class Pipeline:
    """Forward and backward passes of a step's micro-batches.

    Args:
        engine: the DeepSpeed engine around this rank's stage.
        family: runs the stage on a micro-batch.
        transformer_config: megatron-core's config of the stage.
        loss_scale: what the loss is multiplied by before its backward pass.
        seed: of the run, for the dropout seeds.
    """

    def __init__(
        self,
        engine: Any,
        family: ModelFamily,
        transformer_config: Any,
        loss_scale: Callable[[], float],
        seed: int,
    ) -> None:
        self.engine = engine
        self.family = family
        self.stage = Stage(engine, transformer_config)
        self.seed = seed
        transformer_config.finalize_model_grads_func = None
        transformer_config.no_sync_func = None
        transformer_config.grad_sync_func = None
        transformer_config.param_sync_func = None
        transformer_config.grad_scale_func = lambda loss: loss * loss_scale()
        transformer_config.batch_p2p_comm = True
        transformer_config.overlap_p2p_comm = False
        # megatron/core/pipeline_parallel/p2p_communication.py:398 (_communicate): would have the host wait for the
        # device after every exchange, which torch needed before 2.0. Now waiting for the request orders the streams.
        transformer_config.batch_p2p_sync = False

    def run(self, micro_batches: list[MicroBatch], loss: LossFunction, *, step: int, forward_only: bool) -> None:
        """Run the micro-batches through the schedule.

        Args:
            micro_batches: this data rank's, on its device.
            loss: called on the last stage with each micro-batch' output. The schedule divides what it returns by the
                number of micro-batches, in place.
            step: number of the step, for the dropout seeds.
            forward_only: whether to leave out the backward passes.
        """

        def forward_step(batches: Iterator[MicroBatch], stage: Stage) -> tuple[Any, Callable[[Any], Any]]:
            batch = next(batches)
            dropout_seeds.seed_micro_batch(self.seed, step, batch.number)
            output = self.family.forward(stage, self.engine.module, batch)
            return output, lambda output: (loss(output, batch), {})

        with backward_through(self.engine):
            get_forward_backward_func()(
                forward_step_func=forward_step,
                data_iterator=iter(micro_batches),
                model=self.stage,
                num_microbatches=len(micro_batches),
                seq_length=micro_batches[0].tokens_BS.shape[1],
                micro_batch_size=micro_batches[0].tokens_BS.shape[0],
                forward_only=forward_only,
            )


class backward_through:
    """While in force, megatron's backward passes are backward passes of the DeepSpeed engine.

    megatron/core/pipeline_parallel/schedules.py:489 (backward_step) calls autograd itself, and the engine would take it
    for a backward pass of someone else's: it must be told when one begins, when it ended (to reduce and partition),
    and that its bookkeeping of the micro-batch is over. Without the last, ZeRO-3 overwrites where it should add.
    """

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self._original: Any = None

    def __enter__(self) -> None:
        self._original = schedules.backward_step
        schedules.backward_step = self._backward_step

    def __exit__(self, *exception: object) -> None:
        schedules.backward_step = self._original

    def _backward_step(self, *args: Any, **kwargs: Any) -> Any:
        engine = self.engine
        with engine._running_engine_backward_lock:
            engine._running_engine_backward_count += 1
            engine._running_engine_backward = True
        try:
            gradient = self._original(*args, **kwargs)
            engine._backward_epilogue()
            end_micro_batch(engine)
            return gradient
        finally:
            with engine._running_engine_backward_lock:
                engine._running_engine_backward_count -= 1
                engine._running_engine_backward = engine._running_engine_backward_count > 0


def end_micro_batch(engine: Any) -> None:
    """Close the optimizer's bookkeeping of this micro-batch's backward pass (upstream: at the next forward)."""
    engine.optimizer.clear_backward_seen_flag()
