"""Line breaks of Windows and of old Macs in text files."""

import pytest
from test_reading_formats import read

from data_prep.config import SourceConfig
from data_prep.reading.documents import ReadCounts
from data_prep.reading.inputs import find_files, work_units
from data_prep.reading.readers import read_batches
from data_prep.reading.records import RECORDS


@pytest.mark.parametrize("fields", [None, RECORDS])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"", b"\r"])
def test_carriage_returns_end_the_lines_of_a_file_without_line_feeds(tmp_path, fields, mark, end):
    (tmp_path / "t.txt").write_bytes(mark + b"one\rtwo\r\rthree" + end)
    config = SourceConfig(input=[str(tmp_path / "t.txt")], text_documents="line")
    (unit,) = work_units(find_files(config), config)
    batches = list(read_batches(unit, config, ReadCounts(), fields))
    assert [text for batch in batches for text in batch.texts] == ["one", "two", "", "three"]
    assert fields is None or batches[0].places == [len(mark) + at for at in (0, 4, 8, 9)]


def test_a_last_line_at_the_place_behind_a_byte_order_mark_is_no_file_of_an_old_mac(tmp_path, capfd):
    for first in ("a", "ab", "abc"):
        (tmp_path / f"{first}.txt").write_text(f"{first}\none\rtwo", newline="")
        assert read(tmp_path / f"{first}.txt", text_documents="line") == [first, "one\rtwo"]
        assert "carriage returns without a line feed are kept" in capfd.readouterr().err


@pytest.mark.parametrize("text_documents", ["line", "paragraph"])
def test_carriage_returns_that_are_kept_are_told_once(tmp_path, capfd, text_documents):
    (tmp_path / "t.txt").write_bytes(b"one\rtwo\r\nthree\n\nfour\rfive\n")
    texts = read(tmp_path / "t.txt", text_documents=text_documents)
    assert "one\rtwo" in texts[0] and "four\rfive" in texts[-1]
    assert capfd.readouterr().err.count(f"{tmp_path}/t.txt: carriage returns without a line feed are kept") == 1
    (tmp_path / "w.txt").write_bytes(b"one\r\ntwo\r\n")
    read(tmp_path / "w.txt", text_documents=text_documents)
    assert "carriage" not in capfd.readouterr().err
