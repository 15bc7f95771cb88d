"""Preferences from files to a model: the reference is computed once, and every method learns which one is better."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from configs.errors import DataError
from data_prep.tokenizer import Tokenizer
from finetune.pretrained import read_pretrained
from finetune.run_task import TaskResult, run_task
from finetune.tasks import reference_scores
from finetune.tasks.prefer import PreferTask
from finetune.tasks.prefer_config import PreferConfig
from finetune.tasks.preference_texts import Preference
from tests.distributed import run_ranks
from tests.finetune.finetune_runs import llama, write_run
from tests.finetune.finetune_tokenizers import train_tokenizer

PROMPTS = ["the class ", "a method ", "this module ", "an object "]
ENDS = ["works", "opens a file", "is a value", "returns it now"]


def write_preferences(root: Path) -> None:
    """Of two completions that with an exclamation mark is better."""
    generator = random.Random(0)
    with (root / "pairs.jsonl").open("w") as pairs, (root / "labels.jsonl").open("w") as labels:
        for number in range(80):
            prompt = f"{generator.choice(PROMPTS)}{number} "
            good, bad = f"{generator.choice(ENDS)}!", f"{generator.choice(ENDS)}?"
            pairs.write(json.dumps({"id": f"n{number}", "prompt": prompt, "chosen": good, "rejected": bad}) + "\n")
            is_good = number % 2 == 0
            record = {"id": f"n{number}", "prompt": prompt, "completion": good if is_good else bad, "label": is_good}
            labels.write(json.dumps(record) + "\n")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return train_tokenizer(tmp_path_factory.mktemp("tok") / "tok")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    root = tmp_path_factory.mktemp("preferences")
    write_preferences(root)
    write_run(root / "run", llama(tokenizer), tokenizer)
    return root


def config(root: Path, method: str, output: str, **changes: Any) -> PreferConfig:
    file = "labels.jsonl" if method == "kto" else "pairs.jsonl"
    fields: dict[str, Any] = {
        "output": root / output,
        "model": root / "run",
        "loss": method,
        "data": {"train_texts": str(root / file), "max_completion_tokens": 16},
        "training": {"duration": "4 epochs", "batch_size": 16, "log_interval": 1},
        "optimizer": {"lr": 3e-3, "schedule": "linear", "warmup": "2 steps"},
    }
    for key, value in changes.items():
        section, _, name = key.rpartition("__")
        (fields[section] if section else fields)[name] = value
    return PreferConfig.model_validate(fields)


def train(root: Path, method: str, output: str, **changes: Any) -> TaskResult:
    result = run_task(config(root, method, output, **changes), lambda line: None)
    assert result is not None
    return result


def test_dpo_learns_and_computes_its_reference_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = train(root, "dpo", "dpo", training__duration="3 epochs")
    figures, baseline = result.test["fine-tuned"], result.test["the pretrained model"]
    assert figures["accuracy"] == 1.0 and figures["reward_margin"] > 0.3 and figures["loss"] < 0.6
    assert figures["reward_margin"] == pytest.approx(figures["chosen_reward"] - figures["rejected_reward"])
    assert baseline["more_probable"] < figures["more_probable"]
    # Before the first step both models are one: every margin is 0.
    assert result.record["history"][0]["loss"] == pytest.approx(np.log(2), abs=1e-4)
    files = sorted((root / "reference-cache").glob("*.npy"))
    assert len(files) == 3
    told = [json.loads(line) for line in (root / "dpo" / "predictions-test.jsonl").open()]
    margins = [row["chosen_reward"] - row["rejected_reward"] for row in told]
    assert sum(margins) / len(margins) == pytest.approx(figures["reward_margin"], abs=1e-3)

    def again(*given: Any) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(reference_scores, "_compute", again)
    task, pretrained = PreferTask(config(root, "ipo", "other", beta=0.3)), read_pretrained(root / "run")
    parts = task.read()
    task.encode(pretrained, parts["test"])
    # Another weight, or another completion: another file.
    name, tensor = next(iter(pretrained.tensors.items()))
    other = replace(pretrained, tensors={**pretrained.tensors, name: tensor + 1})
    with pytest.raises(AssertionError, match="computed again"):
        task.encode(other, parts["test"])
    with pytest.raises(AssertionError, match="computed again"):
        task.encode(pretrained, parts["test"][:-1])
    files[0].write_bytes(b"not numpy")
    damaged = PreferTask(config(root, "dpo", "other"))
    with pytest.raises(DataError, match="delete it"):
        [damaged.encode(read_pretrained(root / "run"), damaged.read()[name]) for name in parts]
    files[0].unlink()


def test_both_completions_of_a_pair_are_scored_together(root: Path, tokenizer: Tokenizer) -> None:
    """In one forward pass, and by the target's tokens alone, as a model without padding says."""
    changes = {"data__max_completion_tokens": 32}
    task, pretrained = PreferTask(config(root, "orpo", "none", **changes)), read_pretrained(root / "run")
    pairs = [
        Preference("a", "the class ", "works!", "opens a file of the object?", True, "a"),
        Preference("b", "a ", "is a long value of this module!", "x", True, "b"),
        Preference("c", "a ", "is it " * 20 + "!", "is it " * 20 + "?", True, "c"),
    ]
    part, network = task.encode(pretrained, pairs), task.network(pretrained)
    calls = []
    network.register_forward_hook(lambda *given: calls.append(1))
    with torch.no_grad():
        found = np.stack(task.predict(network, part, [1, 0], torch.device("cpu")))[:, 0]
    assert len(calls) == 1
    for row, pair in zip(found, (pairs[1], pairs[0])):
        for value, text in zip(row, (pair.first, pair.second)):
            prompt = tokenizer.encode(str(pair.prompt))
            target = [*tokenizer.encode(str(text)), tokenizer.role("end_of_document")]
            logits = network(input_ids=torch.tensor([prompt + target])).logits[0].log_softmax(-1)
            by_hand = sum(float(logits[len(prompt) - 1 + n, token]) for n, token in enumerate(target))
            assert value == pytest.approx(by_hand, rel=1e-4)
    # What differs behind the cut does not count, and is told.
    assert part.weights == [1.0, 1.0, 0.0] and "1 pairs do not count" in "".join(task.describe({"train": part}))
    assert task.losses(network, part, [0, 2], torch.device("cpu"))[1] == 0.0


