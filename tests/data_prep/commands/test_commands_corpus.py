import json
from pathlib import Path

import numpy as np
import pytest
from data_prep_helpers import make_text
from sentence_corpora import write_corpus

from data_prep.corpus.shard_writer import ShardWriter


@pytest.fixture(scope="module")
def made(tmp_path_factory, tokenizer_path) -> Path:
    texts = [[[make_text(n)] for n in range(first, first + 150)] for first in (0, 150)]
    return write_corpus(tmp_path_factory.mktemp("commands") / "corpus", tokenizer_path, texts)


@pytest.fixture
def corpus(made: Path, tmp_path: Path) -> Path:
    import shutil

    return shutil.copytree(made, tmp_path / "corpus")


def test_verify_says_what_is_right_and_ends_with_2_where_something_is_not(run, corpus):
    status, out, err = run("verify", corpus, "--workers", 1)
    assert (status, err) == (0, "") and out.count("hashes as written") == 2 and "all as it should be" in out
    (corpus / "shard_00001.bin").write_bytes(b"x" * 10)
    (corpus / "shard_00000.idx").unlink()
    status, out, err = run("verify", corpus, "--workers", 1)
    assert status == 2 and "Traceback" not in err
    assert "problem: " in out and "shard_00001.bin: holds 10 bytes" in out and "shard_00000.idx: is missing" in out
    assert err.startswith(f"error: {corpus}: has ") and "problems" in err


def test_verify_of_a_bare_prefix(run, tmp_path, tokenizer_path):
    with ShardWriter(tmp_path / "bare", np.dtype("<u2")) as writer:
        writer.add_document(np.array([5, 700, 2], dtype="<u2"))
    assert run("verify", tmp_path / "bare")[0] == 0
    status, out, _ = run("verify", tmp_path / "bare", "--tokenizer", tokenizer_path)
    assert status == 2 and "token 1 is the id 700, not in the vocabulary" in out
    assert run("verify", tmp_path / "bare", "--end-of-document", 2)[0] == 0
    status, out, _ = run("verify", tmp_path / "bare", "--end-of-document", 3)
    assert status == 2 and "document 0 does not end" in out


def test_inspect_shows_documents_samples_and_matches(run, corpus):
    status, out, _ = run("inspect", corpus)
    assert status == 0 and "nats per token" in out and "documents        300" in out
    status, out, _ = run("inspect", corpus, "--document", 7)
    assert status == 0 and out == f'metadata: {{"n":7,"title":"t7"}}\n{make_text(7)}\n'
    status, out, _ = run("inspect", corpus, "--document", 7, "--document", 200)
    assert status == 0 and out.count("== document") == 2 and make_text(200) in out
    status, out, _ = run("inspect", corpus, "--random", 3, "--seed", 5)
    assert (
        status == 0 and out.count("== document") == 3 and out == run("inspect", corpus, "--random", 3, "--seed", 5)[1]
    )
    status, out, _ = run("inspect", corpus, "--search", "\n299\t!", "--workers", 1)
    assert status == 0 and out.startswith("document 299 (shard_00001): ") and out.count("\n") == 1
    status, out, _ = run("inspect", corpus, "--search", "SCHÜLERIN", "--workers", 1)
    assert status == 0 and out == "no document contains 'SCHÜLERIN'\n"
    status, out, _ = run("inspect", corpus, "--search", "SCHÜLERIN", "--ignore-case", "--limit", 2, "--workers", 1)
    assert status == 0 and out.count("\n") == 3 and "the first 2 documents are shown" in out


@pytest.mark.slow
def test_stats_as_text_json_and_picture(run, corpus, tmp_path):
    status, out, err = run("stats", corpus, "--json", tmp_path / "s.json", "--plot", tmp_path / "s.png", "--top", 4)
    assert (status, err) == (0, "") and "most frequent ids" in out
    data = json.loads((tmp_path / "s.json").read_text())
    assert data["documents"] == 300 and len(data["top_tokens"]) == 4
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")


def test_mix_from_the_command_line_and_from_a_file(run, corpus, tmp_path):
    arguments = ("--corpus", f"{corpus},weight=1,max_epochs=9", "--output", tmp_path / "data.yaml")
    status, out, err = run("mix", "--budget", "30k", *arguments)
    assert (status, err) == (0, "") and "30,000 tokens" in out and f"written to {tmp_path}/data.yaml" in out
    assert (
        out.splitlines()[-1].startswith("next: deepspeed pretrain/main.py") and f"--config {tmp_path}/data.yaml" in out
    )
    status, printed, _ = run("mix", "--budget", "30k", *arguments, "--print-config")
    assert status == 0
    (tmp_path / "mix.yaml").write_text(printed)
    assert run("mix", "--config", tmp_path / "mix.yaml")[1] == out
    status, out, _ = run("mix", "--config", tmp_path / "mix.yaml", "--budget", "5B")
    assert status == 2 and out == ""
    status, out, _ = run("mix", "--budget", "30k", "--corpus", corpus)
    assert status == 0 and "data:\n  train:\n  - corpus:" in out and "'data.train=[{corpus: " in out
    status, same, err = run("mix", "--budget", "30k", "--source", f"path={corpus}")
    assert (status, same, err) == (0, out, "note: --source is called --corpus now\n")


