"""The declaration of the masked objective."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from configs.section import Section
from pretrain.config.model import ModelConfig
from pretrain.config.objective import ObjectiveConfig, SampleCutting
from pretrain.config.sampling import FULL_SENTENCES, TOKEN_STREAM

SPECIALS_PER_ROW = 2
"""The classification token and the separator."""


class MaskRateStage(Section):
    """A stretch of the run with one mask rate."""

    from_sample: int = Field(ge=0)
    """Number of the first sample that has it, counted from the start of the run."""
    rate: float = Field(gt=0, le=1)
    """Share of the tokens that is chosen."""


class LengthStage(Section):
    """A stretch of the run with one row length."""

    from_sample: int = Field(ge=0)
    """Consumed samples (of model.seq_length) from which on it holds; a step has the length with which it begins."""
    length: int = Field(gt=0)
    """Tokens in a row: model.seq_length divided by a whole number."""


class MaskedConfig(ObjectiveConfig):
    """At each chosen position, say the token that was there (Devlin et al. 2019, section 3.1)."""

    implementation: ClassVar[str] = "pretrain.objectives.masked:MaskedObjective"

    labels_special_tokens: ClassVar[bool] = False
    evaluation_keys: ClassVar[tuple[str, ...]] = ("evaluation_mask_rate",)
    trains_pair_head: ClassVar[bool] = False
    """Whether pairs of texts have labels."""

    name: str = "masked"
    """Which objective it is."""
    mask_rate: float = Field(default=0.15, gt=0, le=1)
    """Share of a row's tokens that is chosen, special tokens aside: round(rate x tokens), at least one."""
    mask_rate_schedule: list[MaskRateStage] | None = None
    """Other rates from given samples on; `mask_rate` holds before the first. Null: one rate all along."""
    selection: Literal["token", "whole_word", "span"] = "token"
    """What is chosen: tokens; all tokens of words; spans of words (SpanBERT: geometric, p = 0.2, up to 10)."""
    replaced_by_mask: float = Field(default=0.8, ge=0, le=1)
    """Share of the chosen positions that read the mask token; of `span`, share of the spans."""
    replaced_by_random: float = Field(default=0.1, ge=0, le=1)
    """Share that reads a random token, never a special one; the rest keeps its own."""
    evaluation_mask_rate: float = Field(default=0.15, gt=0, le=1)
    """The rate in evaluations, of single tokens, 80 % of them masked and 10 % random, whatever the training's; their
    masks are the same for every seed."""
    length_schedule: list[LengthStage] | None = None
    """Shorter rows from given samples on (a sample becomes several rows); null: model.seq_length all along."""
    cutting: Literal["stream", "full_sentences"] = "stream"
    """What a row holds: `stream`, the next tokens of the corpus, wherever they begin; `full_sentences`, as many whole
    sentences as have room (RoBERTa), from a corpus made with sentences=true."""
    add_special_tokens: bool = True
    """Whether a row begins with the classification token and ends with the separator. They belong to the row's first
    and last document where documents are apart."""

    @field_validator("mask_rate_schedule", "length_schedule")
    @classmethod
    def _in_order(cls, stages: Sequence[MaskRateStage | LengthStage] | None) -> object:
        for before, after in pairwise(stages or ()):
            if after.from_sample <= before.from_sample:
                raise ValueError(
                    f"from_sample {after.from_sample} follows {before.from_sample}; expected rising sample numbers"
                )
        return stages

    @model_validator(mode="after")
    def _fits_together(self) -> MaskedConfig:
        if self.replaced_by_mask + self.replaced_by_random > 1 + 1e-9:
            raise ValueError(
                f"replaced_by_mask {self.replaced_by_mask} and replaced_by_random {self.replaced_by_random}"
                " sum to more than 1"
            )
        if self.cutting == "full_sentences" and self.length_schedule is not None:
            raise ValueError(
                "length_schedule cuts samples into rows, and cutting=full_sentences keeps sentences whole; expected one"
                " of the two"
            )
        return self

    @property
    def puts_special_tokens(self) -> bool:
        """See the base class."""
        return self.add_special_tokens

    @property
    def specials_per_row(self) -> int:
        """Positions of a row that special tokens take."""
        return SPECIALS_PER_ROW if self.add_special_tokens else 0

    def lengths(self, model: ModelConfig) -> tuple[int, ...]:
        """See the base class; the longest first."""
        return tuple(sorted({model.seq_length, *(stage.length for stage in self.length_schedule or ())}, reverse=True))

    def length_at(self, consumed_samples: int, model: ModelConfig) -> int:
        """See the base class."""
        stages = self.length_schedule or []
        number = bisect_right(stages, consumed_samples, key=lambda stage: stage.from_sample)
        return stages[number - 1].length if number else model.seq_length

    def evaluated(self) -> dict[str, Any]:
        """See the base class."""
        return {key: getattr(self, key) for key in ("name", "evaluation_mask_rate", "cutting", "add_special_tokens")}

    def sampling(self, model: ModelConfig, *, documents_apart: bool) -> SampleCutting:
        """Every token stands in one sample: there is no overlap.

        Whole sentences are cut at their ends; a sample of the stream is full.

        A sample leaves room for the special tokens of as many rows as it is ever cut into, so that each token is read
        at every length; with special tokens and a length schedule, longer rows therefore end with a little padding.
        """
        if self.cutting == "full_sentences":
            room = max(1, model.seq_length - self.specials_per_row)
            return SampleCutting(FULL_SENTENCES, room, marks_documents=documents_apart)
        most_rows = model.seq_length // min(self.lengths(model))
        text_tokens = model.seq_length - self.specials_per_row * most_rows
        return SampleCutting(TOKEN_STREAM, max(1, text_tokens), marks_documents=documents_apart)

    def problems(self, model: ModelConfig) -> list[str]:
        """See the base class."""
        found = []
        if model.is_causal:
            found.append(
                f"objective.name={self.name} asks for tokens from both sides, and model.name={model.name} is causal;"
                " expected objective.name=causal, or an encoder, such as model.name=bert"
            )
        if model.is_encoder_decoder:
            found.append(
                f"objective.name={self.name} has no target for the decoder of model.name={model.name}; expected"
                " objective.name=span_corruption or text_infilling, or an encoder, such as model.name=bert"
            )
        if model.has_pair_head and not self.trains_pair_head:
            found.append(f"objective.name={self.name} leaves the pair head untrained; expected model.pooler=false")
        for length in self.lengths(model):
            if model.seq_length % length:
                found.append(
                    f"objective.length_schedule has the length {length}, which is not model.seq_length"
                    f" {model.seq_length} divided by a whole number"
                )
            elif length <= self.specials_per_row:
                found.append(f"rows of {length} tokens have no room for text beside the special tokens")
        return found

    def roles(self) -> tuple[str, ...]:
        """See the base class."""
        return ("mask", "classification", "separator") if self.add_special_tokens else ("mask",)
