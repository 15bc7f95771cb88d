import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from configs.load import RECIPES, load_config
from data_prep.build_config import BuildConfig
from data_prep.cleaning.config import CleanConfig
from data_prep.cli import _tidy_when_stopped
from data_prep.config import SampleCorpusConfig, TokenizeConfig, TokenizerConfig


def next_of(out: str) -> list[str]:
    return shlex.split(out.splitlines()[-1].removeprefix("next: python -m data_prep "))


def test_the_way_from_text_to_a_corpus(run, tmp_path, text_file, texts):
    folder = tmp_path / "my corpora"
    status, out, err = run("train-tokenizer", "--input", text_file, "--output", folder / "tokenizer", "vocab_size=420")
    assert (status, err) == (0, "") and "bpe, 420 ids" in out
    status, out, err = run(*next_of(out), "--workers", 1)
    assert (
        status == 0 and err.startswith("engine: using ") and err.count("\n") == 1 and f"{len(texts)} documents" in out
    )
    status, out, err = run(*next_of(out))
    assert (status, out.rstrip(), err) == (0, texts[0].rstrip(), "")
    status, out, _ = run("inspect", folder / "corpus")
    assert status == 0 and "nats per token" in out
    status, out, _ = run("verify", folder / "corpus")
    assert status == 0 and "hashes as written" in out


def test_the_pretraining_that_is_named_fits_the_corpus(run, tmp_path, text_file, tokenizer_path):
    roles = ["special_tokens.mask=[MASK]", "special_tokens.classification=[CLS]", "special_tokens.separator=[SEP]"]
    given = ("train-tokenizer", "--input", text_file, "--output", tmp_path / "encoder", "vocab_size=420")
    assert run(*given, *(text.replace("[", "'[").replace("]", "]'") for text in roles))[0] == 0
    for tokenizer, settings, recipe in (
        (tmp_path / "encoder", ["sentences=true", "append_end_of_document=false"], "bert-tiny"),
        (tmp_path / "encoder", [], "gpt-tiny"),
        (tokenizer_path, ["sentences=true"], "gpt-tiny"),
    ):
        output = tmp_path / f"a corpus {len(settings)} {tokenizer.name}"
        paths = ("--input", text_file, "--output", output, "--tokenizer", tokenizer, "--workers", 1)
        status, out, _ = run("tokenize", *paths, *settings)
        assert status == 0
        assert f"train: deepspeed pretrain/main.py --config {recipe} data.train='{output}'\n" in out


def test_sample_corpus_names_the_next_command(run, tmp_path):
    arguments = ("--config", "sample-corpus", "--max-bytes", 50_000)
    status, out, err = run("sample-corpus", "--output", tmp_path / "text.jsonl", *arguments)
    assert (status, err) == (0, "")
    assert out.splitlines()[-1].startswith("next: python -m data_prep train-tokenizer --config tokenizer-bpe-8k")
    assert str(tmp_path / "text.jsonl") in out


def test_the_next_command_reads_the_same_documents(run, tmp_path):
    (tmp_path / "a b.txt").write_text("one two three\n" * 99)
    arguments = ("--output", tmp_path / "t", "--algorithm", "char", "vocab_size=300", "text_documents=line")
    _, out, _ = run("train-tokenizer", "--input", tmp_path / "a b.txt", *arguments)
    status, out, err = run(*next_of(out))
    assert status == 0 and err.startswith("engine: using ") and out.startswith("99 documents")


def test_print_config_is_a_config(run, tmp_path):
    arguments = [
        "--input",
        "a: b.jsonl",
        "--input",
        "c.txt",
        "--output",
        tmp_path / "c",
        "--tokenizer",
        "t",
        "workers=3",
    ]
    status, out, _ = run("tokenize", *arguments, "--print-config")
    (tmp_path / "c.yaml").write_text(out)
    again = load_config(TokenizeConfig, tmp_path / "c.yaml")
    assert status == 0 and not (tmp_path / "c").exists()
    assert (again.input, again.workers, again.output) == (["a: b.jsonl", "c.txt"], 3, tmp_path / "c")


@pytest.mark.parametrize("name", ["e😀", "a\u2028b\x85c\x7f", 'it\'s "\\U0001F600"'])
def test_any_character_in_an_option(run, tmp_path, name):
    status, out, err = run(
        "tokenize", "--input", name, "--output", tmp_path / name, "--tokenizer", "t", "--print-config"
    )
    found = yaml.safe_load(out)
    assert (status, err) == (0, "") and (found["input"], found["output"]) == ([name], str(tmp_path / name))
    status, out, err = run("mix", "--corpus", f"corpus={tmp_path / name}", "--budget", "3M", "--print-config")
    assert (status, err) == (0, "") and yaml.safe_load(out)["corpora"][0]["corpus"] == str(tmp_path / name)


