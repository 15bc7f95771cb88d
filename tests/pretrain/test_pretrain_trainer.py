"""What a later session is told of the earlier ones, over whole runs of one rank."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.distributed import run_ranks
from tests.pretrain.engine.layout_cases import PRELOAD
from tests.pretrain.tiny_run import make_corpus, tiny_config

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


def test_validation_sets_that_change_are_told_and_not_mixed(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path)
    sets = {"data__validation": f"{{wiki: {corpus}}}"}
    sessions = [sets, sets | {"evaluation__batches": 1, "training__duration": "4 steps"}]
    run = tmp_path / "run"
    (paths,) = run_ranks(
        run_sessions, 1, run, corpus, sessions, process_group=False, preload=(*PRELOAD, "pretrain.trainer")
    )
    best = [json.loads(path.read_text())["best"]["wiki"]["evaluations"] for path in paths]
    assert best == [1, 1]
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    said = [record["text"] for record in records if "is another one" in record.get("text", "")]
    assert [text.split(" (")[0] for text in said] == [
        "the set 'wiki' is another one than at step 2",
        "the set 'test' is another one than at step 2",
    ]


def test_what_a_run_will_not_have_and_what_it_sets_aside_is_told_before_its_first_step(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path)
    odd = {"model__normalization": "RMSNorm", "model__position_embedding": "learned"}
    run = tmp_path / "run"
    sessions = [odd, odd | {"checkpoint__resume": "never"}]
    run_ranks(run_sessions, 1, run, corpus, sessions, process_group=False, preload=(*PRELOAD, "pretrain.trainer"))
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    first_step = next(number for number, record in enumerate(records) if record["kind"] == "train")
    said = "\n".join(record.get("text", "") for record in records[:first_step])
    assert "this model will have no Hugging Face export" in said
    assert "checkpoint.resume=never: the first save sets aside step_00000002" in said
    names = sorted(path.name.split("-")[0] for path in (run / "checkpoints").glob("step_*"))
    assert names == ["step_00000002", "step_00000002.superseded"]
