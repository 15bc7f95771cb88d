"""Whether the fast engine gives the same ids as the vocabulary's own library, on texts of the corpus itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from configs.errors import ConfigError, MachineError, nearest
from data_prep.tokenizer.engines import EngineError, EngineName, explaining
from data_prep.tokenizer.interface import Tokenizer
from data_prep.tokenizer.loading import load_tokenizer
from data_prep.tokenizer.roles import KNOWN_SPELLINGS

_BATCH_CHARS = 1 << 18
_SHOWN_IDS = 4
_NO_FASTER = ("tiktoken",)
_WANTED = ("reference", "kitoken", "auto")
PROBES = (
    "",
    " ",
    "  two  spaces   three ",
    "\n\n\tindented\r\n    line\u00a0no-break\u3000wide \n \n",
    "a literal \u2581 and \u2581\u2581word\u2581",
    "\x00 \x1f \x7f \u200b\u00ad \ufeff \ufffd \U0010ffff",
    "na\u00efve cafe\u0301 Stra\u00dfe \u0130stanbul \ufb01ne \u00bd \u2460 \u2122",
    "\u65e5\u672c\u8a9e \ud55c\uad6d\uc5b4 \u0639\u0631\u0628\u064a \u0939\u093f\u0928\u094d\u0926 \u0e44\u0e17\u0e22",
    "\U0001f600\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f1eb\U0001f1f7",
    "0123456789 3.14159e-10 1,000,000 it's I'LL don't",
    "if (x != y) { return [[0]] + f'{x!r}'; }  // --->>> ======",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" * 5,
    "x" * 1000 + " " * 1000 + "\n" * 300,
)
"""Texts that engines are known to differ on; compared besides those of the corpus."""


@dataclass(frozen=True)
class ParityResult:
    """What a comparison of two engines found.

    Attributes:
        identical: whether all ids were equal.
        documents: how many texts of the sample were compared, up to the first difference.
        bytes: UTF-8 bytes of these texts.
        first_difference: where the first difference is and what it is, None without one.
    """

    identical: bool
    documents: int
    bytes: int
    first_difference: str | None = None


def check_parity(path: Path | str, texts: Iterable[str]) -> ParityResult:
    """Compare the ids that `kitoken` and the reference library give `texts`, and some texts known to be hard.

    Raises:
        DataError: if there is no tokenizer at `path`; `EngineError` if kitoken cannot read it.
        MachineError: if a library is not installed.
    """
    reference, fast = load_tokenizer(path), load_tokenizer(path, "kitoken")
    documents = size = 0
    for name, batch in _batches(reference, texts):
        expected = reference.encode_batch(batch)
        with explaining(Path(path), "kitoken"):
            found = fast.encode_batch(batch)
        for number, (text, one, other) in enumerate(zip(batch, expected, found)):
            if one != other:
                where = (
                    f"document {documents + number + 1} of the sample"
                    if name == "sample"
                    else f"the probe {text[:40]!r}"
                )
                difference = f"{where}, {_difference(reference, one, other)}"
                return ParityResult(False, documents + (number + 1) * (name == "sample"), size, difference)
        if name == "sample":
            documents += len(batch)
            size += sum(len(text) if text.isascii() else len(text.encode()) for text in batch)
    return ParityResult(True, documents, size)


def choose_engine(
    path: Path | str, wanted: Literal["reference", "kitoken", "auto"], texts: Iterable[str]
) -> tuple[EngineName, str]:
    """Which engine to use, and a sentence that says why, for the user to read.

    Args:
        path: the tokenizer.
        wanted: `reference`; `kitoken` takes the fast one where it gives the same ids, and is an error where it is not
            installed; `auto` is not, and takes it only for kinds of vocabularies for which it is faster.
        texts: a sample of what is to be encoded.

    Raises:
        ConfigError: if there is no engine of that name.
        MachineError: if kitoken is wanted and not installed.
    """
    if wanted not in _WANTED:
        raise ConfigError(
            f"there is no engine {wanted!r}",
            where="engine",
            expected=f"one of {', '.join(_WANTED)}",
            nearest=nearest(wanted, _WANTED),
        )
    reference = load_tokenizer(path)
    library = reference.library
    if wanted == "reference":
        return "reference", f"using {library}, as asked"
    if wanted == "auto" and reference.kind in _NO_FASTER:
        return "reference", f"using {library}: kitoken is not faster for its vocabularies"
    try:
        result = check_parity(path, texts)
    except MachineError as error:
        if wanted == "kitoken":
            raise
        return "reference", f"kitoken: {error.problem} ({error.expected}); using {library}"
    except EngineError as error:
        return "reference", f"{error.problem}; using {library}"
    if not result.identical:
        return "reference", f"kitoken differs from {library} on {result.first_difference}; using {library}"
    compared = f"{result.documents:,} documents of the sample ({result.bytes:,} bytes)"
    return "kitoken", f"using kitoken: the ids of {compared} are those of {library}"


def _batches(tokenizer: Tokenizer, texts: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    special = [spelling for spellings in KNOWN_SPELLINGS.values() for spelling in spellings]
    special += [tokenizer.piece(token) for token in range(tokenizer.vocab_size) if tokenizer.is_special(token)][:1000]
    yield "probe", [*PROBES, *special, "".join(special)]
    batch: list[str] = []
    chars = 0
    for text in texts:
        batch.append(text)
        chars += len(text)
        if chars >= _BATCH_CHARS:
            yield "sample", batch
            batch, chars = [], 0
    if batch:
        yield "sample", batch


def _difference(reference: Tokenizer, expected: list[int], found: list[int]) -> str:
    at = next((n for n, (a, b) in enumerate(zip(expected, found)) if a != b), min(len(expected), len(found)))
    here, there = expected[at : at + _SHOWN_IDS], found[at : at + _SHOWN_IDS]
    return (
        f"token {at + 1}: {here} ({reference.decode(here)!r}) from {reference.library}, "
        f"{there} ({reference.decode([t for t in there if t < reference.vocab_size])!r}) from kitoken"
    )
