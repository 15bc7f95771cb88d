"""Whoever makes the shards, however often they are killed: the same corpus."""

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import orjson
import pytest
from data_prep_helpers import write_jsonl

from configs.errors import DataError
from data_prep.config import TokenizeConfig
from data_prep.corpus import Corpus
from data_prep.parallel.executor import launcher_of, slurm_share
from data_prep.sharding.planning import begin
from data_prep.sharding.shard_record import lock_path
from data_prep.sharding.tokenization import summarize_tokenization, tokenize
from data_prep.storage.locks import locked
from data_prep.tokenizer import load_tokenizer
from tests.data_prep import kill_and_rerun


def config_for(source, tokenizer, output, **settings) -> TokenizeConfig:
    return TokenizeConfig(input=[str(source)], tokenizer=tokenizer, output=output, **({"workers": 1} | settings))


def files_of(directory):
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def test_who_runs_the_work_is_read_from_the_environment():
    assert launcher_of("auto", {}) == "processes"
    assert launcher_of("auto", {"OMPI_COMM_WORLD_SIZE": "1", "SLURM_JOB_ID": "3"}) == "processes"
    assert launcher_of("auto", {"OMPI_COMM_WORLD_SIZE": "3"}) == "mpi"
    array = {"SLURM_ARRAY_TASK_ID": "6", "SLURM_ARRAY_TASK_MIN": "4", "SLURM_ARRAY_TASK_COUNT": "4"}
    assert launcher_of("auto", array) == "slurm" and slurm_share(array) == (2, 4)
    step = {"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "3"}
    assert launcher_of("auto", step) == "slurm" and slurm_share(step) == (2, 3)
    assert launcher_of("processes", array) == "processes"


def test_a_shard_that_another_process_makes_is_left_to_it(tmp_path, text_file, tokenizer_path):
    config = config_for(text_file, tokenizer_path, tmp_path / "c", work_unit_bytes=5000)
    work = begin(config)
    code = (
        "import sys; from pathlib import Path; from data_prep.storage.locks import locked\n"
        "with locked(Path(sys.argv[1])) as mine: print(mine, flush=True); input()"
    )
    lock = lock_path(work.partial, "shard_00001")
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout.readline() == "True\n"
        with locked(lock) as mine:
            assert not mine
        result = tokenize(config)
        assert result.manifest is None and result.made == result.shards - 1
        assert "other processes are at work" in summarize_tokenization(result, config.output)[0]
        assert not config.output.exists()
    finally:
        other.kill()
        other.wait()
    # The lock went with the process that held it.
    result = tokenize(config)
    assert result.made == 1 and Corpus.open(config.output).num_documents == result.manifest.documents


@pytest.mark.slow
def test_ranks_of_mpi_write_the_bytes_of_one_process(tmp_path, text_file, tokenizer_path):
    tokenize(config_for(text_file, tokenizer_path, tmp_path / "one", work_unit_bytes=5000))
    mpirun = str(Path(sys.executable).with_name("mpirun"))
    command = [mpirun, "--allow-run-as-root", "--oversubscribe", "-n", "3", sys.executable, "-m", "data_prep"]
    command += ["tokenize", "--input", str(text_file), "--tokenizer", str(tokenizer_path)]
    done = subprocess.run(
        [*command, "--output", str(tmp_path / "mpi"), "work_unit_bytes=5000"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert files_of(tmp_path / "mpi") == files_of(tmp_path / "one")
    assert done.stdout.count("documents,") == 1, "one rank speaks"
    bad = [*command, "--output", str(tmp_path / "bad"), "text_field=txt", "malformed=stop"]
    done = subprocess.run(bad, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "has no field 'txt'" in done.stderr
    assert not (tmp_path / "bad").exists()


@pytest.mark.slow
def test_kills_change_nothing(tmp_path):
    assert kill_and_rerun.run(kills=6, seed=1, size_bytes=8_000_000, directory=tmp_path) == 0


def test_a_changed_input_is_refused_with_the_difference(tmp_path, texts, tokenizer_path):
    for name in ("a", "b", "c"):
        write_jsonl(tmp_path / "in" / f"{name}.jsonl", texts)
    config = config_for(tmp_path / "in", tokenizer_path, tmp_path / "corpus")
    tokenize(config)
    write_jsonl(tmp_path / "in" / "a.jsonl", texts[1:])
    (tmp_path / "in" / "b.jsonl").unlink()
    write_jsonl(tmp_path / "in" / "d.jsonl", texts)
    (tmp_path / "in" / "c.jsonl").touch()
    before = files_of(config.output)
    with pytest.raises(DataError) as error:
        tokenize(config)
    message = str(error.value)
    assert "a.jsonl had" in message and "b.jsonl is not among the input any more" in message
    assert "c.jsonl was written again since" in message and "d.jsonl is new" in message
    assert files_of(config.output) == before
    tokenize(config.model_copy(update={"overwrite": True}))
    assert Corpus.open(config.output).num_documents == 3 * len(texts) - 1


def test_metadata_lies_beside_the_documents(tmp_path, tokenizer_path):
    rows = [{"text": f"text {n}" if n % 5 else "", "id": f"d{n}", "lang": "de", "n": n} for n in range(50)]
    del rows[7]["lang"], rows[8]["id"]
    (tmp_path / "t.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    config = config_for(
        tmp_path / "t.jsonl", tokenizer_path, tmp_path / "c", metadata_fields=["lang"], work_unit_bytes=700
    )
    tokenize(config)
    corpus = Corpus.open(tmp_path / "c")
    lines = [line for s in corpus.shards for line in (s.prefix.with_name(s.prefix.name + ".meta.jsonl")).open("rb")]
    found = [orjson.loads(line) for line in lines]
    kept = [row for row in rows if row["text"]]
    assert len(found) == corpus.num_documents == len(kept)
    assert [f["id"] for f in found if not f["id"].startswith("t.jsonl@")] == [r["id"] for r in kept if "id" in r]
    assert [f.get("lang") for f in found] == [r.get("lang") for r in kept]
    source = corpus.manifest.sources[0]
    assert (source.documents, source.tokens) == (corpus.num_documents, corpus.num_tokens)
    assert source.text_bytes == corpus.text_bytes


def test_sentence_borders_are_kept_and_nothing_is_lost(tmp_path, tokenizer_path):
    texts = [
        "One sentence. Another one!  And a third?",
        "no end",
        "  Somebody came.\n\nNew paragraph. ",
        "日本語です。文です。",
    ]
    write_jsonl(tmp_path / "t.jsonl", texts)
    tokenize(config_for(tmp_path / "t.jsonl", tokenizer_path, tmp_path / "c", sentences=True))
    tokenizer, corpus = load_tokenizer(tokenizer_path), Corpus.open(tmp_path / "c")
    (shard,) = corpus.shards
    assert [tokenizer.decode(shard.document(n)) for n in range(4)] == texts
    end = tokenizer.role("end_of_document")
    assert [int((shard.document(n) == end).sum()) for n in range(4)] == [1] * 4
    bounds = shard._index.document_bounds
    assert np.diff(bounds).tolist() == [3, 1, 2, 2]
    first = shard.tokens[: shard._index.sequence_lengths[0]]
    assert tokenizer.decode(first) == "One sentence. "


@pytest.mark.slow
def test_megatron_reads_every_shard(tmp_path, text_file, texts, tokenizer_path):
    indexed_dataset = pytest.importorskip("megatron.core.datasets.indexed_dataset")
    tokenizer = load_tokenizer(tokenizer_path)
    for sentences in (False, True):
        output = tmp_path / str(sentences)
        tokenize(config_for(text_file, tokenizer_path, output, work_unit_bytes=5000, sentences=sentences))
        decoded = []
        for shard in Corpus.open(output).shards:
            theirs = indexed_dataset.IndexedDataset(str(shard.prefix))
            bounds = theirs.document_indices
            for first, last in itertools.pairwise(bounds):
                decoded.append(tokenizer.decode(np.concatenate([theirs[n] for n in range(first, last)])))
        assert decoded == texts


def test_both_engines_write_the_same_bytes_and_say_who_made_them(tmp_path, text_file, tokenizer_path, capsys):
    from data_prep_helpers import trained

    tokenize(config_for(text_file, tokenizer_path, tmp_path / "reference", engine="reference"))
    assert "engine: using sentencepiece alone, as asked" in capsys.readouterr().err
    result = tokenize(config_for(text_file, tokenizer_path, tmp_path / "fast"))
    assert "engine: using sentencepiece with a memory of words" in capsys.readouterr().err
    assert result.manifest.engine == "auto"
    for name in ("shard_00000.bin", "shard_00000.idx", "token_counts.npy"):
        assert (tmp_path / "fast" / name).read_bytes() == (tmp_path / "reference" / name).read_bytes()
    trained(text_file, tmp_path / "unigram", "unigram")
    tokenize(config_for(text_file, tmp_path / "unigram", tmp_path / "slow"))
    assert "engine: using sentencepiece alone: only a BPE" in capsys.readouterr().err


def test_an_engine_of_earlier_versions_is_told_kindly(text_file, tokenizer_path, tmp_path, capsys):
    assert config_for(text_file, tokenizer_path, tmp_path / "c", engine="kitoken").engine == "auto"
    assert "kitoken is not used any more" in capsys.readouterr().err


@pytest.mark.slow
def test_the_ids_are_sentencepieces_own(tmp_path, text_file, tokenizer_path):
    tokenize(config_for(text_file, tokenizer_path, tmp_path / "c", work_unit_bytes=5000))
    command = [sys.executable, "-W", "ignore", "-m", "tests.data_prep.same_ids", "--corpus", str(tmp_path / "c")]
    done = subprocess.run([*command, "--input", str(text_file)], capture_output=True, text=True)
    assert done.returncode == 0 and "400 of 400 documents" in done.stdout, done.stdout + done.stderr
    other = write_jsonl(tmp_path / "other.jsonl", ["another text"] * 400)
    done = subprocess.run([*command, "--input", str(other)], capture_output=True, text=True)
    assert done.returncode == 1 and "other ids than SentencePiece's" in done.stdout
