"""BERT's `vocab.txt` imported: the ids of transformers, whatever is done to case, accents and Chinese."""

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.errors import ConfigError, DataError
from data_prep.tokenizer import ROLES, load_tokenizer
from data_prep.tokenizer.importing import describe_tokenizer, import_tokenizer
from data_prep.tokenizer.wordpiece import Normalization

SPECIAL = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = (  # noqa: SIM905
    "the un ##aff ##able ##ing run ##s cafe café ##é ##e na ##ive naive strasse stra ##ße 中 国 ##国 日 本 に 한국 "
    "hello world ! . , ' - don t 3 ##1 ##4 a b ##b ##c я ру ##сс"
).split()
CAPITALS = ["The", "HE", "##LLO", "Café", "É"]
TEXTS = (
    "The UNAFFABLE café, Café CAFE\u0301: running runs.",
    "中国日本に 한국 hello中world国!",
    "don't 314  naïve\tStraße\u00a0É\u3000я Русс\n\u200b\ufeffHELLO\x00 b-b 龘 ☃",
    "x" * 101 + " the " + "b" * 99,
    "",
    " ",
)


def write_vocabulary(path, pieces=(*SPECIAL, *PIECES)):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(pieces) + "\n", "utf-8")
    return path


def theirs(path, lower_case, strip_accents, split_chinese):
    from transformers import BertTokenizer

    pieces = {piece: number for number, piece in enumerate(path.read_text("utf-8").splitlines())}
    return BertTokenizer(
        vocab=pieces, do_lower_case=lower_case, strip_accents=strip_accents, tokenize_chinese_chars=split_chinese
    )


CHOICES = list(itertools.product((True, False), (None, True, False), (True, False)))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    root = tmp_path_factory.mktemp("wordpiece")
    path = write_vocabulary(root / "vocab.txt", (*SPECIAL, *PIECES, *CAPITALS))
    return {
        choice: (
            import_tokenizer(path, root / f"t{number}", {}, normalization=Normalization(*choice)),
            theirs(path, *choice),
        )
        for number, choice in enumerate(CHOICES)
    }


@pytest.mark.parametrize("choice", CHOICES)
def test_the_ids_are_those_of_transformers(pairs, choice):
    ours, other = pairs[choice]
    expected = [other.encode(text, add_special_tokens=False) for text in TEXTS]
    assert ours.encode_batch(TEXTS) == expected
    assert ours.vocab_size == len(other)


def test_the_choices_differ(pairs):
    # Where accents follow the case (None), the ids are those of one of the other eight.
    assert len({json.dumps(ours.encode_batch(TEXTS)) for ours, _ in pairs.values()}) == 8


@settings(max_examples=60, deadline=None)
@given(
    text=st.one_of(
        st.text(max_size=40),
        st.lists(st.sampled_from(["the", "The", "un", "affable", " ", "中", "国", "é", "e\u0301", "!", "\n"])).map(
            "".join
        ),
    )
)
def test_any_text_has_the_ids_of_transformers(pairs, text):
    for ours, other in (pairs[True, None, True], pairs[False, None, True]):
        assert ours.encode(text) == other.encode(text, add_special_tokens=False)


def test_known_ids(tmp_path):
    tokenizer = import_tokenizer(write_vocabulary(tmp_path / "vocab.txt"), tmp_path / "t", {})
    pieces = [tokenizer.piece(token) for token in tokenizer.encode("Unaffable 中国: CAFÉ!")]
    assert pieces == ["un", "##aff", "##able", "中", "国", "[UNK]", "cafe", "!"]
    assert tokenizer.decode(tokenizer.encode("the unaffable")) == "the unaffable"


