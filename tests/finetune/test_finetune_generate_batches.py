"""Answers in batches: what is written does not depend on what is written beside it; samples, ends, pieces."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from configs.errors import ConfigError, DataError
from finetune.config import ExportConfig
from finetune.generate import generate
from finetune.generate_command import generate_command
from finetune.generated_rows import Row, RowNoise, TextStream
from finetune.huggingface.export import export
from finetune.sampling import Generated, Sampling
from finetune.text_codec import load_codec
from tests.finetune.finetune_oracle import oracle_outputs
from tests.finetune.finetune_runs import llama, write_run
from tests.finetune.finetune_tokenizers import train_tokenizer

PROMPTS = ["The try statement", "x", "Raises an 😀\n\n ", "", "return the value of the object", "x", "import"]
SAMPLING = Sampling(max_new_tokens=12, seed=3, samples=2, batch_size=5)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`run`, a run; `llama` and `gpt2`, exports; `bloom`, `bert`, directories of transformers' own."""
    root = tmp_path_factory.mktemp("batches")
    tokenizer = train_tokenizer(root / "tok")
    learned = {"position_embedding": "learned", "normalization": "LayerNorm", "activation": "gelu_tanh", "bias": True}
    for name, run, model in (
        ("llama", "run", llama(tokenizer)),
        ("gpt2", "run-gpt2", llama(tokenizer, **learned, num_query_groups=None)),
    ):
        write_run(root / run, model, tokenizer)
        export(ExportConfig(model=root / run, output=root / name, sequences=1), reference=oracle_outputs)
    torch.manual_seed(0)
    size = {"vocab_size": tokenizer.vocab_size, "hidden_size": 32}
    bert = transformers.BertConfig(**size, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    for name, network in (
        ("bloom", transformers.BloomForCausalLM(transformers.BloomConfig(**size, n_layer=1, n_head=2))),
        ("bert", transformers.BertModel(bert)),
    ):
        network.save_pretrained(root / name)
        for file in ("tokenizer.json", "tokenizer_config.json"):
            (root / name / file).write_bytes((root / "llama" / file).read_bytes())
    return root


def answers(model: Path, sampling: Sampling, prompts: list[str] = PROMPTS, **options: Any) -> list[Generated]:
    return list(generate(model, prompts, sampling, **options))


SLOW = pytest.mark.slow


@pytest.mark.parametrize("model", ["llama", pytest.param("gpt2", marks=SLOW), pytest.param("bloom", marks=SLOW)])
def test_the_batch_changes_no_answer(root: Path, model: str) -> None:
    together = answers(root / model, SAMPLING)
    assert [(answer.number, answer.sample) for answer in together] == [(n, k) for n in range(7) for k in range(2)]
    assert answers(root / model, replace(SAMPLING, batch_size=1)) == together
    assert answers(root / model, replace(SAMPLING, batch_size=64)) == together
    for number in (0, 4):  # alone, as among others
        alone = answers(root / model, SAMPLING, PROMPTS[number : number + 1])
        assert [answer.text for answer in alone] == [a.text for a in together if a.number == number]
    greedy = replace(SAMPLING, samples=1, greedy=True)
    assert answers(root / model, greedy) == answers(root / model, replace(greedy, batch_size=1))


@pytest.mark.slow
@pytest.mark.parametrize("model", ["llama", "gpt2"])
@pytest.mark.parametrize("new", [30, 500])
def test_a_long_and_a_short_prompt_end_at_the_context_each(root: Path, model: str, new: int) -> None:
    codec = load_codec(root / model)
    long = "".join(f" {number}" for number in range(22))
    assert 44 < len(codec.encode_batch([long])[0]) < 64, "its answer must end at the context"
    asked = Sampling(max_new_tokens=new, greedy=True, batch_size=4)
    together = answers(root / model, asked, [long, "x", "The try statement"])
    assert together == answers(root / model, replace(asked, batch_size=1), [long, "x", "The try statement"])
    assert together[0].ended_by == "context", "the model ends by itself: choose another prompt"
    assert new > 30 or together[1].tokens == new


def test_the_models_own_generation_config_has_no_part_in_it(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "llama", tmp_path / "model")
    theirs = {"num_beams": 2, "repetition_penalty": 3.0, "no_repeat_ngram_size": 2, "do_sample": True, "top_k": 3}
    (tmp_path / "model" / "generation_config.json").write_text(json.dumps(theirs))
    for sampling in (SAMPLING, replace(SAMPLING, samples=1, greedy=True)):
        assert answers(tmp_path / "model", sampling) == answers(root / "llama", sampling)


def test_repeated_prompts_and_samples_differ(root: Path) -> None:
    asked = [answer.text for answer in answers(root / "llama", SAMPLING) if answer.prompt == "x"]
    assert len(asked) == 4 == len(set(asked)), "two prompts of two samples each"


def test_a_run_writes_what_its_export_writes(root: Path) -> None:
    short = replace(SAMPLING, max_new_tokens=2, samples=8)
    mine, theirs = answers(root / "run", short), answers(root / "llama", short)
    assert [(a.tokens, a.ended_by) for a in mine] == [(a.tokens, a.ended_by) for a in theirs]
    # The two tokenizers write bytes that are no letters differently.
    texts = [(a.text, b.text) for a, b in zip(mine, theirs) if "\ufffd" not in a.text + b.text]
    assert len(texts) >= 3 and all(a == b for a, b in texts)
    [step] = [path for path in (root / "run" / "checkpoints").iterdir() if path.name.startswith("step_")]
    assert answers(step, short) == mine
    with pytest.raises(DataError, match="holds a BertModel"):
        answers(root / "bert", SAMPLING)


@pytest.mark.slow
def test_draws_follow_the_probabilities() -> None:
    probabilities = np.array([0.5, 0.3, 0.15, 0.05])
    scores_BV = torch.from_numpy(np.log(probabilities)).float().repeat(4000, 1)
    noise = RowNoise([Row(0, 0, "", [7], copy) for copy in range(4000)], seed=5)
    first, second = (noise(torch.zeros(0), scores_BV).argmax(1).numpy() for _ in range(2))
    for drawn in (first, second):
        # Four standard deviations of each share of 4,000 draws.
        assert np.abs(np.bincount(drawn, minlength=4) / 4000 - probabilities).max() < 4 * np.sqrt(0.25 / 4000)
    assert (first == second).mean() == pytest.approx((probabilities**2).sum(), abs=0.04), "steps are independent"


def test_a_text_that_stops(root: Path) -> None:
    whole = answers(root / "llama", SAMPLING)
    stop = (whole[0].text[3:5], "no such text")
    cut = answers(root / "llama", replace(SAMPLING, stop=stop))
    assert cut[0].ended_by == "stop" and cut[0].tokens < whole[0].tokens
    for before, after in zip(whole, cut):
        assert after.text == before.text.partition(stop[0])[0]
        assert (after.ended_by == "stop") == (stop[0] in before.text)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [(), ("e",), ("a b", "th")])
