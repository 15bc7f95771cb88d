"""Everything that a pretraining run can be told, in one frozen value."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from configs.durations import Duration
from configs.load import Section
from pretrain.model_config import ModelConfig


class WeightedCorpus(Section):
    """One corpus of a mixture."""

    corpus: Path
    """A corpus directory that `python -m data_prep tokenize` wrote, or a bare Megatron prefix (without .bin/.idx)."""
    weight: float = Field(default=1.0, gt=0)
    """Share of the samples that come from it, relative to the other weights."""


def _as_corpora(value: Any) -> Any:
    items = value if isinstance(value, list) else [value]
    return [{"corpus": item} if isinstance(item, str | Path) else item for item in items]


Mixture = Annotated[list[WeightedCorpus], BeforeValidator(_as_corpora), Field(min_length=1)]


class DataConfig(Section):
    """What is read."""

    train: Mixture
    """The training mixture: one path, or a list of paths or of {corpus, weight}."""
    validation: dict[str, Mixture] = {}
    """Validation sets by name; empty: the validation part of the training corpora, named `validation`."""
    test: dict[str, Mixture] = {}
    """Test sets by name, evaluated once at the end; empty: the test part of the training corpora."""
    split: tuple[float, float, float] = (0.98, 0.01, 0.01)
    """Shares of each training corpus' documents that train, validate and test; a hash of its number places each."""
    tokenizer: Path | None = None
    """Tokenizer directory; null: the copy that lies in the first training corpus."""
    reset_attention_at_documents: bool = False
    """Whether a token attends only within its own document of a packed sample (positions restart, too)."""
    index_cache: Path | None = None
    """Where the sample index is kept, on a disk local to the machine; null: `<output_dir>/index`."""
    prefetch_batches: int = Field(default=2, ge=0)
    """Global batches that are read ahead."""

    @field_validator("validation", "test")
    @classmethod
    def _named(cls, sets: dict[str, list[WeightedCorpus]]) -> dict[str, list[WeightedCorpus]]:
        for name in sets:
            # A name is a part of curves' names, which a slash would cut in two, and of lines of text.
            if not name or name != name.strip() or not name.isprintable() or set(name) & set("/\\"):
                raise ValueError(
                    f"{name!r} cannot be the name of a set; expected visible characters without slashes, such as 'wiki'"
                )
        return sets

    @model_validator(mode="after")
    def _names_differ(self) -> DataConfig:
        # Records and curves know a set by its name alone.
        names = {part: set(getattr(self, part)) or {part} for part in ("validation", "test")}
        if not self.test and self.split[2] == 0:
            names["test"] = set()
        if not self.validation and self.split[1] == 0:
            names["validation"] = set()
        for name in sorted(names["validation"] & names["test"]):
            other = next((part for part in names if not getattr(self, part)), None)
            meant = "in data.validation and in data.test" if other is None else f"the default name of the {other} set"
            raise ValueError(f"two sets are called {name!r} ({meant}); expected a name of its own for each")
        return self

    @model_validator(mode="after")
    def _split_sums(self) -> DataConfig:
        if abs(sum(self.split) - 1.0) > 1e-6 or min(self.split) < 0 or self.split[0] <= 0:
            raise ValueError("split must be three shares that sum to 1, the first above 0, such as [0.98, 0.01, 0.01]")
        return self


class ParallelConfig(Section):
    """How the model and its state are spread over the ranks; the data-parallel size is what is left."""

    tensor_size: int = Field(default=1, gt=0)
    """Ranks that share each layer's matrices."""
    pipeline_size: int = Field(default=1, gt=0)
    """Stages that the layers are cut into (1F1B schedule)."""
    sequence_parallel: bool = False
    """Whether norms and dropouts are split along the sequence within each tensor group."""
    zero_stage: Literal[0, 1, 2, 3] = 1
    """What data-parallel ranks shard: 0 nothing, 1 optimizer state, 2 gradients too, 3 parameters too."""
    zero3_persistent_elements: int = Field(default=100_000, ge=0)
    """At stage 3, weights of up to so many elements (norms, biases) stay whole on each rank and are not gathered."""
    offload_optimizer: bool = False
    """Whether master weights and moments live in host memory (needs zero_stage >= 1)."""
    recompute: Literal["none", "selective", "full"] = "none"
    """What is computed again in the backward pass to save memory: nothing, the core attention, every layer."""


class BatchRamp(Section):
    """A batch size that grows linearly from `start` to `training.global_batch_size`."""

    start: int = Field(gt=0)
    """Samples per step at the beginning."""
    increment: int = Field(gt=0)
    """Samples per step that each stage of the ramp adds."""
    samples: int = Field(gt=0)
    """Samples over which the ramp stretches."""


