"""Vocabularies of Hugging Face and tiktoken behind the same interface."""

import orjson
import pytest
from data_prep_helpers import make_text, trained
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.errors import ConfigError, DataError
from data_prep.tokenizer import ROLES, is_tokenizer, load_tokenizer, parts
from tests.tokenizer_kinds import (
    PATTERN,
    huggingface_bpe,
    huggingface_unigram,
    huggingface_wordpiece,
    tiktoken_ranks,
    with_scheme,
)

TEXTS = [make_text(number) for number in range(300)]
KINDS = ("sentencepiece", "bpe", "unigram", "wordpiece", "tiktoken")
LOSSLESS = ("sentencepiece", "bpe", "tiktoken")


@pytest.fixture(scope="module")
def paths(tmp_path_factory, text_file):
    root = tmp_path_factory.mktemp("kinds")
    return {
        "sentencepiece": trained(text_file, root / "sp", "bpe").model_path.parent,
        "bpe": huggingface_bpe(root / "bpe", TEXTS),
        "unigram": huggingface_unigram(root / "unigram", TEXTS),
        "wordpiece": huggingface_wordpiece(root / "wordpiece", TEXTS),
        "tiktoken": with_scheme(tiktoken_ranks(root / "tiktoken" / "v.tiktoken", TEXTS)),
    }


@pytest.fixture(scope="module")
def tokenizers(paths):
    return {name: load_tokenizer(path) for name, path in paths.items()}


any_text = st.one_of(
    st.text(max_size=50),
    st.lists(
        st.sampled_from(
            [
                " the",
                "model",
                "\n",
                "    ",
                "</s>",
                "<|end|>",
                "<|endoftext|>",
                "[PAD]",
                "<unk>",
                "\u2581",
                "Schülerin",
                "42",
            ]
        ),
        max_size=12,
    ).map("".join),
)


@pytest.mark.parametrize("name", LOSSLESS)
@settings(max_examples=60, deadline=None)
@given(text=any_text)
def test_any_text_survives(tokenizers, name, text):
    tokenizer = tokenizers[name]
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.token_bytes()[ids].sum() == len(text.encode())
    assert not {tokenizer.role(role) for role in ROLES} & set(ids)
    assert not any(tokenizer.is_special(token) for token in ids)


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=30, deadline=None)
@given(texts=st.lists(any_text, max_size=5), append=st.sampled_from([None, 0, 7]))
def test_flat_is_the_batch_one_after_the_other(tokenizers, name, texts, append):
    tokenizer = tokenizers[name]
    batch = [ids + ([] if append is None else [append]) for ids in tokenizer.encode_batch(texts)]
    ids, lengths = tokenizer.encode_flat(texts, append)
    assert (ids.dtype, lengths.dtype) == ("int32", "int64")
    assert ids.tolist() == [token for row in batch for token in row]
    assert lengths.tolist() == [len(row) for row in batch]


@pytest.mark.parametrize("name", KINDS)
def test_text_that_looks_like_a_special_token_stays_text(tokenizers, name):
    tokenizer = tokenizers[name]
    special = [t for t in range(tokenizer.vocab_size) if tokenizer.is_special(t) and t != tokenizer.role("unknown")]
    spelled = [tokenizer.piece(token) for token in special if tokenizer.piece(token)]
    assert spelled
    for text in spelled:
        assert not set(special) & set(tokenizer.encode(f"the {text} model{text}")), text


def test_the_libraries_ids_are_ours(paths, tokenizers):
    import tiktoken
    from tokenizers import Tokenizer as Pipeline

    pipeline = Pipeline.from_file(str(paths["bpe"] / "tokenizer.json"))
    pipeline.no_truncation()
    pipeline.no_padding()
    expected = [encoding.ids for encoding in pipeline.encode_batch(TEXTS, add_special_tokens=False)]
    assert tokenizers["bpe"].encode_batch(TEXTS) == expected
    tik = tokenizers["tiktoken"]
    encoding = tiktoken.Encoding("x", pat_str=PATTERN, mergeable_ranks=tik.ranks(), special_tokens={})
    assert tik.encode_batch(TEXTS) == [encoding.encode(text) for text in TEXTS]


