"""`tokenizer-report`: what tokenizers make of the same sample of documents, in all and per file and language."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from configs.errors import DataError
from data_prep.reading.text_sample import SampledDocument, sample_documents
from data_prep.tokenizer import Tokenizer, load_tokenizer
from data_prep.tokenizer.report_config import TokenizerReportConfig
from data_prep.tokenizer.word_starts import UNSPACED

OTHERS = "others"
WORD, CHARACTER, MIXED = "word", "character", "word or character"
_PLURAL = {WORD: "words", CHARACTER: "characters", MIXED: "words_and_characters"}
_BATCH = 64
_SHOWN_CHARS = 60
_LAYOUT = "\n\r\t"


@dataclass(frozen=True)
class Group:
    """Some documents of the sample.

    Attributes:
        name: `all`, a file, or a value of the field that is grouped by.
        kind: `all`, `file` or the name of that field.
        documents: their numbers in the sample.
        text_bytes: their UTF-8 bytes.
        units: what fertility counts: each character of a script written without spaces, and each word between white
            space or such characters.
        unit: `word` where there are no such characters, `character` where most units are, else `word or character`.
    """

    name: str
    kind: str
    documents: np.ndarray
    text_bytes: int
    units: int
    unit: str


@dataclass(frozen=True)
class Figures:
    """What one tokenizer makes of one group.

    Attributes:
        bytes_per_token: UTF-8 bytes of text per token.
        fertility: tokens per unit: see `Group.units`.
        unknown_rate: share of the tokens that are the unknown token.
        byte_rate: share of the tokens that write a byte of a character that the vocabulary lacks.
        layout_byte_rate: the same for line breaks and tabs, which SentencePiece models have no other pieces for.
        round_trip: share of the documents that decode to themselves.
    """

    bytes_per_token: float
    fertility: float
    unknown_rate: float
    byte_rate: float
    layout_byte_rate: float
    round_trip: float


@dataclass(frozen=True)
class TokenizerFigures:
    """What one tokenizer makes of the sample.

    Attributes:
        tokenizer: its path.
        kind, algorithm, vocab_size, fingerprint: what it is.
        ids_in_use: share of its ids that occur in the sample.
        first_failure: the first document that does not decode to itself and where it differs, None without one.
        longest_pieces: of its vocabulary, in characters.
        groups: figures of each group, in the order of `Report.groups`.
    """

    tokenizer: str
    kind: str
    algorithm: str
    vocab_size: int
    fingerprint: str
    ids_in_use: float
    first_failure: str | None
    longest_pieces: list[str]
    groups: list[Figures]


@dataclass(frozen=True)
class Report:
    """Figures of all tokenizers on one sample."""

    documents: int
    text_bytes: int
    groups: list[Group]
    tokenizers: list[TokenizerFigures]

    def to_json(self) -> dict[str, Any]:
        """The same as plain values; each tokenizer's figures by group."""
        groups = [
            {
                "name": group.name,
                "kind": group.kind,
                "documents": len(group.documents),
                "text_bytes": group.text_bytes,
                _PLURAL[group.unit]: group.units,
            }
            for group in self.groups
        ]
        tokenizers = []
        for figures in self.tokenizers:
            named = [
                {"kind": group.kind, "name": group.name, "fertility_per": group.unit, **asdict(values)}
                for group, values in zip(self.groups, figures.groups)
            ]
            tokenizers.append(asdict(figures) | {"groups": named})
        return {"documents": self.documents, "text_bytes": self.text_bytes, "groups": groups, "tokenizers": tokenizers}


def measure_tokenizers(config: TokenizerReportConfig) -> Report:
    """Draw the sample and measure each tokenizer on it.

    Raises:
        DataError: for input or a tokenizer that cannot be used.
        MachineError: if a library that a tokenizer needs is not installed.
    """
    tokenizers = [load_tokenizer(path) for path in config.tokenizers]
    sample = sample_documents(config, config.sample_bytes, config.seed, config.sample_share, [config.group_by])
    if not sample:
        raise DataError("there is no text in any document", where=", ".join(config.input))
    groups = list(_groups(sample, config))
    measured = [
        _measure(path, tokenizer, sample, groups, config.longest)
        for path, tokenizer in zip(config.tokenizers, tokenizers)
    ]
    return Report(len(sample), sum(document.size_bytes for document in sample), groups, measured)


