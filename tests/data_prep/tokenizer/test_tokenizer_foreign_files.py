"""Vocabularies in the files that other projects ship, and border tokens that their vocabularies do not call special."""

import shutil

import orjson
import pytest
from data_prep_helpers import make_text

from configs.errors import DataError
from data_prep.config import TokenizeConfig
from data_prep.corpus import Corpus
from data_prep.corpus_tools.verification import verify_corpus
from data_prep.sharding.tokenization import tokenize
from data_prep.tokenizer import load_tokenizer, write_roles
from data_prep.tokenizer.importing import import_tokenizer
from data_prep.tokenizer.roles import fingerprint_of
from tests.tokenizer_kinds import huggingface_bpe, tiktoken_ranks, with_scheme

TEXTS = [make_text(number) for number in range(200)]


def config_for(source, tokenizer, output, **settings) -> TokenizeConfig:
    return TokenizeConfig(input=[str(source)], tokenizer=tokenizer, output=output, workers=1, **settings)


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory):
    """The `tokenizer.json` of a byte-level BPE, and `vocab.json` with `merges.txt` of the same."""
    directory = huggingface_bpe(tmp_path_factory.mktemp("byte-level"), TEXTS)
    model = orjson.loads((directory / "tokenizer.json").read_bytes())["model"]
    files = directory / "files"
    files.mkdir()
    (files / "vocab.json").write_bytes(orjson.dumps(model["vocab"]))
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"]]
    (files / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    (files / "tokenizer_config.json").write_bytes(orjson.dumps({"eos_token": "<|end|>"}))
    return directory, files


def test_vocab_json_and_merges_are_a_tokenizer(byte_level, tmp_path):
    whole, files = map(load_tokenizer, byte_level)
    texts = [*TEXTS[:30], " two  spaces\n\n's <|end|> é日"]
    assert files.encode_batch(texts) == whole.encode_batch(texts)
    assert files.role("end_of_document") == whole.role("end_of_document") is not None
    for source in ("vocab.json", "merges.txt"):
        assert load_tokenizer(byte_level[1] / source).fingerprint == files.fingerprint
    assert import_tokenizer(byte_level[1], tmp_path / "t", {}).encode_batch(texts) == whole.encode_batch(texts)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [("vocab.json", b'{"a": 0}', "has no piece for the byte 0x00"),
     ("vocab.json", b"[]", "is not an id for each piece"),
     ("merges.txt", b"#version\na\n", r"merges.txt, line 2: cannot be read: 'a'"),
     ("merges.txt", b"zz qq\n", "cannot be read: 'zz qq'")],
)  # fmt: skip
def test_damaged_files_are_named(byte_level, tmp_path, name, content, problem):
    shutil.copytree(byte_level[1], tmp_path / "t")
    (tmp_path / "t" / name).write_bytes(content)
    with pytest.raises(DataError, match=problem):
        load_tokenizer(tmp_path / "t")


def test_a_directory_with_one_sentencepiece_model_alone_is_a_tokenizer(tmp_path, tokenizer_path):
    (tmp_path / "llama").mkdir()
    shutil.copy(tokenizer_path / "tokenizer.model", tmp_path / "llama")
    found = load_tokenizer(tmp_path / "llama")
    assert found.encode(TEXTS[0]) == load_tokenizer(tokenizer_path).encode(TEXTS[0])
    assert found.role("end_of_document") is not None
    shutil.copy(tokenizer_path / "tokenizer.model", tmp_path / "llama" / "other.model")
    with pytest.raises(DataError, match="did you mean"):
        load_tokenizer(tmp_path / "llama")


def _with_end(tokenizer, directory, token):
    """A copy of a tokenizer whose end-of-document token is another."""
    tokenizer.copy_to(directory)
    roles = {"end_of_document": token}
    fingerprint = fingerprint_of(tokenizer.vocabulary, roles, [], tokenizer.extra)
    write_roles(directory, tokenizer.algorithm, roles, [], fingerprint, tokenizer.kind, tokenizer.extra)
    return directory


def _corpus(tmp_path, tokenizer, text):
    (tmp_path / "text.jsonl").write_bytes(orjson.dumps({"text": text}) + b"\n" + orjson.dumps({"text": "two"}) + b"\n")
    tokenize(config_for(tmp_path / "text.jsonl", tokenizer, tmp_path / "corpus"))
    assert verify_corpus(tmp_path / "corpus").problems.count == 0
    shard = Corpus.open(tmp_path / "corpus").shards[0]
    return shard.tokens[: shard.document_offsets[1]].tolist()


