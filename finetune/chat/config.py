"""What instruction tuning can be told."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from configs.durations import Duration, Units
from configs.kinds import ChosenBy
from configs.paths import InputPath, OutputPath
from configs.section import Section
from data_prep.config import Paths
from finetune.chat.formats import FORMATS, FormatName
from pretrain.config import OptimizerConfig, ParallelConfig, TrainingConfig
from pretrain.config.kinds import NETWORK_METHODS, OPTIMIZERS
from pretrain.config.method import NetworkMethod
from pretrain.config.run import CheckpointConfig, EvaluationConfig, MonitorConfig
from pretrain.config.starting import StartOptions
from pretrain.objectives.instruct_config import InstructConfig
from pretrain.optimizers.adamw_config import AdamWConfig

OBJECTIVE = "instruct"


class ChatData(Section):
    """Which conversations are read."""

    train: Paths
    """Files of conversations, as data preparation reads files: JSON lines, JSON, Parquet, CSV, TSV, saved datasets."""
    validation: Paths | None = None
    """Files of conversations that validate; null: `validation_share` of those of `train`."""
    validation_share: float = Field(default=0.02, ge=0, lt=1)
    """Share of the conversations that validate, chosen by a hash of their text; 0: none."""
    format: FormatName | Literal["auto"] = "auto"
    """How a record holds a conversation; auto: told by the columns of the first record."""
    columns: dict[str, str] = {}
    """What the files call columns of the format, such as `{messages: dialog}`."""
    max_bad_share: float = Field(default=0.0, ge=0, lt=1)
    """Share of records that are no conversation, or hold the spelling of a special token, up to which they are left
    out and counted; 0: the first one ends the work."""
    max_conversations: int | None = Field(default=None, gt=0)
    """How many of the conversations of `train` are read, the first ones; null: all."""

    @model_validator(mode="after")
    def _columns_known(self) -> ChatData:
        formats = FORMATS.values() if self.format == "auto" else [FORMATS[self.format]]
        known = dict.fromkeys(column for each in formats for column in each.columns)
        for column in self.columns:
            if column not in known:
                raise ValueError(f"columns names {column!r}; expected one of {', '.join(known)}")
        return self


class ChatSettings(Section):
    """How conversations become tokens, and which of these are asked for."""

    template: str = "auto"
    """The chat template: `chatml`, `own` (the model's), or a Jinja file; auto: the model's own where it has one, else
    chatml. It is saved with the model."""
    special_tokens: list[str] = []
    """Spellings that get an id of their own; those of chatml have one in any case."""
    loss_on: list[str] = Field(default=["assistant"], min_length=1)
    """Roles whose messages are asked for."""
    turns: Literal["all", "last"] = "all"
    """Whether all messages of those roles are asked for, or the last one of each conversation."""
    too_long: Literal["truncate", "drop", "refuse"] = "truncate"
    """What becomes of a conversation with more tokens than a sample: its end is cut off, it is left out (both are
    counted), or it ends the work."""

    @field_validator("loss_on")
    @classmethod
    def _each_once(cls, roles: list[str]) -> list[str]:
        if len(set(roles)) < len(roles) or not all(roles):
            raise ValueError(f"loss_on is {roles}; expected each role once, such as [assistant]")
        return roles


class InstructTraining(TrainingConfig):
    """How long, how much at a time, how precise; epochs are counted in samples of the packed conversations."""

    duration: Annotated[Duration, Units("epochs", "steps", "samples", "tokens")] = Duration(3, "epochs")
    """Length of the run, such as `3 epochs` or `1000 steps`; for a limit in time there is `session_limit`."""


def _default_optimizer() -> OptimizerConfig:
    return AdamWConfig(lr=2e-5)


class InstructRunConfig(Section):
    """A decoder trained on conversations, on the engine of pretraining and in any of its layouts."""

    output: OutputPath
    """The run's directory: conversations as tokens, checkpoints, logs, and at the end `model` for transformers."""
    seed: int = Field(default=1234, ge=0, lt=2**31)
    """Decides the order of the data, and dropout."""
    model: InputPath
    """What is trained: a run, one of its checkpoints, an export, or a local Hugging Face directory."""
    tokenizer_dir: InputPath | None = None
    """Our tokenizer of the model; null: the one that belongs to it."""
    start_from_options: StartOptions = StartOptions()
    """What to do where the model differs from what is trained, such as in the rows of added tokens."""
    seq_length: int | None = Field(default=None, gt=1)
    """Tokens in a sample, and the most of a conversation; null: as many as the model reads."""
    data: ChatData
    """Which conversations are read."""
    chat: ChatSettings = ChatSettings()
    """How they become tokens, and which of these are asked for."""
    method: Annotated[NetworkMethod, ChosenBy(NETWORK_METHODS)] = Field(default_factory=NETWORK_METHODS.default_section)
    """What of the model is trained; `name` chooses the method: full, or lora."""
    objective: InstructConfig = InstructConfig()
    """Packing, and what is added to the loss."""
    parallel: ParallelConfig = ParallelConfig()
    """How it is spread over the ranks."""
    training: InstructTraining
    """How long, how much at a time, how precise."""
    optimizer: Annotated[OptimizerConfig, ChosenBy(OPTIMIZERS)] = Field(default_factory=_default_optimizer)
    """The optimizer and its schedule; `name` chooses the optimizer."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """Validation while training."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """Saving and resuming."""
    monitor: MonitorConfig = MonitorConfig()
    """Logging."""
    export_dtype: Literal["float32", "bfloat16"] | None = "float32"
    """Number format of the `model` that is written at the end; null: none is."""

    @model_validator(mode="after")
    def _trains_on_conversations(self) -> InstructRunConfig:
        if self.objective.name != OBJECTIVE:
            raise ValueError(f"objective.name is {self.objective.name!r}; expected {OBJECTIVE}")
        return self