def test_what_fills_a_place_does_not_count_in_the_divergence(root: Path) -> None:
    """A smaller last batch repeats an example in the places that are left: KTO's mean is over the others."""
    task, pretrained, cpu = PreferTask(config(root, "kto", "none")), read_pretrained(root / "run"), torch.device("cpu")
    rows = [(PROMPTS[n], ENDS[n], n == 0) for n in range(3)]
    examples = [Preference(str(n), prompt, end, None, good, "") for n, (prompt, end, good) in enumerate(rows)]
    part, network = task.encode(pretrained, examples), task.network(pretrained)
    part.reference[:] -= [[5, 1], [5, 2], [5, 30]]  # the ratios of the completions of other prompts: 1, 2 and 30
    full, alone = (task.losses(network, part, numbers, cpu) for numbers in ([0, 1, 2, 2, 2], [0, 1, 2]))
    assert torch.allclose(full[:3], alone, rtol=1e-4)
    assert float(alone[0].detach()) == pytest.approx(1 / (1 + np.exp(0.1 * (5 - 11))), rel=1e-3)


def test_prompts_that_are_cut_are_told(root: Path) -> None:
    task = PreferTask(config(root, "orpo", "none", data__max_prompt_tokens=4))
    pairs = [Preference(str(n), "the class" + 9 * n * " of", "works!", "x", True, "") for n in range(2)]
    pairs.append(replace(pairs[0], prompt="a"))
    part = task.encode(read_pretrained(root / "run"), pairs)
    told = "".join(task.describe({"train": part}))
    assert max(map(len, part.rows.sources)) == 4 and "1 prompts and 0 completions cut" in told, told


@pytest.mark.slow
def test_seeds_share_one_reference(root: Path) -> None:
    """Which lies beside the result, not among what is removed, or stands in the way of going on."""
    from finetune.seeds import run_seeds

    found = run_seeds(config(root, "dpo", "seeds/out", seeds=[1, 2], training__duration="1 steps"), lambda line: None)
    assert found is not None and len(found.record["runs"]) == 2
    assert sorted(path.name for path in (root / "seeds").iterdir()) == ["out", "reference-cache"]
    assert len(list((root / "seeds" / "reference-cache").glob("*.npy"))) == 3


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ipo", "orpo", "kto"])
def test_every_method_learns(root: Path, method: str) -> None:
    from transformers import AutoModelForCausalLM

    result = train(root, method, method, training__zero_stage=2)
    figures = result.test["fine-tuned"]
    assert figures["accuracy"] > 0.8 and figures["reward_margin"] > 0.01
    first, last = (result.record["history"][place]["loss"] for place in (0, -2))
    assert last < first and result.record["loss"] == method
    assert AutoModelForCausalLM.from_pretrained(root / method).generation_config.eos_token_id == 1


