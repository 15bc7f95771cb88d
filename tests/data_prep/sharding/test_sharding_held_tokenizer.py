"""A process loads the tokenizer of a corpus once, and never takes that of another corpus for it."""

from pathlib import Path

import pytest
from data_prep_helpers import trained

from data_prep.config import TokenizeConfig
from data_prep.corpus import Corpus
from data_prep.sharding import held_tokenizer, planning
from data_prep.sharding.encoding import make_shard
from data_prep.sharding.tokenization import tokenize
from data_prep.tokenizer import load_tokenizer
from data_prep.tokenizer.light import LightTokenizer
from tests.tokenizer_kinds import huggingface_bpe


@pytest.fixture
def loaded(monkeypatch):
    paths: list[Path] = []

    def load(path, engine="auto"):
        paths.append(Path(path))
        return load_tokenizer(path, engine)

    for module in (held_tokenizer, planning):
        monkeypatch.setattr(module, "load_tokenizer", load)
    return paths


@pytest.mark.parametrize("engine", ["auto", "reference"])
def test_it_is_loaded_once_and_let_go(tmp_path, text_file, tokenizer_path, loaded, engine):
    config = TokenizeConfig(
        input=[str(text_file)],
        tokenizer=tokenizer_path,
        output=tmp_path / "c",
        workers=1,
        work_unit_bytes=5000,
        engine=engine,
    )
    assert tokenize(config).made > 1
    assert loaded == [tokenizer_path] and not held_tokenizer._held


def test_workers_begin_with_what_the_planning_process_showed(tmp_path, text_file, texts, monkeypatch):
    vocabulary = huggingface_bpe(tmp_path / "bpe", texts)
    outputs = {}
    for name, is_light in (("light", True), ("whole", False)):
        config = TokenizeConfig(input=[str(text_file)], tokenizer=vocabulary, output=tmp_path / name, workers=1)
        with monkeypatch.context() as patch:
            if not is_light:
                patch.setattr(planning, "keep_light", lambda *arguments: None)
            work = planning.begin(config)
            held_tokenizer.let_tokenizer_go()  # as in a process that planned nothing
            if is_light:
                patch.setattr(held_tokenizer, "load_tokenizer", None)
            for task in work.tasks:
                make_shard(task)
            found = held_tokenizer.held_tokenizer(work.tasks[0].tokenizer, work.tasks[0].engine)
            assert isinstance(found, LightTokenizer) is is_light
            held_tokenizer.let_tokenizer_go()
        tokenize(config)
        files = sorted((tmp_path / name).glob("shard_*"))
        outputs[name] = [path.read_bytes() for path in files]
        assert not list((tmp_path / name).rglob("vocabulary.gigatoken"))
    assert outputs["light"] and outputs["light"] == outputs["whole"]


def test_the_same_output_with_another_tokenizer(tmp_path, text_file, tokenizer_path, texts):
    other = trained(text_file, tmp_path / "other", "unigram").model_path.parent
    for path in (tokenizer_path, other):
        config = TokenizeConfig(
            input=[str(text_file)], tokenizer=path, output=tmp_path / "c", workers=1, overwrite=True
        )
        planning.begin(config)  # held, and left unfinished
        tokenize(config)
        ids = Corpus.open(tmp_path / "c").shards[0].document(0)
        assert ids[:-1].tolist() == load_tokenizer(path).encode(texts[0])
