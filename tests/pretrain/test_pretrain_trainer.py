"""What a later session is told of the earlier ones, over whole runs of one rank."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.distributed import run_ranks
from tests.pretrain.engine.layout_cases import SESSION
from tests.pretrain.tiny_run import make_corpus, states_differ, tiny_config

PLAIN = {"evaluation__interval": "null", "checkpoint__interval": "null", "training__duration": "2 steps"}


def run_sessions(output_dir: Path, corpus: Path, sessions: list[dict[str, Any]]) -> list[Path]:
    """On the rank: runs one after the other in one directory; returns copies of their summaries."""
    import torch

    from pretrain import main

    torch.set_num_threads(1)
    summaries = []
    for number, changes in enumerate(sessions):
        main.run(tiny_config(output_dir, corpus, **PLAIN | changes))
        summaries.append((output_dir / "summary.json").rename(output_dir / f"summary{number}.json"))
    return summaries


@pytest.mark.slow
def test_validation_sets_that_change_are_told_and_not_mixed(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path)
    sets = {"data__validation": f"{{wiki: {corpus}}}"}
    sessions = [sets, sets | {"evaluation__batches": 1, "training__duration": "4 steps"}]
    run = tmp_path / "run"
    (paths,) = run_ranks(run_sessions, 1, run, corpus, sessions, process_group=False, preload=SESSION)
    best = [json.loads(path.read_text())["best"]["wiki"]["evaluations"] for path in paths]
    assert best == [1, 1]
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    said = [record["text"] for record in records if "is another one" in record.get("text", "")]
    assert [text.split(" (")[0] for text in said] == [
        "the set 'wiki' is another one than at step 2",
        "the set 'test' is another one than at step 2",
    ]


@pytest.mark.slow
def test_what_a_run_will_not_have_and_what_it_sets_aside_is_told_before_its_first_step(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path)
    odd = {"model__normalization": "RMSNorm", "model__position_embedding": "learned"}
    run = tmp_path / "run"
    sessions = [odd, odd | {"checkpoint__resume": "never"}]
    run_ranks(run_sessions, 1, run, corpus, sessions, process_group=False, preload=SESSION)
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    first_step = next(number for number, record in enumerate(records) if record["kind"] == "train")
    said = "\n".join(record.get("text", "") for record in records[:first_step])
    assert "this model will have no Hugging Face export" in said
    assert "checkpoint.resume=never: the first save sets aside step_00000002" in said
    names = sorted(path.name.split("-")[0] for path in (run / "checkpoints").glob("step_*"))
    assert names == ["step_00000002", "step_00000002.superseded"]


@pytest.mark.slow
def test_what_of_the_network_is_other_than_one_may_think_is_told_before_the_first_step(tmp_path: Path) -> None:
    corpus, run = make_corpus(tmp_path, documents=60, sentences=True), tmp_path / "run"
    changes = {"model__name": "modern-encoder", "objective__name": "masked", "model__seq_length": 32}
    run_ranks(run_sessions, 1, run, corpus, [changes], process_group=False, preload=SESSION)
    assert len(told(run, "model.hidden_dropout 0.1 drops")) == 1


def events_of(run: Path) -> list[str]:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [record["text"] for record in records if record["kind"] == "event"]


def told(run: Path, beginning: str) -> list[str]:
    return [text for text in events_of(run) if text.startswith(beginning)]


def continue_copy(run: Path, copy: Path, corpus: Path, sessions: list[dict[str, Any]]) -> None:
    """On the rank: go on with a copy of a run."""
    shutil.copytree(run, copy)
    run_sessions(copy, corpus, sessions)


@pytest.mark.slow
def test_a_run_whose_mixture_and_length_change_counts_what_it_trained_on_and_resumes_to_the_last_bit(
    tmp_path: Path,
) -> None:
    a = make_corpus(tmp_path / "a")
    b, c = (
        make_corpus(tmp_path / name, documents=60 * seed, seed=seed, tokenizer=tmp_path / "a" / "tok")
        for name, seed in (("b", 2), ("c", 3))
    )
    mixtures = [
        f"[{a},{b}]",
        f"[{{corpus: {a}, weight: 9}},{b}]",
        f"[{{corpus: {a}, weight: 9}},{b},{c}]",
        f"[{a},{c}]",
    ]
    common: dict[str, Any] = {
        "training__duration": "12k tokens",
        "optimizer__warmup": "1k tokens",
        "checkpoint__keep_last": 9,
        "checkpoint__allow_changes": "[data.train,model.seq_length]",
        "data__split": "[1.0,0.0,0.0]",
    }

    def session(mixture: int, seq_length: int, steps: int | None) -> dict[str, Any]:
        limit = "null" if steps is None else f"{steps} steps"
        changes = {"data__train": mixtures[mixture], "model__seq_length": seq_length}
        return common | changes | {"training__session_limit": limit}

    sessions = [session(0, 16, 9), session(1, 16, 5), session(2, 32, 6)]
    run = tmp_path / "run"
    run_ranks(run_sessions, 1, run, a, sessions, process_group=False, preload=SESSION, timeout_s=300)
    # From here on once in one go, and once with a stop in between.
    ends = {"straight": [session(3, 24, 30)], "stopped": [session(3, 24, 7), session(3, 24, 23)]}
    for name, rest in ends.items():
        arguments = (run, tmp_path / name, a, rest)
        run_ranks(continue_copy, 1, *arguments, process_group=False, preload=SESSION, timeout_s=300)
    straight, stopped = (tmp_path / name for name in ends)
    last = "checkpoints/step_00000050"
    assert states_differ(straight / last, stopped / last) == []

    records = [json.loads(line) for line in (straight / "metrics.jsonl").read_text().splitlines()]
    tokens = [record["consumed_tokens"] for record in records if record["kind"] == "train"]
    per_step = [8 * 16] * 14 + [8 * 32] * 6 + [8 * 24] * 30
    assert tokens == [sum(per_step[: number + 1]) for number in range(50)]
    assert json.loads((straight / "summary0.json").read_text())["total_steps"] == 66
    assert told(straight, "from sample") == [
        f"from sample 72 on, 16 tokens each, data.train is {a} 90.0% (after 36 samples of it), {b} 10.0% (after 36"
        " samples of it)",
        f"from sample 112 on, 32 tokens each, data.train is {a} 81.8% (after 72 samples of it), {b} 9.1% (after 40"
        f" samples of it), {c} 9.1% (new)",
        f"from sample 160 on, 24 tokens each, data.train is {a} 50.0% (after 112 samples of it), {c} 50.0% (after 4"
        f" samples of it), no more {b} (after 44 samples of it)",
    ]
    assert told(straight, "the learning rate jumps") == []
    rates = [record["learning_rate"] for record in records if record["kind"] == "train"]
    assert max(abs(x - y) for x, y in pairwise(rates[8:])) < 0.06 * max(rates)


@pytest.mark.slow
def test_a_finished_run_that_is_extended_tells_that_its_learning_rate_jumps(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path)
    shape = {"training__duration": "6 steps", "optimizer__warmup": "2 steps", "optimizer__min_lr": 0.001}
    sessions = [shape, shape | {"training__duration": "12 steps"}, shape | {"training__duration": "12 steps"}]
    run = tmp_path / "run"
    run_ranks(run_sessions, 1, run, corpus, sessions, process_group=False, preload=SESSION)
    (jump,) = told(run, "the learning rate jumps")
    assert jump == (
        "the learning rate jumps: it goes on at 0.00689, and 0.001 was planned for this step when the checkpoint was"
        " saved: training.duration was 6 steps and is 12 steps"
    )
    longer = shape | {"optimizer__warmup": "20 steps"}
    run_ranks(
        run_sessions,
        1,
        tmp_path / "other",
        corpus,
        [longer],
        process_group=False,
        preload=SESSION,
    )
    (note,) = told(tmp_path / "other", "optimizer.warmup")
    assert note == (
        "optimizer.warmup (20 steps) is longer than the run: the learning rate ends on its way up, at 0.003, and never"
        " reaches optimizer.lr (0.01)"
    )
