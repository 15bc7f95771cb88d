"""The fast way to ids gives those of the vocabulary's own library, or is not taken and says why."""

import json
import random
import sys

import numpy as np
import pytest
from data_prep_helpers import make_text, trained
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.errors import ConfigError, MachineError
from data_prep.tokenizer import load_tokenizer, parts
from data_prep.tokenizer.fast import byte_level
from data_prep.tokenizer.fast.byte_level import ByteLevelEngine
from data_prep.tokenizer.fast.equality import differing_characters, first_difference
from tests.fake_engines import Composing, Fake, FakeGigatoken
from tests.hostile_text import hostile_text
from tests.tokenizer_kinds import huggingface_bpe, huggingface_unigram, tiktoken_ranks, with_scheme

TEXTS = [make_text(number) for number in range(300)]
KINDS = ("sentencepiece", "huggingface", "tiktoken", "bert")
BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz", *(f"##{c}" for c in "abcdelnrst"),
        "the", "model", "##ing", ".", ",", "日", "1", "##2"]  # fmt: skip


@pytest.fixture(scope="module")
def paths(tmp_path_factory, text_file):
    root = tmp_path_factory.mktemp("fast")
    (root / "bert").mkdir()
    (root / "bert" / "vocab.txt").write_text("\n".join(BERT))
    return {
        "sentencepiece": trained(text_file, root / "sp", "bpe").model_path.parent,
        "huggingface": huggingface_bpe(root / "bpe", TEXTS),
        "tiktoken": with_scheme(tiktoken_ranks(root / "tiktoken" / "v.tiktoken", TEXTS)),
        "bert": root / "bert",
        "unigram": trained(text_file, root / "unigram", "unigram").model_path.parent,
        "huggingface unigram": huggingface_unigram(root / "hf-unigram", TEXTS),
    }


@pytest.fixture(scope="module")
def pairs(paths):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(byte_level, "_WORTH_CHARS", 0)
        patch.setattr("data_prep.tokenizer.fast.word_memory._SMALL_CHARS", 1)
        yield {name: (load_tokenizer(paths[name], "reference"), load_tokenizer(paths[name])) for name in KINDS}


@pytest.mark.parametrize("name", ("huggingface", "tiktoken"))
def test_memory_does_not_grow_with_the_words_of_the_text(pairs, name, monkeypatch):
    slow, fast = pairs[name]
    assert fast.explain_engine().startswith("using gigatoken")
    engine, held = fast._engine, []
    # What the process holds at each look, in halves of the bound; where it is more, again after freed memory was given
    # back. After the third it stays high, as when the allocator keeps what it had: it is the first encoder's measure
    # that counts, or memory would grow by the bound each time.
    seen = iter([1, 2, 3, 3, 3, 3, 4, 4, 2, 1, 3, 3, 3, 2])
    monkeypatch.setattr(byte_level, "_LOOKED_AT_CHARS", 1)
    monkeypatch.setattr(byte_level, "host_memory_bytes", lambda: next(seen) * byte_level._GROWTH_BYTES // 2)
    monkeypatch.setattr(engine, "_made_bytes", 0)
    for text in TEXTS[:9]:
        before = engine._encoder
        assert fast.encode_flat([text])[0].tolist() == slow.encode_flat([text])[0].tolist()
        held.append(engine._encoder is not before)
    assert held == [False, False, True, True, True, False, False, True, False]
    # Between two looks there is some text, so that an encoder that the rest of the process outgrew is of use.
    monkeypatch.setattr(byte_level, "_LOOKED_AT_CHARS", len(TEXTS[0]) + len(TEXTS[1]))
    seen = iter([9, 9])
    kept = engine._encoder
    fast.encode_flat([TEXTS[0]])
    assert engine._encoder is kept
    fast.encode_flat([TEXTS[1]])
    assert engine._encoder is not kept


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_has_a_fast_way_that_is_said(pairs, name):
    said = pairs[name][1].explain_engine()
    assert said.startswith(
        "using gigatoken" if name in ("huggingface", "tiktoken") else f"using {pairs[name][1].library} with"
    )
    assert pairs[name][0].explain_engine().endswith("alone, as asked")
    assert pairs[name][0].fingerprint == pairs[name][1].fingerprint


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=100, deadline=None)
@given(batch=st.lists(st.text(max_size=60), min_size=1, max_size=4), seed=st.integers(0, 2**32))
def test_ids_are_those_of_the_library(pairs, name, batch, seed):
    reference, fast = pairs[name]
    batch = [*batch, hostile_text(random.Random(seed), _special(reference))]
    assert fast.encode_batch(batch) == reference.encode_batch(batch)
    for one, other in zip(fast.encode_flat(batch, 2), reference.encode_flat(batch, 2)):
        assert np.array_equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_ids_of_many_hostile_strings(pairs, name):
    reference, fast = pairs[name]
    random_numbers = random.Random(5)
    for _ in range(20):
        texts = [hostile_text(random_numbers, _special(reference)) for _ in range(500)]
        assert all(map(np.array_equal, fast.encode_flat(texts), reference.encode_flat(texts)))


@pytest.mark.parametrize("name", ("huggingface", "tiktoken"))
def test_spelled_special_tokens_and_apostrophes_are_text(pairs, name):
    reference, fast = pairs[name]
    ends = _special(reference)
    texts = [text for end in ends for text in (f"Use the {end} token.", f"{end}\n", f"a\n{end}", f"  {end}{end} ")]
    texts += ["\n's-Hertogenbosch", " \n's", "don't 's 'S'll", "'\u017f"]
    assert fast.encode_batch(texts) == reference.encode_batch(texts)
    assert not any(reference.is_special(token) for ids in fast.encode_batch(texts) for token in ids)


