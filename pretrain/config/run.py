"""The whole config of a pretraining run, in one frozen value."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, model_validator

from configs.durations import Duration, Units
from configs.kinds import ChosenBy
from configs.paths import InputPath, OutputPath
from configs.section import Section
from pretrain.config.data import DataConfig
from pretrain.config.kinds import FAMILIES, NETWORK_METHODS, OBJECTIVES, OPTIMIZERS
from pretrain.config.method import NetworkMethod
from pretrain.config.model import ModelConfig
from pretrain.config.objective import ObjectiveConfig
from pretrain.config.optimizer import OptimizerConfig
from pretrain.config.parallel import ParallelConfig
from pretrain.config.starting import StartOptions
from pretrain.config.training import TrainingConfig
from pretrain.models.parameter_table import ParameterSpec


class EvaluationConfig(Section):
    """Validation while training."""

    interval: Annotated[Duration, Units("steps")] | None = Duration(100, "steps")
    """Steps between two validations; null: only at the end."""
    batches: int = Field(default=8, gt=0)
    """Global batches per validation set."""


class CheckpointConfig(Section):
    """Saving and resuming."""

    interval: Annotated[Duration, Units("steps", "seconds")] | None = Duration(500, "steps")
    """Training between two saves, in steps or in time; null: only at the end and on a signal."""
    keep_last: int = Field(default=2, gt=0)
    """Newest checkpoints that are kept."""
    keep_every: Annotated[Duration, Units("steps")] | None = None
    """Checkpoints at multiples of this are kept for ever, such as `10000 steps`; a multiple of `interval`."""
    asynchronous: bool = True
    """Whether training goes on while a checkpoint is hashed and written."""
    resume: Literal["auto", "never", "required"] = "auto"
    """Continue from the newest complete checkpoint in `output` if there is one, ignore it, or insist on one."""
    allow_changes: list[str] = []
    """Keys whose change since the checkpoint is accepted although it changes the run, such as `data.train`."""
    branch_from: InputPath | None = None
    """A run's output, or one `step_...` of it, from which this run goes on where its own `output` holds no checkpoint:
    with its weights, optimizer states, steps and data. It is only read. null: a run without checkpoints is new."""

    @model_validator(mode="after")
    def _keeps_what_is_saved(self) -> CheckpointConfig:
        if self.keep_every is None or self.interval is None or {self.keep_every.unit, self.interval.unit} != {"steps"}:
            return self
        kept, saved = int(self.keep_every.value), int(self.interval.value)
        if saved > 0 and kept % saved:
            nearest = [
                f"{multiple} steps" for multiple in (kept - kept % saved, kept - kept % saved + saved) if multiple
            ]
            raise ValueError(
                f"keep_every is {self.keep_every}, but a checkpoint is saved every {self.interval}: only one in"
                f" {math.lcm(kept, saved)} steps would be kept; expected a multiple of interval, such as"
                f" {' or '.join(nearest)}"
            )
        return self

    def num_saves(self, total_steps: int | None, after: int) -> int | None:
        """How many checkpoints a run of `total_steps` saves after step `after`, signals left out; None: not known."""
        if total_steps is None or (self.interval is not None and self.interval.unit != "steps"):
            return None
        if total_steps <= after:
            return 0
        interval = total_steps if self.interval is None else int(self.interval.value)
        return -(-total_steps // interval) - after // interval

    def notes(self) -> list[str]:
        """What is legal but does less than one may think, a sentence each, to be shown once."""
        if self.keep_every is None or (self.interval is not None and self.interval.unit == "steps"):
            return []
        saves = "only at the end and on a signal" if self.interval is None else f"by time, every {self.interval}"
        return [
            f"checkpoint.keep_every ({self.keep_every}) keeps a checkpoint by chance only: they are saved {saves};"
            " with checkpoint.interval in steps, each multiple is saved and kept"
        ]


class MonitorConfig(Section):
    """Logging."""

    log_interval: int = Field(default=10, gt=0)
    """Steps between two lines of console, TensorBoard and metrics.jsonl."""
    layer_norms_interval: Annotated[Duration, Units("steps")] | None = None
    """Steps between two measurements of the norms of weights, gradients and updates of each layer, for TensorBoard; a
    step that measures holds a copy of its rank's fp32 weights. Null: none."""
    tensorboard: bool = True
    """Whether TensorBoard event files are written to `<output>/tensorboard`."""
    serve_tensorboard: int | None = Field(default=None, ge=0, le=65535)
    """Port on the loopback address where TensorBoard is served during the run, 0: any free one; null: not served."""
    wandb_project: str | None = None
    """Weights & Biases project (extra `wandb`); null: none."""
    peak_tflops: float | None = Field(default=None, gt=0)
    """The device's dense peak for MFU, in TFLOP/s; null: looked up by the device's name, measured on a CPU."""
    report_waiting_after: Annotated[Duration, Units("seconds")] = Duration(60, "seconds")
    """Time that ranks wait for others, to meet or in a collective, before one of them says which have not come."""
    stall_timeout: Annotated[Duration, Units("seconds")] = Duration(1800, "seconds")
    """Time without a finished step after which every rank prints where it is; the run goes on."""

    @model_validator(mode="after")
    def _serves_what_is_written(self) -> MonitorConfig:
        if self.serve_tensorboard is not None and not self.tensorboard:
            raise ValueError(
                f"serve_tensorboard is {self.serve_tensorboard}, but tensorboard is false: there is nothing to serve;"
                " expected serve_tensorboard=null, or tensorboard=true"
            )
        return self