def test_roles(tokenizers):
    found = {name: [tokenizers[name].role(role) for role in ROLES[:7]] for name in KINDS}
    assert found["bpe"] == [0, None, None, 1, None, None, None]  # from tokenizer_config.json
    assert found["unigram"] == [1, None, 0, None, None, None, None]  # unk_id, and the usual spelling of the end
    assert found["wordpiece"] == [None, None, 0, 1, 2, None, None]
    assert found["tiktoken"] == [500, None, None, None, 503, None, None]
    assert tokenizers["bpe"].sentinels == [2, 3]
    assert [tokenizers[name].kind for name in KINDS] == ["sentencepiece", *["huggingface"] * 3, "tiktoken"]
    assert [tokenizers[name].algorithm for name in KINDS] == ["bpe", "bpe", "unigram", "wordpiece", "bpe"]


def test_the_other_vocabularies_say_what_they_lose(tokenizers):
    assert tokenizers["wordpiece"].decode(tokenizers["wordpiece"].encode("The  Model")) == "the model"
    assert tokenizers["unigram"].decode(tokenizers["unigram"].encode("the ☃ </s>")) == "the ☃ </s>"
    sizes = tokenizers["wordpiece"].token_bytes()
    assert sizes[tokenizers["wordpiece"].encode("the model")].sum() == len(" the model")


def test_byte_tokens(tokenizers):
    for name in ("sentencepiece", "unigram"):
        assert tokenizers[name].byte_tokens().sum() == 256
        assert tokenizers[name].byte_tokens()[tokenizers[name].encode("☃")[-3:]].all()
    for name in ("bpe", "tiktoken"):
        assert tokenizers[name].byte_tokens()[tokenizers[name].encode("☃")].all()
        assert not tokenizers[name].byte_tokens()[tokenizers[name].encode("a \n~")].any()


def test_tiktoken_ids_without_a_meaning(tokenizers):
    tokenizer = tokenizers["tiktoken"]
    assert tokenizer.vocab_size == 504
    assert tokenizer.is_special(450) and tokenizer.piece(450) == "" and tokenizer.decode([450, 500]) == ""
    assert tokenizer.piece(500) == "<|endoftext|>"


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_a_copy_is_a_directory_of_ours(tmp_path, tokenizers, name):
    tokenizers[name].copy_to(tmp_path / "copy")
    again = load_tokenizer(tmp_path / "copy")
    assert is_tokenizer(tmp_path / "copy")
    assert again.fingerprint == tokenizers[name].fingerprint
    assert again.encode_batch(TEXTS) == tokenizers[name].encode_batch(TEXTS)
    assert [again.role(role) for role in ROLES] == [tokenizers[name].role(role) for role in ROLES]
    assert load_tokenizer(tmp_path / "copy" / "tokenizer.json").fingerprint == again.fingerprint


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bpe", "tiktoken"])
@settings(max_examples=60, deadline=None)
@given(text=st.text(alphabet="ab1é \n\r.(", min_size=30, max_size=120))
def test_long_texts_have_the_ids_of_the_whole(tokenizers, name, text):
    tokenizer = tokenizers[name]
    expected = tokenizer.encode(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "LONG_CHARS", 8)
        assert tokenizer.encode(text) == expected
        assert tokenizer.encode_flat([text, "a"])[0].tolist() == expected + tokenizer.encode("a")
        assert "".join(parts.cut_at_line_starts(text)) == text


def test_a_pipeline_that_puts_a_space_in_front_is_never_cut(tokenizers):
    text = "the model\n" * 10
    expected = tokenizers["unigram"].encode(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "LONG_CHARS", 8)
        assert len(list(parts.cut_at_line_starts(text))) > 1
        assert tokenizers["unigram"].encode(text) == expected


def test_half_a_character_is_a_mistake_of_the_text(tokenizers):
    for name in ("sentencepiece", "bpe", "tiktoken"):
        for encode in (tokenizers[name].encode_batch, tokenizers[name].encode_flat):
            with pytest.raises(DataError, match=r"U\+D800, at character 2"):
                encode(["fine", "a\ud800"])