def test_the_overrides_of_mix_are_a_config(run, corpus):
    import shlex

    from configs.load import find_recipe, load_config
    from pretrain.config import RunConfig

    out = run("mix", "--budget", "2M", "--corpus", corpus)[1]
    words = shlex.split(out.splitlines()[-1])
    overrides = [word for word in words if "=" in word and not word.startswith("-")]
    config = load_config(RunConfig, find_recipe("gpt-125m", "pretrain"), overrides)
    assert [str(entry.corpus) for entry in config.data.train] == [str(corpus)]
    assert (config.training.duration.value, config.training.duration.unit) == (2_000_000, "tokens")


def test_merge_and_verify(run, corpus, tmp_path):
    status, out, err = run("merge", corpus, tmp_path / "merged")
    assert (status, err) == (0, "") and "2 -> 1 shard\n" in out
    assert out.splitlines()[-1] == f"next: python -m data_prep verify {tmp_path}/merged"
    assert run("verify", tmp_path / "merged", "--workers", 1)[0] == 0
    status, out, _ = run("merge", corpus, tmp_path / "small", "--max-shard-bytes", 5000)
    assert status == 0 and " shards" in out
    assert run("merge", corpus, tmp_path / "merged")[0] == 2
    assert run("merge", corpus, tmp_path / "merged", "--overwrite")[0] == 0


def test_ngram_writes_its_figures_into_the_corpus(run, corpus, tmp_path):
    arguments = ("--split", 0.8, 0.1, 0.1, "--order", 3)
    status, out, err = run("ngram", corpus, *arguments)
    assert (status, err) == (0, "") and "best       order" in out and f"written    {corpus}/ngram.json" in out
    data = json.loads((corpus / "ngram.json").read_text())
    assert len(data["orders"]) == 3 and f"{data['orders'][1]['loss_nats']:.4f}" in out
    assert run("verify", corpus, "--workers", 1)[0] == 0
    before = (corpus / "ngram.json").read_bytes()
    status, out, _ = run("ngram", corpus, *arguments, "--max-tokens", 3000, "--json", tmp_path / "n.json")
    assert status == 0 and "an even sample" in out and (corpus / "ngram.json").read_bytes() == before


MISTAKES = {
    "inspect: no corpus": (["inspect", "nothing"], "nothing: there is no such corpus"),
    "inspect: no document": (["inspect", "CORPUS", "--document", "300"], "there is no document 300"),
    "inspect: empty search": (["inspect", "CORPUS", "--search", ""], "--search: is empty"),
    "inspect: none at random": (["inspect", "CORPUS", "--random", "0"], "--random"),
    "inspect: no tokenizer": (["inspect", "CORPUS/shard_00000", "--search", "x"], "has no tokenizer with it"),
    "verify: no corpus": (["verify", "nothing"], "nothing: there is no such corpus"),
    "verify: a directory": (["verify", "CORPUS/tokenizer"], "is not a corpus: it has no manifest.json"),
    "verify: no workers": (["verify", "CORPUS", "--workers", "0"], "--workers"),
    "verify: no tokenizer": (["verify", "CORPUS/shard_00000", "--tokenizer", "none"], "none: there is no such"),
    "stats: no corpus": (["stats", "nothing"], "nothing: there is no such corpus"),
    "stats: no picture": (["stats", "CORPUS", "--plot", "p.jpg"], "--plot: is 'p.jpg'"),
    "stats: no directory": (["stats", "CORPUS", "--json", "/proc/none/s.json"], "cannot be written"),
    "mix: no budget": (["mix", "--corpus", "CORPUS"], "budget is missing"),
    "mix: no corpora": (["mix", "--budget", "1M"], "corpora is missing"),
    "mix: no corpus": (["mix", "--budget", "1M", "--corpus", "nothing"], "nothing: there is no such corpus"),
    "mix: unknown setting": (["mix", "--budget", "1M", "--corpus", "CORPUS,max_epoch=1"], "did you mean: max_epochs"),
    "mix: not a number": (["mix", "--budget", "1M", "--corpus", "CORPUS,weight=much"], "corpora.0.weight = 'much'"),
    "mix: not a budget": (["mix", "--budget", "much", "--corpus", "CORPUS"], "'much tokens' is not a duration"),
    "mix: too little": (["mix", "--budget", "9B", "--corpus", "CORPUS,max_epochs=4"], "expected: at most"),
    "merge: no corpus": (["merge", "nothing", "out"], "nothing: there is no such corpus"),
    "merge: a prefix": (["merge", "CORPUS/shard_00000", "out"], "is a bare prefix"),
    "merge: onto itself": (["merge", "CORPUS", "CORPUS", "--overwrite"], "is the corpus that is merged"),
    "merge: no room": (["merge", "CORPUS", "out", "--max-shard-bytes", "0"], "--max-shard-bytes"),
    "ngram: no corpus": (["ngram", "nothing"], "nothing: there is no such corpus"),
    "ngram: order": (["ngram", "CORPUS", "--order", "12"], "--order"),
    "ngram: split": (["ngram", "CORPUS", "--split", "0.5", "0.1", "0.1"], "three shares that sum to 1"),
    "ngram: nothing held out": (["ngram", "CORPUS", "--split", "1", "0", "0"], "its validation part has no tokens"),
    "ngram: no validation": (["ngram", "CORPUS", "--validation", "none"], "none: there is no such corpus"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_message_and_status_2(run, corpus, monkeypatch, case):
    monkeypatch.chdir(corpus.parent)
    before = sorted(corpus.parent.rglob("*"))
    arguments, expected = MISTAKES[case]
    status, _, err = run(*(argument.replace("CORPUS", str(corpus)) for argument in arguments))
    assert status == 2 and "Traceback" not in err
    assert expected in " ".join(err.replace("│", " ").split()), err
    assert sorted(corpus.parent.rglob("*")) == before
