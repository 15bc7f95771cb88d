"""The hash functions of datatrove's deduplication for xxhash 4, which takes bytes only; datatrove 0.10 gives strings.

The values are those of xxhash 3, which encoded strings itself.
"""

from __future__ import annotations

import datatrove.utils.hashes.xxhash as datatrove_hashes
import xxhash


def xxhash32(data: str | bytes) -> int:
    """A hash of 32 bits."""
    return xxhash.xxh32_intdigest(data.encode() if isinstance(data, str) else data)


def xxhash64(data: str | bytes) -> int:
    """A hash of 64 bits."""
    return xxhash.xxh64_intdigest(data.encode() if isinstance(data, str) else data)


def accept_strings() -> None:
    """Let datatrove's steps that are made from now on hash with these functions."""
    datatrove_hashes.xxhash32, datatrove_hashes.xxhash64 = xxhash32, xxhash64
