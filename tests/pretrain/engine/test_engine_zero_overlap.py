"""ZeRO's overlap and prefetch change no bit of a training, in the layouts that allow them; the others are refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tests.distributed import run_ranks
from tests.pretrain.engine.layout_cases import PRELOAD, Case

OVERLAP, PREFETCH = {"zero_overlap": True}, {"zero3_prefetch_elements": 20_000}


def figures(case: Case) -> list[tuple[float, ...]]:
    """Of four steps loss and norm, with an evaluation between, which reads the weights in another order."""
    from tests.pretrain.engine.test_engine_steps import build

    engine, place = build(case)
    found: list[tuple[float, ...]] = []
    for step in range(4):
        batches = case.micro_batches(step, place.data_rank, place.layout.data)
        result = engine.train_batch(batches, step=step, learning_rate=1e-2)
        found.append((result.loss, result.grad_norm))
        if step == 1:
            found.append(tuple(engine.evaluate(batches, engine.objective).values()))
    return [*found, (engine.parameter_norm(),)]


def check(ranks: int, parallel: dict[str, Any], options: dict[str, Any], **case: Any) -> None:
    layout = {"zero3_persistent_elements": 0} | parallel
    plain, changed = (
        run_ranks(figures, ranks, Case("x", ranks, layout | more, **case), process_group=False, preload=PRELOAD)[0]
        for more in ({}, options)
    )
    assert changed == plain


@pytest.mark.slow
def test_prefetch_at_stage_3() -> None:
    check(2, {"zero_stage": 3}, OVERLAP | PREFETCH)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ranks", "parallel"),
    [
        (2, {"zero_stage": 2, "offload_optimizer": True}),
        (4, {"zero_stage": 2, "tensor_size": 2, "sequence_parallel": True}),
        (4, {"zero_stage": 2, "pipeline_size": 2, "recompute": "full"}),
        (4, {"zero_stage": 3, "pipeline_size": 2}),
    ],
)
def test_overlap(ranks: int, parallel: dict[str, Any]) -> None:
    check(ranks, parallel, OVERLAP)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ranks", "parallel", "options"),
    [
        (2, {"zero_stage": 3, "recompute": "full"}, PREFETCH),
        (2, {"zero_stage": 3, "offload_optimizer": True}, PREFETCH | OVERLAP),
        (4, {"zero_stage": 3, "tensor_size": 2, "sequence_parallel": True, "recompute": "selective"}, PREFETCH),
    ],
)
def test_prefetch(ranks: int, parallel: dict[str, Any], options: dict[str, Any]) -> None:
    check(ranks, parallel, options)


@pytest.mark.parametrize(
    ("ranks", "parallel", "says"),
    [
        (1, OVERLAP | {"zero_stage": 0}, "zero_overlap needs parallel.zero_stage 2 or 3"),
        (1, OVERLAP | {"zero_stage": 1}, "zero_overlap needs parallel.zero_stage 2 or 3"),
        (1, PREFETCH | {"zero_stage": 2}, "zero3_prefetch_elements needs parallel.zero_stage 3"),
        (2, PREFETCH | {"zero_stage": 3, "pipeline_size": 2}, "zero3_prefetch_elements needs parallel.pipeline_size 1"),
    ],
)
def test_what_does_not_combine_is_refused(ranks: int, parallel: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Case("refused", ranks, parallel).config()
