"""A uniform sample of the documents of an input, of a given size in bytes."""

from __future__ import annotations

import heapq
import math
import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

import xxhash

from configs.errors import DataError
from data_prep.config import SourceConfig
from data_prep.reading.documents import ReadCounts
from data_prep.reading.inputs import find_files, work_units
from data_prep.reading.readers import read_batches
from data_prep.reading.records import say_replaced

Position = tuple[int, int]
_NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class SampledDocument:
    """A document of a sample.

    Attributes:
        text: all of its text.
        size_bytes: of the text in UTF-8.
        source: the file that it is from.
        fields: those fields of its record that were asked for, where it has them.
    """

    text: str
    size_bytes: int
    source: str
    fields: Mapping[str, Any] = field(default_factory=dict)


def sample_documents(
    config: SourceConfig,
    sample_bytes: int,
    seed: int = 0,
    sample_share: float = 1.0,
    fields: Sequence[str] = (),
) -> list[SampledDocument]:
    """Documents drawn uniformly, without replacement, until they hold `sample_bytes` of text; empty ones are left out.

    Bottom-k sampling (Cohen and Kaplan, "Summarizing data using bottom-k sketches", PODC 2007): the key of a document
    is a hash of the seed and its position in the input, and the documents with the smallest keys are the sample. Which
    these are depends neither on the order of reading nor on who reads what, and samples of parts could be merged. The
    memory taken is that of the sample and of the document being read.

    Args:
        config: what to read, and what of it may be left out, which is said on standard error; how it is cut into
            units of work takes part in the positions.
        sample_bytes: UTF-8 bytes of text; the document that reaches it is the last of the sample.
        seed: another one gives another sample.
        sample_share: share of the work units that are read at all, the same for the same seed. Below 1 a huge input
            is not read to its end, and the sample is uniform over the documents of those units only.
        fields: fields of the records to keep.

    Returns:
        The documents in the order of their keys, which is a random one.

    Raises:
        DataError: for input that cannot be read.
    """
    heap: list[tuple[int, Position, SampledDocument]] = []  # the largest key first
    held_bytes = 0
    for position, source, text, kept in _read_numbered(config, seed, sample_share, fields):
        key = _key(seed, *position)
        if not text or (held_bytes >= sample_bytes and key >= -heap[0][0]):
            continue
        size = len(text) if text.isascii() else len(text.encode())
        heapq.heappush(heap, (-key, position, SampledDocument(text, size, source, kept)))
        held_bytes += size
        while held_bytes - heap[0][2].size_bytes >= sample_bytes:
            held_bytes -= heapq.heappop(heap)[2].size_bytes
    return [document for _, _, document in sorted(heap, key=lambda entry: (-entry[0], entry[1]))]


def _read_numbered(
    config: SourceConfig, seed: int, sample_share: float, fields: Sequence[str]
) -> Iterator[tuple[Position, str, str, dict[str, Any]]]:
    """Position, file, text and wanted fields of the documents of the input: the one place here that reads.

    A position is the number of the unit of work and that of the document in it.
    """
    unusable: list[DataError] = []
    units = list(enumerate(work_units(find_files(config), config, unusable)))
    if sample_share < 1:
        order = sorted(units, key=lambda unit: _key(seed, unit[0], -1))
        units = sorted(order[: math.ceil(sample_share * len(units))], key=lambda unit: unit[0])
    counts = ReadCounts()
    for number, unit in units:
        count = 0
        for batch in read_batches(unit, config, counts, list(fields) or None):
            for text, kept in zip(batch.texts, batch.metadata or repeat(_NOTHING)):
                yield (number, count), unit.path, text, {name: kept[name] for name in fields if name in kept}
                count += 1
    for error in unusable:
        counts.leave_out(error, "damaged_files", config)
    if left_out := counts.records + counts.damaged_files:
        shown = "; ".join(counts.first)
        print(f"left out {left_out:,} records and files of the sample: {shown}", file=sys.stderr, flush=True)
    if counts.replaced:
        say_replaced(counts.replaced, "the sample")


def _key(seed: int, *position: int) -> int:
    return xxhash.xxh3_64_intdigest(struct.pack("<3q", seed, *position))
