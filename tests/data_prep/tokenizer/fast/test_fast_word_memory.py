"""Ids from remembered words are the ids of the engine, whatever the text, the vocabulary and the size of the table."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
import sentencepiece
from data_prep_helpers import make_text, trained
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.tokenizer import load_tokenizer
from data_prep.tokenizer.engines import SentencePieceEngine
from data_prep.tokenizer.fast import word_memory
from data_prep.tokenizer.fast.word_memory import WordMemory
from data_prep.tokenizer.fast.word_table import MAX_WORD_BYTES, WordTable, word_keys
from data_prep.tokenizer.sentencepiece_model import parse, read_joints
from data_prep.tokenizer.word_cuts import cut, cut_long, joined_pairs

TEXTS = [make_text(number) for number in range(300)] + ["l'été à Köln (naïve) “so–so” 1,000.5 …"] * 20
LINES = [line for text in TEXTS for line in re.split("[\n\t]", text)]


def model(**options) -> bytes:
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        model_writer=written,
        **{
            "sentence_iterator": iter(LINES),
            "model_type": "bpe",
            "vocab_size": 700,
            "hard_vocab_limit": False,
            "byte_fallback": True,
            "normalization_rule_name": "identity",
            "remove_extra_whitespaces": False,
            "add_dummy_prefix": False,
            "allow_whitespace_only_pieces": True,
            "minloglevel": 2,
        }
        | options,
    )
    return written.getvalue()


@pytest.fixture(scope="module")
def models():
    return Models(
        {
            "usual": model(),
            "across words": model(split_by_whitespace=False),
            "across scripts": model(split_by_unicode_script=False, split_by_number=False),
            "spaces behind": model(treat_whitespace_as_suffix=True),
        }
    )


@pytest.fixture(autouse=True)
def all_sizes_are_remembered(monkeypatch):
    monkeypatch.setattr(word_memory, "_SMALL_CHARS", 1)
    monkeypatch.setattr(word_memory, "_GROUP_WORDS", 5)


class Models(dict):
    """With a short repr, for hypothesis."""

    def __repr__(self) -> str:
        return "models"


def engine(content: bytes) -> SentencePieceEngine:
    return SentencePieceEngine(sentencepiece.SentencePieceProcessor(model_proto=content))


words = [*" ".join(TEXTS[:3]).split(" "), "", " ", "\n", "\n\n", "l'été", "\x00"]
any_text = st.one_of(
    st.text(max_size=80).filter(lambda text: "\u2581" not in text),
    st.text(alphabet=" \n\t\r ab<>/s\u00a0\ufeff\u0301日é\x00,.1", max_size=60),
    st.lists(
        st.sampled_from(" ".join(TEXTS[:3]).split(" ") + ["", " ", "\n", "\n\n", "l'été", "\x00"]), max_size=40
    ).map(" ".join),
)


@pytest.mark.parametrize("name", ["usual", "across words", "across scripts", "spaces behind"])
@settings(max_examples=25, deadline=None)
@given(
    batches=st.lists(st.lists(any_text, min_size=1, max_size=4), min_size=1, max_size=4), place_bits=st.integers(1, 8)
)
def test_ids_are_those_of_the_engine(models, name, batches, place_bits):
    plain = engine(models[name])
    memory = WordMemory(plain, read_joints(models[name]).joined, place_bits)
    for batch in batches:
        for append in (None, 2):
            for found, expected in zip(memory.flat(batch, append), plain.flat(batch, append), strict=True):
                assert found.dtype == expected.dtype
                assert np.array_equal(found, expected)
        assert memory.lists(batch) == plain.lists(batch)


def test_a_cut_that_a_piece_forbids_would_change_ids(models):
    """The other tests would notice a wrong vocabulary: with the cuts of one, the other's ids differ."""
    plain = engine(models["across words"])
    wrong = WordMemory(plain, read_joints(models["usual"]).joined)
    text = [" ".join(TEXTS)]
    assert not np.array_equal(wrong.flat(text)[0], plain.flat(text)[0])


def test_no_piece_is_cut(models):
    for content in models.values():
        processor = engine(content)._encode.__self__
        joined = read_joints(content).joined
        for token in range(processor.vocab_size()):
            if not (processor.is_control(token) or processor.is_unknown(token) or processor.is_byte(token)):
                piece = processor.id_to_piece(token).replace("\u2581", " ").encode()
                assert cut(piece, 0, len(piece), joined).tolist() == [True] + [False] * (len(piece) - 1)


def test_characters_stay_whole():
    text = "aé日😀b".encode()
    begins = cut(text, 0, len(text), joined_pairs(["a", "b"]))
    assert np.flatnonzero(begins).tolist() == [0, 1, 3, 6, 10]


def test_pieces_learned_across_lines_are_not_cut_into_lines():
    processor = sentencepiece.SentencePieceProcessor(model_proto=model(sentence_iterator=iter(TEXTS)))
    assert any("\n" in processor.id_to_piece(token) for token in range(processor.vocab_size()))
    assert not read_joints(model(sentence_iterator=iter(TEXTS))).parts_words


