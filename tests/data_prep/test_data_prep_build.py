"""One command from raw files to a verified corpus; what is done is not done again."""

from pathlib import Path

import orjson
import pytest
import yaml

from configs.errors import ConfigError, DataError
from configs.load import find_recipe, load_config
from data_prep.build_config import BuildConfig
from data_prep.building import build
from data_prep.config import SourceConfig
from data_prep.corpus import Corpus


def config_for(text: Path, output: Path, **settings) -> BuildConfig:
    return BuildConfig.model_validate(
        {
            "output": str(output),
            "train_tokenizer": {"vocab_size": 420},
            "tokenize": {"input": [str(text)], "workers": 1},
            **settings,
        }
    )


def test_paths_between_stages_are_filled_in(tmp_path):
    config = load_config(BuildConfig, find_recipe("build-debian", "data_prep"), [f"output={tmp_path}"])
    assert config.clean.output == tmp_path / "clean"
    assert config.train_tokenizer.input == config.tokenize.input == [str(tmp_path / "clean" / "documents")]
    assert config.tokenize.tokenizer == config.train_tokenizer.output == tmp_path / "tokenizer"
    assert config.tokenize.output == tmp_path / "corpus"
    with pytest.raises(ConfigError, match=r"tokenize.tokenizer"):
        load_config(BuildConfig, None, [f"output={tmp_path}", "tokenize={input: [x.txt]}"])


def test_the_tokenizer_is_learned_from_what_is_tokenized(tmp_path):
    reading = {
        "text_field": ["title", "body"],
        "text_separator": " ",
        "text_documents": "line",
        "dataset_split": "test",
        "malformed": "stop",
        "max_malformed_share": 0.5,
        "damaged_files": "skip",
        "max_document_bytes": 5000,
        "work_unit_bytes": 7000,
        "encoding": "gb18030",
        "delimiter": "|",
        "quoting": "none",
        "header": ["title", "body"],
        "max_window_bytes": 2**20,
        "format": "csv",
    }
    assert {"input", *reading} == set(SourceConfig.model_fields)
    tokenize = {"input": [str(tmp_path)], "append_end_of_document": False, **reading}
    config = config_for(tmp_path, tmp_path / "built", tokenize=tokenize)
    assert config.train_tokenizer.model_dump(include=set(reading)) == reading
    config = config_for(tmp_path, tmp_path / "b", tokenize=tokenize, train_tokenizer={"damaged_files": "stop"})
    assert (config.train_tokenizer.damaged_files, config.train_tokenizer.dataset_split) == ("stop", "test")


@pytest.mark.slow
def test_a_build_within_its_input_is_done_once(tmp_path, text_file):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_bytes(text_file.read_bytes())
    config = config_for(tmp_path / "in", tmp_path / "in" / "built")
    build(config, lambda line: None)
    said: list[str] = []
    build(config, said.append)
    assert "learned before; nothing was done" in said and any("the corpus is complete" in line for line in said)
    assert len(Corpus.open(tmp_path / "in" / "built" / "corpus").manifest.sources) == 1


def test_stages_run_once_and_say_what_they_did(tmp_path, text_file):
    said: list[str] = []
    config = config_for(text_file, tmp_path / "built", ngram_order=2)
    build(config, said.append)
    text = "\n".join(said)
    for part in (
        "== train-tokenizer took",
        "== tokenize took",
        "all as it should be",
        "entropy",
        "best       order",
    ):
        assert part in text, text
    assert (tmp_path / "built" / "statistics.png").stat().st_size > 10_000
    assert orjson.loads((tmp_path / "built" / "statistics.json").read_bytes())["documents"] > 100
    # As the settings were written down before there were roles of encoders: such a build is not begun anew.
    settings = orjson.loads((tmp_path / "built" / "tokenizer" / "recipe.json").read_bytes())["settings"]
    roles = ["unknown", "beginning_of_document", "end_of_document", "pad", "mask", "sentinels"]
    assert list(settings["special_tokens"]) == roles
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "built" / "corpus").glob("shard*")}
    said.clear()
    build(config, said.append)
    text = "\n".join(said)
    assert "learned before; nothing was done" in text and "nothing: the corpus is complete" in text
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "built" / "corpus").glob("shard*")}
    with pytest.raises(DataError, match="was learned with other settings"):
        build(config_for(text_file, tmp_path / "built", train_tokenizer={"vocab_size": 410}), said.append)
    assert Corpus.open(tmp_path / "built" / "corpus").vocab_size == 420


@pytest.mark.slow
def test_raw_files_become_a_corpus_and_a_report(tmp_path):
    from data_prep.cli import app

    sentence = "The {} of the house is not what it was when the {} came to see that we have a {} for all of you."
    words = [f"{a}{b}" for a in ("gar", "win", "tab", "chim", "roof") for b in ("den", "dow", "le", "ney", "top", "er")]
    raw = tmp_path / "raw"
    raw.mkdir()
    documents = [
        " ".join(sentence.format(*(words[(n * p + k) % 30] for p in (7, 11, 13))) for k in range(6)) for n in range(60)
    ]
    lines = [orjson.dumps({"text": text, "id": str(n)}) + b"\n" for n, text in enumerate(documents + documents[:20])]
    (raw / "a.jsonl").write_bytes(b"".join(lines) + b'{"text": "buy buy buy buy"}\n')
    recipe = {
        "output": str(tmp_path / "built"),
        "clean": {
            "sources": {"a": {"input": str(raw)}},
            "stages": ["unicode", "gopher_quality", "exact_dedup"],
            "tasks": 2,
        },
        "train_tokenizer": {"vocab_size": 330},
        "tokenize": {"metadata_fields": ["source"]},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    with pytest.raises(SystemExit) as end:
        app(["build", str(tmp_path / "recipe.yaml")])
    assert not end.value.code
    corpus = Corpus.open(tmp_path / "built" / "corpus")
    assert corpus.num_documents == len(set(documents))
    assert (tmp_path / "built" / "clean" / "report.html").is_file()
