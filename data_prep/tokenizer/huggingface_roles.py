"""Which ids of a `tokenizer.json` play which roles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_prep.tokenizer.roles import SENTINELS, Description, numbered_tokens, read_json, usual_roles

_CONFIG_FILES = ("tokenizer_config.json", "special_tokens_map.json")
_CONFIG_KEYS = {
    "end_of_document": "eos_token",
    "beginning_of_document": "bos_token",
    "unknown": "unk_token",
    "pad": "pad_token",
    "mask": "mask_token",
    "classification": "cls_token",
    "separator": "sep_token",
}
_ALGORITHMS = {"BPE": "bpe", "Unigram": "unigram", "WordPiece": "wordpiece", "WordLevel": "word"}


def described_by(pipeline: Any, content: dict[str, Any], directory: Path) -> Description:
    """Roles as the files beside `tokenizer.json` name them, else by the usual spellings of special tokens."""
    special = {
        added.content: int(token) for token, added in pipeline.get_added_tokens_decoder().items() if added.special
    }
    roles = usual_roles(special.get)
    unknown = content["model"].get("unk_token")
    if isinstance(content["model"].get("unk_id"), int):
        roles["unknown"] = content["model"]["unk_id"]
    elif isinstance(unknown, str):
        roles["unknown"] = pipeline.token_to_id(unknown)
    added = content.get("post_processor") or {}
    if added.get("type") in ("BertProcessing", "RobertaProcessing"):
        # What is put around each text, as [spelling, id].
        roles["classification"], roles["separator"] = int(added["cls"][1]), int(added["sep"][1])
    for name in _CONFIG_FILES:
        if not (directory / name).is_file():
            continue
        named = read_json(directory / name, "the config of a Hugging Face tokenizer")
        for role, key in _CONFIG_KEYS.items():
            spelling = named.get(key) if isinstance(named, dict) else None
            spelling = spelling.get("content") if isinstance(spelling, dict) else spelling
            if isinstance(spelling, str):
                roles[role] = pipeline.token_to_id(spelling)
    algorithm = _ALGORITHMS.get(content["model"].get("type"), "unknown")
    return Description("huggingface", algorithm, roles, numbered_tokens(SENTINELS, special.get))
