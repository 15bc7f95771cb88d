"""Which ids begin a word, for each kind of vocabulary, by what they make of text."""

import io

import numpy as np
import pytest
from data_prep_helpers import make_text, trained

from configs.errors import DataError
from data_prep.tokenizer import load_tokenizer
from data_prep.tokenizer.word_starts import begins_word
from pretrain.data.token_facts import TokenFacts
from tests.tokenizer_kinds import (
    huggingface_bpe,
    huggingface_unigram,
    huggingface_wordpiece,
    tiktoken_ranks,
    with_scheme,
)

TEXTS = [make_text(number) for number in range(300)]
SPACED = "the tensor of Schülerin, config (model) 42\n    returns naïve éclair.\nthat"
WORDS = ["the", " tensor", " of", " Schülerin,", " config", " (model)", " 42", "\n", "    ", " returns", " naïve"]


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory, text_file):
    root = tmp_path_factory.mktemp("word_starts")
    paths = {
        "bpe": huggingface_bpe(root / "bpe", TEXTS),
        "unigram": huggingface_unigram(root / "unigram", TEXTS),
        "wordpiece": huggingface_wordpiece(root / "wordpiece", TEXTS),
        "tiktoken": with_scheme(tiktoken_ranks(root / "tiktoken" / "v.tiktoken", TEXTS)),
    }
    made = {name: load_tokenizer(path) for name, path in paths.items()}
    algorithms = ("bpe", "unigram", "char", "word")
    return made | {f"sentencepiece {name}": trained(text_file, root / "sp" / name, name) for name in algorithms}


def words_of(tokenizer, text):
    """The text in words, the first of which begins where the text does."""
    ids = np.array(tokenizer.encode(text))
    starts = tokenizer.word_starts()[ids]
    starts[0] = True
    return [tokenizer.decode(part) for part in np.split(ids, np.flatnonzero(starts)[1:])]


LOSSLESS = ("bpe", "tiktoken", *(f"sentencepiece {name}" for name in ("bpe", "unigram", "char", "word")))


@pytest.mark.parametrize("name", LOSSLESS)
def test_words_are_what_lies_between_spaces(tokenizers, name):
    words = words_of(tokenizers[name], SPACED)
    assert "".join(words) == SPACED
    # A piece may be a whole run of spaces, or a line break with spaces: how white space falls into words may differ.
    assert [word.strip() for word in words if word.strip()] == SPACED.split()


def test_a_line_break_begins_a_word_though_it_is_written_in_bytes(tokenizers):
    for algorithm in ("bpe", "unigram"):
        assert words_of(tokenizers[f"sentencepiece {algorithm}"], "the tensor\nthat\tmodel") == [
            "the", " tensor", "\nthat", "\tmodel",
        ]  # fmt: skip


@pytest.mark.parametrize("name", LOSSLESS)
def test_a_script_without_spaces_has_words_too(tokenizers, name):
    # 日本語 is in the training text; 国 and the kana are not: they are written in bytes.
    words = words_of(tokenizers[name], "the 日本語日国の model")
    assert "".join(words) == "the 日本語日国の model" and words[-1] == " model" and words[0] == "the"
    assert len(words) > 4 or name == "sentencepiece word"


def test_wordpiece(tokenizers):
    tokenizer = tokenizers["wordpiece"]
    starts = tokenizer.word_starts()
    pieces = [tokenizer.piece(token) for token in range(tokenizer.vocab_size)]
    assert starts.tolist() == [not piece.startswith("##") for piece in pieces] and not starts.all()
    assert [word.strip() for word in words_of(tokenizer, "The tensor! 0.5")] == ["the", "tensor", "!", "0", ".", "5"]


def test_a_pipeline_with_a_space_in_front(tokenizers):
    tokenizer = tokenizers["unigram"]
    assert words_of(tokenizer, "the tensor xyz") == ["the", "tensor", "xyz"]
    starts = tokenizer.word_starts()
    assert starts[[0, 1]].all()  # <unk> and </s>
    byte_pieces = {byte: starts[tokenizer.find(f"<0x{byte:02X}>")] for byte in range(256)}
    assert {byte for byte, start in byte_pieces.items() if start} >= {9, 10, 13, 32, 0xE6}
    assert not any(byte_pieces[byte] for byte in (*b"aZ0.", *range(0x80, 0xE3), *range(0xEA, 0x100)))


