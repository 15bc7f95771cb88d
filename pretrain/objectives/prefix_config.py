"""The declaration of prefix language modelling."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field, field_validator

from configs.errors import ConfigError
from pretrain.config.model import ModelConfig
from pretrain.config.objective import SampleCutting
from pretrain.config.sampling import TOKEN_STREAM
from pretrain.objectives.token_loss_config import TokenLossConfig


class PrefixConfig(TokenLossConfig):
    """Predict the next token behind a prefix whose tokens see each other (Raffel et al. 2020, section 3.2.1)."""

    implementation: ClassVar[str] = "pretrain.objectives.prefix:PrefixObjective"
    evaluation_keys: ClassVar[tuple[str, ...]] = ("evaluation_prefix_share",)

    name: str = "prefix"
    """Which objective it is."""
    prefix_share: tuple[float, float] = (0.0, 1.0)
    """Between which shares of a sample its prefix is drawn, uniformly; it leaves one label at least. [0.5, 1] asks for
    a quarter of the tokens on average, as the sequential denoiser of UL2 does (Tay et al. 2022)."""
    evaluation_prefix_share: float = Field(default=0.5, ge=0, le=1)
    """The prefix in evaluations, of every sample, whatever the training's."""

    @field_validator("prefix_share")
    @classmethod
    def _is_range(cls, share: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= share[0] <= share[1] <= 1:
            raise ValueError(f"prefix_share is {list(share)}; expected two rising shares from 0 to 1, such as [0.5, 1]")
        return share

    def evaluated(self) -> dict[str, Any]:
        """See the base class."""
        return {"name": self.name, "evaluation_prefix_share": self.evaluation_prefix_share}

    def sampling(self, model: ModelConfig, *, documents_apart: bool) -> SampleCutting:
        """As causal samples are cut.

        Raises:
            ConfigError: where documents are to be apart: a prefix may reach over the end of one.
        """
        if documents_apart:
            raise ConfigError(
                f"is true, and the prefix of objective.name={self.name} is one text with the rest of the sample",
                where="data.reset_attention_at_documents",
                expected="false",
            )
        return SampleCutting(TOKEN_STREAM, model.seq_length, overlap_tokens=1)

    def notes(self) -> list[str]:
        """See the base class."""
        return [
            "prefix language modelling: exported classes of transformers read every text causally, its prefix too, and"
            " so does text generation"
        ]

    def problems(self, model: ModelConfig) -> list[str]:
        """See the base class."""
        if model.sees_prefixes:
            return []
        return [
            f"objective.name={self.name} needs a decoder whose attention can be told a prefix, which"
            f" model.name={model.name} is not; expected model.name=gpt"
        ]
