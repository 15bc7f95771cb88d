"""Whose directories may be replaced: those that our commands made, with nothing else in them."""

import shutil

import pytest
from data_prep_helpers import trained, write_jsonl

from configs.errors import DataError
from data_prep.corpus import Corpus
from data_prep.corpus_tools.merging import merge_corpora
from data_prep.storage.publishing import staged_directory
from data_prep.storage.replaceable import check_replaceable
from data_prep.tokenizer.importing import import_tokenizer

MARKERS = {
    "manifest.json": '{"format_version": 1, "created_by": "x", "tokenizer_fingerprint": "0", "shards": []}',
    "tokenizer.json": '{"algorithm": "bpe", "roles": {}, "sentinels": [], "fingerprint": "0"}',
    "export.json": '{"checkpoint": "x", "architecture": "x", "logits": {}}',
}


@pytest.mark.parametrize("marker", MARKERS)
def test_a_file_of_the_markers_name_is_not_enough(tmp_path, marker):
    for content in ("{}", "[]", "", '{"model": {}}'):
        (tmp_path / marker).write_text(content)
        with pytest.raises(DataError, match=f"holds other things .another {marker}"):
            check_replaceable(tmp_path, marker, overwrite=True)
    (tmp_path / marker).write_text(MARKERS[marker])
    check_replaceable(tmp_path, marker, overwrite=True)
    with pytest.raises(DataError, match="exists already"):
        check_replaceable(tmp_path, marker, overwrite=False)
    for name in ("weights.bin", "raw"):
        (tmp_path / name).mkdir()
        with pytest.raises(DataError, match=f"holds other things: {name}"):
            check_replaceable(tmp_path, marker, overwrite=True)
        with pytest.raises(DataError), staged_directory(tmp_path, marker, overwrite=True):
            pass
        assert (tmp_path / name).is_dir()
        (tmp_path / name).rmdir()


@pytest.mark.parametrize("given", ["", "tokenizer", "*.jsonl", "tokenizer/[ab]/*.txt", "../{name}/tokenizer"])
def test_a_directory_with_an_input_is_not_replaced(tmp_path, given):
    (tmp_path / "manifest.json").write_text(MARKERS["manifest.json"])
    (tmp_path / "tokenizer").mkdir()
    check_replaceable(tmp_path, "manifest.json", True, [tmp_path.parent, tmp_path.parent / "other*" / "x", "a://b"])
    with pytest.raises(DataError, match="holds other things: the input"):
        check_replaceable(tmp_path, "manifest.json", True, [tmp_path / given.format(name=tmp_path.name)])


def test_a_link_is_followed(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    (tmp_path / "new").symlink_to(tmp_path / "elsewhere")
    for link, place in (("link", "disk"), ("new", "elsewhere")):
        with staged_directory(tmp_path / link, "tokenizer.json", overwrite=False) as directory:
            (directory / "tokenizer.json").write_text(MARKERS["tokenizer.json"])
        assert (tmp_path / link).is_symlink() and (tmp_path / place / "tokenizer.json").is_file()
    with pytest.raises(DataError, match="exists already"):
        check_replaceable(tmp_path / "link", "tokenizer.json", overwrite=False)
    with pytest.raises(DataError, match="root of the file system"):
        check_replaceable(tmp_path / ("../" * 20), "tokenizer.json", overwrite=True)


def test_weights_beside_a_vocabulary_survive(tmp_path, text_file, tokenizer_path):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "tokenizer.json").write_text('{"version": "1.0", "model": {"type": "BPE", "vocab": {}, "merges": []}}')
    (theirs / "model.safetensors").write_text("precious")
    with pytest.raises(DataError, match="holds other things: the input"):
        import_tokenizer(theirs, theirs, {}, overwrite=True)
    with pytest.raises(DataError, match=r"another tokenizer\.json"):
        import_tokenizer(tokenizer_path, theirs, {}, overwrite=True)
    with pytest.raises(DataError, match=r"another tokenizer\.json"):
        trained(text_file, theirs, "bpe", overwrite=True)
    assert (theirs / "model.safetensors").read_text() == "precious"
    ours = shutil.copytree(tokenizer_path, tmp_path / "ours")
    write_jsonl(ours / "text.jsonl", ["a"])
    with pytest.raises(DataError, match="holds other things: the input"):
        trained(ours / "text.jsonl", ours, "bpe", overwrite=True)
    assert (ours / "text.jsonl").is_file()


def test_merge_replaces_corpora_only(tmp_path, text_file, tokenizer_path):
    from data_prep.config import TokenizeConfig
    from data_prep.sharding.tokenization import tokenize

    config = TokenizeConfig(input=[str(text_file)], tokenizer=tokenizer_path, output=tmp_path / "site" / "c", workers=1)
    tokenize(config)
    (tmp_path / "site" / "manifest.json").write_text(MARKERS["manifest.json"])
    corpus = Corpus.open(config.output)
    with pytest.raises(DataError, match="holds other things: the input"):
        merge_corpora([corpus], tmp_path / "site", 1 << 40, overwrite=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "manifest.json").write_text("{}")
    with pytest.raises(DataError, match=r"another manifest\.json"):
        merge_corpora([corpus], tmp_path / "other", 1 << 40, overwrite=True)
    assert (config.output / "manifest.json").is_file() and (tmp_path / "other" / "manifest.json").is_file()