@pytest.mark.parametrize(
    "options",
    [
        {"byte_fallback": False, "vocab_size": 300},
        {"add_dummy_prefix": True},
        {"remove_extra_whitespaces": True},
        {"normalization_rule_name": "nmt_nfkc"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_models_that_change_text_get_it_whole(options):
    assert read_joints(model(**options)) is None


def test_a_normalisation_under_another_name_is_noticed():
    changed = parse(model())
    changed.normalizer_spec.precompiled_charsmap = parse(
        model(normalization_rule_name="nfkc")
    ).normalizer_spec.precompiled_charsmap
    assert changed.normalizer_spec.name == "identity"
    assert read_joints(changed.SerializeToString()) is None


@pytest.mark.parametrize("options", [{"model_type": "unigram"}, {"user_defined_symbols": ["a b"]}], ids=str)
def test_words_are_not_remembered_without_a_proof(options):
    assert not read_joints(model(**options)).parts_words


@pytest.mark.parametrize("name", ["usual", "across words", "across scripts", "spaces behind"])
@settings(max_examples=60, deadline=None)
@given(text=any_text, max_bytes=st.integers(1, 30))
def test_parts_of_long_texts_have_the_ids_of_the_whole(models, name, text, max_bytes):
    plain, joined = engine(models[name]), read_joints(models[name]).joined
    cuts = list(cut_long(text, joined, max_bytes))
    assert "".join(cuts) == text
    assert [token for part in cuts for token in plain.lists([part])[0]] == plain.lists([text])[0]
    begins = cut(text.encode(), 0, len(text.encode()), joined)
    longest = int(np.diff(np.flatnonzero(begins), append=len(begins)).max()) if text else 0
    assert all(len(part.encode()) <= max(max_bytes, 2 * longest) for part in cuts)


def test_our_own_bpe_remembers_words(tmp_path, text_file):
    path = trained(text_file, tmp_path / "sp", "bpe").model_path.parent
    assert isinstance(load_tokenizer(path)._engine, WordMemory)
    assert not isinstance(load_tokenizer(path, "reference")._engine, WordMemory)


def test_text_of_new_words_is_passed_on_and_looked_at_again(models, monkeypatch):
    monkeypatch.setattr(word_memory, "_TELLING_BYTES", 100)
    plain = engine(models["usual"])
    joined = np.ones((256, 256), bool)
    joined[:, 10] = joined[10, :] = False
    memory = WordMemory(plain, joined)  # a word is a line
    texts = [f"text {number} " * 20 for number in range(60)]
    remembered, looked_at, remember = 0, [], memory._remember

    def counted(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        nonlocal remembered
        remembered += 1
        return remember(texts)

    monkeypatch.setattr(memory, "_remember", counted)
    for number, text in enumerate(texts):
        before = remembered
        assert np.array_equal(memory.flat([text])[0], plain.flat([text])[0])
        looked_at += [number] * (remembered - before)
    assert looked_at == [0, 1, 17, 18, 34, 35, 51, 52]


class TestTable:
    def test_words_that_differ_in_a_byte_or_in_length_are_told_apart(self):
        words = [b"a", b"a\0", b"a\0\0", b"b" * 8, b"b" * 9, b"c" * 23, b"c" * 24, b"c" * 23 + b"d", b"\0"]
        table = WordTable(5)
        keys, sizes = self.keys(words)
        assert table.find(keys, sizes)[2].tolist() == list(range(len(words)))
        table.add(keys, sizes, np.arange(len(words), dtype=np.int32), np.ones(len(words), np.int64))
        starts, counts, missing = table.find(keys, sizes)
        assert not len(missing)
        assert table.ids[starts].tolist() == list(range(len(words)))
        assert counts.tolist() == [1] * len(words)

    def test_longer_words_are_never_there(self):
        table = WordTable(5)
        keys, sizes = self.keys([b"c" * MAX_WORD_BYTES, b"c" * (MAX_WORD_BYTES + 1), b"c" * 300])
        table.add(keys[:, :1], sizes[:1], np.array([7], np.int32), np.ones(1, np.int64))
        assert table.find(keys, sizes)[2].tolist() == [1, 2]

    def test_the_same_word_several_times_is_one(self):
        table = WordTable(5)
        keys, sizes = self.keys([b"one", b"two", b"one", b"one"])
        table.add(keys, sizes, np.array([1, 2, 1, 1], np.int32), np.ones(4, np.int64))
        assert table.words == 2
        starts = table.find(keys, sizes)[0]
        assert table.ids[starts].tolist() == [1, 2, 1, 1]

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.binary(min_size=1, max_size=MAX_WORD_BYTES), max_size=60, unique=True), st.integers(0, 60))
    def test_what_was_added_is_found_and_nothing_else(self, words, added):
        table = WordTable(7)
        keys, sizes = self.keys(words)
        counts = 1 + np.arange(len(words)) % 3
        ids = np.repeat(np.arange(len(words), dtype=np.int32), counts)
        added = min(added, len(words))
        for part in (slice(0, added // 2), slice(added // 2, added)):
            chosen = np.isin(ids, np.arange(len(words))[part])
            table.add(keys[:, part], sizes[part], ids[chosen], counts[part])
        starts, found, missing = table.find(keys, sizes)
        assert missing.tolist() == list(range(added, len(words)))
        assert found[:added].tolist() == counts[:added].tolist()
        assert table.ids[starts[:added]].tolist() == list(range(added))

    @staticmethod
    def keys(words: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
        sizes = np.array([len(word) for word in words], np.int64)
        data = b"".join(words) + bytes(MAX_WORD_BYTES)
        return word_keys(data, np.cumsum(sizes) - sizes, sizes), sizes