class TrainingConfig(Section):
    """How long, how much at a time, how precise."""

    duration: Duration
    """Length of the run, such as `1000 steps` or `2B tokens`."""
    session_limit: Duration | None = None
    """Steps or time after which this session saves and stops; the same command continues. Null: none."""
    micro_batch_size: int = Field(gt=0)
    """Samples per rank per forward pass."""
    global_batch_size: int = Field(gt=0)
    """Samples per optimizer step, over all ranks."""
    batch_ramp: BatchRamp | None = None
    """A smaller batch at the beginning; null: the same batch all along."""
    precision: Literal["fp32", "bf16", "fp16"] = "bf16"
    """Number format of weights and activations; master weights and moments are always fp32."""
    device: Literal["auto", "cpu"] = "auto"
    """Where to train: on GPUs where there are some, or on the CPU in any case."""
    initial_loss_scale: float = Field(default=65536.0, ge=1)
    """Where fp16's dynamic loss scale starts."""
    max_skipped_steps: int = Field(default=10, ge=0)
    """Non-finite steps in a row after which the run stops itself."""


class OptimizerConfig(Section):
    """AdamW and its schedule."""

    lr: float = Field(gt=0)
    """Peak learning rate."""
    min_lr: float = Field(default=0.0, ge=0)
    """Learning rate at the end of the decay."""
    schedule: Literal["cosine", "linear", "constant", "inverse_sqrt", "wsd"] = "cosine"
    """Shape after the warm-up; wsd is warmup-stable-decay."""
    warmup: Duration = Duration(0, "steps")
    """Linear warm-up from 0, in steps, samples or tokens."""
    decay: Duration | None = None
    """Length of the decay: null means up to the end of the run (wsd: its last tenth)."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Decay of the first moment."""
    beta2: float = Field(default=0.95, ge=0, lt=1)
    """Decay of the second moment."""
    epsilon: float = Field(default=1e-8, gt=0)
    """Added to the denominator."""
    weight_decay: float = Field(default=0.1, ge=0)
    """Decoupled weight decay of matrices and embeddings; norms and biases get none."""
    clip_grad_norm: float = Field(default=1.0, ge=0)
    """Gradients are scaled down to this global norm; 0: never."""

    @model_validator(mode="after")
    def _ordered(self) -> OptimizerConfig:
        if self.min_lr > self.lr:
            raise ValueError(f"min_lr {self.min_lr} is above lr {self.lr}")
        return self


class EvaluationConfig(Section):
    """Validation while training."""

    interval: Duration | None = Duration(100, "steps")
    """Steps between two validations; null: only at the end."""
    batches: int = Field(default=8, gt=0)
    """Global batches per validation set."""


class CheckpointConfig(Section):
    """Saving and resuming."""

    interval: Duration | None = Duration(500, "steps")
    """Training between two saves, in steps or in time; null: only at the end and on a signal."""
    keep_last: int = Field(default=2, gt=0)
    """Newest checkpoints that are kept."""
    keep_every: Duration | None = None
    """Checkpoints at multiples of this are kept for ever, such as `10000 steps`; a multiple of `interval`."""
    asynchronous: bool = True
    """Whether training goes on while a checkpoint is hashed and written."""
    resume: Literal["auto", "never", "required"] = "auto"
    """Continue from the newest complete checkpoint in `output_dir` if there is one, ignore it, or insist on one."""
    allow_changes: list[str] = []
    """Keys whose change since the checkpoint is accepted although it changes the run, such as `data.train`."""

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
    """What can be watched."""

    log_interval: int = Field(default=10, gt=0)
    """Steps between two lines of console, TensorBoard and metrics.jsonl."""
    tensorboard: bool = True
    """Whether TensorBoard event files are written to `<output_dir>/tensorboard`."""
    serve_tensorboard: int | None = Field(default=None, ge=0, le=65535)
    """Port on the loopback address where TensorBoard is served during the run, 0: any free one; null: not served."""
    wandb_project: str | None = None
    """Weights & Biases project (extra `wandb`); null: none."""
    peak_tflops: float | None = Field(default=None, gt=0)
    """The device's dense peak for MFU, in TFLOP/s; null: looked up by the device's name, measured on a CPU."""
    stall_timeout: Duration = Duration(1800, "seconds")
    """Time without a finished step after which every rank prints where it is; the run goes on."""

    @model_validator(mode="after")
    def _serves_what_is_written(self) -> MonitorConfig:
        if self.serve_tensorboard is not None and not self.tensorboard:
            raise ValueError(
                f"serve_tensorboard is {self.serve_tensorboard}, but tensorboard is false: there is nothing to serve;"
                " expected serve_tensorboard=null, or tensorboard=true"
            )
        return self


class RunConfig(Section):
    """One pretraining run."""

    output_dir: Path
    """Where checkpoints, logs and the summary go; shared by all machines."""
    seed: int = Field(default=1234, ge=0, lt=2**31)
    """Decides initial weights, data order and dropout."""
    model: ModelConfig
    """The network."""
    data: DataConfig
    """What is read."""
    parallel: ParallelConfig = ParallelConfig()
    """How it is spread over the ranks."""
    training: TrainingConfig
    """How long, how much at a time, how precise."""
    optimizer: OptimizerConfig
    """AdamW and its schedule."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """Validation while training."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """Saving and resuming."""
    monitor: MonitorConfig = MonitorConfig()
    """What can be watched."""
