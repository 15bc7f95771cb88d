"""What `export` notes in the directory that it writes, for whoever reads the model there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from configs.errors import ConfigError, DataError
from configs.kinds import comes_with
from pretrain.models.huggingface.family import HUGGING_FACE_FAMILIES, HuggingFaceFamily, load_family

RECORD_FILE = "export.json"
"""The file that tells an exported directory; it says where the model comes from."""


def export_record(directory: Path) -> dict[str, Any]:
    """What `export` noted in the directory that it wrote; empty where it did not write it.

    Raises:
        DataError: the record is damaged.
    """
    path = directory / RECORD_FILE
    try:
        record = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise DataError("is damaged", where=path, expected="the record of an export")
    return record


def exported_family(model: Path, model_type: str) -> HuggingFaceFamily | None:
    """What describes the architecture of a Hugging Face directory: the family that wrote it, if an export of ours says.

    Args:
        model: the directory.
        model_type: as its config says it; names the family where nothing else does.

    Returns:
        None for an architecture that is none of ours.

    Raises:
        DataError: the export's record is damaged, or names a family whose module is not here.
    """
    name = export_record(model).get("family", model_type if model_type in HUGGING_FACE_FAMILIES else None)
    if name is None:
        return None
    if comes_with(str(name), model):
        raise DataError(
            f"names the Hugging Face family {name!r}, whose module lies in the same directory and is not run",
            where=model / RECORD_FILE,
            expected="a module that was installed apart from the model",
        )
    try:
        return load_family(str(name))
    except ConfigError as error:
        raise DataError(
            f"was exported by the Hugging Face family {name!r}, which {error.problem}",
            where=model / RECORD_FILE,
            expected="its module on PYTHONPATH, as when it was exported",
        ) from None
