"""The command: its errors, its settings, and that a mistake costs no time."""

from __future__ import annotations

import functools
import importlib.util
import json
from pathlib import Path

import pytest
import yaml
from cleaning_inputs import prose, write_json_lines

from configs.errors import DataError, MachineError
from configs.load import RECIPES, load_config
from data_prep.cleaning.config import CleanConfig
from data_prep.cleaning.plan import make_plan
from data_prep.cleaning.stage_config import GopherQualitySettings, GopherRepetitionSettings
from data_prep.cleaning.workspace import Workspace


@pytest.fixture
def run(run):
    return functools.partial(run, "clean")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    write_json_lines(tmp_path / "a.jsonl", [*({"text": prose(i)} for i in range(20)), {"text": prose(3)}, "{"])
    path = tmp_path / "r.yaml"
    settings = {
        "output": str(tmp_path / "out"),
        "sources": {"a": {"input": str(tmp_path / "a.jsonl")}},
        "stages": ["unicode", "exact_dedup"],
        "tasks": 2,
        "workers": 1,
        "max_malformed_share": 0.1,
    }
    path.write_text(yaml.safe_dump(settings))
    return path


def test_it_cleans_and_names_the_next_commands(run, recipe, tmp_path):
    status, out, err = run(recipe)
    assert (status, err) == (0, "")
    assert out.splitlines()[0].startswith("20 of 22 documents kept (90.9%)")
    assert "malformed: no JSON" in out and "a.jsonl@" in out
    last = out.splitlines()[-1]
    assert last.startswith(f"next: python -m data_prep tokenize --input {tmp_path / 'out' / 'documents'}")
    status, out, _ = run(recipe)
    assert status == 0 and "finished before; nothing was done" in out


@pytest.mark.slow
def test_an_unfinished_output_of_another_recipe_is_refused_and_can_be_replaced(run, recipe, tmp_path):
    # The share stops the work after everything was read.
    status, _, err = run(recipe, "max_malformed_share=0.01")
    assert status == 2 and "1 of 22 records are malformed; the first has no JSON" in err
    assert (tmp_path / "out.partial").is_dir() and not (tmp_path / "out").exists()
    status, _, err = run(recipe, "stages=[unicode]")
    assert status == 2 and 'stages was ["unicode","exact_dedup"], is ["unicode"]' in err and "--overwrite" in err
    status, out, err = run(recipe, "stages=[unicode]", "--overwrite")
    assert status == 0 and out.startswith("21 of 22"), err


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["stages=[unicode,exactdedup]"], "stages.1 = 'exactdedup': expected 'unicode'"),
        (["stages=[pii,pii]"], "stages names pii twice"),
        (["stages=[decontaminate]"], "needs decontaminate.files"),
        (["executor=slurm"], "executor = 'slurm' needs slurm.partition"),
        (["minhash_dedup.bucket=3"], "did you mean minhash_dedup.buckets?"),
        (["sources.a.rate=2"], "sources.a.rate = 2: Input should be less than or equal to 1"),
        (["sources.a.input=/nowhere/a.jsonl"], "sources.a.input, /nowhere/a.jsonl: there is no such input"),
        (["stages=[language]", "language.keep=[klingon]"], "'klingon' is no language that lingua knows"),
        (["stages=[gopher_quality]", "word_language=klingon"], "there is no word splitter for 'klingon'"),
        (
            ["stages=[decontaminate]", "decontaminate.files=[/nowhere]"],
            "files, /nowhere: there is no such input",
        ),
    ],
)
def test_a_mistake_is_one_message(run, recipe, tmp_path, settings, expected):
    status, out, err = run(recipe, *settings)
    assert (status, out) == (2, "") and expected in err and "Traceback" not in err
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.partial").exists()


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (b'"open,x,y\n' + b"d,e,f\n" * 9, "line 3: a quoted field that begins here does not end"),
        (b"a,b\n", "line 3: 2 fields for 3 columns"),
        (b"a,b,\xff\n", "line 3 is not UTF-8: byte 0xff at byte 1 of its field"),
    ],
)
def test_an_evaluation_table_that_is_broken_is_refused(run, recipe, tmp_path, rows, expected):
    (tmp_path / "quiz.csv").write_bytes(b"q,r,s\n1,2,3\n" + rows)
    status, out, err = run(recipe, "stages=[decontaminate]", f"decontaminate.files=[{tmp_path}/quiz.csv]")
    assert (status, out) == (2, "") and "quiz.csv: cannot be read: " in err and expected in err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["quiz.jsonl", "quiz.txt", "quiz.csv"])
def test_an_evaluation_file_may_begin_with_a_byte_order_mark(run, recipe, tmp_path, name):
    words = " ".join(prose(5).split()[:12])
    text = {"quiz.jsonl": json.dumps({"text": words}), "quiz.txt": words, "quiz.csv": f"text\n{words}"}[name]
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + text.encode() + b"\n")
    status, out, err = run(recipe, "stages=[decontaminate]", f"decontaminate.files=[{tmp_path / name}]")
    assert status == 0 and "contaminated (1)" in out, err


