"""Generation: deterministic, equal with and without the cache, and clear about what it cannot do."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from configs.errors import ConfigError, DataError
from finetune.config import ExportConfig
from finetune.generate import generate
from finetune.generate_command import generate_command
from finetune.huggingface import tokenizer as hf_tokenizer
from finetune.huggingface.export import export
from finetune.sampling import Sampling
from finetune.text_codec import OwnCodec, TextCodec, decode_after, load_codec
from tests.entry_process import run_entry
from tests.finetune.finetune_oracle import oracle_outputs, random_tensors
from tests.finetune.finetune_runs import llama, write_run
from tests.finetune.finetune_tokenizers import train_tokenizer

PROMPTS = ["The try statement", "Raises an 😀\n\n ", "x"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("generate")
    tokenizer = train_tokenizer(root / "tok")
    write_run(root / "run", llama(tokenizer), tokenizer)
    export(ExportConfig(model=root / "run", output=root / "export", sequences=1), reference=oracle_outputs)
    return root / "export"


def texts(model: Path, sampling: Sampling, prompts: list[str] = PROMPTS) -> list[str]:
    return [answer.text for answer in generate(model, prompts, sampling)]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_text_whatever_the_other_prompts(model: Path) -> None:
    sampling = Sampling(max_new_tokens=20, seed=3)
    first = texts(model, sampling)
    assert texts(model, sampling) == first
    assert texts(model, sampling, PROMPTS[1:2]) == first[1:2]
    assert texts(model, replace(sampling, seed=4)) != first
    assert texts(model, replace(sampling, seed=2**64)) != first, "any whole number is a seed"
    assert len(set(first)) == len(first)


@pytest.mark.parametrize("sampling", [Sampling(greedy=True), Sampling(seed=1, top_k=5)], ids=["greedy", "sampled"])
def test_the_cache_changes_nothing(model: Path, sampling: Sampling) -> None:
    sampling = replace(sampling, max_new_tokens=30)
    assert texts(model, sampling) == texts(model, replace(sampling, use_cache=False))


def test_greedy_is_the_most_probable_token_of_the_model(model: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    theirs, codec = AutoModelForCausalLM.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    ids = codec(PROMPTS[0])["input_ids"]
    start = len(ids)
    for _ in range(8):
        with torch.no_grad():
            ids.append(int(theirs(torch.tensor([ids])).logits[0, -1].argmax()))
    expected = codec.decode(ids[start:], skip_special_tokens=True)
    assert texts(model, Sampling(max_new_tokens=8, greedy=True), PROMPTS[:1]) == [expected]
    assert texts(model, Sampling(max_new_tokens=8, temperature=0), PROMPTS[:1]) == [expected]
    assert texts(model, Sampling(max_new_tokens=8, top_k=1, seed=9), PROMPTS[:1]) == [expected]


def test_a_prompt_and_its_answer_stay_within_the_context(model: Path) -> None:
    answer = next(generate(model, ["ab"], Sampling(max_new_tokens=500, seed=2)))
    assert answer.tokens <= 64 - 2
    with pytest.raises(DataError, match="context is 64 tokens"):
        list(generate(model, ["ab " * 100], Sampling()))


@pytest.mark.slow
def test_an_answer_that_the_context_cut_short_is_told_once(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = list(generate(model, PROMPTS, Sampling(max_new_tokens=500, greedy=True)))
    assert [answer.full_context for answer in answers] == [
        64 if answer.ended_by == "context" else None for answer in answers
    ]
    cut = [answer for answer in answers if answer.ended_by == "context"]
    assert len(cut) > 1, "the model ends by itself: choose other prompts"
    asked = Sampling(max_new_tokens=cut[0].tokens, greedy=True)
    assert [answer.full_context for answer in generate(model, [cut[0].prompt], asked)] == [None]
    capsys.readouterr()
    generate_command(model, PROMPTS, max_new_tokens=500, greedy=True)
    note = "note: stopped at the model's context of 64 tokens, the prompt's included, before --max-new-tokens 500\n"
    assert capsys.readouterr().err == note
    generate_command(model, PROMPTS, max_new_tokens=5, greedy=True)
    assert capsys.readouterr().err == ""


def test_an_empty_prompt_begins_a_document(model: Path) -> None:
    empty = texts(model, Sampling(max_new_tokens=5, greedy=True), [""])
    assert empty != [""]
    a = texts(model, Sampling(max_new_tokens=5, greedy=True), ["x"])
    assert texts(model, Sampling(max_new_tokens=5, greedy=True, at_document_start=True), ["x"]) != a


@pytest.mark.parametrize(
    ("change", "option"),
    [
        ({"max_new_tokens": 0}, "--max-new-tokens"),
        ({"temperature": -1.0}, "--temperature"),
        ({"top_p": 0.0}, "--top-p"),
        ({"top_k": -1}, "--top-k"),
        ({"seed": -1}, "--seed"),
        ({"samples": 0}, "--samples"),
        ({"samples": 2, "greedy": True}, "--samples: is 2\n  expected: 1 where the answer is greedy"),
        ({"batch_size": 0}, "--batch-size"),
        ({"stop": ("x", "")}, "--stop"),
    ],
)
def test_values_that_mean_nothing(change: dict[str, float], option: str) -> None:
    with pytest.raises(ConfigError, match=option):
        list(generate(Path("nowhere"), ["x"], Sampling(**change)))  # type: ignore[arg-type]


def test_directories_that_hold_no_model(model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"does not exist[\s\S]*did you mean: .*export"):
        list(generate(model.parent / "exports", ["x"], Sampling()))
    with pytest.raises(DataError, match=r"neither a complete checkpoint nor a config\.json"):
        list(generate(tmp_path, ["x"], Sampling()))
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in model.iterdir():
        if file.is_file():
            (broken / file.name).write_bytes(file.read_bytes())
    weights = broken / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:1000])
    with pytest.raises(DataError, match="weights cannot be read"):
        list(generate(broken, ["x"], Sampling()))
    weights.write_bytes(content)
    (broken / "tokenizer_config.json").unlink()
    with pytest.raises(DataError, match="no tokenizer"):
        list(generate(broken, ["x"], Sampling()))
    (broken / "config.json").write_text("{")
    with pytest.raises(DataError, match="config"):
        list(generate(broken, ["x"], Sampling()))
    weights.unlink()
    (broken / "config.json").write_bytes((model / "config.json").read_bytes())
    (broken / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(DataError, match="weights cannot be read"):
        list(generate(broken, ["x"], Sampling()))


CONTINUED = [
    ("The try", " statement x"),
    ("x 😀", " y"),
    ("x 😀", "😀"),
    ("  lead", " trail  "),
    ("", "The try"),
    ("日本", "語"),
    ("\ufffd\ufffd", "語"),
    ("\ufffd\ufffd", " ab"),
]


@pytest.mark.parametrize("prefix", [False, True], ids=["plain", "dummy prefix"])
@pytest.mark.parametrize("library", ["ours", "transformers"])
def test_an_answer_keeps_the_space_before_it(tmp_path: Path, prefix: bool, library: str) -> None:
    tokenizer = train_tokenizer(tmp_path / "tok", add_dummy_prefix=prefix)
    codec: TextCodec = OwnCodec(tokenizer)
    if library == "transformers":
        hf_tokenizer.save(tokenizer, tmp_path, 64)
        codec = load_codec(tmp_path)
    for before, after in CONTINUED:
        ids, whole = codec.encode_batch([before, before + after])
        assert whole[: len(ids)] == ids, "the texts must be cut alike"
        new = whole[len(ids) :]
        assert decode_after(codec, ids, new) == after
        for count in range(len(new)):  # one that ends within a character garbles nothing before it
            part = decode_after(codec, ids, new[:count])
            cut = len(part) - len(part.rstrip("\ufffd"))
            assert after.startswith(part[: len(part) - cut]) and cut <= count


def test_a_model_with_a_dummy_prefix(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(tmp_path / "tok", add_dummy_prefix=True)
    model = llama(tokenizer, tie_embeddings=False)
    tensors = random_tensors(model)
    begins_word = [number for number in range(tokenizer.vocab_size) if tokenizer.piece(number).startswith(" t")]
    tensors["output_layer.weight"][begins_word] *= 30
    write_run(tmp_path / "run", model, tokenizer, tensors)
    export(ExportConfig(model=tmp_path / "run", output=tmp_path / "out", sequences=1), reference=oracle_outputs)
    sampling = Sampling(max_new_tokens=1, greedy=True)
    assert [text[:2] for text in texts(tmp_path / "out", sampling, ["The try", "a", "x 😀"])] == [" t"] * 3


@pytest.mark.parametrize("kind", ["huggingface", "sentencepiece-only"])
def test_ids_without_text_are_exported_and_never_chosen(tmp_path: Path, kind: str) -> None:
    tokenizer = train_tokenizer(tmp_path / "tok")
    known = tokenizer.vocab_size
    model = llama(tokenizer, vocab_size=known + 20, tie_embeddings=False)
    tensors = random_tensors(model)
    tensors["output_layer.weight"][known:] *= 10  # the most probable ones, if they were let
    write_run(tmp_path / "run", model, tokenizer, tensors)
    where = {"model": tmp_path / "run", "output": tmp_path / "out"}
    export(ExportConfig.model_validate(where | {"sequences": 1, "tokenizer": kind}), reference=oracle_outputs)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["vocab_size"] == known + 20
    answer = next(generate(tmp_path / "out", ["The try"], Sampling(max_new_tokens=8, greedy=True)))
    assert answer.text and answer.tokens <= 8


def finetune(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "finetune", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
def test_the_command_prints_prompt_and_text(model: Path, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("import\n")
    options = ["--max-new-tokens", "6", "--greedy", "--prompt-file", str(tmp_path / "p.txt")]
    command = ["-m", "finetune", "generate", "--model", str(model), "--prompt", PROMPTS[0], *options]
    done = run_entry(command, cwd=Path(__file__).parents[2], preload=("transformers",))
    assert (done.returncode, done.stderr) == (0, "")
    expected = texts(model, Sampling(max_new_tokens=6, greedy=True), [PROMPTS[0], "import"])
    assert done.stdout == f"{PROMPTS[0]}{expected[0]}\n{'-' * 20}\nimport{expected[1]}\n"


@pytest.mark.slow
def test_mistakes_on_the_command_line_are_one_message_and_need_no_torch(model: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "sitecustomize.py"
    blocked.write_text("import sys\nfor name in ('torch', 'transformers', 'sklearn'): sys.modules[name] = None\n")
    for arguments, named in (
        (["generate", "--model", str(model)], "no prompt"),
        (["generate", "--model", str(model), "--prompt", "x", "--top-p", "2"], "--top-p: is 2.0"),
        (["generate", "--model", str(model), "--prompt", "a\udcffb"], "--prompt: holds the byte 0xFF at character 2"),
        (["export", "--model", "x", "--output", "a\udcff"], "output: holds the byte 0xFF at character 2"),
        (["export", "--model", "x"], "output is missing"),
        (["export", "--model", "x", "--output", "y", "dtpe=bfloat16"], "did you mean dtype"),
        (["export", "--config", "nothing"], "no config file or recipe"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "finetune", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"},
            cwd=Path(__file__).parents[2],
        )
        assert done.returncode == 2 and named in done.stderr and "Traceback" not in done.stderr, (named, done.stderr)
    shown = finetune("export", "--checkpoint", "x", "--output", "y", "--dtype", "bfloat16", "--print-config")
    assert "dtype: bfloat16" in shown.stdout and "model: x" in shown.stdout and shown.returncode == 0
    assert "note: --checkpoint is called --model now" in shown.stderr
