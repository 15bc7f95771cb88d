"""The declaration of text infilling, the objective of BART."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from pretrain.config.model import ModelConfig
from pretrain.config.sampling import FULL_SENTENCES, SampleCutting, SentenceSampleCutting
from pretrain.objectives.denoising_config import DenoisingConfig

SPECIALS_PER_ROW = 2
"""The classification token and the separator."""


class TextInfillingConfig(DenoisingConfig):
    """Read a text with masks in place of spans and its sentences shuffled, write it whole (Lewis et al. 2020, section
    2.2).
    """

    implementation: ClassVar[str] = "pretrain.objectives.text_infilling:TextInfillingObjective"

    name: str = "text_infilling"
    """Which objective it is."""
    mask_rate: float = Field(default=0.3, gt=0, lt=1)
    """Share of the words of a text that is behind masks, rounded up."""
    mean_span_length: float = Field(default=3.0, ge=0.5, le=100)
    """Words behind one mask on average: their number is drawn from a Poisson distribution; a mask for none is
    inserted."""
    selection: Literal["whole_word", "token"] = "whole_word"
    """What spans are made of: words, or single tokens where the vocabulary does not mark words."""
    permute_sentences: bool = True
    """Whether the sentences of each document are shuffled; rows then hold whole sentences, of a corpus made with
    sentences=true."""
    add_special_tokens: bool = True
    """Whether input and target begin with the classification token and end with the separator (BART's `<s>` and
    `</s>`); if not, they end with the end-of-document token."""

    @property
    def puts_special_tokens(self) -> bool:
        """See the base class."""
        return self.add_special_tokens

    @property
    def reads_words(self) -> bool:
        """See the base class."""
        return self.selection == "whole_word"

    @property
    def specials_per_row(self) -> int:
        """Positions that special tokens take, of an input and of a target."""
        return SPECIALS_PER_ROW if self.add_special_tokens else 1

    def text_tokens(self, model: ModelConfig) -> int:
        """See the base class."""
        return model.seq_length - self.specials_per_row

    def target_tokens(self, model: ModelConfig) -> int:
        """See the base class: the text is written whole."""
        return model.seq_length

    def sampling(self, model: ModelConfig, *, documents_apart: bool) -> SampleCutting:
        """Whole sentences where they are shuffled, else the next tokens of the corpus.

        Raises:
            ConfigError: where documents are to be apart.
        """
        if not self.permute_sentences:
            return super().sampling(model, documents_apart=documents_apart)
        self.refuse_documents_apart(documents_apart)
        return SentenceSampleCutting(FULL_SENTENCES, max(1, self.text_tokens(model)), marks_documents=True)

    def roles(self) -> tuple[str, ...]:
        """See the base class."""
        return ("pad", "mask", *(("classification", "separator") if self.add_special_tokens else ("end_of_document",)))
