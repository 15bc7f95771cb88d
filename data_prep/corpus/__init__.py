"""A corpus on disk: Megatron's `.bin/.idx` shards and the manifest that makes one of them.

What others import is `Corpus`.
"""

from __future__ import annotations

from data_prep.corpus.corpus import Corpus

__all__ = ["Corpus"]
