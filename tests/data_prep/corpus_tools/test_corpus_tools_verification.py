import shutil
from pathlib import Path

import numpy as np
import orjson
import pytest
from sentence_corpora import write_corpus

from configs.errors import DataError
from data_prep.config import TokenizeConfig
from data_prep.corpus import Corpus
from data_prep.corpus.manifest import CorpusManifest
from data_prep.corpus.shards import ShardReader
from data_prep.corpus_tools.merging import merge_corpora
from data_prep.corpus_tools.verification import verify_corpus
from data_prep.sharding.tokenization import tokenize


@pytest.fixture(scope="module")
def made(tmp_path_factory, text_file, tokenizer_path) -> Path:
    output = tmp_path_factory.mktemp("verified") / "corpus"
    settings = {"work_unit_bytes": 31000, "workers": 1}
    tokenize(TokenizeConfig(input=[str(text_file)], tokenizer=tokenizer_path, output=output, **settings))
    return output


@pytest.fixture
def corpus(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "corpus")


def problems(path: Path, **options: object) -> list[str]:
    result = verify_corpus(path, workers=1, **options)  # type: ignore[arg-type]
    return [str(problem).removeprefix(f"{path}/") for problem in result.problems.found]


def rewrite(path: Path, change) -> None:
    """Change a shard's tokens, and the manifest's hash with them, so that only what they mean is wrong."""
    tokens = np.fromfile(path, dtype="<u2")
    change(tokens)
    tokens.tofile(path)
    rehash(path)


def rehash(path: Path) -> None:
    import xxhash

    manifest = orjson.loads((path.parent / "manifest.json").read_bytes())
    entry = next(e for e in manifest["shards"] if e["name"] == path.stem)
    kind = path.suffix.removeprefix(".")
    entry[f"{kind}_xxh3"] = xxhash.xxh3_128_hexdigest(path.read_bytes())
    entry[f"{kind}_bytes"] = path.stat().st_size
    (path.parent / "manifest.json").write_bytes(orjson.dumps(manifest))


def edit_manifest(corpus: Path, **values: object) -> None:
    path = corpus / "manifest.json"
    path.write_bytes(orjson.dumps(orjson.loads(path.read_bytes()) | values))


def test_what_was_written_is_right(corpus):
    result = verify_corpus(corpus, workers=1)
    manifest = CorpusManifest.read(corpus)
    assert result.problems.count == 0 and len(manifest.shards) == 2
    assert (result.documents, result.tokens) == (manifest.documents, manifest.tokens)
    assert result.checked_bytes == sum(shard.bin_bytes for shard in manifest.shards)
    lines = "\n".join(result.lines())
    assert lines.count("hashes as written") == len(manifest.shards) and "all as it should be" in lines
    assert "tokenizer: fingerprint as written" in lines and "token counts: as written" in lines


def test_two_processes_find_the_same(corpus):
    shard = corpus / "shard_00001.bin"
    rewrite(shard, lambda tokens: tokens.__setitem__(slice(10, 13), 9999))
    (corpus / "shard_00000.idx").unlink()
    one, two = (verify_corpus(corpus, workers=n) for n in (1, 2))
    assert one.problems == two.problems and one.problems.count > 4 and two.workers == 2


def change_one_token(corpus: Path) -> None:
    shard = corpus / "shard_00001.bin"
    raw = bytearray(shard.read_bytes())
    raw[10] ^= 1
    shard.write_bytes(raw)


def put_ids_outside(corpus: Path) -> None:
    rewrite(corpus / "shard_00001.bin", lambda tokens: tokens.__setitem__([7, 9], [50000, 420]))


def lose_an_end(corpus: Path) -> None:
    end = int(np.flatnonzero(np.fromfile(corpus / "shard_00000.bin", dtype="<u2") == 2)[3])
    rewrite(corpus / "shard_00000.bin", lambda tokens: tokens.__setitem__(end, 5))


