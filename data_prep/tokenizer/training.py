"""`train-tokenizer`: a uniform sample of the documents -> a SentencePiece vocabulary with its roles."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from itertools import chain
from typing import Any

from configs.errors import ConfigError, DataError
from data_prep.config import MAY_SHARE, SpecialTokens, TokenizerConfig
from data_prep.reading.input_patterns import named_patterns
from data_prep.reading.text_sample import sample_documents
from data_prep.storage.publishing import staged_directory
from data_prep.storage.replaceable import check_replaceable
from data_prep.tokenizer import MODEL_FILE, ROLES, ROLES_FILE, Tokenizer, fingerprint_of, load_tokenizer, write_roles

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
    inputs = list(named_patterns(config.input))
    check_replaceable(config.output, ROLES_FILE, config.overwrite, inputs)
    roles, sentinels = _assign_ids(config.special_tokens)
    lines = (line for text in sample_texts(config) for line in training_lines(text))
    first = next(lines, None)
    if first is None:
        raise DataError("there is no text in any document", where=", ".join(config.input))
    model = _train(config, roles, chain([first], lines))
    with staged_directory(config.output, ROLES_FILE, config.overwrite, inputs) as directory:
        (directory / MODEL_FILE).write_bytes(model)
        write_roles(directory, config.algorithm, roles, sentinels, fingerprint_of(model, roles, sentinels))
    return load_tokenizer(config.output)


def sample_texts(config: TokenizerConfig) -> Iterator[str]:
    """`sample_bytes` of text, drawn uniformly over the documents of the input; see `sample_documents`."""
    left_bytes = config.sample_bytes
    for document in sample_documents(config, config.sample_bytes, config.seed, config.sample_share):
        if document.size_bytes > left_bytes:
            yield document.text.encode()[:left_bytes].decode(errors="ignore")
        else:
            yield document.text
        left_bytes -= document.size_bytes


def training_lines(text: str) -> Iterator[str]:
    """The lines of `text`, in the form and length that SentencePiece learns from; indentation is kept."""
    for line in _LINE_BREAKS.split(text):
        for start in range(0, len(line), _MAX_LINE_CHARS):
            yield line[start : start + _MAX_LINE_CHARS]


def _assign_ids(special: SpecialTokens) -> tuple[dict[str, int | None], list[int]]:
    """Ids from 0 on, in the order of `SpecialTokens.own_tokens`, then the sentinels; roles without a token get None."""
    ids = {role: token for token, role in enumerate(special.own_tokens())}
    roles = {role: ids.get(role) for role in ROLES}
    for role, other in MAY_SHARE.items():
        if getattr(special, role) is not None:
            roles[role] = ids.get(role, ids.get(other))
    return roles, list(range(len(ids), len(ids) + special.sentinels))


def _train(config: TokenizerConfig, roles: dict[str, int | None], lines: Iterator[str]) -> bytes:
    from sentencepiece import SentencePieceTrainer

    special = config.special_tokens
    own = special.own_tokens()
    symbols = [spelling for role, spelling in own.items() if role not in _SENTENCEPIECE_ROLES.values()]
    symbols += [f"<extra_id_{number}>" for number in range(special.sentinels)]
    needed = len(own) + special.sentinels + 256 * config.byte_fallback
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
            sentence_iterator=lines,
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
