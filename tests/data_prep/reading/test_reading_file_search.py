"""No input file is passed over without a word, and none is read twice; what the command writes is no input."""

import gzip

import pytest
from data_prep_helpers import error_as_nobody, write_jsonl

from configs.errors import DataError
from data_prep.cleaning.config import CleanConfig
from data_prep.cleaning.plan import make_plan
from data_prep.config import SourceConfig, TokenizeConfig, TokenizerConfig
from data_prep.reading.inputs import find_files


def found(*patterns) -> list[str]:
    """What `tokenize` finds."""
    return [file.path for file in find_files(SourceConfig(input=[str(pattern) for pattern in patterns]))]


def found_by_clean(*patterns) -> list[str]:
    config = CleanConfig(output="/nowhere", sources={"a": {"input": [str(p) for p in patterns]}}, stages=[])
    return [name.removeprefix("file://") for name, _, _ in make_plan(config).inputs]


FINDERS = [found, found_by_clean]


@pytest.mark.parametrize("find", FINDERS)
@pytest.mark.parametrize("pattern", ["", "**", "**/*.jsonl", "*/*.jsonl", "closed/*.jsonl"])
def test_a_directory_that_cannot_be_read_is_named(closed_directory, find, pattern):
    find(closed_directory / "a.jsonl")  # imports what nobody may
    said = error_as_nobody(lambda: find(closed_directory / pattern))
    assert said.startswith("DataError: ") and f"{closed_directory}/closed" in said, said
    assert "cannot be read: " in said and "Permission denied" in said, said


@pytest.mark.parametrize("find", FINDERS)
@pytest.mark.parametrize("mode", [0o400, 0o100])
def test_a_directory_that_may_be_listed_or_entered_only(closed_directory, find, mode):
    (closed_directory / "closed").chmod(mode | mode >> 3 | mode >> 6)
    find(closed_directory / "a.jsonl")
    said = error_as_nobody(lambda: find(closed_directory))
    assert said.startswith("DataError: ") and f"{closed_directory}/closed" in said, said
    assert "cannot be read: " in said and "Permission denied" in said, said


@pytest.mark.parametrize("find", FINDERS)
@pytest.mark.parametrize("pattern", ["", "*.jsonl", "gone.jsonl"])
def test_a_link_that_leads_nowhere_is_named(tmp_path, find, pattern):
    write_jsonl(tmp_path / "a.jsonl", ["one"])
    (tmp_path / "gone.jsonl").symlink_to(tmp_path / "moved.jsonl")
    with pytest.raises(DataError, match=r"gone.jsonl: is a link to .*moved.jsonl, which is not there"):
        find(tmp_path / pattern)
    (tmp_path / "gone.jsonl").rename(tmp_path / "gone.pdf")
    assert find(tmp_path) == [str(tmp_path / "a.jsonl")]


@pytest.mark.parametrize("find", FINDERS)
def test_links_to_directories_are_told(tmp_path, find, capsys):
    write_jsonl(tmp_path / "in" / "a.jsonl", ["one"])
    write_jsonl(tmp_path / "elsewhere" / "b.jsonl", ["two"])
    (tmp_path / "in" / "more").symlink_to(tmp_path / "elsewhere")
    assert find(tmp_path / "in") == [str(tmp_path / "in" / "a.jsonl")]
    assert f"not followed: {tmp_path / 'in' / 'more'}, a link to a directory" in capsys.readouterr().err
    assert len(find(tmp_path / "in", tmp_path / "in" / "more")) == 2


@pytest.mark.parametrize("find", FINDERS)
def test_endings_in_capitals(tmp_path, find):
    for name in ("A.JSONL", "B.JSONL.GZ", "c.jsonl.Gz"):
        plain = write_jsonl(tmp_path / "plain", ["one"]).read_bytes()
        (tmp_path / name).write_bytes(plain if name == "A.JSONL" else gzip.compress(plain))
        (tmp_path / "plain").unlink()
    names = [str(tmp_path / name) for name in ("A.JSONL", "B.JSONL.GZ", "c.jsonl.Gz")]
    assert find(tmp_path) == find(tmp_path / "*[!n]") == names