def test_an_added_token_that_ends_documents_is_text_in_text(tmp_path, byte_level):
    content = orjson.loads((byte_level[0] / "tokenizer.json").read_bytes())
    content["added_tokens"][0]["special"] = False
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "tokenizer.json").write_bytes(orjson.dumps(content))
    shutil.copy(byte_level[0] / "tokenizer_config.json", tmp_path / "t")
    ids = _corpus(tmp_path, tmp_path / "t", "ends <|end|> not")
    tokenizer = load_tokenizer(tmp_path / "corpus" / "tokenizer")
    end = tokenizer.role("end_of_document")
    assert ids.count(end) == 1 and ids[-1] == end and tokenizer.decode(ids) == "ends <|end|> not"
    assert tokenizer.is_special(end)


def test_a_user_defined_symbol_that_ends_documents_is_text_in_text(tmp_path):
    from sentencepiece import SentencePieceTrainer

    SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS), model_prefix=str(tmp_path / "m"), vocab_size=400, model_type="bpe",
        byte_fallback=True, normalization_rule_name="identity", add_dummy_prefix=False, minloglevel=2,
        remove_extra_whitespaces=False, user_defined_symbols=["<|end|>"], hard_vocab_limit=False,
    )  # fmt: skip
    plain = load_tokenizer(tmp_path / "m.model")
    assert plain.find("<|end|>") in plain.encode("ends <|end|> not")
    directory = _with_end(plain, tmp_path / "t", plain.find("<|end|>"))
    ids = _corpus(tmp_path, directory, "ends <|end|> not")
    assert ids.count(plain.find("<|end|>")) == 1 and plain.decode(ids[:-1]) == "ends <|end|> not"


@pytest.mark.slow
def test_a_common_piece_that_ends_documents_is_told_where_text_holds_it(tmp_path):
    plain = load_tokenizer(with_scheme(tiktoken_ranks(tmp_path / "v.tiktoken", TEXTS)))
    directory = _with_end(plain, tmp_path / "t", plain.find("\n"))
    with pytest.raises(DataError, match=r"text\.jsonl: a text holds '\\n'.* between documents only"):
        _corpus(tmp_path, directory, "two\nlines")
    shutil.rmtree(tmp_path / "corpus.partial", ignore_errors=True)
    assert _corpus(tmp_path, directory, "one line")[-1] == plain.find("\n")


def test_a_beginning_of_document_id_is_written_recorded_and_verified(tmp_path, text_file, tokenizer_path, texts):
    from pretrain.data.document_borders import document_borders

    plain = tokenize(config_for(text_file, tokenizer_path, tmp_path / "plain")).manifest
    manifest = tokenize(
        config_for(text_file, tokenizer_path, tmp_path / "c", prepend_beginning_of_document=True)
    ).manifest
    tokenizer = load_tokenizer(tokenizer_path)
    begin, end = tokenizer.role("beginning_of_document"), tokenizer.role("end_of_document")
    assert (plain.beginning_of_document, manifest.beginning_of_document) == (None, begin)
    assert manifest.tokens == plain.tokens + plain.documents and manifest.fingerprint != plain.fingerprint
    corpus = Corpus.open(tmp_path / "c")
    shard = corpus.shards[0]
    assert shard.tokens[: shard.document_offsets[1]].tolist() == [begin, *tokenizer.encode(texts[0]), end]
    borders = document_borders([corpus], {"beginning_of_document": begin, "end_of_document": end})
    assert (borders.begin_id, borders.end_id) == (begin, end)
    assert verify_corpus(tmp_path / "c").problems.count == 0
    path = shard.prefix.with_suffix(".bin")
    held = bytearray(path.read_bytes())
    width = shard.tokens.dtype.itemsize
    second = int(shard.document_offsets[1])
    held[second * width : (second + 1) * width], held[2 * width : 3 * width] = (
        held[2 * width : 3 * width], held[second * width : (second + 1) * width],
    )  # fmt: skip
    path.write_bytes(held)
    said = str(verify_corpus(tmp_path / "c").problems.__dict__)
    assert f"token {second:,} begins a document without" in said and "token 2 is that id within" in said


def test_a_beginning_of_document_id_needs_its_token_and_documents(tmp_path, text_file, byte_level):
    from pydantic import ValidationError

    with pytest.raises(DataError, match="has no beginning-of-document token"):
        tokenize(config_for(text_file, byte_level[0], tmp_path / "c", prepend_beginning_of_document=True))
    with pytest.raises(ValidationError, match=r"not for corpora of sentences|is for documents"):
        config_for(text_file, byte_level[0], tmp_path / "c", prepend_beginning_of_document=True, sentences=True)
