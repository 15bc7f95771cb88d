"""What is compared before an exported tokenizer is kept: its ids with ours, its plain call with pretraining."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from configs.errors import DataError
from data_prep.tokenizer import ROLES, Tokenizer
from data_prep.tokenizer.huggingface_kind import HuggingFaceTokenizer
from finetune.huggingface.plain_call import PlainCall

PROBES: tuple[str, ...] = (
    "The quick brown fox jumps over the lazy dog.",
    "def f(x: int = 0) -> str:\n\treturn f'{x!r}'  # comment\n\n\n",
    "  leading, trailing and   inner spaces  ",
    "\n\n  indented\r\n\ttab\u00a0no-break\u3000wide\u200bzero\u00adsoft",
    "naïve café, Straße, İstanbul, ﬁne, ½ ① ™, a\u0301 e\u0308",
    "emoji 😀👩\u200d👩\u200d👧\u200d👦🏳️\u200d🌈 and 🇫🇷",
    "日本語の文章 한국어 العربية עברית हिन्दी ไทย Ελληνικά русский ქართული ኣማርኛ ᚠᛇᚻ 𐍈 𝔘𝔫𝔦 𓀀",
    "a literal \u2581 and \u2581\u2581word",
    "0123456789 3.14159e-10 1,000,000 0xFF",
    "<s> </s> <unk> <pad> <0x41> <|endoftext|> [MASK]",
    "x" * 300,
    " ",
    "\n",
    "",
)
"""Texts on which tokenizers differ."""
_BEFORE, _AFTER = "The", " of"


def check_same_ids(tokenizer: Tokenizer, directory: Path, texts: Iterable[str] = ()) -> int:
    """Compare what was saved with our tokenizer on `PROBES` and `texts`; returns how many texts were compared.

    The spelling of a special token is text to ours, and to theirs where a call asks for it.

    Raises:
        DataError: the first text that they encode differently.
    """
    # What transformers takes for special tokens in text although told not to, and our tokenizer does not.
    leaks = tokenizer.leaks if isinstance(tokenizer, HuggingFaceTokenizer) else []
    otherwise = f"tokenizer={'sentencepiece-only' if tokenizer.kind == 'sentencepiece' else 'none'}"
    otherwise += " exports the model without transformers' tokenizer"
    theirs = _Theirs(directory)
    compared = 0
    for text in (*PROBES, *texts):
        if any(spelling in text for spelling in leaks):
            continue
        expected = list(tokenizer.encode(text))
        found = theirs(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        if found != expected:
            at = _first_difference(expected, found)
            raise DataError(
                f"the {tokenizer.algorithm} tokenizer has no exact counterpart in transformers: {_shorten(text)!r} "
                f"is {expected[at : at + 4]} here and {found[at : at + 4]} there, from token {at}",
                where=tokenizer.model_path,
                expected=f"equal ids; {otherwise}",
            )
        # An unknown word is a special token, which we decode to nothing.
        if theirs.decode(expected) != tokenizer.decode(expected):
            raise DataError(
                f"{_shorten(text)!r} is decoded differently by transformers",
                where=tokenizer.model_path,
                expected=f"equal text; {otherwise}",
            )
        compared += 1
    return compared


def check_plain_call(tokenizer: Tokenizer, directory: Path, call: PlainCall) -> None:
    """Compare calls without arguments of what was saved with what the model was trained on.

    Texts without special tokens come out as ours with what the call puts around them. Of a text that spells a special
    token, the id of that token comes out where it stands.

    Raises:
        DataError: a text comes out otherwise.
    """
    theirs = _Theirs(directory)
    special = _special_tokens(tokenizer)
    plain = [text for text in PROBES if not any(spelling in text for spelling in special)]
    for text in plain:
        found = theirs(text)
        expected = call.around(list(tokenizer.encode(text)))
        if set(found) != set(call.model_inputs):
            raise _otherwise(tokenizer, text, ", ".join(found), ", ".join(call.model_inputs))
        _require(tokenizer, text, found["input_ids"], expected)
    for spelling, number in special.items():
        text = f"{_BEFORE}{' ' if number == call.mask else ''}{spelling}{_AFTER}"
        found_ids = theirs(text)["input_ids"]
        if call.keeps_spellings:
            expected = call.around(list(tokenizer.encode(text)))
        else:
            whole = call.around([*tokenizer.encode(_BEFORE), number, *tokenizer.encode(_AFTER)])
            # A vocabulary may put a space before a text, and then does or does not after a special token.
            at = whole.index(number, int(call.before is not None))
            expected = whole if number == call.mask else [*whole[: at + 1], *found_ids[at + 1 :]]
        _require(tokenizer, text, found_ids, expected)


def _special_tokens(tokenizer: Tokenizer) -> dict[str, int]:
    """The ids of the tokens with a role that text never holds, by their spelling."""
    leaks = set(tokenizer.leaks) if isinstance(tokenizer, HuggingFaceTokenizer) else set()

    def numbers() -> Iterator[int]:
        yield from (number for role in ROLES if (number := tokenizer.role(role)) is not None)
        yield from tokenizer.sentinels

    spelled = {tokenizer.piece(number): number for number in numbers() if tokenizer.is_special(number)}
    return {spelling: number for spelling, number in spelled.items() if spelling not in leaks}


class _Theirs:
    """The tokenizer of a directory; it warns of texts longer than the context, which does not matter here."""

    def __init__(self, directory: Path) -> None:
        from transformers import AutoTokenizer

        from pretrain.models.huggingface.transformers_model import quiet_transformers

        self._quiet = quiet_transformers
        with quiet_transformers():
            self._tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)

    def __call__(self, text: str, **options: bool) -> dict[str, list[int]]:
        with self._quiet():
            return {name: list(row) for name, row in self._tokenizer(text, **options).items()}

    def decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))


def _require(tokenizer: Tokenizer, text: str, found: list[int], expected: list[int]) -> None:
    """Refuse other ids than expected; names the place where they part."""
    if found != expected:
        at = _first_difference(expected, found)
        parts = (f"{ids[at : at + 4]} from token {at} of {len(ids)}" for ids in (found, expected))
        raise _otherwise(tokenizer, text, *parts)


def _first_difference(one: list[int], other: list[int]) -> int:
    return next((n for n, (a, b) in enumerate(zip(one, other)) if a != b), min(len(one), len(other)))


def _otherwise(tokenizer: Tokenizer, text: str, found: str, expected: str) -> DataError:
    return DataError(
        f"transformers' tokenizer reads {_shorten(text)!r} as {found}",
        where=tokenizer.model_path,
        expected=f"{expected}, as the model was trained; tokenizer=none exports the model without it",
    )


def _shorten(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
