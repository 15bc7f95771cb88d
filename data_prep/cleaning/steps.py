"""Each stage of a recipe as datatrove's step."""

from __future__ import annotations

from typing import Any

import xxhash
from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
    SamplerFilter,
)
from datatrove.pipeline.formatters import FTFYFormatter

from data_prep.cleaning.config import CleanConfig
from data_prep.cleaning.counting import RejectNote
from data_prep.cleaning.language import LinguaFilter
from data_prep.cleaning.masking import Masking
from data_prep.cleaning.words import word_splitter


def document_step(stage: str, config: CleanConfig, note: RejectNote) -> PipelineStep:
    """The step of a stage that looks at one document at a time.

    Args:
        stage: its name in the recipe.
        config: the recipe.
        note: learns why a document is dropped.
    """
    words: Any = word_splitter(config.word_language)
    if stage == "unicode":
        unicode = config.unicode
        return FTFYFormatter(
            normalization=unicode.normalization,
            uncurl_quotes=unicode.uncurl_quotes,
            fix_line_breaks=unicode.fix_line_breaks,
        )
    if stage == "language":
        return LinguaFilter(config.language, note)
    if stage == "gopher_repetition":
        repetition = config.gopher_repetition.model_dump()
        return GopherRepetitionFilter(**repetition, exclusion_writer=note, language=words)  # type: ignore[arg-type]
    if stage == "gopher_quality":
        quality = config.gopher_quality.model_dump()
        return GopherQualityFilter(**quality, exclusion_writer=note, language=words)  # type: ignore[arg-type]
    if stage == "c4":
        return C4QualityFilter(note, language=words, **config.c4.model_dump())  # type: ignore[arg-type]
    if stage == "fineweb":
        return FineWebQualityFilter(note, language=words, **config.fineweb.model_dump())  # type: ignore[arg-type]
    if stage == "pii":
        pii = config.pii
        return Masking(remove_emails=pii.emails, remove_ips=pii.ips, only_remove_public_ips=pii.only_public_ips)
    raise ValueError(f"{stage!r} is no stage of single documents")


class StableSampler(SamplerFilter):
    """Keeps a share of the documents by a hash of their ids, so that neither order nor tasks decide which."""

    def __init__(self, rate: float, seed: int) -> None:
        super().__init__(rate, seed)
        self.seed = seed

    def filter(self, doc: Document) -> bool:
        """Whether the document is taken."""
        return xxhash.xxh3_64_intdigest(doc.id.encode(errors="replace"), seed=self.seed) < self.rate * 2**64