def test_the_pieces_of_an_answer_are_the_answer(root: Path, stop: tuple[str, ...]) -> None:
    pieces: list[tuple[str, str]] = []
    sampling = replace(SAMPLING, stop=stop)
    streamed = []
    for answer in generate(root / "llama", PROMPTS, sampling, lambda *piece: pieces.append(piece)):
        assert {prompt for prompt, _ in pieces} <= {answer.prompt}
        assert "".join(text for _, text in pieces) == answer.text
        streamed.append((answer, len(pieces)))
        pieces.clear()
    assert [answer for answer, _ in streamed] == answers(root / "llama", sampling)
    assert stop or max(count for _, count in streamed) > 3


def test_what_may_still_change_is_kept_back() -> None:
    shown: list[str] = []
    stream = TextStream(shown.append, ["stop it", "x"])
    for text in ("a", "a s", "a st\ufffd", "a stä", "a stä \ufffd", "a stä stop", "a stä stop i"):
        stream.update(text, is_final=False)
    assert shown == ["a", " ", "stä", " "]
    stream.update("a stä stop i!", is_final=True)
    assert shown[-1] == "stop i!"


def test_the_command_writes_lines_of_json(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "import", "id": "first"}\n"x"\n')
    given: dict[str, Any] = {"prompt_file": tmp_path / "p.jsonl", "samples": 2, "max_new_tokens": 5, "seed": 1}
    generate_command(root / "run", **given, jsonl=True)
    lines = capsys.readouterr().out
    generate_command(root / "run", **given, output=tmp_path / "answers.jsonl")
    assert capsys.readouterr().out == f"answers  {tmp_path / 'answers.jsonl'}  (4)\n"
    assert (tmp_path / "answers.jsonl").read_text() == lines
    told = [json.loads(line) for line in lines.splitlines()]
    assert [row.get("id") for row in told] == ["first", "first", None, None]
    generate_command(root / "run", **given)
    plain = capsys.readouterr().out
    assert plain == f"\n{'-' * 20}\n".join(row["prompt"] + row["text"] for row in told) + "\n"
    generate_command(root / "run", **given, stream=True)
    assert capsys.readouterr().out == plain
    for changes, named in (
        ({"output": tmp_path / "answers.jsonl"}, "exists already"),
        ({"stream": True, "jsonl": True}, "--stream: is given together with --jsonl"),
    ):
        with pytest.raises(ConfigError, match=named):
            generate_command(root / "run", **given, **changes)