def test_roles_and_what_is_written(tmp_path):
    path = write_vocabulary(tmp_path / "bert" / "vocab.txt")
    tokenizer = import_tokenizer(path.parent, tmp_path / "t", {"end_of_document": "[SEP]"})
    assert [tokenizer.role(role) for role in ROLES[:7]] == [4, None, 2, 0, 5, 3, 4]
    assert tokenizer.kind == "huggingface" and tokenizer.algorithm == "wordpiece"
    assert sorted(file.name for file in (tmp_path / "t").iterdir()) == ["tokenizer.json", "vocabulary.json"]
    assert load_tokenizer(tmp_path / "t").fingerprint == tokenizer.fingerprint
    assert not set(tokenizer.encode("[CLS] the [MASK]")) & {0, 3, 4, 5}
    assert (
        "lower case, accents taken off, each Chinese character a word"
        in describe_tokenizer(tokenizer, tmp_path / "t")[2]
    )
    bare = load_tokenizer(tmp_path / "t" / "vocabulary.json")
    assert (bare.role("classification"), bare.role("separator")) == (3, 4)


@pytest.mark.parametrize(
    ("pieces", "config", "asked", "expected"),
    [
        ((), None, {}, "lower case, accents taken off, each Chinese character a word"),
        (CAPITALS, None, {}, "capital letters kept, accents kept, each Chinese character a word"),
        (CAPITALS, {"do_lower_case": True}, {}, "lower case, accents taken off, each Chinese character a word"),
        ((), {"do_lower_case": False, "strip_accents": True}, {}, "capital letters kept, accents taken off, each"),
        ((), {"tokenize_chinese_chars": False}, {}, "lower case, accents taken off, Chinese as it is"),
        ((), {"do_lower_case": False, "strip_accents": None}, {"lower_case": True}, "lower case, accents taken off"),
        ((), {"tokenize_chinese_chars": False}, {"split_chinese": True}, "each Chinese character a word"),
        ((), None, {"strip_accents": False}, "lower case, accents kept"),
    ],
)
def test_what_is_done_to_text_is_asked_said_or_seen(tmp_path, pieces, config, asked, expected):
    path = write_vocabulary(tmp_path / "vocab.txt", (*SPECIAL, *PIECES, *pieces))
    if config is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = import_tokenizer(path, tmp_path / "t", {}, normalization=Normalization(**asked))
    assert expected in describe_tokenizer(tokenizer, tmp_path / "t")[2]


def test_odd_lines_keep_their_numbers(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_bytes("[UNK]\r\nthe\r\n\u2028\r\na\r\nthe\r\n".encode())
    tokenizer = import_tokenizer(path, tmp_path / "t", {})
    assert (tokenizer.find("a"), tokenizer.find("the"), tokenizer.vocab_size) == (3, 4, 5)
    assert tokenizer.is_special(1) and tokenizer.role("classification") is None


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"the\n[CLS]\n", r"has no piece \[UNK\]"),
        (b"[UNK]\n\xff\n", "is not UTF-8 at byte 6"),
        (b"", "is empty"),
    ],
)
def test_damaged_vocabularies_are_refused(tmp_path, content, problem):
    (tmp_path / "vocab.txt").write_bytes(content)
    with pytest.raises(DataError, match=problem):
        import_tokenizer(tmp_path / "vocab.txt", tmp_path / "t", {})
    assert not (tmp_path / "t").exists()


def test_only_where_it_belongs(tmp_path):
    path = write_vocabulary(tmp_path / "vocab.txt")
    imported = import_tokenizer(path, tmp_path / "t", {})
    for source in (path, tmp_path):
        load_tokenizer(source).copy_to(tmp_path / "copy")
        copied = load_tokenizer(tmp_path / "copy")
        assert copied.fingerprint == load_tokenizer(source).fingerprint == imported.fingerprint
    with pytest.raises(ConfigError, match="for WordPiece vocabularies only"):
        import_tokenizer(tmp_path / "t", tmp_path / "u", {}, normalization=Normalization(lower_case=True))
    again = import_tokenizer(tmp_path / "t", tmp_path / "u", {}, normalization=Normalization())
    assert again.fingerprint == imported.fingerprint
