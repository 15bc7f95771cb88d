"""Files that lie beside data and describe it: they are no documents, and are told among what is not read."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import PurePosixPath

import orjson

from data_prep.reading.files import file_state, open_raw

_CARDS = ("readme.md", "readme.rst", "readme.txt", "license.txt", "license.md")
# What the `datasets` library and the hub write.
_RECORDS = ("dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json", "croissant.json")
_MAX_BYTES = 16 * 2**20


def describes_others(path: str, kinds: Collection[str | None], text_fields: Collection[str]) -> bool:
    """Whether a file of a directory describes the others.

    Args:
        path: the file.
        kinds: what the files of the directory hold.
        text_fields: fields of which no such file has one.

    Raises:
        DataError: if it cannot be read.
    """
    name = PurePosixPath(path).name.lower()
    if name in _CARDS:
        with open_raw(path) as raw:
            is_card = name == "readme.md" and raw.read(4).startswith(b"---")
        return is_card or not {*kinds} <= {"text", "html"}
    if name not in _RECORDS or file_state(path).size_bytes > _MAX_BYTES:
        return False
    with open_raw(path) as raw:
        try:
            value = orjson.loads(raw.read())
        except orjson.JSONDecodeError:
            return False
    return isinstance(value, dict) and not {*text_fields} & value.keys()
