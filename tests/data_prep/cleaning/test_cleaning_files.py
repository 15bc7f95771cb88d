"""What lies at the output, and input that does not stay as it is: no file is lost, nothing wrong is published."""

from __future__ import annotations

import functools
import http.server
import json
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from cleaning_inputs import prose, write_json_lines

from configs.errors import DataError
from configs.load import load_config
from data_prep.cleaning.config import CleanConfig
from data_prep.cleaning.counts import CleaningCounts
from data_prep.cleaning.plan import make_plan
from data_prep.cleaning.source_reader import SourceReader
from data_prep.reading.files import file_state


@pytest.fixture
def run(run):
    return functools.partial(run, "clean")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    write_json_lines(tmp_path / "a.jsonl", [{"text": prose(i)} for i in range(20)])
    path = tmp_path / "r.yaml"
    settings = {
        "output": str(tmp_path / "out"),
        "sources": {"a": {"input": str(tmp_path / "a.jsonl")}},
        "stages": ["unicode"],
        "tasks": 2,
        "workers": 1,
    }
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Where an HTTP server offers `tmp_path`."""
    pytest.importorskip("aiohttp")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.slow
def test_input_from_a_web_server(run, recipe, tmp_path, address):
    write_json_lines(tmp_path / "quiz.jsonl", [{"text": prose(0)}])
    settings = [f"sources.a.input={address}/a.jsonl", "stages=[decontaminate]"]
    status, out, err = run(recipe, *settings, f"decontaminate.files=[{address}/quiz.jsonl]")
    assert status == 0 and "contaminated (1)" in out, err


def test_a_file_of_unknown_size_is_not_taken_for_an_empty_one(monkeypatch):
    server = SimpleNamespace(info=lambda path: {"name": path, "size": None})
    monkeypatch.setattr("fsspec.core.url_to_fs", lambda url: (server, url))
    with pytest.raises(DataError, match=r"http://host/a\.jsonl: its server does not tell its size"):
        file_state("http://host/a.jsonl")


@pytest.mark.parametrize("name", ["notes.txt", "documents/notes.txt"])
@pytest.mark.parametrize("arguments", [[], ["--overwrite"]])
def test_somebody_elses_partial_directory_is_left_alone(run, recipe, tmp_path, name, arguments):
    note = tmp_path / "out.partial" / name
    note.parent.mkdir(parents=True)
    note.write_text("mine")
    status, out, err = run(recipe, *arguments)
    assert (status, out) == (2, "") and f"{tmp_path}/out.partial: is where" in err and name.split("/")[0] in err
    assert note.read_text() == "mine" and [*note.parent.iterdir()] == [note] and not (tmp_path / "out").exists()


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("way", ["input", "link", "evaluation"])
def test_an_output_that_holds_an_input_is_refused(run, recipe, tmp_path, way):
    assert run(recipe)[0] == 0
    mine = tmp_path / "out" / "mine.txt"
    mine.write_text(prose(77))
    (tmp_path / "link.txt").symlink_to(mine)
    setting = f"sources.a.input={tmp_path / 'link.txt' if way == 'link' else mine}"
    if way == "evaluation":
        setting = f"decontaminate.files=[{tmp_path}/out/*.txt]"
    stages = "stages=[unicode,decontaminate]" if way == "evaluation" else "stages=[unicode]"
    status, _, err = run(recipe, setting, stages, "--overwrite")
    assert status == 2 and "is input, and lies in" in err and ".txt: " in err
    assert mine.read_text() == prose(77)


@pytest.mark.slow
def test_a_note_in_a_finished_output_is_not_deleted_with_it(run, recipe, tmp_path):
    assert run(recipe)[0] == 0
    note = tmp_path / "out" / "notes.txt"
    note.write_text("mine")
    status, _, err = run(recipe, "--overwrite")
    assert status == 2 and "would be replaced, and holds other things (notes.txt)" in err and note.exists()
    assert "nothing was done" in run(recipe)[1]
    note.unlink()
    assert run(recipe, "--overwrite")[0] == 0


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "change", "found"),
    [
        ("a.jsonl", lambda path, raw: path.write_bytes(raw[: len(raw) // 2]), " now"),
        ("a.jsonl", lambda path, raw: path.write_bytes(raw + raw), " now"),
        ("a.jsonl", lambda path, raw: path.write_bytes(b"x" * len(raw)), "now written anew"),
        ("a.jsonl", lambda path, raw: path.unlink(), "gone"),
        ("a.jsonl.gz", lambda path, raw: path.write_bytes(raw[: len(raw) // 2]), " now"),
        ("a.csv", lambda path, raw: path.write_bytes(raw[: len(raw) // 2]), " now"),
    ],
)
def test_a_file_that_changes_while_it_is_read_is_told(tmp_path, name, change, found):
    path = tmp_path / name
    chance = random.Random(1)
    records = [{"text": chance.randbytes(500).hex()} for _ in range(5000)]
    if name == "a.csv":
        path.write_text("text\n" + "".join(f"{record['text']}\n" for record in records))
    else:
        write_json_lines(path, records)
    os.utime(path, ns=(1, 10**18))
    for before in (0, 1):  # documents that were read before
        config = load_config(CleanConfig, None, [f"output={tmp_path}/o", "stages=[]", f"sources.s.input={path}"])
        (part,), raw = make_plan(config).parts, path.read_bytes()
        task = next(number for number, units in enumerate(part.tasks) if units)
        documents = SourceReader(part, config, CleaningCounts().stage("read")).run(None, task, config.tasks)
        for _ in range(before):
            next(documents)
        change(path, raw)
        with pytest.raises(DataError, match=rf"{name}: was changed while it was read: .*{found}"):
            list(documents)
        path.write_bytes(raw)
        os.utime(path, ns=(1, 10**18))


@pytest.mark.slow
def test_a_changed_file_is_read_again_and_nothing_wrong_published(run, recipe, tmp_path, monkeypatch):
    assert run(recipe, f"output={tmp_path}/whole")[0] == 0
    path, plan = tmp_path / "a.jsonl", make_plan
    raw, state = path.read_bytes(), path.stat()

    def then_truncated(config):
        made = plan(config)
        path.write_bytes(raw[: raw.index(b"\n", len(raw) // 2) + 1])
        return made

    monkeypatch.setattr("data_prep.cleaning.plan.make_plan", then_truncated)
    status, out, err = run(recipe)
    assert (status, out) == (2, "") and err.count("error:") == 1 and "Traceback" not in err
    assert f"{path}: was changed while it was read: {len(raw):,} bytes when the work began" in err
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    # As it was, to the time of change: what was read of the other is not taken for done.
    path.write_bytes(raw)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert run(recipe)[0] == 0
    folders = (tmp_path / "out" / "documents", tmp_path / "whole" / "documents")
    made, expected = ([p.read_bytes() for p in sorted(folder.iterdir())] for folder in folders)
    assert made == expected


@pytest.mark.parametrize("name", ["a.jsonl", "a.txt", "a.csv"])
def test_what_a_file_in_another_encoding_looks_like_is_said(tmp_path: Path, name: str) -> None:
    text = "这本书我读了很久，终于在昨天晚上读完了。"
    line = json.dumps({"text": text}, ensure_ascii=False) if name == "a.jsonl" else text
    head = ["text"] if name == "a.csv" else []
    (tmp_path / name).write_bytes("\n".join([*head, *[line] * 120]).encode("gb18030"))
    guess = r"; the file looks like GB18030: sources\.s\.encoding=gb18030 reads it"
    for share, problem in ((0.01, rf"records are malformed.*not UTF-8.*{guess[2:]}"), (0, guess)):
        settings = [f"output={tmp_path}/o", "stages=[]", "tasks=1", f"max_malformed_share={share}"]
        settings += [f"sources.s.input={tmp_path / name}", "sources.s.text_documents=line"]
        config = load_config(CleanConfig, None, settings)
        (part,) = make_plan(config).parts
        with pytest.raises(DataError, match=problem):
            list(SourceReader(part, config, CleaningCounts().stage("read")).run())
