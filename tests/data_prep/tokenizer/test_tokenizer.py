import shutil

import numpy as np
import pytest
from data_prep_helpers import trained
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.errors import ConfigError, DataError
from data_prep.config import SpecialTokens
from data_prep.tokenizer import ROLES, load_tokenizer, parts

ALGORITHMS = ("bpe", "unigram", "char", "word")


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory, text_file):
    directory = tmp_path_factory.mktemp("algorithms")
    return {name: trained(text_file, directory / name, name) for name in ALGORITHMS}


any_text = st.one_of(
    st.text(max_size=60),
    st.text(alphabet=" \n\t\r\u2581ab<>/s\u00a0\ufeff\u0301日", max_size=40),
    st.lists(st.sampled_from([" the", "model", "\n", "    ", "</s>", "<mask>", "\u2581", "Schülerin", "\x00"])).map(
        "".join
    ),
)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@settings(max_examples=150, deadline=None)
@given(text=any_text)
def test_any_text_survives(tokenizers, algorithm, text):
    tokenizer = tokenizers[algorithm]
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.token_bytes()[ids].sum() == len(text.encode())
    assert all(0 <= token < tokenizer.vocab_size for token in ids)
    special = {tokenizer.role(name) for name in ROLES} | set(tokenizer.sentinels)
    assert not special & set(ids)


@settings(max_examples=50, deadline=None)
@given(batch=st.lists(any_text, max_size=5))
def test_a_batch_is_its_texts_one_by_one(tokenizers, batch):
    tokenizer = tokenizers["bpe"]
    assert tokenizer.encode_batch(batch) == [tokenizer.encode(text) for text in batch]


@settings(max_examples=50, deadline=None)
@given(text=st.text(alphabet="ab \n\u2581", min_size=10, max_size=200))
def test_long_documents_are_encoded_in_parts(tokenizers, text):
    tokenizer = tokenizers["bpe"]
    with pytest.MonkeyPatch.context() as patch:
        whole = tokenizer.encode(text)
        patch.setattr(parts, "LONG_CHARS", 8)
        assert tokenizer.decode(tokenizer.encode(text)) == text
        assert "".join(parts.cut_at_spaces(text)) == text
        assert tokenizer.encode(text) == whole


def test_indentation_is_one_piece(tokenizers):
    assert len(tokenizers["bpe"].encode("    ")) == 1


def test_roles(tokenizers):
    tokenizer = tokenizers["bpe"]
    assert [tokenizer.role(name) for name in ROLES[:7]] == [2, 1, 0, 3, 4, None, None]
    assert tokenizer.sentinels == [5, 6, 7]
    assert [tokenizer.piece(token) for token in (0, 1, 2, 3, 4, 5)] == [
        "<unk>", "<s>", "</s>", "<pad>", "<mask>", "<extra_id_0>",
    ]  # fmt: skip
    assert tokenizer.vocab_size == 420 and tokenizer.algorithm == "bpe"
    assert tokenizer.decode([2, 3, 4, 5]) == ""
    with pytest.raises(KeyError):
        tokenizer.role("sep")


def test_roles_that_are_not_wanted(tmp_path, text_file):
    special = SpecialTokens(beginning_of_document=None, pad=None, end_of_document="<|end|>")
    tokenizer = trained(text_file, tmp_path / "t", "bpe", special_tokens=special)
    assert [tokenizer.role(name) for name in ROLES[:7]] == [1, None, 0, None, None, None, None]
    assert tokenizer.piece(1) == "<|end|>" and tokenizer.sentinels == []


def test_token_bytes(tokenizers):
    tokenizer = tokenizers["bpe"]
    sizes = tokenizer.token_bytes()
    assert sizes.dtype == np.int32 and sizes.shape == (tokenizer.vocab_size,)
    assert sizes[:8].tolist() == [0] * 8
    assert sizes[8:264].tolist() == [1] * 256
    assert all(sizes[i] == len(tokenizer.piece(i).encode()) for i in range(264, tokenizer.vocab_size))


def test_without_byte_fallback_the_unknown_is_unknown(tmp_path, text_file):
    tokenizer = trained(text_file, tmp_path / "t", "bpe", vocab_size=200, byte_fallback=False)
    assert tokenizer.role("unknown") in tokenizer.encode("☃")
    assert tokenizer.encode("model\u2581") == tokenizer.encode("model ")