@pytest.mark.parametrize("executor", ["local", "slurm"])
def test_a_work_that_has_completed_nothing_is_begun_anew(recipe, tmp_path, executor):
    config = load_config(CleanConfig, recipe, [f"executor={executor}", "slurm.partition=p"])
    before = config.model_copy(update={"stages": ["pii"]})
    with pytest.raises(KeyboardInterrupt), Workspace(before, make_plan(before)).working() as root:
        (root / "logs" / "documents" / "completions").mkdir(parents=True)
        (root / "documents").mkdir()
        raise KeyboardInterrupt
    with Workspace(config, make_plan(config)).working() as root:
        assert sorted(path.name for path in root.iterdir()) == ["lock", "recipe.json"]
        (root / "logs" / "documents" / "completions").mkdir(parents=True)
        last = "slurm_job.json" if executor == "slurm" else "completions/00000"
        (root / "logs" / "documents" / last).write_bytes(b"")
    with pytest.raises(DataError, match="was begun from another recipe"):
        with Workspace(before, make_plan(before)).working():
            pass
    assert (tmp_path / "out.partial" / "logs" / "documents" / last).exists()


def test_logs_stay_where_a_machine_failed(recipe, tmp_path):
    config = load_config(CleanConfig, recipe)
    for error, stays in ((DataError("x"), False), (MachineError("x"), True)):
        with pytest.raises(type(error)), Workspace(config, make_plan(config)).working() as root:
            (root / "logs").mkdir()
            raise error
        assert (tmp_path / "out.partial").exists() == stays


@pytest.mark.slow
def test_an_output_that_looks_like_a_number(run, recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, err = run(recipe, "--output", "123")
    assert status == 0 and (tmp_path / "123" / "report.json").is_file(), err


def test_an_unknown_stage_names_the_nearest(run, recipe):
    _, _, err = run(recipe, "stages=[exactdedup]")
    assert "did you mean exact_dedup?" in err


def test_ray_that_is_not_installed_is_named(run, recipe, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr("data_prep.cleaning.executors.find_spec", lambda name: None if name == "ray" else find(name))
    status, _, err = run(recipe, "executor=ray")
    assert status == 2 and "needs the package ray" in err and "[ray]" in err


def test_a_missing_extra_is_named(run, recipe, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr("data_prep.cleaning.run.find_spec", lambda name: None if name == "ftfy" else find(name))
    status, _, err = run(recipe)
    assert status == 2 and "cleaning needs ftfy" in err and "[clean]" in err


def test_something_else_at_the_output_is_left_alone(run, recipe, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("x")
    for arguments in ([], ["--overwrite"]):
        status, _, err = run(recipe, *arguments)
        assert status == 2 and "exists and holds other things" in err
    assert (tmp_path / "out" / "thesis.tex").read_text() == "x"


def test_the_printed_config_is_a_recipe(run, recipe, tmp_path):
    status, out, _ = run(recipe, "c4.min_num_sentences=7", "--strict", "--print-config")
    assert status == 0
    (tmp_path / "again.yaml").write_text(out)
    again = load_config(CleanConfig, tmp_path / "again.yaml")
    assert again.c4.min_num_sentences == 7 and again.max_malformed_share == 0
    assert yaml.safe_load(out) == json.loads(again.model_dump_json())


@pytest.mark.parametrize("path", sorted((RECIPES / "data_prep").glob("clean-*.yaml")), ids=lambda path: path.stem)
def test_recipes_load(path):
    assert load_config(CleanConfig, path).stages


@pytest.mark.parametrize("given", ["8:00:00", "'8:00:00'"])
def test_a_time_limit_is_read_with_and_without_quotes(run, recipe, given):
    status, out, err = run("--config", recipe, f"slurm.time={given}", "--print-config")
    assert status == 0 and yaml.safe_load(out)["slurm"]["time"] == "8:00:00", err


def test_published_defaults_are_datatroves():
    import inspect

    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )

    config = CleanConfig(output=Path("o"), sources={"a": {"input": "x"}}, stages=[])
    for section, step in (
        (GopherQualitySettings(), GopherQualityFilter),
        (GopherRepetitionSettings(), GopherRepetitionFilter),
        (config.c4, C4QualityFilter),
        (config.fineweb, FineWebQualityFilter),
    ):
        published = {name: p.default for name, p in inspect.signature(step.__init__).parameters.items()}
        for name, value in section.model_dump().items():
            expected = published[name]
            assert value == ([tuple(v) for v in expected] if isinstance(expected, tuple) else expected), name


def test_an_extraction_that_cannot_work_is_told_before_pages_are_lost(monkeypatch):
    from configs.errors import MachineError
    from data_prep.cleaning import run

    def fails(name):
        raise ImportError(f"{name} lacks a part of lxml")

    run.check_packages(["unicode", "html"])
    monkeypatch.setattr(run, "import_module", fails)
    run.check_packages(["unicode"])
    with pytest.raises(MachineError, match="trafilatura cannot be imported: trafilatura lacks a part of lxml"):
        run.check_packages(["unicode", "html"])
