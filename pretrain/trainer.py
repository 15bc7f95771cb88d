"""Assembles a run from its checked plan, and ends it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from typing import Any

import torch

from configs.load import to_yaml
from data_prep.storage.publishing import staged_file
from pretrain.checkpoint.directory import newest_checkpoint
from pretrain.checkpoint.writer import CheckpointWriter
from pretrain.config import RunConfig
from pretrain.data.loader import BatchLoader
from pretrain.divergence import NonFiniteGuard
from pretrain.engine import cpu_bridge, determinism, topology
from pretrain.engine.engine import TrainEngine
from pretrain.evaluation import Evaluator
from pretrain.lineage import Lineage
from pretrain.models.huggingface.family import obstacle_to_export
from pretrain.monitor.monitor import Monitor
from pretrain.monitor.records import RunOutcome
from pretrain.monitor.summary import write_summary
from pretrain.objectives.objective import make_objective
from pretrain.preflight import Plan
from pretrain.resume import Resumed, resume
from pretrain.schedule.progress import Progress
from pretrain.schedule.run_schedule import RunSchedule
from pretrain.starting.frozen_weights import frozen_weights
from pretrain.starting.start import begin_from
from pretrain.stopping import StopRequest


class Trainer:
    """One process' part of a run, from its start or resume to its end.

    Attributes:
        config: the run.
        topology: where this rank stands.
        engine: runs and updates the model.
        schedule: batch size and learning rate of each step.
        train_loader: gives the global batches.
        monitor: logs the records.
        guard: raises when the run has diverged.
        stop: whether a signal asked for a stop.
        reason_to_stop: why, as far as this rank knew when it was asked last, the run stops after that step; or None.
        progress: where the run stood when this process began.
    """

    def __init__(self, plan: Plan, stop: StopRequest) -> None:
        self.config: RunConfig = plan.config
        self.stop = stop
        self.reason_to_stop: str | None = None
        if plan.config.training.deterministic:
            determinism.enforce()
        self.topology = topology.start(plan.launch, plan.layout, plan.config.monitor.report_waiting_after.value)
        # From here on the ranks wait for each other: none may leave alone.
        stop.begin()
        self._data = plan.data
        objective = make_objective(plan.config, plan.data.tokens, is_evaluation=False)
        frozen = frozen_weights(plan.start, plan.config)
        self.engine = TrainEngine(plan.config, self.topology, objective, frozen)
        if frozen is not None:
            frozen.end()
        self._checkpoints = CheckpointWriter(
            plan.config.output / "checkpoints",
            asynchronous=plan.config.checkpoint.asynchronous,
            keep_last=plan.config.checkpoint.keep_last,
            keep_every_steps=_steps(plan.config.checkpoint.keep_every),
            starts_anew=plan.config.checkpoint.resume == "never",
        )
        self._save_under_way: tuple[int, float] | None = None
        self.engine.before_update = self._end_copy
        resumed = resume(plan.config, self._data, self.engine)
        self.progress, self._data = resumed.progress, resumed.data
        self._lineage = resumed.lineage
        if plan.start is not None and resumed.is_new:
            self._lineage = Lineage(begin_from(plan.start, plan.config, self.engine))
        self.schedule = RunSchedule(
            plan.config.training, plan.config.optimizer, self._data.history.lengths, self.progress
        )
        self._checkpoints.prepare(self.engine.shards())
        self.monitor = Monitor(
            plan.config,
            layout=plan.layout,
            flops_per_token=_flops_per_token(plan.config),
            device_name=self._device_name(),
            total_steps=self.schedule.total_steps,
            is_main=self.is_main,
            resumed_step=self.progress.step or None,
            rank=self.topology.rank,
            evaluation_sets=self._data.evaluation_sets,
        )
        self.guard = NonFiniteGuard(plan.config.training.max_skipped_steps)
        self.train_loader = BatchLoader(
            self._data.train,
            self.engine.objective,
            plan.config.training.micro_batch_size,
            self.topology.data_rank,
            plan.layout.data,
            plan.config.data.prefetch_batches,
        )
        self._evaluator = Evaluator(
            plan.config.evaluation,
            plan.config.training,
            make_objective(plan.config, plan.data.tokens, is_evaluation=True),
            self._data.unigram_nats() if self._data.validation or self._data.test else None,
            self.engine,
            self.topology,
        )
        self._started_s = self._last_save_s = time.monotonic()
        self._write_description()
        self._data.prepare(self.progress.consumed_samples)
        self._greet(plan, resumed)

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which prints and writes files."""
        return self.topology.rank == 0

    def flags(self, progress: Progress) -> tuple[float, float]:
        """The stop flag and the save flag (1.0: set) of this rank at the end of the step that began at `progress`."""
        self.reason_to_stop = self._find_reason(progress)
        return float(self.reason_to_stop is not None), float(self._save_is_due_by_time())

    def _find_reason(self, progress: Progress) -> str | None:
        if self.stop.requested is not None:
            return self.stop.requested
        limit = self.config.training.session_limit
        if limit is None or not self.is_main:
            return None
        session_s, session_steps = time.monotonic() - self._started_s, progress.step + 1 - self.progress.step
        over = session_steps >= limit.value if limit.unit == "steps" else session_s >= limit.value
        return f"the session limit of {limit}" if over else None

    def evaluation_is_due(self, progress: Progress) -> bool:
        """Whether this step is one after which the validation sets are evaluated."""
        interval = _steps(self.config.evaluation.interval)
        return interval is not None and progress.step % interval == 0

    def layer_norms_are_due(self, progress: Progress) -> bool:
        """Whether the step that begins at `progress` measures the norms of each layer."""
        interval = _steps(self.config.monitor.layer_norms_interval)
        return interval is not None and (progress.step + 1) % interval == 0

    def evaluate(self, progress: Progress) -> None:
        """Evaluate the validation sets and report them."""
        for record in self._evaluator.evaluate(self._data.validation, progress.step):
            self.monitor.log_eval(record)

    def save_is_due(self, progress: Progress) -> bool:
        """Whether this step is one after which a checkpoint is saved."""
        interval = _steps(self.config.checkpoint.interval)
        return interval is not None and progress.step % interval == 0

    def _save_is_due_by_time(self) -> bool:
        # The main rank's clock counts.
        interval = self.config.checkpoint.interval
        if not self.is_main or interval is None or interval.unit != "seconds":
            return False
        return time.monotonic() - self._last_save_s >= interval.value

    def save(self, progress: Progress) -> None:
        """Save a checkpoint; returns as soon as the next batch may go forward and backward."""
        self._last_save_s = time.monotonic()
        stall = self._checkpoints.save(progress.step, self.engine.shards(), self._metadata(progress))
        self._save_under_way = (progress.step, stall.total_s)

    def _end_copy(self) -> None:
        """Wait for what the last save is still copying, before the optimizer changes it; say how long it all took."""
        waited_s = self._checkpoints.wait_for_copy()
        if self._save_under_way is not None:
            step, stalled_s = self._save_under_way
            self._save_under_way = None
            self.monitor.log_event(f"checkpoint of step {step}: training stalled {stalled_s + waited_s:.2f} s")

    def finish(self, progress: Progress, reason: str) -> None:
        """Wait for the last save, evaluate the test sets of a finished run, and write the summary."""
        self._end_copy()
        self._checkpoints.wait_all_ranks()
        if reason == "finished":
            for record in self._evaluator.evaluate(self._data.test, progress.step):
                self.monitor.log_eval(record)
        self.monitor.close()
        if self.is_main:
            write_summary(self.config, self._outcome(progress, reason))

    def close(self) -> None:
        """Close files, locks and threads, whatever happened; does not wait for other ranks."""
        for part in ("train_loader", "monitor", "_checkpoints"):
            if hasattr(self, part):
                getattr(self, part).close()

    def _metadata(self, progress: Progress) -> dict[str, Any]:
        layout = self.topology.layout
        return {
            "step": progress.step,
            "optimizer_step": self.engine.optimizer_step(),
            "consumed_samples": progress.consumed_samples,
            "skipped_steps": progress.skipped_steps,
            "loss_scale": self.engine.loss_scale_state(),
            "config": self.config.model_dump(mode="json"),
            "model": self.config.model.model_dump(mode="json"),
            "padded_vocab_size": self.config.model.padded_vocab_size,
            "learning_rate": self.schedule.learning_rate(progress),
            "weight_decay": self.schedule.weight_decay(progress),
            "data_fingerprint": self._data.fingerprint,
            "data_history": self._data.history.encode(),
            "tokenizer_fingerprint": self._data.tokenizer_fingerprint,
            "document_borders": asdict(self._data.document_borders),
            **self._lineage.metadata(),
            "layout": {
                "zero_stage": self.config.parallel.zero_stage,
                **layout,
            },
            "bessemer_version": version("bessemer"),
            "torch_version": torch.__version__,
        }

    def _write_description(self) -> None:
        """What a reader of the directory needs beside the checkpoints: the config, the tokenizer."""
        if not self.is_main:
            return
        with staged_file(self.config.output / "config.yaml") as temporary:
            temporary.write_text(to_yaml(self.config), encoding="utf-8")
        if self._data.tokenizer is not None:
            self._data.tokenizer.copy_to(self.config.output / "tokenizer")

    def _greet(self, plan: Plan, resumed: Resumed) -> None:
        bridge = ", CPU bridge active" if cpu_bridge.is_active() else ""
        self.monitor.log_event(
            f"{self._lineage.opening(self.progress.step)}: {self.config.model.num_parameters():,} parameters,"
            f"{self._beside_them()} {plan.layout}, ZeRO {self.config.parallel.zero_stage},"
            f" {self.config.training.precision}, by {plan.launch.launcher} on {self._device_name()}{bridge}"
        )
        rates = self.schedule.notes() + resumed.notes(self.config, self.schedule)
        counted = self._data.first_epoch_notes() if self.is_main else []
        obstacle = obstacle_to_export(self.config.model)
        exports = [] if obstacle is None else [f"this model will have no Hugging Face export: none has {obstacle}"]
        old = [f"step_{step:08d}" for step in self._checkpoints.superseded]
        anew = [f"checkpoint.resume=never: the first save sets aside {', '.join(old)}"] if old else []
        for note in (
            *(plan.start.notes if plan.start is not None else ()),
            *self.config.model.notes(),
            *self.config.objective.notes(),
            *self.config.checkpoint.notes(),
            *anew,
            *self._data.notes,
            *counted,
            *exports,
            *rates,
        ):
            self.monitor.log_event(note)

    def _beside_them(self) -> str:
        if not self.config.method.freezes:
            return ""
        return f" {sum(spec.elements for spec in self.config.trained_parameters()):,} in the adapter that is trained,"

    def _outcome(self, progress: Progress, reason: str) -> RunOutcome:
        return RunOutcome(
            ended_by=reason,
            step=progress.step,
            total_steps=self.schedule.total_steps,
            consumed_tokens=self.schedule.consumed_tokens(progress),
            skipped_steps=progress.skipped_steps,
            num_parameters=self.config.model.num_parameters(),
            layout=str(self.topology.layout),
            device_name=self._device_name(),
            checkpoint=newest_checkpoint(self.config.output / "checkpoints"),
            started_from=self._lineage.started_from,
            branched_from=self._lineage.branched_from,
            stretches=self._lineage.stretches,
        )

    def _device_name(self) -> str:
        device = self.topology.device
        return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _steps(duration: Any) -> int | None:
    return int(duration.value) if duration is not None and duration.unit == "steps" else None


def _flops_per_token(config: RunConfig) -> Callable[[int], float]:
    """Floating-point operations of a trained token, by the samples consumed before its step."""
    model, objective, method = config.model, config.objective, config.method

    @cache
    def of_length(length: int) -> float:
        return method.flops_per_token(model.model_copy(update={"seq_length": length}))

    return lambda consumed_samples: of_length(objective.length_at(consumed_samples, model))