def gain_an_end(corpus: Path) -> None:
    rewrite(corpus / "shard_00000.bin", lambda tokens: tokens.__setitem__(1, 2))


def shift_a_sequence(corpus: Path) -> None:
    path = corpus / "shard_00000.idx"
    raw = bytearray(path.read_bytes())
    sequences = int.from_bytes(raw[18:26], "little")
    at = 34 + 4 * sequences + 8 * 5
    raw[at : at + 8] = (int.from_bytes(raw[at : at + 8], "little") + 2).to_bytes(8, "little")
    path.write_bytes(raw)
    rehash(path)


def swap_document_bounds(corpus: Path) -> None:
    path = corpus / "shard_00000.idx"
    raw = bytearray(path.read_bytes())
    sequences = int.from_bytes(raw[18:26], "little")
    at = 34 + 12 * sequences + 8 * 4
    raw[at : at + 16] = raw[at + 8 : at + 16] + raw[at : at + 8]
    path.write_bytes(raw)
    rehash(path)


def break_header(corpus: Path) -> None:
    path = corpus / "shard_00000.idx"
    path.write_bytes(b"NOTMAGIC!" + path.read_bytes()[9:])


def miscount(corpus: Path) -> None:
    counts = np.load(corpus / "token_counts.npy")
    counts[[5, 300]] += [1, -1]
    np.save(corpus / "token_counts.npy", counts)


def write_metadata(corpus: Path) -> None:
    (corpus / "shard_00000.meta.jsonl").write_text('{"a": 1}\nno\n[]\n')


DAMAGE = {
    "a token": (change_one_token, ["shard_00001.bin: has the hash"]),
    "ids": (put_ids_outside, ["bin: token 7 is the id 50000, not in", "bin: token 9 is the id 420"]),
    "lost end": (lose_an_end, ["shard_00000.bin: document 3 does not end with the end-of-document id (token"]),
    "stray end": (gain_an_end, ["shard_00000.bin: token 1 is the end-of-document id within a document"]),
    "sequence": (shift_a_sequence, ["idx: sequence 5 begins at byte", "idx: sequence 6 begins at"]),
    "bounds": (swap_document_bounds, ["shard_00000.idx: document 4 ends at sequence 4, before it begins"]),
    "header": (break_header, ["shard_00000.idx: has the hash", "shard_00000.idx: is not a Megatron index file"]),
    "no .bin": (lambda c: (c / "shard_00001.bin").unlink(), ["shard_00001.bin: is missing"]),
    "no .idx": (lambda c: (c / "shard_00001.idx").unlink(), ["shard_00001.idx: is missing"]),
    "cut .bin": (lambda c: (c / "shard_00000.bin").write_bytes(b"12"), ["shard_00000.bin: holds 2 bytes"]),
    "cut .idx": (lambda c: (c / "shard_00000.idx").write_bytes(b"12"), ["shard_00000.idx: holds 2 bytes"]),
    "token counts": (miscount, ["token_counts.npy: says", "token_counts.npy: says"]),
    "no token counts": (lambda c: (c / "token_counts.npy").unlink(), ["token_counts.npy: cannot be read"]),
    "tokenizer": (lambda c: (c / "tokenizer" / "tokenizer.model").write_bytes(b"x"), ["tokenizer/"]),
    "vocabulary": (lambda c: edit_manifest(c, vocab_size=500), ["the number of ids 420", "npy: holds"]),
    "metadata": (write_metadata, ["line 2 is not a JSON object", "line 3 is not a JSON object", "has 3 lines for"]),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGE)
def test_each_damage_is_named_with_its_place(corpus, case):
    damage, expected = DAMAGE[case]
    damage(corpus)
    found = problems(corpus)
    for text in expected:
        assert any(text in problem for problem in found), found
    if case not in ("no .bin", "no .idx", "cut .bin", "cut .idx", "header", "tokenizer", "vocabulary"):
        # Besides the counts, which follow from it, nothing else is named.
        others = [p for p in found if not p.startswith("token_counts") and not any(t in p for t in expected)]
        assert others == []


