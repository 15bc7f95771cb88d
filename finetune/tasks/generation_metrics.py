"""Figures of generated texts against reference texts: BLEU, chrF, ROUGE, exact match."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

from data_prep.tokenizer.word_starts import UNSPACED
from finetune.tasks.unspaced import is_unspaced

Counted = Literal["words", "chinese", "characters"]
"""What is counted: words, words with Chinese characters apart, characters."""

_ENOUGH_OTHERS = 0.2
"""Share of the unspaced letters that are not Chinese above which each character is counted alone."""
_NOT_CHINESE = re.compile("[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff]")
"""Letters of scripts without spaces that BLEU's `zh` leaves in one piece: Thai, Lao, Tibetan, Myanmar, Khmer, kana."""
_BLEU = {"words": "13a", "chinese": "zh", "characters": "char"}
_WORD = re.compile(r"[^\W_]+")
_ENDS = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")
"""Where a sentence ends."""


def counted_in(texts: Sequence[str]) -> Counted:
    """What figures of texts count, by their scripts."""
    if not is_unspaced(texts):
        return "words"
    unspaced = sum(len(UNSPACED.findall(text)) for text in texts)
    others = sum(len(_NOT_CHINESE.findall(text)) for text in texts)
    return "characters" if others > _ENOUGH_OTHERS * unspaced else "chinese"


class _Splitter:
    """What ROUGE counts. Of ASCII text the same as rouge-score's own, which drops the letters of all other scripts."""

    def __init__(self, counted: Counted) -> None:
        self.counted = counted

    def tokenize(self, text: str) -> list[str]:
        """Words in small letters, or characters that are no white space."""
        return _WORD.findall(text.lower()) if self.counted == "words" else list("".join(text.lower().split()))


def generation_figures(written: Sequence[str], references: Sequence[str], counted: Counted) -> dict[str, Any]:
    """Figures of a part, from 0 to 100, with what tells others how they were made.

    BLEU and chrF (Papineni et al. 2002, Popović 2015) are those of the whole part, ROUGE (Lin 2004) the mean F1 of its
    texts, exact match the share of texts that are the reference, white space aside.

    Args:
        written: by a system.
        references: one for each.
        counted: what is counted.
    """
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics import BLEU, CHRF

    bleu, chrf = BLEU(tokenize=_BLEU[counted]), CHRF()
    figures: dict[str, Any] = {
        "bleu": bleu.corpus_score(list(written), [list(references)]).score,
        "chrf": chrf.corpus_score(list(written), [list(references)]).score,
    }
    kinds = ["rouge1", "rouge2", "rougeL"]
    scorer = RougeScorer(kinds, tokenizer=_Splitter(counted))
    scores = [scorer.score(reference, text) for text, reference in zip(written, references, strict=True)]
    figures |= {kind: 100 * sum(score[kind].fmeasure for score in scores) / len(scores) for kind in kinds}
    same = sum(text.split() == reference.split() for text, reference in zip(written, references))
    return figures | {
        "exact_match": 100 * same / len(references),
        "written_characters": sum(map(len, written)) / len(written),
        "signatures": {"bleu": str(bleu.get_signature()), "chrf": str(chrf.get_signature()), "rouge": f"f1|{counted}"},
    }


def first_sentence(text: str) -> str:
    """The first sentence of a text, or its first line where that is shorter."""
    return _ENDS.split(text.strip(), maxsplit=1)[0].strip()


BASELINES: dict[str, tuple[str, Callable[[str], str]]] = {
    "copy": ("the source itself", lambda text: text),
    "lead": ("its first sentence", first_sentence),
}
"""By its name in the config: what a system without a model is called, and what it writes for a source."""
