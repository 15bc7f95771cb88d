"""What lies at the output, and input that does not stay as it is: no file is lost, nothing wrong is published."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import yaml
from cleaning_inputs import prose, write_json_lines


@pytest.fixture
def run(run):
    return functools.partial(run, "clean")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    write_json_lines(tmp_path / "a.jsonl", [{"text": prose(i)} for i in range(20)])
    path = tmp_path / "r.yaml"
    settings = {
        "output": str(tmp_path / "out"),
        "sources": {"a": {"paths": str(tmp_path / "a.jsonl")}},
        "stages": ["unicode"],
        "tasks": 2,
        "workers": 1,
    }
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.mark.parametrize("name", ["notes.txt", "documents/notes.txt"])
@pytest.mark.parametrize("arguments", [[], ["--overwrite"]])
def test_somebody_elses_partial_directory_is_left_alone(run, recipe, tmp_path, name, arguments):
    note = tmp_path / "out.partial" / name
    note.parent.mkdir(parents=True)
    note.write_text("mine")
    status, out, err = run(recipe, *arguments)
    assert (status, out) == (2, "") and f"{tmp_path}/out.partial: is where" in err and name.split("/")[0] in err
    assert note.read_text() == "mine" and [*note.parent.iterdir()] == [note] and not (tmp_path / "out").exists()


def test_a_note_in_unfinished_work_is_not_deleted_with_it(run, recipe, tmp_path):
    assert run(recipe)[0] == 0
    (tmp_path / "out").rename(tmp_path / "out.partial")
    note = tmp_path / "out.partial" / "notes.txt"
    note.write_text("mine")
    status, _, err = run(recipe, "--overwrite")
    assert status == 2 and "holds other things (notes.txt)" in err and note.exists()
    note.unlink()
    (tmp_path / "out.partial" / ".recipe.json.123").write_text("")
    assert run(recipe, "--overwrite")[0] == 0 and not (tmp_path / "out.partial").exists()


@pytest.mark.parametrize("way", ["input", "link", "evaluation"])
def test_an_output_that_holds_an_input_is_refused(run, recipe, tmp_path, way):
    assert run(recipe)[0] == 0
    mine = tmp_path / "out" / "mine.txt"
    mine.write_text(prose(77))
    (tmp_path / "link.txt").symlink_to(mine)
    setting = f"sources.a.paths={tmp_path / 'link.txt' if way == 'link' else mine}"
    if way == "evaluation":
        setting = f"decontaminate.files=[{tmp_path}/out/*.txt]"
    stages = "stages=[unicode,decontaminate]" if way == "evaluation" else "stages=[unicode]"
    status, _, err = run(recipe, setting, stages, "--overwrite")
    assert status == 2 and "is input, and lies in" in err and ".txt: " in err
    assert mine.read_text() == prose(77)


def test_a_note_in_a_finished_output_is_not_deleted_with_it(run, recipe, tmp_path):
    assert run(recipe)[0] == 0
    note = tmp_path / "out" / "notes.txt"
    note.write_text("mine")
    status, _, err = run(recipe, "--overwrite")
    assert status == 2 and "would be replaced, and holds other things (notes.txt)" in err and note.exists()
    assert "nothing was done" in run(recipe)[1]
    note.unlink()
    assert run(recipe, "--overwrite")[0] == 0


def test_a_finished_output_without_its_documents_is_not_taken_for_whole(run, recipe, tmp_path):
    assert run(recipe)[0] == 0
    shards = sorted((tmp_path / "out" / "documents").iterdir())
    whole = shards[1].read_bytes()
    for damage in (shards[1].unlink, lambda: shards[1].write_bytes(whole[:-9])):
        damage()
        status, out, err = run(recipe)
        assert (status, out) == (2, "") and "its documents are not what they were" in err and "--overwrite" in err
    shards[1].write_bytes(whole)
    assert "nothing was done" in run(recipe)[1]
    for shard in shards:
        shard.unlink()
    assert run(recipe)[0] == 2
    assert run(recipe, "--overwrite")[0] == 0 and shards[1].read_bytes() == whole
    (tmp_path / "out" / "report.json").write_text("{")
    status, _, err = run(recipe)
    assert status == 2 and "report.json: is damaged" in err