def test_known_encodings_bring_their_pattern(tmp_path):
    ranks = tiktoken_ranks(tmp_path / "r50k_base.tiktoken", TEXTS)
    tokenizer = load_tokenizer(ranks)
    assert (tokenizer.role("end_of_document"), tokenizer.vocab_size) == (50256, 50257)
    ranks.with_suffix(".yaml").write_text("encoding: cl100k_base\nspecial_tokens: {<|endoftext|>: 410}\n")
    other = load_tokenizer(ranks)
    assert (other.role("end_of_document"), other.vocab_size) == (410, 411)
    assert other.pattern != tokenizer.pattern and other.fingerprint != tokenizer.fingerprint


def test_a_tiktoken_file_without_its_pattern(tmp_path):
    ranks = tiktoken_ranks(tmp_path / "cl100k_bas.tiktoken", TEXTS)
    with pytest.raises(DataError) as error:
        load_tokenizer(ranks)
    message = str(error.value)
    assert "does not say how text is cut" in message and "cl100k_bas.yaml beside it" in message
    assert "did you mean: cl100k_base" in message


@pytest.mark.parametrize(
    ("scheme", "problem"),
    [
        ("pattern: [", "is not YAML"),
        ("- 1", "is not a mapping"),
        ("patern: x", "has the key 'patern'"),
        ("special_tokens: {}", "has no pattern"),
        ("encoding: o200k", "names the encoding 'o200k'"),
        ("{pattern: x, special_tokens: {a: b}}", "its special_tokens are not ids"),
        ("{pattern: x, special_tokens: {a: 3}}", "has a byte string with the id 3"),
        ("{pattern: '(', special_tokens: {}}", "tiktoken cannot use it"),
    ],
)
def test_damaged_schemes_are_refused(tmp_path, scheme, problem):
    ranks = tiktoken_ranks(tmp_path / "v.tiktoken", TEXTS)
    ranks.with_suffix(".yaml").write_text(scheme)
    with pytest.raises(DataError) as error:
        load_tokenizer(ranks)
    assert problem in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("v.tiktoken", b"!!! 1\n", "v.tiktoken, line 1: cannot be read"),
        ("v.tiktoken", b"YQ== 1\n", "lacks the byte 0x00"),
        ("v.tiktoken", b"", "lacks the byte 0x00"),
        ("tokenizer.json", b'{"model": {"type": "BPE"}}', "tokenizers cannot use it"),
        ("tokenizer.json", b'{"model": ', "is not JSON"),
        ("other.json", b"{}", "is not a file of the tokenizers library"),
    ],
)
def test_damaged_vocabularies_are_refused(tmp_path, name, content, problem):
    (tmp_path / name).write_bytes(content)
    (tmp_path / "v.yaml").write_text("pattern: x")
    with pytest.raises(DataError) as error:
        load_tokenizer(tmp_path / name)
    assert problem in str(error.value)


def test_missing_files_name_the_nearest(tmp_path, paths):
    with pytest.raises(DataError, match=r"did you mean: .*v\.tiktoken"):
        load_tokenizer(paths["tiktoken"].with_name("w.tiktoken"))
    with pytest.raises(DataError, match=r"did you mean: .*v\.tiktoken"):
        load_tokenizer(paths["tiktoken"].parent)
    with pytest.raises(ConfigError, match="did you mean: reference"):
        load_tokenizer(paths["bpe"], "referense")  # type: ignore[arg-type]


def test_a_directory_whose_roles_were_edited_is_refused(tmp_path, tokenizers):
    tokenizers["bpe"].copy_to(tmp_path)
    roles = orjson.loads((tmp_path / "tokenizer.json").read_bytes())
    for change, problem in (
        ({"roles": roles["roles"] | {"mask": 9}}, "do not belong together"),
        ({"roles": roles["roles"] | {"mask": "x"}}, "an id that is no number"),
        ({"kind": "wordpiece"}, "names the kind 'wordpiece'"),
    ):
        (tmp_path / "tokenizer.json").write_bytes(orjson.dumps(roles | change))
        with pytest.raises(DataError, match=problem):
            load_tokenizer(tmp_path)