def test_an_option_and_an_override_win_over_the_recipe(run):
    _, out, _ = run("train-tokenizer", "--config", "tokenizer-bpe-8k", "--vocab-size", 999, "seed_is_unknown=1")
    assert out == ""
    _, out, _ = run("train-tokenizer", "--config", "tokenizer-bpe-8k", "--vocab-size", 999, "--print-config",
                    "special_tokens.sentinels=2")  # fmt: skip
    printed = yaml.safe_load(out)
    assert printed["vocab_size"] == 999 and printed["special_tokens"]["sentinels"] == 2


CLASSES = {
    "build": BuildConfig,
    "clean": CleanConfig,
    "sample": SampleCorpusConfig,
    "tokenizer": TokenizerConfig,
    "tokenize": TokenizeConfig,
}


@pytest.mark.parametrize("recipe", sorted((RECIPES / "data_prep").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_loads(recipe):
    assert load_config(CLASSES[recipe.stem.split("-")[0]], recipe)


def test_every_setting_says_what_it_is():
    for cls in CLASSES.values():
        for name, field in cls.model_fields.items():
            assert field.description, f"{cls.__name__}.{name}"


MISTAKES = {
    "unknown command": (["tokenise"], "No such command 'tokenise'"),
    "unknown option": (["tokenize", "--inptu", "x"], "No such option"),
    "unknown key": (["tokenize", "--tokenizer", "t", "-i", "x", "-o", "c", "worker=2"], "did you mean workers?"),
    "wrong type": (["tokenize", "--tokenizer", "t", "-i", "x", "-o", "c", "workers=many"], "workers = 'many'"),
    "out of range": (["tokenize", "--tokenizer", "t", "-i", "x", "-o", "c", "workers=0"], "workers = 0"),
    "not an override": (["tokenize", "text.jsonl"], "'text.jsonl' is not an override"),
    "missing setting": (["tokenize", "--input", "x"], "tokenizer is missing"),
    "unknown recipe": (["train-tokenizer", "--config", "tokenizer-bpe-8"], "did you mean: tokenizer-bpe-8k"),
    "wrong algorithm": (["train-tokenizer", "-i", "x", "-o", "t", "--algorithm", "bpm"], "did you mean bpe?"),
    "two sizes": (["sample-corpus", "-o", "x", "min_bytes=9", "max_bytes=3"], "min_bytes = 9 is above max_bytes = 3"),
    "no input": (["train-tokenizer", "-i", "nothing.txt", "-o", "t"], "nothing.txt: there is no such input"),
    "no tokenizer": (
        ["tokenize", "-i", "x", "-o", "c", "--tokenizer", "nothing"],
        "nothing: there is no such tokenizer",
    ),
    "no corpus": (["inspect", "nothing"], "nothing: there is no such corpus"),
    "verify no corpus": (["verify", "nothing"], "nothing: there is no such corpus"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_message_and_status_2(run, tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    arguments, expected = MISTAKES[case]
    status, out, err = run(*arguments)
    assert status == 2 and out == ""
    assert expected in " ".join(err.replace("│", " ").split()) and "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--help"], ["tokenize", "--help"], ["tokenize", "worker=2"], ["inspect", "x"]])
def test_help_and_mistakes_import_little(tmp_path, arguments):
    command = [sys.executable, "-X", "importtime", "-m", "data_prep", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    imported = {
        line.rsplit("|", 1)[-1].strip() for line in result.stderr.splitlines() if line.startswith("import time")
    }
    assert "configs.load" in imported
    assert not imported & {"torch", "transformers", "datasets", "pyarrow", "sentencepiece", "deepspeed", "megatron"}


def test_the_room_imports_no_torch_and_no_later_room():
    import data_prep

    root = Path(data_prep.__file__).parent
    for path in root.rglob("*.py"):
        for line in path.read_text().splitlines():
            words = line.split()
            if words[:1] in (["import"], ["from"]):
                assert words[1].split(".")[0] not in {
                    "torch",
                    "pretrain",
                    "finetune",
                    "cluster",
                    "deepspeed",
                    "megatron",
                }


def test_the_end_of_a_forked_process_is_not_told_as_that_of_the_command(capfd):
    """As datatrove ends the one that extracts text, with the signal that stops a command."""
    with _tidy_when_stopped():
        child = os.fork()
        if not child:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 128 + signal.SIGTERM
    assert capfd.readouterr().err == ""
