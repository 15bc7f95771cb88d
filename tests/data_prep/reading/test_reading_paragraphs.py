from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data_prep.config import SourceConfig
from data_prep.reading import lines
from data_prep.reading.documents import ReadCounts
from data_prep.reading.inputs import find_files, work_units
from data_prep.reading.lines import line_blocks, lines_of, paragraphs
from data_prep.reading.readers import read_documents
from data_prep.reading.work_unit import WorkUnit

BOM = b"\xef\xbb\xbf"
Found = list[tuple[int, int, bytes | None]]  # unit, byte position, text or None where it is too long
FILES = st.builds(
    lambda bom, parts: (BOM if bom else b"") + b"".join(parts),
    st.booleans(),
    st.lists(st.sampled_from([b"a", b"b", b" ", b"\n", b"\n", b"\r\n", b"\n\n", b"long line", b" " * 9, BOM[2:]])),
)


def units_of(path: Path, data: bytes, borders: set[int]) -> list[WorkUnit]:
    cuts = [0, *sorted(border for border in borders if 0 < border < len(data)), len(data)]
    return [WorkUnit(str(path), "text", start, stop, stop - start) for start, stop in pairwise(cuts)]


def lines_with_places(data: bytes) -> list[tuple[int, int, bytes]]:
    """Each line, where it begins, and where it begins without a byte order mark."""
    found, at = [], 0
    for line in data.split(b"\n"):
        mark = len(BOM) if at == 0 and line.startswith(BOM) else 0
        found.append((at, at + mark, line[mark:]))
        at += len(line) + 1
    return found


def reference(data: bytes, units: list[WorkUnit], max_bytes: int) -> Found:
    """What `paragraphs` has to find, with the whole file in sight."""
    groups: list[list[tuple[int, int, bytes]]] = [[]]
    for line in lines_with_places(data):
        if line[2].strip():
            groups[-1].append(line)
        else:
            groups.append([])
    found: Found = []
    for group in filter(None, groups):
        first, place = group[0][:2]
        text = b"\n".join(line for _, _, line in group)
        owner = next(number for number, unit in enumerate(units) if first < unit.stop)
        found.append((owner, place, None if len(text.removesuffix(b"\r")) > max_bytes else text.rstrip(b"\r")))
    return found


@settings(max_examples=400, deadline=None)
@given(data=FILES, borders=st.sets(st.integers(1, 60), max_size=6), chunk=st.integers(1, 12), limit=st.integers(1, 12))
@example(data=BOM + b"\nfirst", borders={3}, chunk=12, limit=12)
@example(data=BOM + b"first\n\nnext", borders={1, 2, 3}, chunk=1, limit=12)
@example(data=b"start of it\n" + b"x" * 40 + b"\nend of it", borders={20, 30}, chunk=4, limit=30)
@example(data=b" " * 40 + b"x\n\nend of it", borders={20, 30}, chunk=4, limit=9)
def test_paragraphs_do_not_depend_on_where_reading_is_cut(tmp_path_factory, data, borders, chunk, limit):
    path = tmp_path_factory.mktemp("cut") / "t.txt"
    path.write_bytes(data)
    units = units_of(path, data, borders)
    found: Found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "CHUNK_BYTES", chunk)
        for number, unit in enumerate(units):
            too_long: list[int] = []
            texts = list(paragraphs(unit, limit, too_long.append))
            found += sorted([(number, *text) for text in texts] + [(number, at, None) for at in too_long])
    assert found == reference(data, units, limit)


@settings(max_examples=150, deadline=None)
@given(data=FILES, borders=st.sets(st.integers(1, 60), max_size=6), chunk=st.integers(1, 12), limit=st.integers(1, 12))
def test_lines_do_not_depend_on_where_reading_is_cut(tmp_path_factory, data, borders, chunk, limit):
    path = tmp_path_factory.mktemp("cut") / "t.txt"
    path.write_bytes(data)
    found: list[tuple[int, bytes | None]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "CHUNK_BYTES", chunk)
        for unit in units_of(path, data, borders):
            too_long: list[int] = []
            blocks = list(line_blocks(unit, limit, too_long.append))
            here = [(at, line if len(line) <= limit else None) for block in blocks for at, line in lines_of(block)]
            found += sorted(here + [(at, None) for at in too_long])
    expected = [(place, line if len(line) <= limit else None) for _, place, line in lines_with_places(data)]
    # What follows the last line break is no line when it is empty.
    assert found == (expected[:-1] if expected[-1][1] == b"" else expected)


@pytest.mark.parametrize("unit_bytes", [1 << 30, 100_000, 5_000])
def test_a_line_that_is_too_long_takes_its_paragraph_with_it(tmp_path, unit_bytes):
    path = tmp_path / "t.txt"
    path.write_bytes(b"before\n\nstart of it\n" + b"x" * 540_000 + b"\nend of it\n\nafter")
    config = SourceConfig(
        input=[str(path)], text_documents="paragraph", max_document_bytes=300_000, work_unit_bytes=unit_bytes
    )
    counts = ReadCounts()
    documents = [d.text for u in work_units(find_files(config), config) for d in read_documents(u, config, counts)]
    assert documents == ["before", "after"] and counts.too_long == 1


def test_a_unit_within_a_long_line_is_not_read_to_the_end_of_it(tmp_path, monkeypatch):
    path = tmp_path / "t.txt"
    path.write_bytes(b"x" * 100_000 + b"\n\nafter")
    monkeypatch.setattr(lines, "CHUNK_BYTES", 1000)
    read: list[int] = []
    chunks = lines._chunks
    monkeypatch.setattr(lines, "_chunks", lambda *given: (read.append(c[0]) or c for c in chunks(*given)))
    assert list(paragraphs(WorkUnit(str(path), "text", 10_000, 20_000, 10_000), 500, read.append)) == []
    assert max(read) < 20_000