@pytest.mark.parametrize("find", FINDERS)
def test_a_directory_without_input_says_what_input_is(tmp_path, find):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.docx").write_bytes(b"")
    with pytest.raises(
        DataError, match=r"empty:? holds no file of a known kind\n  expected: files ending in "
    ) as error:
        find(tmp_path / "empty")
    assert error.value.nearest is None


def test_a_file_that_is_named_twice_is_read_once(tmp_path, capsys, monkeypatch):
    write_jsonl(tmp_path / "a.jsonl", ["one"])
    write_jsonl(tmp_path / "b.jsonl", ["two"])
    (tmp_path / "list").write_text(f"{tmp_path}/b.jsonl\n")
    (tmp_path / "c.jsonl").symlink_to("a.jsonl")
    monkeypatch.chdir(tmp_path)
    assert found("b.jsonl", tmp_path / "*.jsonl", "./a*", f"@{tmp_path}/list") == ["b.jsonl", str(tmp_path / "a.jsonl")]
    assert f"named twice, read once: {tmp_path / 'b.jsonl'} and 3 more" in capsys.readouterr().err


@pytest.mark.parametrize("pattern", ["", "**/*", "**/*.json*"])
def test_what_the_command_writes_is_no_input(tmp_path, pattern):
    own = ["corpus/plan.json", "corpus.partial/finished/a.json", "tokenizer/vocabulary.json"]
    for name in ["a.jsonl", "corpus2/b.jsonl", *own]:
        write_jsonl(tmp_path / name, ["one"])
    given = {"input": [str(tmp_path / pattern)]}
    kept = [str(tmp_path / "a.jsonl"), str(tmp_path / "corpus2" / "b.jsonl")]
    config = TokenizeConfig(**given, output=tmp_path / "corpus", tokenizer=tmp_path / "tokenizer")
    assert [file.path for file in find_files(config)] == kept
    learned = [file.path for file in find_files(TokenizerConfig(**given, output=tmp_path / "tokenizer"))]
    assert len(learned) == (4 if pattern else 3) and set(kept) < set(learned)
    assert not any("vocabulary" in path for path in learned)
    cleaned = CleanConfig(output=tmp_path / "corpus", sources={"a": {"input": given["input"]}}, stages=[])
    assert [name.removeprefix("file://") for name, _, _ in make_plan(cleaned).inputs] == [
        *kept,
        str(tmp_path / "tokenizer" / "vocabulary.json"),
    ]
    # Whoever names it wants it.
    for named in ("corpus.partial", "corpus.partial/*/*.json"):
        config = TokenizeConfig(input=[str(tmp_path / named)], output=tmp_path / "corpus", tokenizer="t")
        assert len(find_files(config)) == 1


@pytest.mark.parametrize("find", FINDERS)
def test_corpora_among_the_text_are_passed_over_and_told(tmp_path, find, capsys):
    write_jsonl(tmp_path / "in" / "a.jsonl", ["one"])
    shard = ("corpus/shard-0.idx", "corpus/shard-0.bin", "corpus/shard-0.meta.jsonl")
    begun = ("killed.partial/plan.json", "killed.partial/finished/0.json")
    for name in ("corpus/manifest.json", "corpus/tokenizer/tokenizer.json", *shard, *begun):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_text("{}")
    # Megatron's own tools leave the text and its shards side by side, and other people have manifests too.
    for name in ("megatron/b.jsonl", "megatron/b_text.idx", "megatron/b_text.bin", "other/manifest.json"):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_text("{}")
    found = [str(tmp_path / "in" / name) for name in ("a.jsonl", "megatron/b.jsonl", "other/manifest.json")]
    assert find(tmp_path / "in") == found
    assert f"not read: {tmp_path / 'in' / 'corpus'} and 1 more, a corpus or" in capsys.readouterr().err


def test_a_list_may_begin_with_a_byte_order_mark(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", ["one"])
    (tmp_path / "list").write_text(f"\ufeff{tmp_path}/a.jsonl\n", encoding="utf-8")
    assert found(f"@{tmp_path}/list") == [str(tmp_path / "a.jsonl")]
