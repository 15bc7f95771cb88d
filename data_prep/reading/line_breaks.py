"""Line breaks of other systems in text files: those of Windows and of old Macs, a carriage return alone."""

from __future__ import annotations

import functools
import sys
from codecs import BOM_UTF8

from configs.errors import printable
from data_prep.config import SourceConfig
from data_prep.reading.lines import Block
from data_prep.reading.work_unit import WorkUnit


def with_lines_of_old_macs(block: Block, unit: WorkUnit) -> Block:
    """The first block of lines with line feeds for carriage returns, if it is a whole file and has no line feed."""
    at, data = block
    is_whole = unit.start == 0 and at in (0, len(BOM_UTF8)) and b"\n" not in data
    return (at, data.replace(b"\r", b"\n")) if is_whole and b"\r" in data else block


def with_line_feeds(text: str, config: SourceConfig, path: str) -> str:
    """The text with line feeds for the line breaks of Windows and, in whole files, those of old Macs.

    Elsewhere the latter stay, which is said once of each file, on standard error.
    """
    text = text.replace("\r\n", "\n")
    if "\r" not in text:
        return text
    if config.text_documents == "file":
        return text.replace("\r", "\n")
    _tell_lone_returns(path)
    return text


@functools.lru_cache(maxsize=256)
def _tell_lone_returns(path: str) -> None:
    print(
        f"{printable(path)}: carriage returns without a line feed are kept as they are; text_documents=file takes them "
        "for line breaks",
        file=sys.stderr,
        flush=True,
    )
