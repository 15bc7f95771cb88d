"""What `tokenize` never removes or overlooks: finished shards, other people's files, work of others, lost files."""

import subprocess
import sys
from pathlib import Path

import pytest
from data_prep_helpers import write_jsonl

from configs.errors import DataError, MachineError
from data_prep.config import TokenizeConfig
from data_prep.corpus_tools.verification import verify_corpus
from data_prep.sharding import tokenization
from data_prep.sharding.encoding import make_shard
from data_prep.sharding.planning import begin, working
from data_prep.sharding.shard_record import RECORDS, ShardRecord, lock_path
from data_prep.sharding.tokenization import tokenize
from data_prep.storage.locks import is_locked, locked


@pytest.fixture
def config(tmp_path, text_file, tokenizer_path) -> TokenizeConfig:
    where = {"tokenizer": tokenizer_path, "output": tmp_path / "out" / "c"}
    return TokenizeConfig(input=[str(text_file)], workers=1, work_unit_bytes=5000, **where)


def files_of(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def unfinished(config: TokenizeConfig) -> Path:
    """All shards, and no corpus yet."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenization, "finish", lambda work, config: None)
        tokenize(config)
    return config.partial


@pytest.fixture
def holder():
    """Starts another process that holds a lock."""
    started = []

    def hold(lock: Path, shared: bool) -> subprocess.Popen:
        code = (
            "import sys; from pathlib import Path; from data_prep.storage.locks import locked\n"
            "with locked(Path(sys.argv[1]), shared=sys.argv[2] == 'True'): print(flush=True); input()"
        )
        command = [sys.executable, "-c", code, str(lock), str(shared)]
        other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(other)
        assert other.stdout.readline() == "\n"
        return other

    yield hold
    for other in started:
        other.kill()
        other.communicate()


def test_a_start_that_fails_again_removes_no_finished_shard(tmp_path, texts, config):
    source = write_jsonl(tmp_path / "t.jsonl", texts)
    with source.open("ab") as stream:
        stream.write(b"{\n")
    config = config.model_copy(update={"input": [str(source)], "malformed": "stop"})
    finished = []
    for _ in range(2):
        with pytest.raises(DataError, match="is not valid JSON"):
            tokenize(config)
        finished.append(sorted(path.name for path in (config.partial / RECORDS).glob("*.json")))
    assert len(finished[0]) > 3 and finished[1] == finished[0]


def test_a_failing_first_shard_keeps_the_others(config, monkeypatch):
    partial = unfinished(config)
    (partial / RECORDS / "shard_00000.json").unlink()
    before = files_of(partial)

    def fail(task):
        raise DataError("is broken", where=task.name)

    monkeypatch.setattr(tokenization, "make_shard", fail)
    with pytest.raises(DataError, match="is broken"):
        tokenize(config)
    assert before.keys() <= files_of(partial).keys()


def test_a_failing_start_leaves_the_work_of_others(config, monkeypatch, holder):
    work = begin(config)
    holder(lock_path(work.partial, "shard_00003"), False)

    def fail(task):
        raise DataError("is broken", where=task.name)

    monkeypatch.setattr(tokenization, "make_shard", fail)
    with pytest.raises(DataError, match="is broken"):
        tokenize(config)
    assert (work.partial / "plan.json").is_file()


@pytest.mark.parametrize("name", ["shard_00003.lock", "at_work.lock"])
def test_overwrite_waits_for_no_process_and_ends_none(config, holder, name):
    partial = unfinished(config)
    before = files_of(partial)
    other = holder(partial / RECORDS / name, name == "at_work.lock")
    changed = config.model_copy(update={"overwrite": True, "append_end_of_document": False})
    with pytest.raises(MachineError, match="another process works in it"):
        tokenize(changed)
    assert files_of(partial) == before
    other.kill()
    other.wait()
    assert tokenize(changed).made > 0


def test_processes_share_the_work(config, holder):
    work = begin(config)
    lock = work.partial / RECORDS / "at_work.lock"
    assert not is_locked(lock)
    holder(lock, True)
    assert is_locked(lock)
    with working(work) as there, locked(lock) as alone:
        assert there and not alone
    assert tokenize(config).manifest is not None


def test_a_shard_of_another_plan_is_not_taken(config):
    work = begin(config)
    make_shard(work.tasks[0])
    assert ShardRecord.read(work.partial, "shard_00000") is not None
    kept = {path: path.read_bytes() for path in work.partial.rglob("*shard_00000*")}
    changed = config.model_copy(update={"overwrite": True, "work_unit_bytes": 6000})
    again = begin(changed)
    for path, content in kept.items():
        path.write_bytes(content)
    assert ShardRecord.read(again.partial, "shard_00000") is None
    with pytest.raises(DataError, match="was begun anew by another process"), working(work):
        pass
    with pytest.raises(DataError, match="was begun anew by another process"):
        tokenization.finish(work, config)
    tokenize(changed)
    assert not verify_corpus(config.output, workers=1).problems.count


@pytest.mark.slow
@pytest.mark.parametrize(
    "lost", ["shard_00001.bin", "shard_00001.meta.jsonl", "token_counts.npy", "plan.json", "manifest.json"]
)
def test_a_damaged_corpus_is_told_and_made_again(config, lost):
    config = config.model_copy(update={"metadata_fields": ["id"]})
    tokenize(config)
    whole = files_of(config.output)
    path = config.output / lost
    if path.suffix in (".bin", ".json"):
        path.write_bytes(path.read_bytes()[:-2])
    else:
        path.unlink()
    before = files_of(config.output)
    with pytest.raises(DataError, match=rf"{lost}: (is not|is missing|holds)"):
        tokenize(config)
    assert files_of(config.output) == before
    again = config.model_copy(update={"overwrite": True})
    assert tokenize(again).made > 0 and files_of(config.output) == whole
    assert tokenize(again).made == 0
    (config.output / "manifest.json").unlink()
    with pytest.raises(DataError, match="exists already"):
        tokenize(config)
    assert tokenize(again).made > 0 and files_of(config.output) == whole


@pytest.mark.parametrize("with_plan", [False, True])
@pytest.mark.parametrize("overwrite", [False, True])
def test_the_users_own_partial_directory_stays(config, with_plan, overwrite):
    if with_plan:
        unfinished(config)
    config.partial.mkdir(parents=True, exist_ok=True)
    (config.partial / "notes.txt").write_text("precious")
    before = files_of(config.partial)
    changed = config.model_copy(update={"overwrite": overwrite, "append_end_of_document": False})
    with pytest.raises(DataError, match=r"c\.partial: holds other things than an unfinished corpus: notes\.txt"):
        tokenize(changed)
    assert files_of(config.partial) == before and not config.output.exists()


def test_an_input_within_the_output_survives(tmp_path, texts, config):
    site = tmp_path / "site"
    write_jsonl(site / "raw" / "a.jsonl", texts)
    (site / "manifest.json").write_text("{}")
    before = files_of(site)
    changes = {"output": site, "overwrite": True}
    for given in (site / "raw", site / "raw" / "*.jsonl", site / "raw" / "a.jsonl"):
        with pytest.raises(DataError, match="holds other things: the input"):
            tokenize(config.model_copy(update={**changes, "input": [str(given)]}))
    with pytest.raises(DataError, match=r"another manifest\.json"):
        tokenize(config.model_copy(update=changes))
    assert files_of(site) == before
    tokenize(config)
    own = {"tokenizer": config.output / "tokenizer", "overwrite": True, "append_end_of_document": False}
    with pytest.raises(DataError, match="holds other things: the input"):
        tokenize(config.model_copy(update=own))


def test_an_output_that_comes_to_be_meanwhile_is_not_replaced(config):
    unfinished(config)
    work = begin(config)
    config.output.mkdir()
    (config.output / "thesis.txt").write_text("precious")
    with pytest.raises(DataError, match="holds other things"):
        tokenization.finish(work, config)
    assert (config.output / "thesis.txt").read_text() == "precious"
    (config.output / "thesis.txt").unlink()
    assert tokenize(config).made == 0


def test_outputs_without_a_name(tmp_path, monkeypatch, config):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    tokenize(config.model_copy(update={"output": Path()}))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here"]
    assert (tmp_path / "here" / "manifest.json").is_file()
    with pytest.raises(DataError, match="/: is the root of the file system"):
        tokenize(config.model_copy(update={"output": Path("/")}))


def test_lost_metadata_is_made_again(config):
    config = config.model_copy(update={"metadata_fields": ["id"]})
    partial = unfinished(config)
    (partial / "shard_00001.meta.jsonl").unlink()
    (partial / "shard_00002.meta.jsonl").write_bytes(b"")
    assert tokenize(config).made == 2
    assert not verify_corpus(config.output, workers=1).problems.count


def test_a_linked_output_is_filled_where_it_leads(tmp_path, config):
    (tmp_path / "disk" / "place").mkdir(parents=True)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "disk" / "place")
    linked = config.model_copy(update={"output": link})
    tokenize(linked)
    assert link.is_symlink() and (tmp_path / "disk" / "place" / "manifest.json").is_file()
    assert tokenize(linked).made == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "link"]


@pytest.mark.parametrize("killed", [False, True])
def test_what_an_error_says_to_set_can_be_set_where_no_document_was_read(config, tmp_path, killed, monkeypatch):
    (tmp_path / "t.jsonl").write_bytes('{"text": "这本书我读了很久，终于在昨天晚上读完了。"}\n'.encode("gbk") * 3)
    settings = config.model_copy(update={"input": [str(tmp_path / "t.jsonl")]})
    with monkeypatch.context() as patch:
        if killed:
            patch.setattr(tokenization, "discard_if_unused", lambda partial: None)
        with pytest.raises(DataError, match="encoding=gb18030 reads it"):
            tokenize(settings)
    assert settings.partial.exists() is killed
    assert tokenize(settings.model_copy(update={"encoding": "gb18030"})).manifest.documents == 3


def test_shards_with_documents_are_not_lost_to_another_setting(config):
    before = files_of(unfinished(config))
    with pytest.raises(DataError, match="text_separator was"):
        tokenize(config.model_copy(update={"text_separator": " "}))
    assert files_of(config.partial) == before
