"""What exporting and classifying can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from configs.durations import Duration
from configs.kinds import ChosenBy
from configs.section import Section
from data_prep.config import Paths
from pretrain.config import OptimizerConfig
from pretrain.config.kinds import OPTIMIZERS
from pretrain.optimizers.adamw_config import AdamWConfig


class ExportConfig(Section):
    """One checkpoint, written for Hugging Face transformers."""

    checkpoint: Path
    """A pretraining run's output directory (its newest checkpoint is taken), or one `step_...` directory."""
    output: Path
    """Directory to write; it appears only when everything in it is complete and checked."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format of the written weights; the comparison with our model is always made in float32."""
    tokenizer: Literal["huggingface", "sentencepiece-only", "none"] = "huggingface"
    """huggingface: convert ours and refuse if one id differs; sentencepiece-only: copy ours; none: weights alone."""
    tokenizer_dir: Path | None = None
    """Our tokenizer; null: the one that the run used."""
    sequences: int = Field(default=4, gt=0)
    """Random sequences of full length on which the logits are compared, besides one of text."""
    seed: int = Field(default=0, ge=0)
    """Decides those sequences."""
    max_shard_gb: float = Field(default=5.0, gt=0)
    """Size above which the weights are cut into several files, in GB."""
    overwrite: bool = False
    """Whether an earlier export in `output` is replaced."""


class ClassifyData(Section):
    """Labelled texts, and how they are split."""

    train: Paths
    """JSON lines files (also .gz, .zst) of labelled texts."""
    validation: Paths | None = None
    """Files that choose the best epoch; null: a part of `train`, as `split` says."""
    test: Paths | None = None
    """Files of the final figures; null: a part of `train`, as `split` says."""
    text_field: str = "text"
    """Field that holds the text."""
    label_field: str = "label"
    """Field that holds the label: a string, a whole number or true/false."""
    id_field: str = "id"
    """Field that names a text in the predictions; where it is missing, file and position do."""
    labels: list[str] | None = None
    """Labels that count, in the order of their numbers; others are left out. null: all that the training part has."""
    min_label_count: int = Field(default=1, ge=1)
    """Labels with fewer texts in `train` are left out."""
    split: tuple[float, float, float] = (0.8, 0.1, 0.1)
    """Shares of `train` that train, validate and test; the last two count only where no files are named."""
    split_by: str | None = None
    """Field whose equal values stay on one side of the split, such as `package`; null: the text itself."""
    max_tokens: int = Field(default=256, ge=2)
    """Tokens of a text that are read, from its beginning, the closing one included; at most the model's context."""
    append_end_of_document: bool = True
    """Whether that token closes each text, so that the new layer always reads the same token."""
    max_train_samples: int | None = Field(default=None, ge=1)
    """Training texts, chosen by the seed; null: all."""
    max_eval_samples: int | None = Field(default=None, ge=1)
    """The same for validation and for test."""

    @model_validator(mode="after")
    def _split_sums(self) -> ClassifyData:
        if abs(sum(self.split) - 1.0) > 1e-6 or min(self.split) < 0 or self.split[0] <= 0:
            raise ValueError("split must be three shares that sum to 1, the first above 0, such as [0.8, 0.1, 0.1]")
        return self


class TaskTraining(Section):
    """How long, how much at a time, how precise, and which weights are kept."""

    duration: Duration = Duration(3, "epochs")
    """Length of the training, in epochs, steps or samples."""
    batch_size: int = Field(default=32, gt=0)
    """Samples per optimizer step, over all ranks."""
    micro_batch_size: int | None = Field(default=None, gt=0)
    """Samples per rank per forward pass; null: all of the rank's share of the batch."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Number format of weights and activations."""
    zero_stage: Literal[0, 1, 2, 3] = 0
    """What the ranks shard: 0 nothing, 1 optimizer state, 2 gradients too, 3 parameters too."""
    evaluate_every: Duration = Duration(1, "epochs")
    """Training between two validations."""
    select_by: Literal["macro_f1", "accuracy", "loss"] = "macro_f1"
    """Validation figure whose best weights are kept."""
    patience: int | None = Field(default=None, gt=0)
    """Validations without a better figure after which training stops; null: it never stops early."""
    log_interval: int = Field(default=20, gt=0)
    """Steps between two lines on the console."""


def _default_optimizer() -> OptimizerConfig:
    return AdamWConfig(lr=5e-4, schedule="linear", weight_decay=0.01)


class ClassifyConfig(Section):
    """A classifier made of a pretrained model."""

    output_dir: Path
    """Directory to write: the classifier, its figures, its predictions."""
    overwrite: bool = False
    """Whether an earlier classifier in `output_dir` is replaced."""
    seed: int = Field(default=1234, ge=0, lt=2**31)
    """Decides the split, the order, the new layer's weights and dropout."""
    model: Path
    """A pretraining run's output directory, one `step_...` of it, or an exported model."""
    tokenizer_dir: Path | None = None
    """Our tokenizer; null: the one that belongs to the model."""
    data: ClassifyData
    """Labelled texts, and how they are split."""
    training: TaskTraining = TaskTraining()
    """How long, how much at a time, how precise, and which weights are kept."""
    optimizer: Annotated[OptimizerConfig, ChosenBy(OPTIMIZERS)] = Field(default_factory=_default_optimizer)
    """The optimizer and its schedule; `name` chooses the optimizer."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: a label counts in the loss as much as if all were equally frequent."""
    baselines: list[Literal["majority", "tfidf", "scratch"]] = ["majority", "tfidf"]
    """What is measured beside it on the same split: the most frequent label, TF-IDF with logistic regression, and the
    same network from random weights (which costs as much again)."""
