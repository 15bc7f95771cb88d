"""How a run takes over the weights of another model: what differs between the two."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from configs.section import Section


class StartOptions(Section):
    """What to do where the model that a run starts from differs from its own."""

    new_rows: Literal["mean", "drawn"] = "mean"
    """Rows of token ids that the source does not know: the mean of the rows that it does, or drawn as initial ones."""
    extend_positions: Literal["interpolate", "repeat"] | None = None
    """A learned table of positions for a longer `model.seq_length`: stretched over it (first and last row stay, those
    between are interpolated), or repeated; null: refused."""
    rescale_rotary: bool = False
    """Whether other rotary angles than the source's are accepted (`model.rotary_base`, `model.rotary_scaling`, an
    encoder's `model.global_rotary_base`, `model.local_rotary_base`), as longer samples want them."""
    accept_tokenizer: bool = False
    """Whether another tokenizer than the source's is accepted, whose ids mean other text."""
    check_logits: bool = True
    """Whether the logits of a Hugging Face source are compared with those of transformers before the first step."""
    check_parameters: int = Field(default=300_000_000, gt=0)
    """Weights above which that is done on the first layers only."""
