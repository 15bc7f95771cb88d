"""What every fine-tuning task is told: the pretrained model, the training, where the result goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from configs.durations import Duration, Units
from configs.kinds import ChosenBy, Named
from configs.paths import InputPath, OutputPath
from configs.section import Section
from finetune.augmentation.config import CHANGES, AugmentationConfig
from finetune.distillation.config import DistillationConfig
from finetune.methods.config import FullConfig, MethodConfig
from finetune.methods.kinds import METHODS
from finetune.search.config import SearchConfig
from finetune.tasks.kinds import TASKS
from pretrain.config import OptimizerConfig
from pretrain.config.kinds import OPTIMIZERS
from pretrain.optimizers.adamw_config import AdamWConfig

PRETRAINING_ONLY = ("average_decay", "embedding_gradient", "final_weight_decay", "restart_at")
"""Keys of optimizers that the engine of tasks does not read."""


class TaskTraining(Section):
    """How long, how much at a time, how precise, and which weights are kept."""

    duration: Annotated[Duration, Units("epochs", "steps", "samples")] = Duration(3, "epochs")
    """Length of the training, in epochs, steps or samples."""
    batch_size: int = Field(default=32, gt=0)
    """Samples per optimizer step, over all ranks."""
    micro_batch_size: int | None = Field(default=None, gt=0)
    """Samples per rank per forward pass; null: all of the rank's share of the batch."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Number format of weights and activations."""
    device: Literal["auto", "cpu"] = "auto"
    """Where to train: on GPUs where there are some, or on the CPU in any case."""
    zero_stage: Literal[0, 1, 2, 3] = 0
    """What the ranks shard: 0 nothing, 1 optimizer state, 2 gradients too, 3 parameters too."""
    evaluate_every: Annotated[Duration, Units("epochs", "steps", "samples")] = Duration(1, "epochs")
    """Training between two validations."""
    select_by: str = "loss"
    """Validation figure whose best weights are kept; of equal ones, those of the smaller loss."""
    patience: int | None = Field(default=None, gt=0)
    """Validations without a better figure after which training stops; null: it never stops early."""
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """Rate of every kind of dropout that the model's config names (hidden, attention, embedding, classifier); null: the
    rates of the pretrained model's config."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of each label that is spread over all labels, for tasks whose loss is a cross-entropy (Szegedy et al.
    2016)."""
    r_drop: float = Field(default=0.0, ge=0)
    """Weight of the divergence between two passes of an example that drop out different units (R-Drop, Liang et al.
    2021), for tasks whose loss is a cross-entropy; the passes take twice the memory and time. 0: one pass."""
    adversarial: Literal["none", "fgm", "pgd"] = "none"
    """Whether each micro-batch is also trained with its input embeddings moved to where the loss rises: one step of
    `adversarial_radius` (fgm), or several smaller ones within it (pgd). The loss is the mean of both passes."""
    adversarial_radius: float = Field(default=1.0, gt=0)
    """Largest norm of what is added to the embeddings of an example, over all its tokens."""
    adversarial_steps: int = Field(default=3, gt=0)
    """Steps of pgd."""
    adversarial_step_size: float = Field(default=0.3, gt=0)
    """Norm of a step of pgd."""
    freeze_layers: int | None = Field(default=None, ge=0)
    """Lowest layers that keep their pretrained weights, the embeddings with them; 0: the embeddings alone; null: all is
    trained."""
    unfreeze_every: Annotated[Duration, Units("epochs", "steps", "samples")] | None = None
    """Gradual unfreezing (Howard & Ruder 2018): at first the new head alone has a learning rate, and each such length
    of training the next layer below does, the embeddings last; null: all layers from the beginning."""
    log_interval: int = Field(default=20, gt=0)
    """Steps between two lines on the console."""
    tensorboard: bool = True
    """Whether TensorBoard's event files are written, beside the checkpoints while it runs, then into the output."""
    seed: int | None = Field(default=None, ge=0, lt=2**31)
    """Decides the order, the new layer's weights and dropout; null: the task's `seed`, which also decides the split."""
    save_every: Annotated[Duration, Units("epochs", "steps", "samples", "seconds")] | None = Duration(300, "seconds")
    """Training between two checkpoints, from which the same command goes on after a kill; null: only at the end and on
    a signal."""
    resume: Literal["auto", "never"] = "auto"
    """Whether a training that was stopped or killed goes on from its newest checkpoint, or begins anew."""

    @model_validator(mode="after")
    def _says_what_counts(self) -> TaskTraining:
        for key, methods in _OF_METHODS.items():
            if getattr(self, key) != type(self).model_fields[key].default and self.adversarial not in methods:
                expected = " or ".join(methods)
                raise ValueError(
                    f"{key} is {getattr(self, key)} and adversarial is {self.adversarial}; expected {expected}"
                )
        return self


