"""The fast engine gives the ids of the reference, or is not used."""

import sys

import numpy as np
import pytest
from data_prep_helpers import make_text, trained
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.errors import ConfigError, DataError, MachineError
from data_prep.tokenizer import check_parity, choose_engine, engines, load_tokenizer, parts
from data_prep.tokenizer.fast_sentencepiece import _is_never_cut, fast_form
from tests.tokenizer_kinds import huggingface_bpe, tiktoken_ranks, with_scheme

TEXTS = [make_text(number) for number in range(300)]
FAST = ("sentencepiece", "huggingface", "tiktoken")


@pytest.fixture(scope="module")
def paths(tmp_path_factory, text_file):
    root = tmp_path_factory.mktemp("engines")
    return {
        "sentencepiece": trained(text_file, root / "sp", "bpe").model_path.parent,
        "huggingface": huggingface_bpe(root / "bpe", TEXTS),
        "tiktoken": with_scheme(tiktoken_ranks(root / "tiktoken" / "v.tiktoken", TEXTS)),
        "unigram": trained(text_file, root / "unigram", "unigram").model_path.parent,
        "word": trained(text_file, root / "word", "word").model_path.parent,
    }


@pytest.fixture(scope="module")
def pairs(paths):
    return {name: (load_tokenizer(paths[name]), load_tokenizer(paths[name], "kitoken")) for name in FAST}


any_text = st.one_of(
    st.text(max_size=60),
    st.text(alphabet=" \n\t\r\u2581ab<>/s\u00a0\ufeff\u0301日\x00", max_size=40),
    st.lists(
        st.sampled_from(
            [" the", "model", "\n", "    ", "</s>", "<mask>", "\u2581", "Schülerin", "\x00", "<0x41>", "12"]
        ),
        max_size=30,
    ).map("".join),
)


@pytest.mark.parametrize("name", FAST)
@settings(max_examples=250, deadline=None)
@given(batch=st.lists(any_text, min_size=1, max_size=4))
def test_kitoken_gives_the_same_ids(pairs, name, batch):
    reference, fast = pairs[name]
    assert (reference.library, fast.library) == (
        {"sentencepiece": "sentencepiece", "huggingface": "tokenizers", "tiktoken": "tiktoken"}[name],
        "kitoken",
    )
    assert fast.encode_batch(batch) == reference.encode_batch(batch)
    for one, other in zip(fast.encode_flat(batch, 2), reference.encode_flat(batch, 2)):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("name", FAST)
@settings(max_examples=60, deadline=None)
@given(text=st.text(alphabet="ab \n\u2581é1", min_size=10, max_size=200))
def test_kitoken_gives_the_same_ids_for_long_texts(pairs, name, text):
    reference, fast = pairs[name]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "LONG_CHARS", 8)
        assert fast.encode(text) == reference.encode(text)


def test_the_fast_form_is_used_where_it_is_proven(paths, text_file, tmp_path):
    from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

    def form(model):
        data = model.read_bytes()
        return fast_form(data, SentencePieceProcessor(model_proto=data))

    found = form(paths["sentencepiece"] / "tokenizer.model")
    assert found is not None and "\u2581".encode() not in found[0] and found[1]["normalization"] == []
    assert form(paths["unigram"] / "tokenizer.model") is None
    lines = [line for text in TEXTS for line in text.split("\n") if "\t" not in line]
    settings = {"byte_fallback": True, "normalization_rule_name": "identity", "add_dummy_prefix": False,
                "remove_extra_whitespaces": False}  # fmt: skip
    for number, change in enumerate(
        [
            {"split_by_unicode_script": False, "split_by_number": False},  # pieces of letters and digits
            {"split_by_whitespace": False},  # pieces of several words
            {"add_dummy_prefix": True},
            {"byte_fallback": False},
            {"user_defined_symbols": ["el"]},
        ]
    ):
        prefix = tmp_path / str(number)
        SentencePieceTrainer.train(
            sentence_iterator=iter(lines + ["x1 x1 x1y2"] * 50), model_prefix=str(prefix), vocab_size=420,
            model_type="bpe", minloglevel=2, hard_vocab_limit=False, **(settings | change),
        )  # fmt: skip
        assert form(prefix.with_suffix(".model")) is None, change


