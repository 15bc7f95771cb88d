"""What every optimizer can have: a rate per layer, a changing decay, averages of the weights; and norms per layer."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch

from pretrain.models.parameter_table import Constant, ParameterSpec
from pretrain.optimizers.adamw_config import AdamWConfig
from tests.distributed import run_ranks
from tests.pretrain.engine.layout_cases import PRELOAD
from tests.pretrain.engine.optimizer_cases import OPTIMIZER_CASES, OptimizerCase

_BY_NAME = {case.name: case for case in OPTIMIZER_CASES}
# Without momentum and clipping a step is the gradient times the rate.
PLAIN = {"momentum": 0, "clip_grad_norm": 0, "layer_decay": 0.5, "weight_decay": 0.0}
LAYOUTS = ("sgd, zero 3, tensor 2, sequence, data 2", "sgd, zero 2, pipeline 2, data 2")


def _case(name: str, **options: Any) -> OptimizerCase:
    return replace(_BY_NAME[name], options=PLAIN | options)


def measured(case: OptimizerCase) -> dict[str, Any]:
    """On each rank: two steps, the second with another decay; norms of each layer, and what averages should be."""
    from pretrain.engine import topology
    from pretrain.engine.engine import TrainEngine
    from pretrain.parallel.launch import discover
    from pretrain.parallel.layout import resolve_layout
    from tests.pretrain.engine.layout_cases import objective_of

    torch.set_num_threads(1)
    config, launch = case.config(), discover()
    place = topology.start(launch, resolve_layout(config, launch.world_size))
    engine = TrainEngine(config, place, objective_of(config))
    decay = config.optimizer.average_decay
    averages = [shard.tensors["master"].clone() for shard in engine.shards()]
    found: dict[str, Any] = {"layers": [], "norms": [], "weights": []}
    for step, weight_decay in enumerate((0.0, 0.5)):
        found["weights"].append(engine.parameter_norm())
        batches = case.micro_batches(step, place.data_rank, place.layout.data)
        result = engine.train_batch(
            batches, step=step, learning_rate=0.1, weight_decay=weight_decay, measures_layers=True
        )
        assert result.applied and result.layer_norms is not None
        found["layers"].append({name: asdict(norms) for name, norms in result.layer_norms.items()})
        found["norms"].append(result.grad_norm)
        if decay is not None:
            for average, shard in zip(averages, engine.shards()):
                average.lerp_(shard.tensors["master"], 1 - decay)
    if decay is not None:
        found["averages_equal"] = all(
            torch.equal(average, shard.tensors["average"]) for average, shard in zip(averages, engine.shards())
        )
    return found


def _run(case: OptimizerCase) -> dict[str, Any]:
    found = run_ranks(measured, case.ranks, case, process_group=False, preload=PRELOAD, timeout_s=200)
    assert all(other["layers"] == found[0]["layers"] for other in found)
    assert all(other.get("averages_equal", True) for other in found)
    return found[0]


@pytest.mark.slow
def test_norms_of_layers_rates_and_averages_are_the_same_in_every_layout() -> None:
    single = _run(_case(LAYOUTS[0], average_decay=0.75).reference())
    assert list(single["layers"][0])[:2] == ["embedding.word_embeddings", "decoder.layers.0"]
    for layers, norm, weights in zip(single["layers"], single["norms"], single["weights"]):
        assert math.sqrt(sum(found["gradient"] ** 2 for found in layers.values())) == pytest.approx(norm)
        assert math.sqrt(sum(found["weight"] ** 2 for found in layers.values())) == pytest.approx(weights)
    # The first step decays nothing; tied embeddings come below the lowest of the four layers.
    for name, above in {"embedding.word_embeddings": 4, "decoder.layers.0": 3, "decoder.layers.3": 0}.items():
        norms = single["layers"][0][name]
        assert norms["update"] == pytest.approx(0.1 * 0.5**above * norms["gradient"], rel=1e-4)
    head = single["layers"][1]["decoder.layers.3"]
    assert head["update"] > 0.1 * head["gradient"] * 1.001
    for name in LAYOUTS:
        found = _run(_case(name, average_decay=0.75))
        for layers, expected in zip(found["layers"], single["layers"], strict=True):
            assert list(layers) == list(expected)
            for layer, norms in expected.items():
                assert layers[layer] == pytest.approx(norms, rel=1e-4), (name, layer)


@pytest.mark.slow
def test_the_embedding_gets_a_share_of_its_gradient() -> None:
    """Untied, so that nothing else adds to it."""
    whole, share = (
        _run(replace(_case(name, embedding_gradient=scale), model={"tie_embeddings": False}))
        for name, scale in ((LAYOUTS[0], 1.0), (LAYOUTS[1], 0.25))
    )
    for layer, norms in whole["layers"][0].items():
        expected = norms["gradient"] * (0.25 if layer == "embedding.word_embeddings" else 1.0)
        assert share["layers"][0][layer]["gradient"] == pytest.approx(expected, rel=1e-4), layer


def test_the_rate_of_a_layer() -> None:
    config = AdamWConfig(lr=1.0, layer_decay=0.5)
    holders: list[Any] = [0, 2, "first", "ends", "last"]
    scales = [config.lr_scale(ParameterSpec("w", (1,), holder, Constant(0.0)), num_layers=3) for holder in holders]
    assert scales == [0.25, 1.0, 0.125, 0.125, 1.0]
    assert AdamWConfig(lr=1.0).lr_scale(ParameterSpec("w", (1,), 0, Constant(0.0)), num_layers=3) == 1.0
