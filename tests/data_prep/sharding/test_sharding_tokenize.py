import errno
import filecmp
import gzip
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_prep_helpers import write_jsonl

from configs.errors import DataError, MachineError
from data_prep.config import TokenizeConfig
from data_prep.corpus import Corpus
from data_prep.corpus.manifest import CorpusManifest
from data_prep.corpus_tools.verification import verify_corpus
from data_prep.sharding import encoding, finishing, tokenization
from data_prep.sharding.tokenization import tokenize
from data_prep.storage import durable
from data_prep.tokenizer import load_tokenizer


def config_for(source: Path, tokenizer: Path, output: Path, **settings) -> TokenizeConfig:
    base = {"input": [str(source)], "workers": 1}
    return TokenizeConfig(tokenizer=tokenizer, output=output, **(base | settings))


def documents_of(corpus: Corpus) -> list[list[int]]:
    return [shard.document(n).tolist() for shard in corpus.shards for n in range(shard.num_documents)]


def files_of(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def test_every_document_ends_with_its_id_and_decodes_to_its_text(tmp_path, text_file, texts, tokenizer_path):
    result = tokenize(config_for(text_file, tokenizer_path, tmp_path / "c"))
    corpus, tokenizer = Corpus.open(tmp_path / "c"), load_tokenizer(tmp_path / "c" / "tokenizer")
    documents = documents_of(corpus)
    assert [tokenizer.decode(document) for document in documents] == texts
    assert {document[-1] for document in documents} == {tokenizer.role("end_of_document")}
    assert corpus.manifest == result.manifest
    assert corpus.num_documents == len(texts) == result.manifest.documents
    assert corpus.text_bytes == sum(len(text.encode()) for text in texts)
    assert corpus.text_bytes == int(corpus.token_counts() @ tokenizer.token_bytes().astype(np.int64))
    assert corpus.tokenizer_fingerprint == tokenizer.fingerprint and corpus.vocab_size == tokenizer.vocab_size


def test_any_number_of_workers_writes_the_same_bytes(tmp_path, text_file, tokenizer_path):
    for workers in (1, 2, 3):
        tokenize(config_for(text_file, tokenizer_path, tmp_path / str(workers), workers=workers, work_unit_bytes=5000))
    first = files_of(tmp_path / "1")
    assert len([name for name in first if name.endswith(".bin")]) > 1
    assert files_of(tmp_path / "2") == first and files_of(tmp_path / "3") == first


def test_shards_and_units_change_the_files_not_the_documents(tmp_path, text_file, tokenizer_path):
    tokenize(config_for(text_file, tokenizer_path, tmp_path / "one"))
    tokenize(config_for(text_file, tokenizer_path, tmp_path / "many", work_unit_bytes=2000))
    one, many = Corpus.open(tmp_path / "one"), Corpus.open(tmp_path / "many")
    assert len(one.shards) == 1 and len(many.shards) > 5
    assert documents_of(one) == documents_of(many)
    assert np.array_equal(one.token_counts(), many.token_counts())
    assert one.fingerprint != many.fingerprint


def test_all_formats_make_the_same_tokens(tmp_path, texts, tokenizer_path):
    import datasets

    texts = [text for text in texts if text][:50]
    jsonl = write_jsonl(tmp_path / "t.jsonl", texts)
    (tmp_path / "t.jsonl.gz").write_bytes(gzip.compress(jsonl.read_bytes()))
    pq.write_table(pa.table({"text": texts}), tmp_path / "t.parquet")
    datasets.Dataset.from_dict({"text": texts}).save_to_disk(tmp_path / "saved")
    (tmp_path / "txt").mkdir()
    for number, text in enumerate(texts):
        (tmp_path / "txt" / f"{number:03}.txt").write_bytes(text.encode())
    hashes = set()
    for name in ("t.jsonl", "t.jsonl.gz", "t.parquet", "saved", "txt"):
        result = tokenize(config_for(tmp_path / name, tokenizer_path, tmp_path / "out" / name))
        hashes.add((result.manifest.shards[0].bin_xxh3, result.manifest.shards[0].idx_xxh3))
    assert len(hashes) == 1


def test_left_out_records_are_counted(tmp_path, tokenizer_path):
    (tmp_path / "t.jsonl").write_bytes(b'{"text": "a"}\n{"text": ""}\n{\n{"text": "b"}\n')
    config = config_for(tmp_path / "t.jsonl", tokenizer_path, tmp_path / "c", max_malformed_share=0.2)
    with pytest.raises(DataError, match=r"1 of 4 records cannot be read:\n- .*t.jsonl, byte 27: is not valid JSON"):
        tokenize(config)
    # The share is not part of what was planned: only the end of the work is left to do.
    result = tokenize(config.model_copy(update={"max_malformed_share": 0.25}))
    assert result.made == 0
    assert (result.manifest.documents, result.manifest.empty_documents, result.manifest.malformed_records) == (2, 1, 1)
    assert "1 empty, 1 malformed" in "\n".join(tokenization.summarize_tokenization(result, tmp_path / "c"))


@pytest.mark.parametrize("change", ["overwritten", "cut short"])
def test_a_file_that_changes_while_it_is_read_is_no_corpus(tmp_path, texts, tokenizer_path, monkeypatch, change):
    write_jsonl(tmp_path / "text.jsonl", texts)
    read = encoding.read_batches

    def read_and_change(*arguments):
        for batch in read(*arguments):
            yield batch
            data = (tmp_path / "text.jsonl").read_bytes()
            (tmp_path / "text.jsonl").write_bytes(data if change == "overwritten" else data[: len(data) // 2])

    monkeypatch.setattr(encoding, "read_batches", read_and_change)
    with pytest.raises(DataError, match=r"text.jsonl: was changed while it is being read"):
        tokenize(config_for(tmp_path / "text.jsonl", tokenizer_path, tmp_path / "corpus", workers=1))
    assert not (tmp_path / "corpus").exists()


def test_without_end_of_document(tmp_path, text_file, texts, tokenizer_path):
    tokenize(config_for(text_file, tokenizer_path, tmp_path / "c", append_end_of_document=False))
    corpus = Corpus.open(tmp_path / "c")
    assert documents_of(corpus) == load_tokenizer(tokenizer_path).encode_batch(texts)
    assert corpus.manifest is not None and corpus.manifest.end_of_document is None


def test_an_error_in_a_worker_leaves_nothing_behind(tmp_path, tokenizer_path):
    source = tmp_path / "in" / "t.jsonl"
    source.parent.mkdir()
    source.write_bytes(b'{"text": "some words"}\n' * 500 + b"{\n")
    for workers in (1, 2):
        with pytest.raises(DataError, match="line 501: is not valid JSON"):
            tokenize(config_for(source, tokenizer_path, tmp_path / "out" / "c", workers=workers, malformed="stop"))
        assert list((tmp_path / "out").iterdir()) == []


def test_text_that_is_all_empty_is_refused(tmp_path, tokenizer_path):
    (tmp_path / "t.jsonl").write_bytes(b'{"text": ""}\n')
    with pytest.raises(DataError, match="there is no text in any document"):
        tokenize(config_for(tmp_path / "t.jsonl", tokenizer_path, tmp_path / "c"))
    assert not (tmp_path / "c").exists()


def test_an_existing_output_is_replaced_only_on_demand(tmp_path, text_file, tokenizer_path):
    config = config_for(text_file, tokenizer_path, tmp_path / "c")
    tokenize(config)
    before = files_of(tmp_path / "c")
    assert tokenize(config).made == 0 and files_of(tmp_path / "c") == before
    changed = config.model_copy(update={"append_end_of_document": False})
    with pytest.raises(DataError, match=r"append_end_of_document was True, is False(.|\n)*--overwrite"):
        tokenize(changed)
    assert files_of(tmp_path / "c") == before
    tokenize(config.model_copy(update={"overwrite": True, "append_end_of_document": False}))
    assert files_of(tmp_path / "c") != before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(DataError, match="holds other things"):
        tokenize(config.model_copy(update={"overwrite": True, "output": tmp_path / "mine"}))
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"


def test_an_output_that_cannot_be_written(tmp_path, text_file, tokenizer_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(MachineError, match="cannot be written: Not a directory"):
        tokenize(config_for(text_file, tokenizer_path, tmp_path / "file" / "c"))
    with pytest.raises(DataError, match="exists and is not a directory"):
        tokenize(config_for(text_file, tokenizer_path, tmp_path / "file"))


def test_an_output_within_the_input_is_taken_up_again(tmp_path, texts, tokenizer_path, monkeypatch):
    write_jsonl(tmp_path / "in" / "a.jsonl", texts)
    config = config_for(tmp_path / "in", tokenizer_path, tmp_path / "in" / "corpus")
    monkeypatch.setattr(tokenization, "finish", lambda work, config: None)
    tokenize(config)
    assert (tmp_path / "in" / "corpus.partial" / "plan.json").is_file()
    monkeypatch.undo()
    for made in (1, 0):
        result = tokenize(config)
        assert (result.manifest.documents, result.made, len(result.manifest.sources)) == (len(texts), 0, 1), made


@pytest.mark.parametrize("workers", [1, 2])
def test_a_disk_that_takes_no_more(tmp_path, text_file, tokenizer_path, workers):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))
    try:
        # As on a full disk, a write in the middle of the work fails.
        with pytest.raises(MachineError, match="cannot be written: File too large"):
            tokenize(config_for(text_file, tokenizer_path, tmp_path / "out" / "c", workers=workers))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list((tmp_path / "out").iterdir()) == []


def test_what_was_finished_before_the_disk_was_full_is_kept(tmp_path, text_file, tokenizer_path):
    config = config_for(text_file, tokenizer_path, tmp_path / "out" / "c", work_unit_bytes=5000)
    original, shards = encoding.ShardWriter.__enter__, []

    def enter(writer):
        shards.append(writer)
        if len(shards) == 3:
            with durable.writing(writer.prefix):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(writer)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(MachineError, match="No space left on device"):
        patch.setattr(encoding.ShardWriter, "__enter__", enter)
        tokenize(config)
    partial = tmp_path / "out" / "c.partial"
    assert [p.name for p in sorted(partial.glob("*.idx"))] == ["shard_00000.idx", "shard_00001.idx"]
    with pytest.raises(DataError, match=r"c.partial: is not finished(.|\n)*run the same `tokenize` again"):
        Corpus.open(tmp_path / "out" / "c")
    result = tokenize(config)
    assert result.made == result.shards - 2
    tokenize(config.model_copy(update={"output": tmp_path / "whole"}))
    assert files_of(tmp_path / "out" / "c") == files_of(tmp_path / "whole")
    assert not partial.exists()


@pytest.mark.parametrize("records_left", [True, False])
def test_a_kill_while_the_corpus_gets_its_name_changes_nothing(tmp_path, text_file, tokenizer_path, records_left):
    config = config_for(text_file, tokenizer_path, tmp_path / "out" / "c", work_unit_bytes=5000)
    tokenize(config.model_copy(update={"output": tmp_path / "whole"}))
    partial = tmp_path / "out" / "c.partial"

    class Killed(BaseException):
        pass

    def kill(*arguments, **options):
        raise Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        if records_left:
            patch.setattr(finishing.shutil, "rmtree", kill)
        patch.setattr(finishing, "publish_directory", kill)
        tokenize(config)
    assert (partial / "manifest.json").is_file() and (partial / "finished").exists() == records_left
    # As a kill in the middle of writing these leaves them.
    for name in (".plan.json.tmp-0123", ".token_counts.npy.tmp-4567", ".manifest.json.tmp-89ab"):
        (partial / name).write_bytes(b"half")
    result = tokenize(config)
    assert result.made == 0 and not partial.exists()
    assert files_of(tmp_path / "out" / "c") == files_of(tmp_path / "whole")


def test_a_tokenizer_without_end_of_document(tmp_path, text_file, texts):
    from sentencepiece import SentencePieceTrainer

    prefix = tmp_path / "bare"
    SentencePieceTrainer.train(
        sentence_iterator=iter([t.replace("\t", " ") for t in texts]), model_prefix=str(prefix), vocab_size=200,
        model_type="char", hard_vocab_limit=False, eos_id=-1, minloglevel=2,
    )  # fmt: skip
    with pytest.raises(DataError, match="no end-of-document token"):
        tokenize(config_for(text_file, prefix.with_suffix(".model"), tmp_path / "c"))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_leaves_no_corpus_and_no_workers(tmp_path, texts, tokenizer_path, number):
    source = write_jsonl(tmp_path / "t.jsonl", [text * 20 for text in texts] * 40)
    output = tmp_path / "out" / "c"
    command = [sys.executable, "-m", "data_prep", "tokenize", "--input", str(source), "--tokenizer"]
    command += [str(tokenizer_path), "--output", str(output), "workers=2", "work_unit_bytes=100000"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    deadline_s = time.monotonic() + 30
    while not list(tmp_path.glob("out/c.partial/finished/*.json")) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    process.send_signal(number)
    _, message = process.communicate(timeout=60)
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
    assert not output.exists()
    with pytest.raises(DataError, match=r"c.partial: is not finished"):
        Corpus.open(output)
    if number != signal.SIGKILL:
        assert process.returncode == 128 + number
        assert message.splitlines()[-1] == f"stopped by {number.name}; what is finished stays"
    # The same command does what is missing.
    assert subprocess.run(command, stdout=subprocess.DEVNULL).returncode == 0
    assert [path.name for path in output.parent.iterdir()] == ["c"]
    assert not verify_corpus(output, workers=1).problems.count


def test_the_manifest_survives_being_written(tmp_path, text_file, tokenizer_path):
    manifest = tokenize(config_for(text_file, tokenizer_path, tmp_path / "c")).manifest
    (tmp_path / "copy").mkdir()
    manifest.write(tmp_path / "copy")
    assert CorpusManifest.read(tmp_path / "copy") == manifest
    assert filecmp.cmp(tmp_path / "copy" / "manifest.json", tmp_path / "c" / "manifest.json", shallow=False)