@pytest.mark.parametrize("name", KINDS)
def test_long_texts_have_the_ids_of_the_library(pairs, name, monkeypatch):
    reference, fast = pairs[name]
    monkeypatch.setattr(parts, "LONG_CHARS", 40)
    for text in TEXTS[:20]:
        assert fast.encode(text) == reference.encode(text)


def test_what_has_no_fast_way_says_why(paths):
    for name, reason in (("unigram", "only a BPE"), ("huggingface unigram", "neither a byte-level BPE nor")):
        tokenizer = load_tokenizer(paths[name])
        assert reason in tokenizer.explain_engine() and " alone: " in tokenizer.explain_engine()
        assert tokenizer.encode_batch(TEXTS[:20]) == load_tokenizer(paths[name], "reference").encode_batch(TEXTS[:20])


def test_without_gigatoken_the_library_does_the_work(paths, monkeypatch):
    monkeypatch.setitem(sys.modules, "gigatoken", None)
    said = load_tokenizer(paths["huggingface"]).explain_engine()
    assert "using tokenizers alone" in said and "not installed" in said and "[fast]" in said


def test_another_version_of_gigatoken_is_not_trusted(paths, monkeypatch):
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.11.0")
    assert "not installed" in load_tokenizer(paths["tiktoken"]).explain_engine()


@pytest.mark.parametrize("wrong", ["zq piece", "\n\n1", "'LL", "a'Z", "Z'1\t", "ǅʰ²", "中" * 40, "\x7f"])
def test_a_library_with_other_ids_is_not_taken(wrong):
    engine = ByteLevelEngine(Fake(), [lambda: FakeGigatoken(wrong)], lambda: [b"zq piece"])
    assert "gives other ids for" in engine.explain()
    assert engine.flat(["x" * 99_999 + wrong])[0][-1] == ord(wrong[-1])


def test_of_several_patterns_the_one_with_the_same_ids_is_taken():
    right = FakeGigatoken()
    engine = ByteLevelEngine(Fake(), [lambda: 1 / 0, lambda: FakeGigatoken("'s"), lambda: right], list)
    assert engine.why_not() is None and engine._encoder is right


def test_texts_with_a_character_that_differs_go_to_the_library():
    engine = ByteLevelEngine(Fake(), [lambda: FakeGigatoken("\u0378")], list)
    texts = ["plain " * 9000, "with \u0378", "with é", "", "é\u0378"]
    ids, lengths = engine.flat(texts, append=7)
    expected, expected_lengths = Fake().flat(texts, 7)
    assert np.array_equal(ids, expected) and np.array_equal(lengths, expected_lengths)
    assert engine._characters.places("a\u0378").tolist() == [1] and not len(engine._characters.places("é"))
    assert differing_characters(Fake().lists, Fake("\u0378").lists, ["a", "\u0378"]) == ["\u0378"]
    assert first_difference(Fake().lists, Fake("qq").lists, ["qq"]) == "qq"


def test_texts_with_tokens_found_in_text_or_that_are_not_composed_go_to_the_library():
    other = FakeGigatoken("secret")
    engine = ByteLevelEngine(Composing(), [lambda: other], list, (), ["<tool>"], is_normalized=True)
    assert engine.why_not() is None
    other.fake.asked.clear()
    texts = ["a <tool> b", "e\u0301", "é", "x"]
    engine.flat(texts)
    assert other.fake.asked[-2:] == ["é", "x"] and not {"a <tool> b", "e\u0301"} & set(other.fake.asked)


def test_text_that_is_no_unicode_is_named(pairs):
    from configs.errors import DataError

    for _, fast in pairs.values():
        with pytest.raises(DataError, match=r"U\+D800"):
            fast.encode_flat(["a" * 50_000, "\ud800"])


def test_an_engine_that_does_not_exist(paths):
    with pytest.raises(ConfigError, match="no engine 'fast'"):
        load_tokenizer(paths["bert"], "fast")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "module"), [("huggingface", "tokenizers"), ("tiktoken", "tiktoken_ext.openai_public")]
)
def test_without_the_library_of_a_kind(paths, monkeypatch, name, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MachineError, match=r"\[tokenizers\]"):
        load_tokenizer(paths[name])


def test_composing_vocabularies_have_a_fast_way(tmp_path, paths):
    content = json.loads((paths["huggingface"] / "tokenizer.json").read_text())
    content["normalizer"] = {"type": "NFC"}
    (tmp_path / "nfc.json").write_text(json.dumps(content))
    content["normalizer"] = {"type": "Lowercase"}
    (tmp_path / "lower.json").write_text(json.dumps(content))
    fast, reference = load_tokenizer(tmp_path / "nfc.json"), load_tokenizer(tmp_path / "nfc.json", "reference")
    assert fast.explain_engine().startswith("using gigatoken")
    texts = ["e\u0301 é \u1100\u1161 \u212b", *TEXTS]
    assert all(map(np.array_equal, fast.encode_flat(texts), reference.encode_flat(texts)))
    assert "alone" in load_tokenizer(tmp_path / "lower.json").explain_engine()


def _special(tokenizer):
    return [tokenizer.piece(n) for n in range(tokenizer.vocab_size) if tokenizer.is_special(n) and tokenizer.piece(n)]