def on_rank(root: str, output: str, changes: dict[str, Any]) -> dict[str, Any]:
    result = run_task(config(Path(root), "dpo", output, **changes), lambda line: None)
    return result.record if result is not None else {}


@pytest.mark.slow
def test_two_ranks_learn_what_one_does(root: Path) -> None:
    changes = {"training__duration": "4 steps", "reference_cache": root / "shared-cache"}
    found = []
    for output, world_size, more in (
        ("one", 1, {}),
        ("two", 2, {"training__zero_stage": 3, "training__micro_batch_size": 2}),
    ):
        given = (str(root), output, changes | more)
        preload = ("deepspeed", "transformers")
        told = {"process_group": False, "preload": preload, "timeout_s": 600.0}
        found.append(run_ranks(on_rank, world_size, *given, **told)[0])
    assert found[1]["ran"]["zero_stage"] == 3
    for mine, theirs in zip(found[1]["history"], found[0]["history"], strict=True):
        assert mine == pytest.approx(theirs, rel=1e-3, abs=1e-5)


def test_records_that_are_no_preferences(root: Path, tmp_path: Path) -> None:
    good = [{"prompt": f"a {n}", "chosen": "b", "rejected": "c"} for n in range(20)]
    bad = [{"prompt": "x", "chosen": "same", "rejected": "same"}, {"prompt": "x", "chosen": "b", "rejected": []}]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*bad, *good]))
    with pytest.raises(DataError, match="its chosen and its rejected completion are the same"):
        PreferTask(config(root, "dpo", "none", data__train_texts=str(path))).read()
    task = PreferTask(config(root, "dpo", "none", data__train_texts=str(path), data__max_malformed_share=0.2))
    assert sum(map(len, task.read().values())) == 20 and task.facts()["malformed"]["train"]["count"] == 2
    path.write_text('{"prompt": "a", "completion": "b", "label": "good"}\n')
    with pytest.raises(DataError, match="holds 'good'"):
        PreferTask(config(root, "kto", "none", data__train_texts=str(path))).read()


def test_messages_need_a_chat_template(root: Path, tmp_path: Path, tokenizer: Tokenizer) -> None:
    from transformers import AutoTokenizer

    from finetune.huggingface import tokenizer as hf_tokenizer
    from finetune.tasks.preference_texts import encode_completions, encode_prompts
    from finetune.text_codec import TransformersCodec

    user = {"role": "user", "content": "the class?"}
    answers = [{"role": "assistant", "content": text} for text in ("it works!", "no.")]
    path = tmp_path / "chats.jsonl"
    # Without a prompt of its own: what both conversations begin with is the prompt.
    rows = [{"chosen": [user, answers[0]], "rejected": [user, answers[1]]}, {}]
    rows[1] = {key: [{**user, "content": "a value?"}, answer] for key, answer in zip(rows[0], answers)}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = PreferTask(config(root, "dpo", "none", data__train_texts=str(path), data__split=[0.5, 0.5, 0.0]))
    pair = next(pair for part in task.read().values() for pair in part if pair.prompt == [user])
    assert pair.prompt == [user] and pair.first == [answers[0]] and pair.second == [answers[1]]
    with pytest.raises(DataError, match="has no chat template, and the examples have messages"):
        task.encode(read_pretrained(root / "run"), [pair])
    hf_tokenizer.save(tokenizer, tmp_path, 64)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    theirs.chat_template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}<|endoftext|>{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    codec: Any = TransformersCodec(theirs)
    end = tokenizer.role("end_of_document")
    prompt = [*tokenizer.encode("user: the class?"), end, *tokenizer.encode("assistant: ")]
    assert encode_prompts(codec, [[user]], "here") == [prompt]
    assert encode_completions(codec, [[user]], [[answers[0]]], "here") == [tokenizer.encode("it works!")]
    # Where a plain call puts a token in front of a text, a conversation is what the template alone writes.
    codec.begin_of_text = codec.unknown
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [end, 7]}))
    pretrained = replace(read_pretrained(root / "run"), codec=codec, path=tmp_path)
    task = PreferTask(config(root, "orpo", "none"))
    texts = Preference("t", "the class?", "works", "x", True, "")
    assert task.encode(pretrained, [pair, texts]).rows.sources[:2] == [
        prompt,
        [codec.unknown, *tokenizer.encode("the class?")],
    ]
    # What ended its answers ends them after the training.
    network: Any = task.network(pretrained)
    assert network.generation_config.eos_token_id == [end, 7]
