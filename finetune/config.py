"""What exporting and importing can be told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from configs.paths import InputPath, OutputPath
from configs.section import Section


class ImportConfig(Section):
    """One Hugging Face model, written as a run of pretraining that stands at step 0."""

    model: InputPath
    """A local Hugging Face directory with safetensors, of an architecture that `export` writes."""
    output: OutputPath
    """The run's directory; it appears only when everything in it is complete and checked."""
    tokenizer: Literal["model", "none"] = "model"
    """model: the directory's tokenizer, or the one in `tokenizer_dir`, goes into the run; none: weights alone."""
    tokenizer_dir: InputPath | None = None
    """The model's tokenizer as `data_prep import-tokenizer` wrote it; null: made of the model's own files."""
    check_logits: bool = True
    """Whether the logits of our model are compared with those of transformers before anything is written."""
    check_parameters: int = Field(default=300_000_000, gt=0)
    """Weights above which that is done on the first layers only."""
    overwrite: bool = False
    """Whether an earlier import in `output` is replaced."""


class ExportConfig(Section):
    """One checkpoint, written for Hugging Face transformers."""

    renamed: ClassVar[Mapping[str, str]] = {"checkpoint": "model"}

    model: InputPath
    """A pretraining run's output directory (its newest checkpoint is taken), or one `step_...` directory."""
    output: OutputPath
    """Directory to write; it appears only when everything in it is complete and checked."""
    base: InputPath | None = None
    """Of a run that trained an adapter: where the model lies that it stands beside; null: where it lay then."""
    weights: Literal["trained", "average"] = "trained"
    """Which are written: those of the last step, or their moving averages (of a run with optimizer.average_decay)."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format of the written weights; the comparison with our model is always made in float32."""
    tokenizer: Literal["huggingface", "sentencepiece-only", "none"] = "huggingface"
    """huggingface: convert ours and refuse if one id differs; sentencepiece-only: copy ours; none: weights alone."""
    tokenizer_dir: InputPath | None = None
    """Our tokenizer; null: the one that the run used."""
    sequences: int = Field(default=4, gt=0)
    """Random sequences of full length on which the logits are compared, besides one of text."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Decides those sequences."""
    max_shard_gb: float = Field(default=5.0, gt=0)
    """Size above which the weights are cut into several files, in GB."""
    overwrite: bool = False
    """Whether an earlier export in `output` is replaced."""
