"""How an objective says which samples it wants; no numpy, so that a config can say it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

TOKEN_STREAM = "pretrain.data.token_stream:TokenStream"
"""The index that cuts the documents of a corpus, laid end to end, into equal samples."""
SENTENCE_PAIRS = "pretrain.data.sentence_pairs:SentencePairs"
"""The index of samples of two parts of text."""
FULL_SENTENCES = "pretrain.data.full_sentences:FullSentences"
"""The index of samples of whole sentences, up to a length."""

CONVERSATIONS = "pretrain.data.conversations:Conversations"
"""The index of samples of whole conversations, with the tokens among them that a model is to say."""

PairKind = Literal["next_sentence", "sentence_order"]
"""What a second part is: it follows in the text or is random; or the two parts are in their order or swapped."""


@dataclass(frozen=True)
class SampleCutting:
    """How an objective wants the corpora cut into samples.

    Attributes:
        index: what finds sample number n, as `module:Class`; see `pretrain/data/sample_index.py`.
        stride_tokens: tokens by which one sample begins after the other; each is a label once per epoch.
        overlap_tokens: tokens beyond those that a sample has in common with the next one (1 for next-token labels).
        marks_documents: whether samples come with `document_starts`.
    """

    rule: ClassVar[str | None] = None
    """A name for how the index cuts, to be changed when it cuts otherwise: part of what a resume and a comparison of
    validations compare. None: as it ever did."""
    marks_sentences: ClassVar[bool] = False
    """Whether samples come with `sentence_starts`."""
    marks_answers: ClassVar[bool] = False
    """Whether samples come with `answers`."""

    index: str
    stride_tokens: int
    overlap_tokens: int = 0
    marks_documents: bool = False


@dataclass(frozen=True)
class PairSampleCutting(SampleCutting):
    """Cutting of pairs; `stride_tokens` is the most that both parts have together.

    Attributes:
        pairs: what second parts are.
        short_rate: share of the samples whose target length is drawn between 2 and the most.
    """

    rule: ClassVar[str | None] = "long sentences at drawn places, orders from both ends"

    pairs: PairKind = "next_sentence"
    short_rate: float = 0.1


@dataclass(frozen=True)
class SentenceSampleCutting(SampleCutting):
    """Cutting of whole sentences whose beginnings are told; `stride_tokens` is the most that they have together."""

    marks_sentences: ClassVar[bool] = True


@dataclass(frozen=True)
class ConversationCutting(SampleCutting):
    """Packing of whole conversations; `stride_tokens` is the most that those of a sample have together.

    Attributes:
        packing: whether a sample holds as many as have room; if not, each stands in a sample of its own.
    """

    rule: ClassVar[str | None] = "best fit, longest first"
    marks_answers: ClassVar[bool] = True

    packing: bool = True
