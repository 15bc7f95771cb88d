"""The declaration of the masked objective with a second one on pairs of text parts."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field, model_validator

from configs.errors import ConfigError
from pretrain.config.model import ModelConfig
from pretrain.config.sampling import SENTENCE_PAIRS, PairKind, PairSampleCutting
from pretrain.objectives.masked_config import MaskedConfig

SPECIALS_PER_PAIR = 3
"""The classification token and two separators."""
_SHORTEST = SPECIALS_PER_PAIR + 2


class MaskedPairsConfig(MaskedConfig):
    """Masked tokens, and whether two parts of text belong together (Devlin et al. 2019, section 3.1)."""

    implementation: ClassVar[str] = "pretrain.objectives.pair:MaskedPairsObjective"
    trains_pair_head: ClassVar[bool] = True

    name: str = "masked_pairs"
    """Which objective it is."""
    pairs: PairKind = "next_sentence"
    """What is asked of a pair: whether the second part follows in the text or is random (BERT), or whether the two
    parts are in their order or swapped (ALBERT)."""
    pair_coefficient: float = Field(default=1.0, ge=0)
    """What the loss of the pairs is multiplied by in the loss that is trained."""
    short_rate: float = Field(default=0.1, ge=0, le=1)
    """Share of the samples whose target length is drawn uniformly between 2 and the longest."""

    @model_validator(mode="after")
    def _whole_pairs(self) -> MaskedPairsConfig:
        if self.length_schedule is not None:
            raise ValueError("length_schedule cuts samples into rows, and a pair is one row; expected null")
        if self.cutting != "stream":
            raise ValueError(f"cutting is {self.cutting}, and pairs are cut in a way of their own; expected stream")
        if not self.add_special_tokens:
            raise ValueError("add_special_tokens is false, and a pair is [CLS] first [SEP] second [SEP]; expected true")
        return self

    def evaluated(self) -> dict[str, Any]:
        """See the base class."""
        return super().evaluated() | {"pairs": self.pairs, "short_rate": self.short_rate}

    def sampling(self, model: ModelConfig, *, documents_apart: bool) -> PairSampleCutting:
        """Two runs of sentences; they see each other, wherever they come from.

        Raises:
            ConfigError: where documents are to be apart.
        """
        if documents_apart:
            raise ConfigError(
                f"is true, and objective.name={self.name} asks whether two parts belong together",
                where="data.reset_attention_at_documents",
                expected="false",
            )
        return PairSampleCutting(
            SENTENCE_PAIRS,
            max(2, model.seq_length - SPECIALS_PER_PAIR),
            pairs=self.pairs,
            short_rate=self.short_rate,
        )

    def notes(self) -> list[str]:
        """See the base class."""
        if self.pair_coefficient:
            return []
        return ["objective.pair_coefficient is 0: the pair head is not trained, and an export has it as it was drawn"]

    def problems(self, model: ModelConfig) -> list[str]:
        """See the base class."""
        found = super().problems(model)
        if not getattr(model, "has_pair_head", False):
            found.append(
                f"objective.name={self.name} needs a pair head, which model.name={model.name} does not have; expected"
                " model.name=bert with model.pooler=true, or objective.name=masked"
            )
        if getattr(model, "num_token_types", 2) < 2:
            found.append(
                f"objective.name={self.name} tells two parts by two token types, and the model has one; expected"
                " model.token_types=2"
            )
        if model.seq_length < _SHORTEST:
            found.append(f"model.seq_length {model.seq_length} has no room for a pair; at least {_SHORTEST} are needed")
        return found