_OF_METHODS = {
    "adversarial_radius": ("fgm", "pgd"),
    "adversarial_steps": ("pgd",),
    "adversarial_step_size": ("pgd",),
}
"""Which adversarial methods read a key."""


def _default_optimizer() -> OptimizerConfig:
    return AdamWConfig(lr=5e-4, schedule="linear", weight_decay=0.01)


class TaskConfig(Named):
    """A model fine-tuned on a task. A subclass declares one task, with the keys that only it has."""

    product: ClassVar[str] = "model"
    """What comes out, in one word."""
    marker: ClassVar[str] = "task.json"
    """The file in the output that holds all figures, and tells a directory of this task."""
    marker_keys: ClassVar[tuple[str, ...]] = ("source", "ran")
    """Keys that the marker always has."""
    files: ClassVar[tuple[str, ...]] = ()
    """Patterns of what the task writes beside the files that every task writes and those that transformers names."""
    selects: ClassVar[Mapping[str, Literal["highest", "lowest"]]] = {"loss": "lowest"}
    """Validation figures that may select the weights, and which value of them is the best."""

    adapted_as: ClassVar[Literal["SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS", "LM"] | None] = None
    """What the network is to peft, `LM` for any language model; None: it takes no adapter."""

    augments: ClassVar[tuple[str, ...]] = ()
    """Changes of training texts that keep what is learned of them right, as `AugmentationConfig` calls them."""

    distils: ClassVar[bool] = False
    """Whether a network of the task can learn from a teacher."""

    renamed: ClassVar[Mapping[str, str]] = {"output_dir": "output"}

    output: OutputPath
    """Directory to write: the fine-tuned model, its figures, its predictions."""
    overwrite: bool = False
    """Whether an earlier result of the same task in `output` is replaced."""
    seed: int = Field(default=1234, ge=0, lt=2**31)
    """Decides the split, and with `training.seed` null the order, the new layer's weights and dropout."""
    seeds: list[Annotated[int, Field(ge=0, lt=2**31)]] = []
    """Several values for `training.seed`: each is trained and measured by itself, on the one split of `seed`; then the
    mean of their figures is told with its interval, and their ensemble. Empty: one training."""
    model: InputPath
    """A pretraining run's output directory, one `step_...` of it, or an exported model."""
    tokenizer_dir: InputPath | None = None
    """Our tokenizer; null: the one that belongs to the model."""
    training: TaskTraining = TaskTraining()
    """How long, how much at a time, how precise, and which weights are kept."""
    optimizer: Annotated[OptimizerConfig, ChosenBy(OPTIMIZERS)] = Field(default_factory=_default_optimizer)
    """The optimizer and its schedule; `name` chooses the optimizer."""
    method: Annotated[MethodConfig, ChosenBy(METHODS)] = Field(default_factory=FullConfig)
    """Which weights are trained: all, or a small adapter; `name` chooses the method."""
    baselines: list[Literal["scratch"]] = []
    """What is measured beside it: the same network from random weights (which costs as much again)."""

    augmentation: AugmentationConfig | None = Field(default=None, examples=[{"deletion": 0.1}])
    """Training texts that are changed anew in each epoch; null: they stay as they are."""
    distillation: DistillationConfig | None = None
    """A trained network that this one learns from; null: from the right labels alone."""
    search: SearchConfig | None = Field(default=None, examples=[{"space": {"optimizer.lr": [1e-4, 3e-4]}}])
    """Settings of which several values are tried, each in a training of its own; null: one training."""

    @property
    def joins_micro_batch(self) -> bool:
        """Whether an example's loss depends on what else is in its micro-batch, whose size then decides the course."""
        return False

    def placed_beside(self) -> dict[str, Any]:
        """Settings that are null for a place beside `output`, as that place: runs of several seeds share it."""
        return {}

    @property
    def training_seed(self) -> int:
        """What decides the order, the new layer's weights and dropout."""
        return self.seed if self.training.seed is None else self.training.seed

    @model_validator(mode="after")
    def _seeds_differ(self) -> TaskConfig:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds is {self.seeds}; expected different ones")
        if self.seeds and self.training.seed is not None:
            raise ValueError(f"training.seed is {self.training.seed} and seeds is {self.seeds}; expected one of them")
        return self

    @model_validator(mode="after")
    def _changes_fit(self) -> TaskConfig:
        asked = () if self.augmentation is None else [key for key in CHANGES if getattr(self.augmentation, key)]
        unsound = [key for key in asked if key not in self.augments]
        if unsound:
            known = f"expected {', '.join(self.augments)}" if self.augments else "expected no augmentation"
            raise ValueError(
                f"augmentation.{unsound[0]}: what this task learns of a text would not fit the changed one; {known}"
            )
        return self

    @model_validator(mode="after")
    def _teacher_fits(self) -> TaskConfig:
        if self.distillation is None:
            return self
        if not self.distils:
            raise ValueError(f"distillation: {self.name} learns from no teacher; expected null")
        both = {key: getattr(self.training, key) for key in ("r_drop", "adversarial", "unfreeze_every")}
        both["layer_decay"] = self.optimizer.layer_decay
        for key, value in both.items():
            if value not in (0, "none", None) and (key, value) != ("layer_decay", 1):
                raise ValueError(f"{key} is {value}, which goes with no distillation; expected its default")
        return self

    @model_validator(mode="after")
    def _searches_with_one_seed(self) -> TaskConfig:
        if self.search is not None and self.seeds:
            raise ValueError(f"seeds is {self.seeds} and there is a search; expected the best settings' seeds after it")
        return self

    @model_validator(mode="after")
    def _named_as_it_is(self) -> TaskConfig:
        if not isinstance(self, TASKS.declaration(self.name)):
            raise ValueError(f"name is {self.name!r}, but these are the keys of {type(self).__name__}")
        return self

    @model_validator(mode="after")
    def _selects_by_what_there_is(self) -> TaskConfig:
        if self.training.select_by not in self.selects:
            known = ", ".join(self.selects)
            raise ValueError(f"training.select_by is {self.training.select_by!r}; expected one of {known}")
        return self

    @model_validator(mode="after")
    def _method_fits(self) -> TaskConfig:
        problems = self.method.problems(self)
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @model_validator(mode="after")
    def _optimizer_fits(self) -> TaskConfig:
        problems = self.optimizer.problems()
        if self.optimizer.takes_parameters:
            declared = OPTIMIZERS.declarations().items()
            names = [name for name, kind in declared if issubclass(kind, OptimizerConfig) and kind.is_element_wise]
            problems.append(
                f"optimizer.name={self.optimizer.name} updates whole matrices, which pretraining alone can tell it of;"
                f" expected one of {', '.join(names)}"
            )
        for key in PRETRAINING_ONLY:
            given, usual = getattr(self.optimizer, key), type(self.optimizer).model_fields[key].default
            if given != usual:
                known = "null" if usual is None else usual
                problems.append(f"optimizer.{key} is {given}, which only pretraining reads; expected {known}")
        for key in ("warmup", "decay"):
            duration: Duration | None = getattr(self.optimizer, key)
            if duration is not None and duration.unit == "tokens":
                problems.append(
                    f"optimizer.{key} = '{duration}': is in tokens, which texts differ in; expected steps or samples"
                )
        if problems:
            raise ValueError("; ".join(problems))
        return self
