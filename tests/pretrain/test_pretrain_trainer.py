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
