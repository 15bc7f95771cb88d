"""BERT's WordPiece vocabularies: a `vocab.txt`, a piece per line -> a `tokenizer.json` of the `tokenizers` library."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.errors import DataError, MachineError
from configs.extras import install_command
from data_prep.tokenizer.engines import explaining
from data_prep.tokenizer.roles import ROLES_FILE, read_bytes, read_json

VOCABULARY_FILE = "vocab.txt"
_CONFIG_FILE = "tokenizer_config.json"
_UNKNOWN, _CLASSIFICATION, _SEPARATOR = "[UNK]", "[CLS]", "[SEP]"
_SPECIAL = (_UNKNOWN, _CLASSIFICATION, _SEPARATOR, "[PAD]", "[MASK]")
_INSIDE = "##"
# Special and unused pieces, such as [CLS] and [unused7], say nothing of how text is written.
_CAPITAL = re.compile(r"(?!\[.*\]$).*[A-Z]")


@dataclass(frozen=True)
class Normalization:
    """What is done to text before it is cut into words; None: what the files say.

    Attributes:
        lower_case: make all letters small; None: `do_lower_case` of the `tokenizer_config.json` beside the vocabulary,
            else whether no piece has a capital letter.
        strip_accents: take accents off letters; None: `strip_accents` of that file, else as `lower_case`.
        split_chinese: make each Chinese character a word; None: `tokenize_chinese_chars` of that file, else yes.
    """

    lower_case: bool | None = None
    strip_accents: bool | None = None
    split_chinese: bool | None = None


def find_vocabulary(source: Path) -> Path | None:
    """The `vocab.txt` that `source` is, or is the directory of; None if it is something else.

    A directory with a `tokenizer.json`, which says more, is something else.
    """
    inside = source / VOCABULARY_FILE
    if inside.is_file() and not (source / ROLES_FILE).exists():
        return inside
    return source if source.suffix == ".txt" and source.is_file() else None


def wordpiece_json(path: Path, normalization: Normalization) -> bytes:
    """The `tokenizer.json` that gives text the ids of `transformers.BertTokenizer` with the same `vocab.txt`.

    Raises:
        DataError: if there is none, or it is no WordPiece vocabulary.
        MachineError: if the `tokenizers` library is not installed.
    """
    try:
        from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    except ImportError:
        raise MachineError(
            "the library that reads it is not installed", where=path, expected=install_command("tokenizers")
        ) from None
    pieces = _read_pieces(path)
    known = _resolve(normalization, path, pieces)
    with explaining(path, "tokenizers"):
        pipeline = Tokenizer(models.WordPiece(pieces, unk_token=_UNKNOWN, continuing_subword_prefix=_INSIDE))
        pipeline.normalizer = normalizers.BertNormalizer(
            clean_text=True,
            handle_chinese_chars=bool(known.split_chinese),
            strip_accents=known.strip_accents,
            lowercase=bool(known.lower_case),
        )
        pipeline.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        pipeline.decoder = decoders.WordPiece(prefix=_INSIDE)
        present = [spelling for spelling in _SPECIAL if spelling in pieces]
        pipeline.add_special_tokens([AddedToken(spelling, normalized=False, special=True) for spelling in present])
        if _CLASSIFICATION in pieces and _SEPARATOR in pieces:
            around = [(spelling, pieces[spelling]) for spelling in (_CLASSIFICATION, _SEPARATOR)]
            pipeline.post_processor = processors.TemplateProcessing(
                single=f"{_CLASSIFICATION}:0 $A:0 {_SEPARATOR}:0",
                pair=f"{_CLASSIFICATION}:0 $A:0 {_SEPARATOR}:0 $B:1 {_SEPARATOR}:1",
                special_tokens=around,
            )
        text: str = pipeline.to_str(pretty=False)
    return text.encode()


def describe_normalizer(normalizer: Mapping[str, Any]) -> str:
    """What BERT's normalizer of a `tokenizer.json` does to text, in words; empty for another one."""
    if normalizer.get("type") != "BertNormalizer":
        return ""
    lower_case, strip_accents = normalizer["lowercase"], normalizer["strip_accents"]
    strips = lower_case if strip_accents is None else strip_accents
    return ", ".join(
        (
            "lower case" if lower_case else "capital letters kept",
            "accents taken off" if strips else "accents kept",
            "each Chinese character a word" if normalizer["handle_chinese_chars"] else "Chinese as it is",
        )
    )


def _read_pieces(path: Path) -> dict[str, int]:
    """Id by piece: its line, from 0 on; of a piece that is there twice, the last, as in transformers."""
    expected = "a WordPiece vocabulary: UTF-8, a piece per line, [UNK] among them"
    try:
        text = read_bytes(path, expected).decode()
    except UnicodeDecodeError as error:
        raise DataError(f"is not UTF-8 at byte {error.start}", where=path, expected=expected) from None
    # Not `splitlines`: line separators of Unicode are pieces of some vocabularies.
    lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
    pieces = {piece: number for number, piece in enumerate(lines)}
    if _UNKNOWN not in pieces:
        raise DataError(f"has no piece {_UNKNOWN}", where=path, expected=expected)
    return pieces


def _resolve(asked: Normalization, path: Path, pieces: Mapping[str, int]) -> Normalization:
    """What is done to text, with nothing left open but accents, which then follow the case."""
    config = path.with_name(_CONFIG_FILE)
    said = read_json(config, "the config of a Hugging Face tokenizer") if config.is_file() else {}
    said = said if isinstance(said, dict) else {}

    def first(value: bool | None, key: str) -> bool | None:
        found = said.get(key) if value is None else value
        return found if isinstance(found, bool) else None

    lower_case = first(asked.lower_case, "do_lower_case")
    if lower_case is None:
        lower_case = not any(_CAPITAL.match(piece) for piece in pieces)
    split_chinese = first(asked.split_chinese, "tokenize_chinese_chars")
    return Normalization(lower_case, first(asked.strip_accents, "strip_accents"), split_chinese is not False)
