import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from data_prep_helpers import trained, write_jsonl

from configs.errors import DataError, MachineError
from data_prep.config import TokenizeConfig
from data_prep.corpus import Corpus
from data_prep.corpus_tools.merging import merge_corpora
from data_prep.corpus_tools.verification import verify_corpus
from data_prep.sharding import appending, encoding
from data_prep.sharding.plan import RECIPE_FIELDS
from data_prep.sharding.tokenization import tokenize
from data_prep.storage import publishing


def config_for(tokenizer: Path, output: Path, *inputs: Path, **settings: object) -> TokenizeConfig:
    base = {"workers": 1, "work_unit_bytes": 5000, "metadata_fields": ["id"]}
    return TokenizeConfig(input=list(map(str, inputs)), tokenizer=tokenizer, output=output, **(base | settings))


def tokens_of(path: Path) -> list[int]:
    return np.concatenate([shard.tokens for shard in Corpus.open(path).shards]).tolist()


def files_of(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


@pytest.fixture
def inputs(tmp_path, texts) -> list[Path]:
    parts = (texts[:100], texts[100:260], texts[260:])
    return [write_jsonl(tmp_path / "in" / f"{number}.jsonl", part) for number, part in enumerate(parts)]


@pytest.fixture
def begun(tmp_path, inputs, tokenizer_path) -> Path:
    """A corpus of the first of three files."""
    tokenize(config_for(tokenizer_path, tmp_path / "out" / "c", inputs[0]))
    return tmp_path / "out" / "c"


def test_new_files_become_further_shards(begun, inputs, tokenizer_path, tmp_path, capsys):
    before, manifest = files_of(begun), Corpus.open(begun).manifest
    result = tokenize(config_for(tokenizer_path, begun, tmp_path / "in", append=True))
    assert f"in the corpus already: 1 of 3 files, such as {inputs[0]}" in capsys.readouterr().err
    corpus = Corpus.open(begun)
    assert corpus.manifest == result.manifest and corpus.fingerprint != manifest.fingerprint
    assert corpus.manifest.shards[: len(manifest.shards)] == manifest.shards
    assert manifest.fingerprint in corpus.beginnings and corpus.beginnings[-1] == corpus.fingerprint
    for count, beginning in enumerate(corpus.beginnings, 1):
        first = corpus.manifest.model_copy(update={"shards": corpus.manifest.shards[:count]})
        assert beginning == first.fingerprint, "a corpus is known as one that grew from its first shards"
    after = files_of(begun)
    assert {name: after[name] for name in before if name.startswith("shard_")} == {
        name: data for name, data in before.items() if name.startswith("shard_")
    }
    tokenize(config_for(tokenizer_path, tmp_path / "whole", *inputs))
    whole = Corpus.open(tmp_path / "whole")
    assert tokens_of(begun) == tokens_of(whole.path)
    assert np.array_equal(corpus.token_counts(), whole.token_counts())
    assert corpus.manifest.sources == whole.manifest.sources and corpus.text_bytes == whole.text_bytes
    checked = verify_corpus(begun, workers=1)
    assert (checked.problems.found, [n for n in checked.notes if "not in the manifest" in n]) == ([], [])
    assert list(begun.parent.iterdir()) == [begun]
    # In two steps, the same; and all of it, asked for at once, is there.
    tokenize(config_for(tokenizer_path, tmp_path / "steps", inputs[0]))
    for path in inputs[1:]:
        tokenize(config_for(tokenizer_path, tmp_path / "steps", path, append=True))
    assert files_of(tmp_path / "steps") == after
    assert tokenize(config_for(tokenizer_path, begun, *inputs)).made == 0


def test_nothing_new_leaves_the_corpus_as_it_is(begun, inputs, tokenizer_path, tmp_path, run):
    before = files_of(begun)
    assert tokenize(config_for(tokenizer_path, begun, inputs[0], append=True)).made == 0
    # Its name, size and time of change tell a file that was moved.
    moved = tmp_path / "elsewhere" / inputs[0].name
    moved.parent.mkdir()
    shutil.move(inputs[0], moved)
    assert tokenize(config_for(tokenizer_path, begun, moved, append=True)).made == 0
    assert files_of(begun) == before
    # A copy of it beside it is another file.
    shutil.copy2(moved, inputs[0])
    given = ("work_unit_bytes=5000", "metadata_fields=[id]", "workers=1")
    status, out, _ = run("tokenize", "--input", moved, "--tokenizer", tokenizer_path, "--output", begun, "--append",
                            *given)  # fmt: skip
    assert status == 0 and "200 documents" in out


def test_an_empty_shard_keeps_its_number(inputs, tokenizer_path, tmp_path):
    (tmp_path / "empty.jsonl").write_bytes(b'{"text": ""}\n' * 500)
    first = config_for(tokenizer_path, tmp_path / "c", tmp_path / "empty.jsonl", inputs[0], max_malformed_share=1)
    tokenize(first)
    names = [entry.name for entry in Corpus.open(tmp_path / "c").manifest.shards]
    assert names[0] != "shard_00000"
    tokenize(config_for(tokenizer_path, tmp_path / "c", inputs[1], append=True))
    found = [entry.name for entry in Corpus.open(tmp_path / "c").manifest.shards]
    assert found[: len(names)] == names and len(set(found)) == len(found) > len(names)
    assert verify_corpus(tmp_path / "c", workers=1).problems.found == []


def test_what_differs_is_refused_and_named(begun, inputs, text_file, tokenizer_path, tmp_path):
    before = files_of(begun)
    other = trained(text_file, tmp_path / "unigram", "unigram").model_path.parent
    for settings, difference in (
        ({"tokenizer": other}, "the tokenizer had the fingerprint"),
        ({"append_end_of_document": False}, "append_end_of_document was True, is False"),
        ({"encoding": "gb18030"}, "encoding was 'utf-8', is 'gb18030'"),
        ({"metadata_fields": []}, r"metadata_fields was \['id'\], is \[\]"),
    ):
        config = config_for(tokenizer_path, begun, inputs[1], append=True).model_copy(update=settings)
        with pytest.raises(DataError, match=difference) as caught:
            tokenize(config)
        assert "a corpus made with others can be in a mixture with it" in str(caught.value)
    inputs[0].write_bytes(inputs[0].read_bytes()[:-20])
    with pytest.raises(
        DataError, match=rf"0.jsonl: is in {begun} already, but has changed since: it had .* bytes, has"
    ):
        tokenize(config_for(tokenizer_path, begun, *inputs, append=True))
    assert files_of(begun) == before and list(begun.parent.iterdir()) == [begun]


def test_where_nothing_can_be_appended_to(begun, inputs, tokenizer_path, tmp_path):
    with pytest.raises(DataError, match="there is no such corpus"):
        tokenize(config_for(tokenizer_path, tmp_path / "none", inputs[1], append=True))
    merge_corpora([Corpus.open(begun)], tmp_path / "merged", 1 << 40)
    with pytest.raises(DataError, match=r"merged: does not say which files it was made of(.|\n)*`merge` the two"):
        tokenize(config_for(tokenizer_path, tmp_path / "merged", inputs[1], append=True))
    (begun / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"holds other things: notes\.txt"):
        tokenize(config_for(tokenizer_path, begun, inputs[1], append=True))
    (begun / "notes.txt").unlink()
    lines = begun / "shard_00000.meta.jsonl"
    lines.rename(tmp_path / "lines")
    with pytest.raises(DataError, match=r"shard_00000\.meta\.jsonl: is missing"):
        tokenize(config_for(tokenizer_path, begun, inputs[1], append=True))
    (tmp_path / "lines").rename(lines)
    shard = begun / "shard_00000.bin"
    shard.write_bytes(shard.read_bytes()[:-2])
    with pytest.raises(DataError, match=r"shard_00000\.bin: holds .* bytes"):
        tokenize(config_for(tokenizer_path, begun, inputs[1], append=True))


class Killed(BaseException):
    pass


def kill(*arguments: object, **options: object) -> None:
    raise Killed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "name"),
    [
        (encoding, "ShardWriter"),
        (appending, "_join"),
        (appending, "_link"),
        (appending, "joined_manifest"),
        (publishing, "_exchange"),
        (publishing, "exchange and then"),
    ],
)
def test_whenever_it_is_killed_the_old_corpus_or_the_new_one_is_there(
    begun, inputs, tokenizer_path, tmp_path, monkeypatch, module, name
):
    config = config_for(tokenizer_path, begun, *inputs, append=True)
    shutil.copytree(begun, tmp_path / "other" / "c")
    tokenize(config.model_copy(update={"output": tmp_path / "other" / "c"}))
    old, new = files_of(begun), files_of(tmp_path / "other" / "c")
    exchange = publishing._exchange

    def exchange_and_kill(*names: Path) -> None:
        assert exchange(*names)
        raise Killed

    with monkeypatch.context() as patch:
        # After a kill nothing is tidied up.
        patch.setattr(publishing, "shutil", SimpleNamespace(rmtree=kill))
        if name == "exchange and then":
            patch.setattr(publishing, "_exchange", exchange_and_kill)
        else:
            patch.setattr(module, name, kill)
        with pytest.raises(Killed):
            tokenize(config)
    assert files_of(begun) == (new if name == "exchange and then" else old)
    tokenize(config)
    assert files_of(begun) == new and not begun.with_name("c.appending").exists()
    # What the killed process had under a hidden name goes with the next one that is made here, at the latest.
    more = write_jsonl(tmp_path / "more.jsonl", ["more"])
    tokenize(config_for(tokenizer_path, begun, more, append=True))
    assert list(begun.parent.iterdir()) == [begun]


