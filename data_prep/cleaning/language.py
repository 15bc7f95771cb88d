"""Language identification with lingua, whose models come with its package, as a datatrove filter."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.filters.base_filter import BaseFilter

from configs.errors import ConfigError, nearest
from data_prep.cleaning.language_codes import two_letters
from data_prep.cleaning.stage_config import LanguageSettings

UNKNOWN = "unknown"


class LinguaFilter(BaseFilter):
    """Keeps documents in the wanted languages; puts `language` and `language_score` into the metadata.

    Args:
        settings: languages and thresholds.
        exclusion_writer: gets each dropped document with its reason: `language_` and the code of another language, or
            `language_uncertain` below the confidence.
    """

    name = "lingua"
    _requires_dependencies = [("lingua", "lingua-language-detector")]

    def __init__(self, settings: LanguageSettings, exclusion_writer: Any = None) -> None:
        super().__init__(exclusion_writer)
        self.keep = frozenset(map(two_letters, settings.keep))
        self.min_confidence, self.max_chars = settings.min_confidence, settings.max_chars
        self.candidates = candidates_of(settings)
        self.low_accuracy = settings.accuracy == "low"

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """Whether the document's language is wanted and sure enough."""
        found = _detector(self.candidates, self.low_accuracy).compute_language_confidence_values(
            doc.text[: self.max_chars]
        )
        best = found[0] if found and found[0].value > 0 else None
        code = best.language.iso_code_639_1.name.lower() if best is not None else UNKNOWN
        score = round(best.value, 4) if best is not None else 0.0
        doc.metadata["language"], doc.metadata["language_score"] = code, score
        if not self.keep:
            return True
        if code not in self.keep:
            return False, f"language_{code}"
        return score >= self.min_confidence or (False, "language_uncertain")


def candidates_of(settings: LanguageSettings) -> tuple[str, ...] | None:
    """The codes that are told apart, None: all that lingua knows.

    Raises:
        ConfigError: for a code that lingua does not know, or a kept language that is no candidate.
    """
    from lingua import Language

    known = {language.iso_code_639_1.name.lower() for language in Language.all()}
    for key, codes in (("keep", settings.keep), ("candidates", settings.candidates or [])):
        for code in codes:
            if two_letters(code) not in known:
                raise ConfigError(
                    f"{code!r} is no language that lingua knows",
                    where=f"language.{key}",
                    expected=f"ISO 639 codes of one of {', '.join(sorted(known))}",
                    nearest=nearest(two_letters(re.split("[-_]", code)[0]), known, cutoff=0.5),
                )
    if settings.candidates is None:
        return None
    candidates = sorted(set(map(two_letters, settings.candidates)))
    missing = sorted(set(map(two_letters, settings.keep)) - set(candidates))
    if missing:
        raise ConfigError(
            f"{missing[0]!r} is kept and not among the candidates",
            where="language.candidates",
            expected="all of language.keep, and what they are told from",
        )
    if len(candidates) < 2:
        raise ConfigError("names one language", where="language.candidates", expected="two or more, or null for all")
    return tuple(candidates)


@lru_cache(maxsize=2)
def _detector(candidates: tuple[str, ...] | None, low_accuracy: bool) -> Any:
    # One for all tasks of a process: the models take seconds to load.
    from lingua import IsoCode639_1, LanguageDetectorBuilder

    if candidates is None:
        builder = LanguageDetectorBuilder.from_all_languages()
    else:
        codes = [getattr(IsoCode639_1, code.upper()) for code in candidates]
        builder = LanguageDetectorBuilder.from_iso_codes_639_1(*codes)
    return (builder.with_low_accuracy_mode() if low_accuracy else builder).build()