def test_equal_input_gives_equal_tokenizers(tmp_path, text_file, tokenizers):
    for algorithm in ("bpe", "unigram"):
        again = trained(text_file, tmp_path / algorithm, algorithm)
        assert again.model_path.read_bytes() == tokenizers[algorithm].model_path.read_bytes()
        assert again.fingerprint == tokenizers[algorithm].fingerprint
    assert len({t.fingerprint for t in tokenizers.values()}) == 4


def test_a_copy_and_a_bare_model_are_the_same_tokenizer(tmp_path, tokenizers):
    tokenizer = tokenizers["bpe"]
    tokenizer.copy_to(tmp_path / "copy")
    assert load_tokenizer(tmp_path / "copy").fingerprint == tokenizer.fingerprint
    bare = load_tokenizer(shutil.copy(tokenizer.model_path, tmp_path / "some.model"))
    assert [bare.role(name) for name in ROLES[:7]] == [2, 1, 0, 3, 4, None, None]
    assert bare.encode("the model\n") == tokenizer.encode("the model\n")
    assert bare.fingerprint != tokenizer.fingerprint  # its sentinels are not known


def test_a_foreign_model_that_puts_a_space_in_front(tmp_path, texts):
    from sentencepiece import SentencePieceTrainer

    prefix = tmp_path / "llama"
    lines = [line for text in texts for line in text.split("\n") if "\t" not in line]
    SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_prefix=str(prefix), vocab_size=420, model_type="bpe",
        byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False, minloglevel=2,
    )  # fmt: skip
    tokenizer = load_tokenizer(prefix.with_suffix(".model"))
    assert tokenizer.role("end_of_document") == 2 and tokenizer.role("pad") is None
    for text in ("the model", " the\n  model", "日本☃"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode_batch(["a\u2581b"]) == tokenizer.encode_batch(["a b"])


def test_vocabulary_sizes_that_do_not_fit(tmp_path, text_file):
    with pytest.raises(ConfigError, match=r"vocab_size = 9000 does not fit(.|\n)*at most \d+"):
        trained(text_file, tmp_path / "t", "bpe", vocab_size=9000)
    with pytest.raises(ConfigError, match=r"vocab_size = 270 does not fit(.|\n)*at least \d+"):
        trained(text_file, tmp_path / "t", "bpe", vocab_size=270)
    with pytest.raises(ConfigError, match=r"vocab_size = 100 is too small(.|\n)*264 special and byte tokens"):
        trained(text_file, tmp_path / "t", "bpe", vocab_size=100)
    assert not (tmp_path / "t").exists()
    assert trained(text_file, tmp_path / "t", "char", vocab_size=9000).vocab_size < 400


def test_two_roles_with_one_spelling():
    with pytest.raises(ValueError, match="'<s>' is used for two roles"):
        SpecialTokens(pad="<s>")
    with pytest.raises(ValueError, match="'<extra_id_0>' is used for two roles"):
        SpecialTokens(mask="<extra_id_0>", sentinels=2)


@pytest.mark.parametrize("spelling", ["\u2581", "a b", "", "<pad>\n"])
def test_a_special_token_is_spelled_with_visible_characters(spelling):
    with pytest.raises(ValueError, match="cannot spell a special token"):
        SpecialTokens(pad=spelling)


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        ("tokenizer.model", None, "tokenizer.model: there is no such tokenizer file"),
        ("tokenizer.model", b"", "tokenizer.model: is not a SentencePiece model"),
        ("tokenizer.model", b"garbage", "tokenizer.model: is not a SentencePiece model"),
        ("tokenizer.json", b"{", "tokenizer.json: is not JSON"),
        ("tokenizer.json", b"[1]", "tokenizer.json: is not the description of a tokenizer"),
    ],
)
def test_damaged_tokenizers_are_refused(tmp_path, tokenizers, file, content, problem):
    tokenizers["bpe"].copy_to(tmp_path / "t")
    if content is None:
        (tmp_path / "t" / file).unlink()
    else:
        (tmp_path / "t" / file).write_bytes(content)
    with pytest.raises(DataError) as error:
        load_tokenizer(tmp_path / "t")
    assert problem in str(error.value)


def test_a_model_that_is_not_that_of_its_roles_is_refused(tmp_path, tokenizers):
    tokenizers["bpe"].copy_to(tmp_path / "t")
    shutil.copy(tokenizers["char"].model_path, tmp_path / "t" / "tokenizer.model")
    with pytest.raises(DataError, match="do not belong together"):
        load_tokenizer(tmp_path / "t")