def _model_or_source(schema: dict[str, Any]) -> None:
    """In an editor's schema: the model may be left out where `start_from`, or the run of a branch, says it."""
    schema["required"] = [key for key in schema["required"] if key != "model"]
    branches = {"required": ["checkpoint"], "properties": {"checkpoint": {"required": ["branch_from"]}}}
    schema["anyOf"] = [{"required": ["model"]}, {"required": ["start_from"]}, branches]


class RunConfig(Section):
    """One pretraining run."""

    model_config = ConfigDict(json_schema_extra=_model_or_source)
    renamed: ClassVar[dict[str, str]] = {"output_dir": "output"}

    output: OutputPath
    """Where checkpoints, logs and the summary go; shared by all machines."""
    seed: int = Field(default=1234, ge=0, lt=2**31)
    """Decides initial weights, data order and dropout."""
    model: Annotated[ModelConfig, ChosenBy(FAMILIES)]
    """The network; `name` chooses its family. What is left out of it comes from `start_from`, or from the run of a
    branch, where one is given."""
    start_from: InputPath | None = None
    """Weights to begin with (a run, one of its checkpoints, an export, a local Hugging Face directory), at step 0 and
    with a new optimizer; ignored once `output` holds checkpoints. null: initial weights are drawn."""
    start_from_options: StartOptions = StartOptions()
    """What to do where the source differs from the model."""
    method: Annotated[NetworkMethod, ChosenBy(NETWORK_METHODS)] = Field(default_factory=NETWORK_METHODS.default_section)
    """What of the network is trained; `name` chooses the method: full, or lora."""
    objective: Annotated[ObjectiveConfig, ChosenBy(OBJECTIVES)] = Field(default_factory=OBJECTIVES.default_section)
    """The training objective; `name` chooses it."""
    data: DataConfig
    """What is read."""
    parallel: ParallelConfig = ParallelConfig()
    """How it is spread over the ranks."""
    training: TrainingConfig
    """How long, how much at a time, how precise."""
    optimizer: Annotated[OptimizerConfig, ChosenBy(OPTIMIZERS)]
    """The optimizer and its schedule; `name` chooses the optimizer."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """Validation while training."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """Saving and resuming."""
    monitor: MonitorConfig = MonitorConfig()
    """Logging."""

    @model_validator(mode="after")
    def _kinds_fit(self) -> RunConfig:
        problems = (
            self.objective.problems(self.model)
            + self.optimizer.problems()
            + self.parallel.problems(self.training.precision)
            + self.method.problems(self.model, self.optimizer, self.start_from)
        )
        if self.model.is_encoder_decoder and self.optimizer.layer_decay != 1.0:
            problems.append(
                f"optimizer.layer_decay is {self.optimizer.layer_decay}, and model.name={self.model.name} has two"
                " stacks of layers; expected 1.0"
            )
        if self.model.is_width_scaled and (obstacle := self.optimizer.width_obstacle):
            problems.append(
                f"model.base_hidden_size is set, and optimizer.name={self.optimizer.name} {obstacle};"
                " expected another optimizer, such as adamw, or model.base_hidden_size=null"
            )
        if self.optimizer.embedding_gradient != 1.0 and self.model.token_embedding is None:
            problems.append(
                f"optimizer.embedding_gradient is {self.optimizer.embedding_gradient}, and model.name={self.model.name}"
                " does not say which module looks tokens up; expected 1.0"
            )
        problems += self._branch_problems()
        restart, duration = self.optimizer.restart_at, self.training.duration
        if restart is not None and restart.unit == duration.unit and restart.value >= duration.value:
            problems.append(
                f"optimizer.restart_at is {restart}, and training.duration {duration}: nothing is left to restart for;"
                f" expected less than {duration}, or a longer duration"
            )
        if problems:
            raise ValueError("; ".join(problems))
        self.objective.sampling(self.model, documents_apart=self.data.reset_attention_at_documents)
        return self

    def trained_parameters(self) -> Iterator[ParameterSpec]:
        """What the optimizer updates, and a checkpoint holds; `model.vocab_size` must be known."""
        return self.method.trained_parameters(self.model)

    def _branch_problems(self) -> list[str]:
        branch = self.checkpoint.branch_from
        if branch is None:
            return []
        if self.start_from is not None:
            return [
                f"checkpoint.branch_from is {branch}, and start_from is {self.start_from}: a branch goes on with the"
                " weights of its run; expected one of them to be null"
            ]
        if branch.resolve().is_relative_to(self.output.resolve()):
            return [
                f"checkpoint.branch_from is {branch}, which lies in output ({self.output}): a branch is saved apart"
                " from what it comes from; expected another output"
            ]
        return []
