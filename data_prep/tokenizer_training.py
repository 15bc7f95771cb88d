"""`train-tokenizer`: a deterministic sample of the documents -> a SentencePiece vocabulary with its roles."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from configs.errors import ConfigError, DataError
from data_prep.atomic import check_replaceable, staged_directory
from data_prep.config import SpecialTokens, TokenizerConfig
from data_prep.documents import ReadCounts
from data_prep.inputs import find_files, work_units
from data_prep.readers import read_documents
from data_prep.tokenizer import MODEL_FILE, ROLES_FILE, Tokenizer, fingerprint_of, write_roles

_MAX_SAMPLED_UNITS = 1024
_MAX_LINE_CHARS = 4000
# SentencePiece leaves out every training line that holds one of these.
_LINE_BREAKS = re.compile("[\n\r\t\u2581\u2585]+")


def train_tokenizer(config: TokenizerConfig) -> Tokenizer:
    """Learn the tokenizer that `config` describes and write its directory; equal input gives an equal one.

    Raises:
        ConfigError: if the vocabulary size fits neither the sample nor the special tokens.
        DataError: for input that cannot be used, or an output that is in the way.
        MachineError: if the output cannot be written.
    """
    check_replaceable(config.output, ROLES_FILE, config.overwrite)
    roles, sentinels = _assign_ids(config.special_tokens)
    lines = [line for text in sample_texts(config) for line in training_lines(text)]
    if not lines:
        raise DataError("there is no text in any document", where=", ".join(config.input))
    model = _train(config, roles, lines)
    with staged_directory(config.output, ROLES_FILE, config.overwrite) as directory:
        (directory / MODEL_FILE).write_bytes(model)
        write_roles(directory, config.algorithm, roles, sentinels, fingerprint_of(model, roles, sentinels))
    return Tokenizer.load(config.output)


def sample_texts(config: TokenizerConfig) -> Iterator[str]:
    """About `sample_bytes` of text, the same share of every part of the input.

    A part gives its first documents; compressed files cannot be entered in the middle, so theirs are from the
    beginning of the file.
    """
    units = work_units(find_files(config), config)
    stride = -(-len(units) // _MAX_SAMPLED_UNITS)
    units = units[stride // 2 :: stride]
    share = config.sample_bytes / sum(unit.size_bytes for unit in units)
    for unit in units:
        left_bytes = unit.size_bytes * share
        for document in read_documents(unit, config, ReadCounts()):
            yield document.text
            left_bytes -= len(document.text.encode())
            if left_bytes <= 0:
                break


def training_lines(text: str) -> Iterator[str]:
    """The lines of `text`, in the form and length that SentencePiece learns from; indentation is kept."""
    for line in _LINE_BREAKS.split(text):
        for start in range(0, len(line), _MAX_LINE_CHARS):
            yield line[start : start + _MAX_LINE_CHARS]


def _assign_ids(special: SpecialTokens) -> tuple[dict[str, int | None], list[int]]:
    """Ids from 0 on: unknown, beginning, end, pad, mask, sentinels; roles without a token get None."""
    spelled = {
        "unknown": special.unknown,
        "beginning_of_document": special.beginning_of_document,
        "end_of_document": special.end_of_document,
        "pad": special.pad,
        "mask": special.mask,
    }
    roles: dict[str, int | None] = dict.fromkeys(spelled)
    taken = 0
    for role, spelling in spelled.items():
        if spelling is not None:
            roles[role] = taken
            taken += 1
    return roles, list(range(taken, taken + special.sentinels))


def _train(config: TokenizerConfig, roles: dict[str, int | None], lines: list[str]) -> bytes:
    from sentencepiece import SentencePieceTrainer

    special = config.special_tokens
    symbols = [special.mask] if special.mask is not None else []
    symbols += [f"<extra_id_{number}>" for number in range(special.sentinels)]
    needed = sum(token is not None for token in roles.values()) + special.sentinels + 256 * config.byte_fallback
    if config.vocab_size <= needed:
        raise ConfigError(
            f"vocab_size = {config.vocab_size} is too small",
            expected=f"more than the {needed} special and byte tokens",
        )
    model = io.BytesIO()
    ids: dict[str, Any] = {
        name: -1 if roles[role] is None else roles[role] for name, role in _SENTENCEPIECE_ROLES.items()
    }
    pieces: dict[str, Any] = {"unk_piece": special.unknown, "eos_piece": special.end_of_document}
    if special.beginning_of_document is not None:
        pieces["bos_piece"] = special.beginning_of_document
    if special.pad is not None:
        pieces["pad_piece"] = special.pad
    try:
        SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model,
            model_type=config.algorithm,
            vocab_size=config.vocab_size,
            hard_vocab_limit=config.algorithm in ("bpe", "unigram"),
            byte_fallback=config.byte_fallback,
            character_coverage=config.character_coverage,
            split_digits=config.split_digits,
            max_sentencepiece_length=config.max_piece_chars,
            max_sentence_length=8 * _MAX_LINE_CHARS,
            control_symbols=symbols,
            # Nothing of the text is lost or added: decoding gives the same bytes.
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=False,
            allow_whitespace_only_pieces=True,
            shuffle_input_sentence=False,
            num_threads=1,
            minloglevel=2,
            **ids,
            **pieces,
        )
    except RuntimeError as error:
        raise _explain(config, str(error)) from None
    return model.getvalue()


_SENTENCEPIECE_ROLES = {
    "unk_id": "unknown",
    "bos_id": "beginning_of_document",
    "eos_id": "end_of_document",
    "pad_id": "pad",
}


def _explain(config: TokenizerConfig, message: str) -> Exception:
    at_most = re.search(r"value <= (\d+)", message)
    at_least = re.search(r"required_chars\. \d+ vs (\d+)", message)
    problem = f"vocab_size = {config.vocab_size} does not fit the sample"
    if at_most:
        return ConfigError(problem, expected=f"at most {at_most[1]} for this text, or more text")
    if at_least:
        return ConfigError(problem, expected=f"at least {at_least[1]}, or a smaller character_coverage")
    return DataError(f"SentencePiece cannot learn from this text: {message}", where=", ".join(config.input))


def describe(tokenizer: Tokenizer, directory: Path) -> list[str]:
    """Lines that say what was learned."""
    roles = {
        name: tokenizer.role(name) for name in ("end_of_document", "beginning_of_document", "unknown", "pad", "mask")
    }
    spelled = ", ".join(f"{name} {token}" for name, token in roles.items() if token is not None)
    return [
        f"tokenizer    {directory}",
        f"algorithm    {tokenizer.algorithm}, {tokenizer.vocab_size:,} ids",
        f"roles        {spelled}" + (f", {len(tokenizer.sentinels)} sentinels" if tokenizer.sentinels else ""),
        f"fingerprint  {tokenizer.fingerprint}",
    ]
