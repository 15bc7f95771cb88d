"""Training texts translated into another language and back by two saved models, once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import xxhash

from configs.errors import ConfigError, DataError
from data_prep.storage.durable import writing
from data_prep.storage.locks import locked
from data_prep.storage.publishing import staged_file
from finetune.augmentation.config import AugmentationConfig
from finetune.batches import by_length

_AT_ONCE = 16


def back_translations(config: AugmentationConfig, texts: Sequence[str], folder: Path) -> Mapping[str, str]:
    """Each text with its translation there and back; from the file if there is one.

    One process translates, and others that ask at the same time wait for its file.

    Args:
        config: names the models.
        texts: of the training, each once.
        folder: of the files; made if needed.

    Raises:
        UserError: a model is none that `seq2seq` wrote, or the file is damaged.
    """
    models = (config.translate_there, config.translate_back)
    path = folder / f"{_key(models, texts)}.json"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(path.with_suffix(".lock"), wait=True):
        if not path.is_file():
            found = list(texts)
            for key, model in zip(("translate_there", "translate_back"), models):
                assert model is not None
                found = _translated(model, f"augmentation.{key}", found)
            with staged_file(path) as temporary:
                temporary.write_text(json.dumps(found, ensure_ascii=False), "utf-8")
    try:
        told = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read ({error})", where=path, expected="translations; delete it") from None
    if not isinstance(told, list) or len(told) != len(texts) or not all(isinstance(text, str) for text in told):
        raise DataError("does not hold one translation for each text", where=path, expected="delete it")
    return dict(zip(texts, told))


def _translated(model: Path, key: str, texts: Sequence[str]) -> list[str]:
    from finetune.predictors import TextRecord, Writer, load_predictor

    predictor = load_predictor(model)
    if not isinstance(predictor, Writer):
        raise ConfigError(f"is {model}, which does not write", where=key, expected="what the task seq2seq wrote")
    found = [""] * len(texts)
    for numbers in by_length([len(text) for text in texts], _AT_ONCE):
        # Nothing is translated into nothing.
        given = [number for number in numbers if texts[number].strip()]
        lines = predictor([TextRecord(str(number), texts[number]) for number in given]) if given else []
        for number, line in zip(given, lines):
            found[number] = line["predicted"]
    return found


def _key(models: Sequence[Path | None], texts: Sequence[str]) -> str:
    digest = xxhash.xxh3_128()
    for model in models:
        assert model is not None
        for path in sorted(p for p in model.glob("*") if p.suffix in (".safetensors", ".json", ".yaml")):
            digest.update(f"{path.name}\0".encode())
            with path.open("rb") as file:
                while block := file.read(2**24):
                    digest.update(block)
    digest.update(json.dumps(list(texts)).encode())
    return digest.hexdigest()
