"""Small SentencePiece tokenizers, trained on the spot, in the directory form that data_prep writes."""

from __future__ import annotations

import pydoc_data.topics
from pathlib import Path
from typing import Any

from data_prep.tokenizer import MODEL_FILE, ROLES, Tokenizer, load_tokenizer, write_roles

LINES = [line for text in pydoc_data.topics.topics.values() for line in text.split("\n") if line.strip()][:2500]


def train_tokenizer(directory: Path, algorithm: str = "bpe", vocab_size: int = 420, **changes: Any) -> Tokenizer:
    """A tokenizer directory with byte fallback, no normalisation, and an id for every role."""
    import sentencepiece

    directory.mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {
        "byte_fallback": True,
        "normalization_rule_name": "identity",
        "add_dummy_prefix": False,
        "remove_extra_whitespaces": False,
        "split_digits": True,
        "allow_whitespace_only_pieces": True,
        "unk_id": 0,
        "bos_id": -1,
        "eos_id": 1,
        "eos_piece": "<|endoftext|>",
        "pad_id": 2,
        "pad_piece": "<|pad|>",
        "control_symbols": ["<|mask|>"],
        "hard_vocab_limit": False,
    }
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES),
        model_prefix=str(directory / MODEL_FILE.removesuffix(".model")),
        vocab_size=vocab_size,
        model_type=algorithm,
        num_threads=1,
        minloglevel=2,
        **(settings | changes),
    )
    bare = load_tokenizer(directory / MODEL_FILE)
    bare.algorithm = algorithm
    roles = {name: bare.role(name) for name in ROLES}
    write_roles(directory, algorithm, roles, [], bare.fingerprint)
    return load_tokenizer(directory)
