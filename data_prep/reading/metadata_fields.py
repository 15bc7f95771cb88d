"""Whether the fields that are to be kept beside the text are there."""

from __future__ import annotations

from configs.errors import DataError, nearest
from data_prep.config import TokenizeConfig
from data_prep.reading.documents import DamagedFileError
from data_prep.reading.inputs import InputFile
from data_prep.reading.records import ID

_SHOWN = 12


def check_metadata_fields(files: list[InputFile], config: TokenizeConfig) -> None:
    """See that each field that is to be kept is a column of some file; of JSON lines that is not known beforehand.

    Raises:
        DataError: if one is not; names the nearest column.
    """
    missing = [field for field in config.metadata_fields if field != ID]
    columns: dict[str, None] = {}
    for file in files:
        if not missing or file.kind == "jsonl":
            return
        found = _columns(file, config)
        columns.update(dict.fromkeys(found))
        # What lies within a column is named with dots.
        missing = [field for field in missing if field not in found and field.split(".")[0] not in found]
    if missing:
        named = ", ".join(list(columns)[:_SHOWN])
        raise DataError(
            f"no file has the column {missing[0]!r}" if columns else f"text files have no field {missing[0]!r}",
            where="metadata_fields",
            expected=f"columns of the input: {named}" if columns else "none for text files",
            nearest=nearest(missing[0], columns),
        )


def _columns(file: InputFile, config: TokenizeConfig) -> list[str]:
    try:
        if file.kind in ("parquet", "arrow"):
            from data_prep.reading.columnar import column_names

            return column_names(file.path, file.kind)
        if file.kind in ("csv", "tsv") and file.state.size_bytes:
            from data_prep.reading.separated import check_header

            return check_header(file.path, file.kind, config)
    except DamagedFileError:
        pass  # Where that is allowed, it was left out.
    return []
