"""What may be changed in training texts, and how much of it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from configs.paths import InputPath, OutputPath
from configs.section import Section

CHANGES = ("deletion", "swap", "synonyms", "keyboard", "ocr", "back_translation")
"""Keys that say how much of a text is changed in which way."""


class AugmentationConfig(Section):
    """Training texts are changed anew in each epoch; those of validation and test never."""

    share: float = Field(default=0.5, gt=0, le=1)
    """Share of the training texts that are changed in an epoch, others each time."""
    deletion: float = Field(default=0.0, ge=0, le=0.5)
    """Probability of each word to be left out (Wei & Zou 2019)."""
    swap: float = Field(default=0.0, ge=0, le=0.5)
    """Probability of each word to change places with the next one."""
    synonyms: float = Field(default=0.0, ge=0, le=1)
    """Probability of each word that has synonyms to be replaced by one of them."""
    synonym_file: InputPath | None = None
    """Words that may stand for each other: a group in each line, parted by commas, in any script."""
    wordnet_dir: InputPath | None = None
    """WordNet's files for English synonyms: a directory with `index.noun` and the others, or nltk's data directory."""
    keyboard: float = Field(default=0.0, ge=0, le=0.5)
    """Probability of each Latin letter to become one beside it on a QWERTY keyboard."""
    ocr: float = Field(default=0.0, ge=0, le=0.5)
    """Probability of each character that has look-alikes to become one, as where a scan is misread: `0` and `O`, `rn`
    and `m`, `己` and `已`."""
    back_translation: float = Field(default=0.0, ge=0, le=1)
    """Probability of a changed text to be its translation there and back, before the other changes (Sennrich et al.
    2016)."""
    translate_there: InputPath | None = None
    """What `seq2seq` wrote: a model that translates the texts into another language."""
    translate_back: InputPath | None = None
    """What `seq2seq` wrote: a model that translates them back."""
    translations: OutputPath | None = None
    """Directory where translations are kept, to be made once; null: `back-translations` beside the output."""
    chinese_words: Literal["characters", "jieba"] = "characters"
    """What a word is in Chinese: a character (or a word of `synonym_file`), or what jieba finds. Of other scripts
    without spaces it is a character."""
    shown: int = Field(default=3, ge=0)
    """Changed texts that are shown before the training."""

    @model_validator(mode="after")
    def _changes_something(self) -> AugmentationConfig:
        if not any(getattr(self, key) for key in CHANGES):
            raise ValueError(f"changes nothing; expected a probability above 0 of one of {', '.join(CHANGES)}")
        sources = [key for key in ("synonym_file", "wordnet_dir") if getattr(self, key) is not None]
        if bool(sources) != bool(self.synonyms) or len(sources) > 1:
            found = ", ".join(sources) or "neither is given"
            raise ValueError(
                f"synonyms is {self.synonyms}, and of synonym_file and wordnet_dir: {found}; expected one of them where"
                " synonyms is above 0"
            )
        both = self.translate_there is not None and self.translate_back is not None
        either = self.translate_there is not None or self.translate_back is not None or self.translations is not None
        if (bool(self.back_translation) != either) or (either and not both):
            raise ValueError(
                f"back_translation is {self.back_translation}; expected translate_there and translate_back where it is"
                " above 0, and neither where it is 0"
            )
        return self
