"""Keeps special tokens of a `tokenizer.json` out of text where its model knows their spelling as a common piece."""

from __future__ import annotations

from typing import Any

import orjson

# Put in front of a spelling, which no text then spells: a code point that is no character.
_NEVER = "\U0010ffff"


def find_leaks(pipeline: Any, special: dict[str, int]) -> list[str]:
    """Spellings of special tokens that the pipeline, told to take them for text, still encodes as the tokens."""
    leaks = []
    for spelling, token in special.items():
        probes = [spelling, f" {spelling}", f"a{spelling}b", f"a {spelling} b"]
        # The unknown token is in its place where the characters alone are unknown too.
        probes.append(" ".join(spelling))
        *encoded, alone = (encoding.ids for encoding in pipeline.encode_batch_fast(probes, add_special_tokens=False))
        known = pipeline.model.token_to_id(spelling) == token and token not in alone
        if known and any(token in ids for ids in encoded):
            leaks.append(spelling)
    return leaks


def without_leaks(content: dict[str, Any], leaks: list[str]) -> bytes:
    """The same pipeline, whose model spells these tokens in a way that no text does; all ids stay what they are."""
    renamed = {spelling: _NEVER + spelling for spelling in leaks}
    model = dict(content["model"])
    if isinstance(model["vocab"], dict):
        model["vocab"] = {renamed.get(piece, piece): token for piece, token in model["vocab"].items()}
    else:
        model["vocab"] = [[renamed.get(piece, piece), score] for piece, score in model["vocab"]]
    if model.get("unk_token") in renamed:
        model["unk_token"] = renamed[model["unk_token"]]
    added = [token for token in content.get("added_tokens") or [] if token["content"] not in renamed]
    return orjson.dumps(content | {"model": model, "added_tokens": added, "post_processor": None})
