"""The tokenizer that belongs to a checkpoint, for fine-tuning and export."""

from __future__ import annotations

from pathlib import Path

from configs.errors import DataError
from data_prep.tokenizer import Tokenizer, is_tokenizer, load_tokenizer
from pretrain.checkpoint.model_checkpoint import ModelCheckpoint


def find_tokenizer(source: ModelCheckpoint, override: Path | None = None) -> Tokenizer:
    """The tokenizer that a run used: `override`, the run's copy, or the one in its configured places.

    Raises:
        DataError: there is none, or it is not the one that the model was trained with.
    """
    candidates = [override] if override is not None else _tokenizer_places(source)
    found = next((place for place in candidates if override is not None or is_tokenizer(place)), None)
    if found is None:
        looked = ", ".join(str(place) for place in candidates)
        raise DataError(
            "the tokenizer of this checkpoint is not there any more",
            where=source.path,
            expected=f"one of {looked}; or name its directory (tokenizer_dir=...)",
        )
    tokenizer = load_tokenizer(found)
    check_fits(tokenizer, found, source)
    return tokenizer


def check_fits(tokenizer: Tokenizer, place: Path, source: ModelCheckpoint) -> None:
    """Refuse a tokenizer that is not the one of the checkpoint.

    Raises:
        DataError: another fingerprint, or more ids than the model knows.
    """
    expected = source.metadata.get("tokenizer_fingerprint")
    if expected is not None and tokenizer.fingerprint != expected:
        raise DataError(
            f"has the fingerprint {tokenizer.fingerprint}: it is not the tokenizer that the model was trained with",
            where=place,
            expected=f"{expected}, as {source.path} says",
        )
    known = source.model.vocab_size
    if known is not None and tokenizer.vocab_size > known:
        raise DataError(
            f"has {tokenizer.vocab_size} ids", where=place, expected=f"at most {known}, the model's vocabulary"
        )


def _tokenizer_places(source: ModelCheckpoint) -> list[Path]:
    places = [source.path.parent.parent / "tokenizer"]
    data = (source.metadata.get("config") or {}).get("data") or {}
    if data.get("tokenizer"):
        places.append(Path(data["tokenizer"]))
    for item in data.get("train") or []:
        if isinstance(item, dict) and item.get("corpus"):
            places.append(Path(item["corpus"]) / "tokenizer")
    return places