@pytest.mark.parametrize(
    ("piece", "holds"),
    [("  the", True), (" (", True), ("...", True), ("42", True), ("e\u0301", True), ("    ", True), ("\n\n", True),
     ("a b", False), ("a ", False), ("(a", False), ("a.", False), ("4.", False), ("a4", False), (" \n", False),
     (".\n", False), ("\u0378", False)],
)  # fmt: skip
def test_the_pattern_cuts_no_piece(piece, holds):
    assert _is_never_cut(piece) is holds


def test_both_engines_are_one_tokenizer(pairs):
    for reference, fast in pairs.values():
        assert fast.fingerprint == reference.fingerprint and fast.role("pad") == reference.role("pad")
        assert fast.decode(fast.encode(TEXTS[0])) == TEXTS[0]


def test_parity_is_said(paths):
    for name in FAST:
        result = check_parity(paths[name], TEXTS)
        assert (result.identical, result.documents, result.first_difference) == (True, 300, None)
        assert result.bytes == sum(len(text.encode()) for text in TEXTS)
        engine, reason = choose_engine(paths[name], "kitoken", TEXTS)
        assert engine == "kitoken" and "300 documents" in reason
        assert choose_engine(paths[name], "auto", TEXTS)[0] == ("reference" if name == "tiktoken" else "kitoken")


def test_reference_is_what_is_asked_for(paths):
    assert choose_engine(paths["sentencepiece"], "reference", []) == ("reference", "using sentencepiece, as asked")
    with pytest.raises(ConfigError, match=r"no engine 'fast'"):
        choose_engine(paths["sentencepiece"], "fast", [])  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no such tokenizer file"):
        choose_engine(paths["sentencepiece"] / "none", "auto", [])


class Broken(engines.KitokenEngine):
    """Gives other ids for one text."""

    def lists(self, texts):
        return [[*ids, 9] if "the 17th" in text else ids for text, ids in zip(texts, super().lists(texts))]


@pytest.mark.parametrize("wanted", ["auto", "kitoken"])
def test_a_difference_is_said_aloud(paths, monkeypatch, wanted):
    monkeypatch.setattr(engines, "KitokenEngine", Broken)
    texts = [f"text {number}" for number in range(16)] + ["the 17th", "another"]
    engine, reason = choose_engine(paths["sentencepiece"], wanted, texts)
    assert engine == "reference"
    assert reason.startswith("kitoken differs from sentencepiece on document 17 of the sample, token ")
    assert "[9]" in reason and reason.endswith("; using sentencepiece")
    result = check_parity(paths["sentencepiece"], texts)
    assert (result.identical, result.documents) == (False, 17)


class Panicking(engines.KitokenEngine):
    """Fails as Rust code fails."""

    def lists(self, texts):
        raise type("PanicException", (BaseException,), {})("index out of bounds\nmore")


def test_a_panic_is_a_difference_too(paths, monkeypatch):
    monkeypatch.setattr(engines, "KitokenEngine", Panicking)
    engine, reason = choose_engine(paths["tiktoken"], "kitoken", TEXTS)
    assert (engine, reason) == ("reference", "kitoken cannot use it: index out of bounds; using tiktoken")


def test_a_vocabulary_that_kitoken_cannot_read(paths):
    engine, reason = choose_engine(paths["word"], "kitoken", TEXTS)
    assert engine == "reference" and reason.startswith("kitoken cannot use it: ") and "using sentencepiece" in reason
    with pytest.raises(DataError, match="kitoken cannot use it"):
        load_tokenizer(paths["word"], "kitoken")


def test_unigram_is_decided_by_the_comparison(paths):
    engine, reason = choose_engine(paths["unigram"], "auto", TEXTS)
    assert (engine == "kitoken") == check_parity(paths["unigram"], TEXTS).identical, reason


def test_without_kitoken(paths, monkeypatch):
    monkeypatch.setitem(sys.modules, "kitoken", None)
    engine, reason = choose_engine(paths["sentencepiece"], "auto", TEXTS)
    assert engine == "reference" and "not installed" in reason and "[fast]" in reason
    with pytest.raises(MachineError, match=r"\[fast\]"):
        choose_engine(paths["sentencepiece"], "kitoken", TEXTS)
    with pytest.raises(MachineError, match=r"\[fast\]"):
        load_tokenizer(paths["sentencepiece"], "kitoken")


@pytest.mark.parametrize(
    ("name", "module"), [("huggingface", "tokenizers"), ("tiktoken", "tiktoken_ext.openai_public")]
)
def test_without_the_library_of_a_kind(paths, monkeypatch, name, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MachineError, match=r"\[tokenizers\]"):
        load_tokenizer(paths[name])
