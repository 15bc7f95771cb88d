"""`import-tokenizer`: the roles of a foreign vocabulary in one place."""

import shutil

import pytest
from data_prep_helpers import make_text, trained

from configs.errors import ConfigError, DataError
from data_prep.tokenizer import ROLES, load_tokenizer
from data_prep.tokenizer.importing import describe_tokenizer, import_tokenizer, parse_roles
from tests.tokenizer_kinds import PATTERN, huggingface_bpe, huggingface_wordpiece, tiktoken_ranks

TEXTS = [make_text(number) for number in range(200)]


@pytest.fixture(scope="module")
def bpe(tmp_path_factory):
    return huggingface_bpe(tmp_path_factory.mktemp("foreign"), TEXTS)


def test_roles_are_named_by_spelling(tmp_path, bpe):
    imported = import_tokenizer(
        bpe, tmp_path / "t", {"mask": "<extra_id_1>", "sentinels": "<extra_id_*>", "pad": "none", "unknown": "a"}
    )
    assert [imported.role(role) for role in ROLES[:5]] == [0, None, load_tokenizer(bpe).find("a"), None, 3]
    assert imported.sentinels == [2, 3] and imported.algorithm == "bpe"
    assert imported.encode_batch(TEXTS) == load_tokenizer(bpe).encode_batch(TEXTS)
    assert sorted(path.name for path in (tmp_path / "t").iterdir()) == ["tokenizer.json", "vocabulary.json"]
    lines = "\n".join(describe_tokenizer(imported, tmp_path / "t"))
    assert "end_of_document 0 '<|end|>'" in lines and "unknown is 'a', which text may hold too" in lines
    assert "plays the role" not in lines


def test_a_bare_sentencepiece_model(tmp_path, text_file):
    own = trained(text_file, tmp_path / "own", "unigram")
    model = shutil.copy(own.model_path, tmp_path / "some.model")
    imported = import_tokenizer(tmp_path / "some.model", tmp_path / "t", {"sentinels": "<extra_id_*>"})
    assert imported.algorithm == "unigram" and imported.sentinels == own.sentinels and str(model).endswith("some.model")
    assert imported.fingerprint == own.fingerprint


def test_a_tiktoken_file_with_its_pattern(tmp_path):
    ranks = tiktoken_ranks(tmp_path / "v.tiktoken", TEXTS)
    (tmp_path / "scheme.json").write_text('{"encoding": "cl100k_base", "special_tokens": {"<|endoftext|>": 400}}')
    imported = import_tokenizer(ranks, tmp_path / "t", {}, encoding=str(tmp_path / "scheme.json"))
    assert (imported.role("end_of_document"), imported.vocab_size) == (400, 401)
    again = load_tokenizer(tmp_path / "t")
    assert again.fingerprint == imported.fingerprint and again.extra["special_tokens"] == {"<|endoftext|>": 400}
    named = import_tokenizer(ranks, tmp_path / "n", {}, encoding="gpt2")
    assert named.role("end_of_document") == 50256 and named.extra["pattern"] == PATTERN
    with pytest.raises(DataError, match="did you mean: o200k_base"):
        import_tokenizer(ranks, tmp_path / "m", {}, encoding="o200_base")
    with pytest.raises(ConfigError, match=r"for \.tiktoken files only"):
        import_tokenizer(tmp_path / "t", tmp_path / "m", {}, encoding="gpt2")


def test_a_vocabulary_without_an_end(tmp_path):
    words = huggingface_wordpiece(tmp_path / "w", TEXTS)
    imported = import_tokenizer(words, tmp_path / "t", {})
    assert "no token plays the role end_of_document" in "\n".join(describe_tokenizer(imported, tmp_path / "t"))


@pytest.mark.parametrize(
    ("roles", "problem"),
    [
        ({"end_of_documents": "</s>"}, "there is no role 'end_of_documents'(.|\n)*did you mean: end_of_document"),
        ({"pad": "<|pads|>"}, r"has no token '<\|pads\|>'(.|\n)*did you mean: <\|pad\|>"),
        ({"sentinels": "<extra_*>"}, r"no tokens '<extra_\*>'"),
        ({"sentinels": "<extra_id_0>"}, "no tokens '<extra_id_0>'"),
    ],
)
def test_roles_that_do_not_fit(tmp_path, bpe, roles, problem):
    with pytest.raises(ConfigError, match=problem):
        import_tokenizer(bpe, tmp_path / "t", roles)
    assert not (tmp_path / "t").exists()


def test_nothing_else_is_replaced(tmp_path, bpe):
    import_tokenizer(bpe, tmp_path / "t", {})
    with pytest.raises(DataError, match="exists already"):
        import_tokenizer(bpe, tmp_path / "t", {})
    assert import_tokenizer(bpe, tmp_path / "t", {"pad": "none"}, overwrite=True).role("pad") is None


def test_arguments():
    assert parse_roles(["pad=<pad>", "mask=a=b"]) == {"pad": "<pad>", "mask": "a=b"}
    with pytest.raises(ConfigError, match="is not role=spelling"):
        parse_roles(["pad"])


def test_an_empty_vocabulary_is_one_message(tmp_path, capfd):
    (tmp_path / "d").mkdir()
    for path in (tmp_path / "x.model", tmp_path / "d" / "tokenizer.model"):
        path.write_bytes(b"")
        source = path if path.parent == tmp_path else path.parent
        with pytest.raises(DataError, match=rf"{path.name}: is empty"):
            import_tokenizer(source, tmp_path / "t", {})
        assert capfd.readouterr() == ("", "")
