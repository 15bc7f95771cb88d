"""What is under a name while it is replaced, and when that goes wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_prep.storage.publishing import publish_directory, write_whole


def test_a_directory_that_cannot_be_renamed_leaves_the_old_one(tmp_path, monkeypatch):
    for name in ("new", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    sound = Path.rename

    def rename(self, target):
        if self.name == "new":
            raise OSError(5, "Input/output error")
        return sound(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(OSError, match="Input/output"):
        publish_directory(tmp_path / "new", tmp_path / "c")
    monkeypatch.undo()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["c", "c", "new", "new"]
    publish_directory(tmp_path / "new", tmp_path / "c", tmp_path / "aside")
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")} == {"c", "c/new", "aside", "aside/c"}


def test_a_file_that_cannot_be_written_leaves_the_old_one_and_nothing_else(tmp_path, monkeypatch):
    write_whole(tmp_path / "x", b"old")

    def write_half(self: Path, data: bytes) -> None:
        with self.open("wb") as file:
            file.write(data[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", write_half)
    with pytest.raises(OSError, match="No space"):
        write_whole(tmp_path / "x", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["x"] and (tmp_path / "x").read_bytes() == b"old"
