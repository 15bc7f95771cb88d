"""tar and zip archives as people have them: joined, cut, damaged, with odd names; nothing of them is lost untold."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import pytest
from test_reading_kinds import by_clean, by_tokenize, lines, tar_of, zip_of

from configs.errors import DataError
from data_prep.config import SourceConfig
from data_prep.reading import archives, files
from data_prep.reading.documents import DamagedFileError, ReadCounts
from data_prep.reading.inputs import find_files, work_units
from data_prep.reading.readers import read_documents

PACKED = [("a.tar", lambda raw: raw), pytest.param("a.tar.gz", gzip.compress, marks=pytest.mark.slow)]
MEMBERS = {f"{number}.jsonl": lines(f"text {number}") for number in range(3)}
TEXTS = [f"text {number}" for number in range(3)]


def damaged_header(raw: bytes) -> bytes:
    at = 4 * 512  # a member takes two blocks
    return raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]


@pytest.mark.parametrize(("name", "pack"), PACKED)
@pytest.mark.parametrize(
    "damage",
    [damaged_header, lambda raw: raw[: 4 * 512 + 100], lambda raw: raw[: 4 * 512], lambda raw: raw[: 3 * 512 + 5]],
    ids=["a header", "cut in a header", "cut between members", "cut in a member"],
)
def test_a_damaged_tar_does_not_end_early_in_silence(tmp_path: Path, capsys, name: str, pack, damage) -> None:
    (tmp_path / name).write_bytes(pack(damage(tar_of(MEMBERS))))
    with pytest.raises(DamagedFileError, match=r"is truncated|is no whole archive: a damaged header"):
        by_tokenize(tmp_path / name)
    assert (
        by_tokenize(tmp_path / name, damaged_files="skip") == TEXTS[: 1 if damage(b"x" * 9999).__len__() == 1541 else 2]
    )
    assert f"damaged, read to where it breaks: {tmp_path / name}: " in capsys.readouterr().err
    with pytest.raises(DataError, match=r"sources\.s\.input, .*(is truncated|a damaged header)"):
        by_clean(tmp_path / name)


@pytest.mark.parametrize("read", [by_tokenize, by_clean])
@pytest.mark.parametrize(("name", "pack"), PACKED)
def test_joined_tars_are_read_to_the_end_of_the_last(tmp_path: Path, read, name: str, pack) -> None:
    more = tar_of({"more.jsonl": lines("more")})
    (tmp_path / name).write_bytes(pack(tar_of(MEMBERS) + more))
    assert read(tmp_path / name) == [*TEXTS, "more"]


@pytest.mark.parametrize("ending", ["tar", "tar.gz", "zip"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_of_members_of_one_name_the_last_is_read(tmp_path: Path, ending: str) -> None:
    pairs = [("a.jsonl", lines("old")), ("b.jsonl", lines("other")), ("a.jsonl", lines("new"))]
    target = io.BytesIO()
    if ending == "zip":
        with zipfile.ZipFile(target, "w") as packed:
            for name, data in pairs:
                packed.writestr(name, data)
    else:
        with tarfile.open(fileobj=target, mode="w:gz" if ending == "tar.gz" else "w") as tar:
            for name, data in pairs:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    (tmp_path / f"x.{ending}").write_bytes(target.getvalue())
    assert by_tokenize(tmp_path / f"x.{ending}") == ["other", "new"]


def test_names_in_other_encodings_and_other_cases(tmp_path: Path) -> None:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz", encoding="gbk") as tar:
        info = tarfile.TarInfo("数据/一.jsonl")
        info.size = len(lines("one"))
        tar.addfile(info, io.BytesIO(lines("one")))
    (tmp_path / "İst.TAR.GZ").write_bytes(target.getvalue())
    assert by_tokenize(tmp_path / "İst.TAR.GZ") == ["one"]
    (tmp_path / "odd.zip").write_bytes(zip_of({"foo.tar!/bar.jsonl": lines("two")}))
    assert by_tokenize(tmp_path / "odd.zip") == ["two"]


def test_what_is_hidden_linked_or_about_the_data_is_no_document(tmp_path: Path, capsys) -> None:
    target = io.BytesIO()
    made = {
        "./x.jsonl": lines("one"),
        "README.md": b"---\nlicense: mit\n---\n",
        "dataset_infos.json": b'{"default": {}}',
        ".git/config.txt": b"hidden",
        "inner.tar": tar_of(MEMBERS),
    }
    with tarfile.open(fileobj=target, mode="w") as tar:
        for name, data in made.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("link.jsonl")
        link.type, link.linkname = tarfile.SYMTYPE, "x.jsonl"
        tar.addfile(link)
    (tmp_path / "hub.tar").write_bytes(target.getvalue())
    assert by_tokenize(tmp_path / "hub.tar") == ["one"]
    assert "4 files that hold no text or tell of others" in capsys.readouterr().err


def test_damaged_and_locked_members_are_one_message(tmp_path: Path) -> None:
    raw = bytearray(zip_of({"a.jsonl": lines("one" * 200)}))
    at = raw.index(b"a.jsonl") + len("a.jsonl")
    raw[at : at + 8] = b"\xff" * 8
    (tmp_path / "bad.zip").write_bytes(raw)
    with pytest.raises(DamagedFileError, match="is no whole archive"):
        by_tokenize(tmp_path / "bad.zip")
    raw = bytearray(zip_of({"a.jsonl": lines("one")}))
    for mark, flag in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.index(mark) + flag] |= 1
    (tmp_path / "locked.zip").write_bytes(raw)
    with pytest.raises(DamagedFileError, match=r"cannot be unpacked: .*password"):
        by_tokenize(tmp_path / "locked.zip")


def test_an_empty_archive_is_an_empty_file(tmp_path: Path, capsys) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines("one"))
    (tmp_path / "b.zip").touch()
    assert by_tokenize(tmp_path) == ["one"] and f"empty, passed over: {tmp_path}/b.zip" in capsys.readouterr().err


@pytest.mark.parametrize("ending", ["tar", "tar.gz", "zip"])
def test_many_members_cost_no_pass_over_the_archive_each(tmp_path: Path, monkeypatch, ending: str) -> None:
    members = {f"{number:03}.jsonl": lines(str(number)) for number in range(300)}
    packed = zip_of(members) if ending == "zip" else tar_of(members, "w:gz" if ending == "tar.gz" else "w")
    path = tmp_path / f"a.{ending}"
    path.write_bytes(packed)
    listed: list[str] = []
    begun: list[object] = []
    true_listing, true_stream, true_zip = files.members_of, archives._tar_stream, zipfile.ZipFile
    monkeypatch.setattr(files, "members_of", lambda name, opener: (listed.append(name), true_listing(name, opener))[1])
    monkeypatch.setattr(archives, "_tar_stream", lambda raw: (begun.append(raw), true_stream(raw))[1])
    monkeypatch.setattr(archives.zipfile, "ZipFile", lambda raw: (begun.append(raw), true_zip(raw))[1])
    config = SourceConfig(input=[str(path)])
    texts = [
        document.text
        for unit in work_units(find_files(config), config)
        for document in read_documents(unit, config, ReadCounts())
    ]
    assert texts == [str(number) for number in range(300)]
    # The list, the look at the layout of each member, the texts.
    assert len(listed) == 1 and len(begun) <= 3
