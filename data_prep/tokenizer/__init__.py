"""Text <-> token ids, for vocabularies of SentencePiece, Hugging Face and tiktoken, behind one interface.

A tokenizer is a directory of a vocabulary file, as its library writes it, and `tokenizer.json`: the kind, which id
plays which role, and a fingerprint. What depends on the kind is in one module each; `fast` is what gives the ids of the
kind's own library in less time.
"""

from __future__ import annotations

from data_prep.tokenizer.engines import EngineName
from data_prep.tokenizer.interface import Tokenizer
from data_prep.tokenizer.loading import is_tokenizer, load_tokenizer
from data_prep.tokenizer.roles import MODEL_FILE, ROLES, ROLES_FILE, VOCABULARY_FILES, fingerprint_of, write_roles

__all__ = [
    "MODEL_FILE",
    "ROLES",
    "ROLES_FILE",
    "VOCABULARY_FILES",
    "EngineName",
    "Tokenizer",
    "fingerprint_of",
    "is_tokenizer",
    "load_tokenizer",
    "write_roles",
]