@pytest.mark.parametrize("name", ["bpe", "wordpiece", "tiktoken", "sentencepiece bpe", "sentencepiece word"])
def test_special_tokens_stand_alone(tokenizers, name):
    tokenizer = tokenizers[name]
    starts = tokenizer.word_starts()
    assert starts.dtype == bool and starts.shape == (tokenizer.vocab_size,)
    special = [token for token in range(tokenizer.vocab_size) if tokenizer.is_special(token)]
    assert special and starts[special].all()


@pytest.mark.parametrize(
    ("piece", "expected"),
    [
        (" the", True),
        ("\n", True),
        ("\u00a0", True),
        ("\u3000", True),
        ("the", False),
        (".", False),
        ("é", False),
        ("한", False),  # Korean has spaces
        ("語", True),
        ("の", True),
        ("ไ", True),
        ("\u0e31", False),  # a vowel sign of Thai
        ("。", False),
        ("\U00020000", True),
        ("", True),
        (b"\xe6", True),  # of 4096 ideographs
        (b"\xe6\x97", True),
        (b"\xa5", False),
        (b"\xf0\x9f", False),
        (b"\xe0", False),
        (b"\xff", False),
        (b" \xe6", True),
        ("a日", False),
    ],
)
def test_what_begins_a_word(piece, expected):
    assert begins_word(piece if isinstance(piece, bytes) else piece.encode()) is expected


def test_user_defined_symbols_stand_alone(tmp_path):
    from sentencepiece import SentencePieceTrainer

    made = {}
    for suffix in (False, True):
        model = io.BytesIO()
        SentencePieceTrainer.train(
            sentence_iterator=iter(text.replace("\t", " ") for text in TEXTS), model_writer=model, vocab_size=90,
            user_defined_symbols=["<td>"], treat_whitespace_as_suffix=suffix, minloglevel=2,
        )  # fmt: skip
        path = tmp_path / f"{suffix}.model"
        path.write_bytes(model.getvalue())
        made[suffix] = load_tokenizer(path)
    assert made[False].word_starts()[made[False].find("<td>")]
    with pytest.raises(DataError, match="does not mark where words begin: its pieces end with a space"):
        made[True].word_starts()


def test_vocabularies_that_mark_no_beginning_are_refused(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    for suffix, problem in (("</w>", "'</w>' marks where words end"), (None, "no piece begins with a space")):
        pipeline = Tokenizer(models.BPE(end_of_word_suffix=suffix) if suffix else models.BPE())
        pipeline.pre_tokenizer = pre_tokenizers.Whitespace()
        options = {"end_of_word_suffix": suffix} if suffix else {}
        pipeline.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=200, show_progress=False, **options))
        pipeline.save(str(tmp_path / "tokenizer.json"))
        with pytest.raises(DataError, match=problem):
            load_tokenizer(tmp_path).word_starts()


def test_whole_words_alone_all_begin(tmp_path):
    from tokenizers import Tokenizer, models

    Tokenizer(models.WordLevel({"[UNK]": 0, "the": 1, "model": 2}, unk_token="[UNK]")).save(
        str(tmp_path / "tokenizer.json")
    )
    assert load_tokenizer(tmp_path).word_starts().all()


def test_token_facts_know_them(tokenizers):
    tokenizer = tokenizers["sentencepiece bpe"]
    facts = TokenFacts(tokenizer.vocab_size + 3, {}, tokenizer)
    assert facts.word_starts is facts.word_starts and facts.word_starts.shape == (tokenizer.vocab_size + 3,)
    assert facts.word_starts[:-3].tolist() == tokenizer.word_starts().tolist() and facts.word_starts[-3:].all()
    assert TokenFacts(5).word_starts is None
