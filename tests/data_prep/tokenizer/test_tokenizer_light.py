"""A tokenizer of which only the fast way to ids is loaded gives the same, and the rest when it is asked for."""

import numpy as np
import orjson
import pytest
from data_prep_helpers import make_text

from data_prep.tokenizer import Tokenizer, light, load_tokenizer
from data_prep.tokenizer.fast import byte_level
from data_prep.tokenizer.light import LightTokenizer, keep_light, light_tokenizer
from tests.tokenizer_kinds import huggingface_bpe, tiktoken_ranks, with_scheme

TEXTS = [make_text(number) for number in range(200)]


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    root = tmp_path_factory.mktemp("light")
    whole = load_tokenizer(huggingface_bpe(root / "bpe", TEXTS))
    whole.copy_to(root / "tokenizer")
    keep_light(whole, root)
    return whole, root


@pytest.fixture
def loaded(kept):
    found = light_tokenizer(kept[1] / "tokenizer", kept[1])
    assert isinstance(found, LightTokenizer)
    return found


def test_ids_roles_and_sizes_are_the_same_without_the_library(kept, loaded, monkeypatch):
    whole, _ = kept
    monkeypatch.setattr(light, "load_pipeline", None)
    monkeypatch.setattr(light, "load_tokenizer", None)
    end = whole.role("end_of_document")
    assert end is not None and loaded.role("end_of_document") == end and loaded.is_special(end) == whole.is_special(end)
    assert (loaded.vocab_size, loaded.fingerprint, loaded.algorithm) == (whole.vocab_size, whole.fingerprint, "bpe")
    assert loaded.explain_engine() == whole.explain_engine()
    texts = [*TEXTS, "", "<|endoftext|> is text", "é中 \u0301😀"]
    for one, other in zip(loaded.encode_flat(texts, end), whole.encode_flat(texts, end)):
        assert np.array_equal(one, other)


def test_the_library_is_loaded_for_a_character_of_which_nothing_is_shown(kept, loaded):
    whole, _ = kept
    loaded.encode_flat(TEXTS)
    library = loaded._engine._reference
    assert library._loaded is None and loaded._engine._encoder is not None
    texts = ["new \u0378 and (\U00010d50)", *TEXTS[:9]]
    assert loaded.encode_batch(texts) == whole.encode_batch(texts)
    assert library._loaded is not None


def test_the_library_is_let_go_after_a_while_without_use(kept, loaded, monkeypatch):
    whole, _ = kept
    monkeypatch.setattr(byte_level, "_LOOKED_AT_CHARS", 1)
    library, held = loaded._engine._reference, []
    for texts in (["\u0378"], TEXTS, TEXTS, TEXTS, ["\u0379"], ["\u0379"], TEXTS, TEXTS):
        assert loaded.encode_batch(texts) == whole.encode_batch(texts)
        held.append(library._loaded is not None)
    assert held == [True, False, False, False, True, False, False, False]


def test_what_is_more_than_ids_is_that_of_the_whole(kept, loaded, tmp_path):
    whole, _ = kept
    ids = whole.encode(TEXTS[0])
    assert loaded.decode(ids) == TEXTS[0] and loaded.piece(ids[0]) == whole.piece(ids[0])
    assert loaded.find("<|endoftext|>") == whole.find("<|endoftext|>") and loaded.is_special(ids[0]) is False
    for name in ("token_bytes", "byte_tokens", "word_starts"):
        assert np.array_equal(getattr(loaded, name)(), getattr(whole, name)())
    loaded.copy_to(tmp_path / "copy")
    assert load_tokenizer(tmp_path / "copy").fingerprint == whole.fingerprint


def test_every_method_of_a_tokenizer_is_answered():
    # What the base class does by itself needs nothing but ids; the rest is the whole tokenizer's.
    own = {"role", "explain_engine", "encode", "encode_batch", "encode_flat"}
    public = {name for name, value in vars(Tokenizer).items() if callable(value) and not name.startswith("_")}
    assert public - own <= vars(LightTokenizer).keys()


@pytest.mark.parametrize("change", [{"made_by": {"tokenizers": "0"}}, {"fingerprint": "of another"}, None])
def test_what_other_versions_or_another_tokenizer_left_is_not_used(kept, tmp_path, change):
    whole, root = kept
    keep_light(whole, tmp_path)
    path = tmp_path / light._SHOWN
    path.write_bytes(orjson.dumps(orjson.loads(path.read_bytes()) | change) if change else b"{")
    assert light_tokenizer(root / "tokenizer", tmp_path) is None


def test_nothing_is_kept_of_other_kinds_or_where_the_library_does_the_work(kept, tmp_path, monkeypatch):
    _, root = kept
    keep_light(load_tokenizer(with_scheme(tiktoken_ranks(tmp_path / "v.tiktoken", TEXTS))), tmp_path / "kept")
    keep_light(load_tokenizer(root / "tokenizer", "reference"), tmp_path / "kept")
    monkeypatch.setattr(byte_level, "first_difference", lambda *arguments: "a")
    keep_light(load_tokenizer(root / "tokenizer"), tmp_path / "kept")
    assert not (tmp_path / "kept").exists() and light_tokenizer(root / "tokenizer", tmp_path / "kept") is None
