"""Figures of language models on files: every token of a long text once, answers as the harness compares them."""

from __future__ import annotations

import json
import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.errors import ConfigError, DataError, UserError
from data_prep.tokenizer import Tokenizer
from finetune.evaluate import Evaluation, evaluate_model
from finetune.evaluate_command import evaluate_command
from finetune.text_evaluation import windows
from tests.finetune.finetune_runs import llama, write_run
from tests.finetune.finetune_tokenizers import LINES, train_tokenizer

CONTEXT = 32
QUESTIONS = [
    {"query": "The try statement", "choices": ["specifies handlers", "is a class", "opens the file of it"], "gold": 0},
    {"query": "A class is", "choices": ["x", "an object of the type"], "gold": "an object of the type"},
    {"query": "Raised when ", "choices": ["an error occurs", "the file is long"], "gold": 1},
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return train_tokenizer(tmp_path_factory.mktemp("tok") / "tok")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    root = tmp_path_factory.mktemp("evaluate")
    write_run(root / "run", llama(tokenizer, seq_length=CONTEXT), tokenizer)
    (root / "long.txt").write_text("\n".join(LINES[:12]))
    texts = [*LINES[40:52], "a"]
    (root / "short.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    (root / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in QUESTIONS))
    return root


def logits_of(root: Path, ids: list[int]) -> torch.Tensor:
    from finetune.causal_model import read_causal

    with torch.no_grad():
        return read_causal(root / "run").network(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)


@given(st.integers(0, 60), st.booleans(), st.integers(2, 12), st.data())
@settings(max_examples=60, deadline=None)
def test_each_token_of_a_text_counts_once(count: int, begins: bool, context: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, context))
    row = list(range(1, count + 1))
    found = [w for w in windows(row, 0 if begins else None, context, stride) if w.scored > 0]
    scored = [token for window in found for token in window.ids[len(window.ids) - window.scored :]]
    assert scored == (row if begins else row[1:])
    for number, window in enumerate(found):
        assert window.scored < len(window.ids) <= context + 1
        assert window.ids == list(range(window.ids[0], window.ids[-1] + 1))
        # Behind the first window, all the context that there is room for is read.
        assert number == 0 or (window.scored <= stride and len(window.ids) == context + 1)


def test_texts(root: Path, tokenizer: Tokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [str(root / "long.txt"), str(root / "short.jsonl")]
    evaluate_command(root / "run", given, stride=8, output=tmp_path / "out.json", batch_size=3)
    found = json.loads((tmp_path / "out.json").read_text())["texts"]
    long, short = found[given[0]], found[given[1]]
    text = (root / "long.txt").read_text()
    ids = [tokenizer.role("end_of_document"), *tokenizer.encode(text)]
    assert long["tokens"] == long["scored_tokens"] == len(ids) - 1 > 4 * CONTEXT and long["documents"] == 1
    # By hand: as much as fits at once, then eight new tokens behind 24 or 25 known ones.
    nats, end = 0.0, CONTEXT + 1
    first = logits_of(root, ids[:CONTEXT])
    nats -= sum(float(first[place, token]) for place, token in enumerate(ids[1:end]))
    while end < len(ids):
        following = min(end + 8, len(ids))
        read = ids[following - CONTEXT - 1 : following]
        logits = logits_of(root, read[:-1])
        nats -= sum(float(logits[place - 1, read[place]]) for place in range(len(read) - (following - end), len(read)))
        end = following
    assert long["loss"] == pytest.approx(nats / (len(ids) - 1), rel=1e-4)
    assert long["perplexity"] == pytest.approx(math.exp(long["loss"]))
    assert long["bits_per_byte"] == pytest.approx(nats / math.log(2) / len(text.encode()), rel=1e-4)
    assert short["documents"] == 13 and short["bytes"] == sum(len(line.encode()) for line in [*LINES[40:52], "a"])
    assert "bits per byte" in capsys.readouterr().out
    again = evaluate_model(root / "run", Evaluation(given[1:], batch_size=16))["texts"][given[1]]
    assert again["scored_tokens"] == short["scored_tokens"]


def test_multiple_choice(root: Path, tokenizer: Tokenizer) -> None:
    found = evaluate_model(root / "run", Evaluation(choices=[str(root / "questions.jsonl")], batch_size=4))
    figures = found["choices"][str(root / "questions.jsonl")]
    right = normalized = 0
    for row in QUESTIONS:
        query, gold = str(row["query"]).rstrip(), row["gold"]
        # A space behind the query goes to the answer, beside the delimiter.
        front = " " * (len(str(row["query"])) - len(query)) + " "
        scores = []
        for choice in list(row["choices"]):  # type: ignore[call-overload]
            whole, before = tokenizer.encode(query + front + choice), tokenizer.encode(query)
            logits = logits_of(root, whole[:-1])
            scores.append(sum(float(logits[n - 1, whole[n]]) for n in range(len(before), len(whole))))
        choices: Any = row["choices"]
        wanted = gold if isinstance(gold, int) else choices.index(gold)
        per_byte = [score / len(choice) for score, choice in zip(scores, choices)]
        right += scores.index(max(scores)) == wanted
        normalized += per_byte.index(max(per_byte)) == wanted
    assert figures["accuracy"] == pytest.approx(right / 3) and figures["questions"] == 3 and figures["cut"] == 0
    assert figures["accuracy_normalized"] == pytest.approx(normalized / 3)
    assert figures["chance"] == pytest.approx((1 / 3 + 1 / 2 + 1 / 2) / 3)


@pytest.mark.parametrize(
    ("record", "named"),
    [
        ({"query": "a", "choices": ["x"], "gold": 0}, "two answers or more"),
        ({"query": "a", "choices": ["x", "x"], "gold": 0}, "has an answer twice"),
        ({"query": "a", "choices": ["x", "y"], "gold": 2}, "its field 'gold' holds 2"),
        ({"query": "a", "choices": ["x", "y"], "gold": True}, "its field 'gold' holds True"),
        ({"choices": ["x", "y"], "gold": 0}, "has no field 'query'"),
    ],
)
def test_records_that_are_no_questions(root: Path, tmp_path: Path, record: dict[str, Any], named: str) -> None:
    (tmp_path / "bad.jsonl").write_text(json.dumps(record) + "\n")
    with pytest.raises(DataError, match=named):
        evaluate_model(root / "run", Evaluation(choices=[str(tmp_path / "bad.jsonl")]))


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        (Evaluation(), "nothing to measure"),
        (Evaluation(["x"], stride=0), "--stride: is 0"),
        (Evaluation(["x"], harness_tasks=["a"]), "both, or none"),
        (Evaluation(["x"], stride=CONTEXT + 1), f"at most {CONTEXT}, the context"),
    ],
)
def test_what_means_nothing_is_refused(root: Path, asked: Evaluation, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        evaluate_model(root / "run", asked)


TASK = """
task: answers
dataset_path: json
dataset_kwargs:
  data_files:
    test: {path}
test_split: test
output_type: multiple_choice
doc_to_text: query
doc_to_choice: choices
doc_to_target: number
metric_list:
  - metric: acc
  - metric: acc_norm
"""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("lm_eval") is None, reason="lm-eval is an extra of its own")
def test_the_harness_finds_what_multiple_choice_finds(root: Path, tmp_path: Path) -> None:
    rows = []
    for row in QUESTIONS:
        choices: Any = row["choices"]
        gold = row["gold"]
        rows.append({**row, "gold": str(gold), "number": gold if isinstance(gold, int) else choices.index(gold)})
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "answers.yaml").write_text(TASK.format(path=tmp_path / "questions.jsonl"))
    asked = Evaluation(
        choices=[str(root / "questions.jsonl")], harness=tmp_path / "tasks", harness_tasks=["answers"], batch_size=2
    )
    found = evaluate_model(root / "run", asked)
    ours, theirs = found["choices"][str(root / "questions.jsonl")], found["harness"]["answers"]
    assert theirs["acc,none"] == pytest.approx(ours["accuracy"])
    assert theirs["acc_norm,none"] == pytest.approx(ours["accuracy_normalized"])
    with pytest.raises(UserError, match="there is no task 'answer' in"):
        evaluate_model(root / "run", Evaluation(harness=tmp_path / "tasks", harness_tasks=["answer"]))
