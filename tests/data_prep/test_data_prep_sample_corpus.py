import subprocess
import sys

import orjson
import pytest

from configs.errors import DataError
from data_prep.config import SampleCorpusConfig
from data_prep.sample_corpus import sample_corpus


@pytest.mark.slow
def test_the_sample_is_deterministic_deduplicated_and_varied(tmp_path):
    config = SampleCorpusConfig(output=tmp_path / "a.jsonl", min_bytes=400_000, max_bytes=700_000)
    result = sample_corpus(config)
    sample_corpus(config.model_copy(update={"output": tmp_path / "b.jsonl"}))
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    records = [orjson.loads(line) for line in (tmp_path / "a.jsonl").read_bytes().splitlines()]
    texts = [record["text"] for record in records]
    assert len(set(texts)) == len(texts) == result.documents
    assert min(len(text.encode()) for text in texts) >= config.min_document_bytes
    assert 700_000 <= sum(len(text.encode()) for text in texts) == result.text_bytes < 1_000_000
    assert set(records[0]) == {"text", "id", "kind", "package"}
    assert {record["kind"] for record in records} == {"topic", "module", "class", "function", "method"}
    assert result.packages == len({record["package"] for record in records}) > 20


@pytest.mark.slow
def test_sources_are_parsed_not_imported(tmp_path):
    code = (
        "import sys; from pathlib import Path; from data_prep.config import SampleCorpusConfig;"
        "from data_prep.sample_corpus import sample_corpus;"
        f"sample_corpus(SampleCorpusConfig(output=Path({str(tmp_path / 's.jsonl')!r}), min_bytes=0, max_bytes=700000));"
        "assert not {'torch', 'numpy', 'deepspeed', 'pydoc_data'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, (5_000_000, 8_000_000)),
        ({"max_bytes": 6_000_000}, (5_000_000, 6_000_000)),
        ({"max_bytes": 1_000_000}, (1_000_000, 1_000_000)),
        ({"min_bytes": 9_000_000}, (9_000_000, 9_000_000)),
        ({"min_bytes": 0}, (0, 8_000_000)),
    ],
)
def test_one_bound_of_the_size_is_a_whole_request(given, expected):
    assert SampleCorpusConfig.model_validate({"output": "x.jsonl", **given}).text_bytes() == expected


def test_docstrings_carry_their_name_and_kind(tmp_path, monkeypatch):
    package = tmp_path / "site" / "pkg"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('"""' + "The package. " * 5 + '"""\nraise SystemExit("imported")\n')
    (package / "mod.py").write_text(
        'class A:\n    """' + "A class. " * 9 + '"""\n    def f(self):\n        """' + "A method.\n\n            x " * 9
        + '"""\nasync def g():\n    """' + "A function. " * 9 + '"""\n    def inner():\n        """' + "Hidden. " * 9
        + '"""\ndef short():\n    """Short."""\n'
    )  # fmt: skip
    (package / "broken.py").write_text('"""not python"""\ndef (:\n')
    (package / "surrogate.py").write_text('"""' + "\\ud800 half a pair " * 5 + '"""\n')
    paths = {"stdlib": str(tmp_path / "none"), "purelib": str(tmp_path / "site"), "platlib": str(tmp_path / "site")}
    monkeypatch.setattr("data_prep.sample_corpus.sysconfig.get_paths", lambda: paths)
    sample_corpus(SampleCorpusConfig(output=tmp_path / "s.jsonl", min_bytes=0))
    records = [orjson.loads(line) for line in (tmp_path / "s.jsonl").read_bytes().splitlines()]
    assert {(r["id"], r["kind"], r["package"]) for r in records} == {
        ("pkg", "module", "pkg"),
        ("pkg.mod.A", "class", "pkg"),
        ("pkg.mod.A.f", "method", "pkg"),
        ("pkg.mod.g", "function", "pkg"),
    }
    method = next(r["text"] for r in records if r["kind"] == "method")
    assert method.startswith("A method.\n\n") and "\n            " not in method


def test_too_little_text(tmp_path, monkeypatch):
    paths = dict.fromkeys(("stdlib", "purelib", "platlib"), str(tmp_path / "none"))
    monkeypatch.setattr("data_prep.sample_corpus.sysconfig.get_paths", lambda: paths)
    with pytest.raises(DataError, match="holds 0 bytes of documentation"):
        sample_corpus(SampleCorpusConfig(output=tmp_path / "s.jsonl"))
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_kept(tmp_path):
    (tmp_path / "s.jsonl").write_text("mine")
    with pytest.raises(DataError, match="exists already"):
        sample_corpus(SampleCorpusConfig(output=tmp_path / "s.jsonl"))
    assert (tmp_path / "s.jsonl").read_text() == "mine"
