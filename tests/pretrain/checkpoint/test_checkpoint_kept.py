"""Checkpoints that earlier versions wrote still load: the config had no names then, and states were not listed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from configs.load import build_config
from pretrain.checkpoint.compatibility import check_compatible, find_changes
from pretrain.checkpoint.reader import read_metadata
from pretrain.config import RunConfig
from tests.distributed import run_ranks
from tests.pretrain.engine.layout_cases import PRELOAD, Case, micro_batches, objective_of

KEPT = Path(__file__).parent / "kept" / "gpt-of-format-1"
SIZES = {"num_layers": 1, "hidden_size": 16, "num_attention_heads": 2, "num_query_groups": 1, "ffn_hidden_size": 32}


def go_on(case: Case) -> list[tuple[float, float]]:
    """On each rank: load the kept checkpoint of step 2, train steps 3 and 4."""
    from pretrain.checkpoint.loader import load_checkpoint
    from pretrain.engine import topology
    from pretrain.engine.engine import TrainEngine
    from pretrain.parallel.launch import discover
    from pretrain.parallel.layout import resolve_layout

    torch.set_num_threads(1)
    config, launch = case.config(), discover()
    place = topology.start(launch, resolve_layout(config, launch.world_size))
    engine = TrainEngine(config, place, objective_of(config))

    def check(metadata: dict) -> None:
        assert check_compatible(metadata, config, metadata["data_fingerprint"], metadata["tokenizer_fingerprint"]) == []

    metadata = load_checkpoint(KEPT, engine.shards(), check=check)
    engine.restore(metadata["optimizer_step"], metadata["loss_scale"])
    found = []
    for step in range(metadata["step"], 4):
        batches = micro_batches(case, step, place.data_rank, place.layout.data)
        result = engine.train_batch(batches, step=step, learning_rate=1e-2)
        found.append((result.loss, result.grad_norm))
    return found


@pytest.mark.parametrize(("ranks", "zero_stage"), [(1, 1), pytest.param(2, 3, marks=pytest.mark.slow)])
def test_a_gpt_of_format_1_goes_on_as_it_would_have(ranks: int, zero_stage: int) -> None:
    expected = json.loads((KEPT / "trajectory.json").read_text())[2:]
    model = SIZES | {"vocab_size": 128}
    case = Case("kept", ranks, {"zero_stage": zero_stage, "zero3_persistent_elements": 0}, model=model, vocab_size=128)
    found = run_ranks(go_on, ranks, case, process_group=False, preload=PRELOAD)[0]
    assert [x for pair in found for x in pair] == pytest.approx([x for pair in expected for x in pair], rel=1e-5)


def test_its_config_is_read_as_gpt_causal_adamw() -> None:
    metadata = read_metadata(KEPT)
    config = build_config(RunConfig, metadata["config"], KEPT)
    assert (config.model.name, config.objective.name, config.optimizer.name) == ("gpt", "causal", "adamw")
    other = config.model_copy(update={"optimizer": config.optimizer.model_copy(update={"beta1": 0.5})})
    changes = find_changes(metadata, other, metadata["data_fingerprint"], metadata["tokenizer_fingerprint"])
    assert changes == {"optimizer.beta1": (0.9, 0.5)}