def _groups(sample: Sequence[SampledDocument], config: TokenizerReportConfig) -> Iterator[Group]:
    yield _group("all", "all", range(len(sample)), sample)
    files: dict[str, list[int]] = {}
    values: dict[str, list[int]] = {}
    for number, document in enumerate(sample):
        files.setdefault(document.source, []).append(number)
        if config.group_by in document.fields:
            values.setdefault(str(document.fields[config.group_by]), []).append(number)
    for kind, members in (("file", files), (config.group_by, values)):
        if kind == "file" and len(members) == 1:
            continue
        sizes = {name: sum(sample[number].size_bytes for number in members[name]) for name in members}
        ordered = sorted(members, key=lambda name: (-sizes[name], name))
        for name in ordered[: config.max_groups]:
            yield _group(name, kind, members[name], sample)
        if rest := [number for name in ordered[config.max_groups :] for number in members[name]]:
            yield _group(OTHERS, kind, rest, sample)


def _group(name: str, kind: str, numbers: Sequence[int], sample: Sequence[SampledDocument]) -> Group:
    characters = words = 0
    for number in numbers:
        text = sample[number].text
        if not text.isascii():
            characters += len(UNSPACED.findall(text))
            text = UNSPACED.sub(" ", text)
        words += len(text.split())
    unit = WORD if not characters else CHARACTER if characters > words else MIXED
    size = sum(sample[number].size_bytes for number in numbers)
    return Group(name, kind, np.array(numbers, dtype=np.int64), size, max(1, words + characters), unit)


def _measure(
    path: str, tokenizer: Tokenizer, sample: Sequence[SampledDocument], groups: list[Group], longest: int
) -> TokenizerFigures:
    tokens, unknown, in_bytes, in_layout = (np.zeros(len(sample), dtype=np.int64) for _ in range(4))
    intact = np.zeros(len(sample), dtype=bool)
    seen = np.zeros(tokenizer.vocab_size, dtype=bool)
    is_byte, unknown_id = tokenizer.byte_tokens(), tokenizer.role("unknown")
    is_layout = np.zeros_like(is_byte)
    is_layout[[token for char in _LAYOUT for token in tokenizer.encode(char) if is_byte[token]]] = True
    is_byte &= ~is_layout
    failure = None
    for start in range(0, len(sample), _BATCH):
        batch = sample[start : start + _BATCH]
        flat, lengths = tokenizer.encode_flat([document.text for document in batch])
        seen[flat] = True
        for number, ids in enumerate(np.split(flat, np.cumsum(lengths)[:-1]), start):
            tokens[number] = len(ids)
            unknown[number] = np.count_nonzero(ids == unknown_id) if unknown_id is not None else 0
            in_bytes[number] = np.count_nonzero(is_byte[ids])
            in_layout[number] = np.count_nonzero(is_layout[ids])
            decoded = tokenizer.decode(ids.tolist())
            intact[number] = decoded == sample[number].text
            if failure is None and not intact[number]:
                failure = _failure(sample[number], decoded)
    figures = [
        Figures(
            bytes_per_token=group.text_bytes / max(1, count),
            fertility=count / group.units,
            unknown_rate=int(unknown[group.documents].sum()) / max(1, count),
            byte_rate=int(in_bytes[group.documents].sum()) / max(1, count),
            layout_byte_rate=int(in_layout[group.documents].sum()) / max(1, count),
            round_trip=float(intact[group.documents].mean()),
        )
        for group in groups
        for count in [int(tokens[group.documents].sum())]
    ]
    return TokenizerFigures(
        tokenizer=str(path),
        kind=tokenizer.kind,
        algorithm=tokenizer.algorithm,
        vocab_size=tokenizer.vocab_size,
        fingerprint=tokenizer.fingerprint,
        ids_in_use=float(seen.mean()),
        first_failure=failure,
        longest_pieces=_longest_pieces(tokenizer, longest),
        groups=figures,
    )


def _failure(document: SampledDocument, decoded: str) -> str:
    text = document.text
    at = next((n for n, (a, b) in enumerate(zip(text, decoded)) if a != b), min(len(text), len(decoded)))
    shown = slice(max(0, at - _SHOWN_CHARS // 3), at + _SHOWN_CHARS)
    where = Path(document.source).name
    return f"a document of {where}, character {at + 1}: {text[shown]!r} comes back as {decoded[shown]!r}"


def _longest_pieces(tokenizer: Tokenizer, number: int) -> list[str]:
    pieces = (tokenizer.piece(token) for token in range(tokenizer.vocab_size) if not tokenizer.is_special(token))
    return sorted(pieces, key=lambda piece: (-len(piece), piece))[:number]