def test_every_problem_is_counted_and_the_first_are_named(corpus):
    rewrite(corpus / "shard_00001.bin", lambda tokens: tokens.__setitem__(slice(20, 120), 60000))
    change_one_token(corpus)
    result = verify_corpus(corpus, workers=1, limit=3)
    lines = list(result.lines())
    assert sum("is the id 60000" in line for line in lines) == 3
    assert any("97 more of: id" in line for line in lines)
    assert any("has the hash" in line for line in lines) and result.problems.count > 100
    assert any(line.startswith("problem:") for line in lines) and "problems" in lines[-1]


def test_counts_of_sources_add_up(corpus):
    sources = orjson.loads((corpus / "manifest.json").read_bytes())["sources"]
    assert sum(source["documents"] for source in sources) == 400
    sources[0]["documents"] += 7
    edit_manifest(corpus, sources=sources)
    assert problems(corpus) == ["manifest.json: its sources have 407 documents in all; the corpus has 400"]


def test_a_file_that_shrinks_while_it_is_read_is_a_problem(corpus, monkeypatch):
    from data_prep.corpus import shard_check

    def opened(prefix: Path) -> ShardReader:
        reader = ShardReader(prefix)
        if prefix.name == "shard_00000":
            for kind in ("bin", "idx"):
                path = prefix.with_name(f"{prefix.name}.{kind}")
                path.write_bytes(path.read_bytes()[:-100])
        return reader

    monkeypatch.setattr(shard_check, "ShardReader", opened)
    found = problems(corpus)
    assert any("shard_00000.idx: ends after" in problem for problem in found), found
    assert not any("shard_00001" in problem for problem in found)


def test_many_shards_are_counted_not_listed(corpus, monkeypatch):
    from data_prep.corpus_tools import verification

    monkeypatch.setattr(verification, "_SHOWN_SHARDS", 1)
    assert "2 shards without a problem" in list(verify_corpus(corpus, workers=1).lines())


def test_files_that_nothing_reads_are_noted(corpus):
    shutil.copy(corpus / "shard_00000.bin", corpus / "shard_00099.bin")
    result = verify_corpus(corpus, workers=1)
    assert result.problems.count == 0 and any("shard_00099.bin is not in the manifest" in n for n in result.notes)


def test_what_is_no_corpus_is_one_error(tmp_path, corpus):
    with pytest.raises(DataError, match="there is no such corpus"):
        verify_corpus(tmp_path / "nothing")
    (corpus / "manifest.json").write_text("{")
    with pytest.raises(DataError, match="is not JSON"):
        verify_corpus(corpus)


def test_sentences_that_the_manifest_does_not_know_are_named(tmp_path, tokenizer_path):
    path = write_corpus(tmp_path / "c", tokenizer_path, [[["one", "two"], ["three"]]])
    assert problems(path) == []
    edit_manifest(path, sentences=False)
    (found,) = problems(path)
    assert found.startswith("shard_00000.idx: has 3 sequences in 2 documents")


def test_metadata_is_held_against_its_hash(tmp_path, tokenizer_path):
    path = write_corpus(tmp_path / "c", tokenizer_path, [[["one"], ["two"]]])
    merge_corpora([Corpus.open(path)], tmp_path / "m", 1 << 40)
    assert problems(tmp_path / "m") == []
    metadata = tmp_path / "m" / "shard_00000.meta.jsonl"
    metadata.write_bytes(metadata.read_bytes().replace(b"t1", b"t2"))
    assert len(found := problems(tmp_path / "m")) == 1 and "shard_00000.meta.jsonl: has the hash" in found[0]
    metadata.unlink()
    assert problems(tmp_path / "m") == ["shard_00000.meta.jsonl: is missing"]
