"""Which files of a directory or archive hold what the setting `format` names."""

from __future__ import annotations

from data_prep.reading.documents import DamagedFileError
from data_prep.reading.kinds import kind_by_content, kind_by_name, kind_of, may_have_no_ending
from data_prep.reading.work_unit import Format


def is_of_format(path: str, wanted: Format, encoding: str) -> bool:
    """Whether the ending of a file, or its first bytes where the ending tells nothing, shows the format that is wanted.

    Args:
        path: the file.
        wanted: the format.
        encoding: of text, JSON and tables.

    Raises:
        DataError: if the ending does not tell and the file cannot be opened.
    """
    by_name = kind_by_name(path)
    if by_name is not None:
        return by_name == wanted or (wanted, by_name) == ("csv", "tsv")
    try:
        if may_have_no_ending(path):
            found = kind_of(path, encoding)
        else:
            found = kind_by_content(path, may_be_text=False, encoding=encoding)
    except DamagedFileError:
        return False
    # Nothing but its ending tells a table from other text.
    return found == wanted or (found == "text" and wanted in ("csv", "tsv"))