def test_who_comes_later_does_not_join_again(begun, inputs, tokenizer_path, tmp_path):
    config = config_for(tokenizer_path, begun, inputs[1], append=True)
    new = appending.settings_of_new_files(config)
    assert new is not None
    tokenize(new)
    shutil.copytree(config.appending, tmp_path / "kept")
    first = appending.join_new_files(config)
    assert appending.join_new_files(config) == first
    # As one finds it that waited for the lock before the other had removed it.
    shutil.copytree(tmp_path / "kept", config.appending)
    assert appending.join_new_files(config) == first == Corpus.open(begun).manifest
    assert list(begun.parent.iterdir()) == [begun]


def test_links_and_exchanges_that_a_file_system_lacks(begun, inputs, tokenizer_path, tmp_path, monkeypatch):
    shutil.copytree(begun, tmp_path / "c")
    tokenize(config_for(tokenizer_path, begun, inputs[1], append=True))

    def refused(*arguments: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    monkeypatch.setattr(publishing, "_exchange", lambda *names: False)
    tokenize(config_for(tokenizer_path, tmp_path / "c", inputs[1], append=True))
    assert files_of(tmp_path / "c") == files_of(begun)


def test_a_full_disk_leaves_the_old_corpus(begun, inputs, tokenizer_path, monkeypatch):
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    before = files_of(begun)
    monkeypatch.setattr(appending, "_link", full)
    with pytest.raises(MachineError, match="No space left"):
        tokenize(config_for(tokenizer_path, begun, inputs[1], append=True))
    assert files_of(begun) == before


@pytest.mark.slow
def test_several_processes_append_together(begun, inputs, tokenizer_path, tmp_path):
    shutil.copytree(begun, tmp_path / "c")
    tokenize(config_for(tokenizer_path, tmp_path / "c", *inputs, append=True))
    command = [sys.executable, "-m", "data_prep", "tokenize", "--append", "--tokenizer", str(tokenizer_path)]
    command += ["--output", str(begun), "work_unit_bytes=5000", "metadata_fields=[id]", "workers=1"]
    command += [f"--input={path}" for path in inputs]
    share = {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "3", "SLURM_STEP_ID": "0"}
    started = [
        subprocess.Popen([*command, "launcher=slurm"], env=os.environ | share | {"SLURM_PROCID": str(number)})
        for number in range(3)
    ]
    assert [process.wait() for process in started] == [0, 0, 0]
    assert files_of(begun) == files_of(tmp_path / "c") and list(begun.parent.iterdir()) == [begun]


def test_every_setting_that_decides_about_the_result_is_in_the_plan():
    rest = {"input", "max_malformed_share", "max_window_bytes", "tokenizer", "output", "engine", "launcher", "workers"}
    rest |= {"format"}  # what it decides, each file's kind, is in the plan
    assert set(TokenizeConfig.model_fields) - set(RECIPE_FIELDS) == rest | {"append", "overwrite"}
