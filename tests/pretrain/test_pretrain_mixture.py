"""A whole run on a mixture of objectives, in two layouts one after the other, and what it logs of each part."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.distributed import run_ranks
from tests.pretrain.engine.layout_cases import SESSION
from tests.pretrain.tiny_run import ENCODER_TOKENS, FIM_TOKENS, make_corpus, tiny_config

PARTS = {"causal": "causal", "fim": "fill_in_middle", "prefix": "prefix"}
MIXTURE: dict[str, Any] = {
    "objective__name": "mixture",
    **{f"objective__parts__{part}__objective__name": name for part, name in PARTS.items()},
    "objective__parts__causal__weight": 2,
    "objective__parts__fim__objective__z_loss": 0.01,
    "model__seq_length": 32,
    # Dropout is drawn by the place in a micro-batch; here the layouts have micro-batches of different sizes.
    "model__hidden_dropout": 0.0,
    "model__attention_dropout": 0.0,
    "training__duration": "6 steps",
    "monitor__tensorboard": "true",
}

DENOISING = {"spans": "span_corruption", "infilling": "text_infilling", "fragments": "masked_sequence"}
TWO_SIDED: dict[str, Any] = {
    "model__name": "t5",
    **{f"objective__parts__{part}__objective__name": name for part, name in DENOISING.items()},
    "objective__parts__infilling__objective__selection": "token",
    "objective__parts__infilling__objective__permute_sentences": "false",
    "objective__parts__spans__objective__z_loss": 0.01,
}


def run_mixture(output: Path, corpus: Path, changes: dict[str, Any]) -> int:
    """On each rank: a run."""
    import torch

    from pretrain import main

    torch.set_num_threads(1)
    mixture = MIXTURE
    if changes.get("model__name") == "t5":
        mixture = {key: value for key, value in MIXTURE.items() if not key.startswith("objective__parts")}
    return int(main.run(tiny_config(output, corpus, **mixture | changes)))


def session(output: Path, corpus: Path, ranks: int, **changes: Any) -> list[int]:
    return run_ranks(run_mixture, ranks, output, corpus, changes, process_group=False, preload=SESSION, timeout_s=200)


def records_of(output: Path, kind: str) -> list[dict[str, Any]]:
    lines = (output / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == kind]


@pytest.mark.slow
def test_a_mixture_trains_resumes_in_another_layout_and_logs_each_part(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path, special=FIM_TOKENS)
    straight, moved = tmp_path / "straight", tmp_path / "moved"
    assert session(straight, corpus, 1) == [0]
    cut = {"parallel__pipeline_size": 2, "parallel__zero_stage": 2, "training__micro_batch_size": 4}
    assert session(moved, corpus, 2, training__session_limit="3 steps", **cut) == [75, 75]
    sharded = {"parallel__tensor_size": 2, "parallel__sequence_parallel": "true", "parallel__zero_stage": 3}
    assert session(moved, corpus, 2, **sharded) == [0, 0]

    expected, found = records_of(straight, "train"), records_of(moved, "train")
    assert [record["step"] for record in found] == [1, 2, 3, 4, 5, 6]
    names = {"causal/lm", "fim/lm", "fim/z", "prefix/lm"}
    for one, other in zip(expected, found, strict=True):
        assert set(one["losses"]) == names
        assert other["losses"] == pytest.approx(one["losses"], rel=1e-4)
        assert other["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-3)
    trained = {"causal/lm": 0.5, "fim/lm": 0.25, "fim/z": 0.0025, "prefix/lm": 0.25}
    last = expected[-1]
    assert last["loss"] == pytest.approx(sum(share * last["losses"][name] for name, share in trained.items()))

    (*_, one), (*_, other) = records_of(straight, "validation"), records_of(moved, "validation")
    figures = {key for key in one if "/" in key}
    assert {f"{part}/loss" for part in PARTS} | {"fim/infill_loss", "fim/infill_dropped"} <= figures
    assert {f"{part}/unigram_loss" for part in PARTS} <= figures
    for key in ("loss", "unigram_loss", *figures):
        assert other[key] == pytest.approx(one[key], rel=1e-4), key
    assert one["loss"] == pytest.approx(0.5 * one["causal/loss"] + 0.25 * one["fim/loss"] + 0.25 * one["prefix/loss"])
    # The same text, as it stands.
    assert one["fim/loss"] == pytest.approx(one["causal/loss"])

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(straight / "tensorboard"))
    events.Reload()
    tags = set(events.Tags()["scalars"])
    assert {f"train/loss/{name}" for name in names} <= tags
    assert {"validation/validation/causal/loss", "validation/validation/fim/infill_loss"} <= tags


@pytest.mark.slow
def test_a_mixture_of_denoising_objectives_trains_and_resumes_in_another_layout(tmp_path: Path) -> None:
    special = (*ENCODER_TOKENS, "special_tokens.sentinels=12")
    corpus = make_corpus(tmp_path, special=special)
    straight, moved = tmp_path / "straight", tmp_path / "moved"
    assert session(straight, corpus, 1, **TWO_SIDED) == [0]
    cut = {"parallel__zero_stage": 2, "training__micro_batch_size": 4}
    assert session(moved, corpus, 2, training__session_limit="3 steps", **cut, **TWO_SIDED) == [75, 75]
    sharded = {"parallel__tensor_size": 2, "parallel__sequence_parallel": "true", "parallel__zero_stage": 3}
    assert session(moved, corpus, 2, **sharded, **TWO_SIDED) == [0, 0]
    expected, found = records_of(straight, "train"), records_of(moved, "train")
    assert [record["step"] for record in found] == [1, 2, 3, 4, 5, 6]
    names = {"spans/denoising", "spans/z", "infilling/denoising", "fragments/denoising"}
    for one, other in zip(expected, found, strict=True):
        assert set(one["losses"]) == names
        assert other["losses"] == pytest.approx(one["losses"], rel=1e-4)
        assert other["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-3)
    (*_, one), (*_, other) = records_of(straight, "validation"), records_of(moved, "validation")
    figures = {f"{part}/{figure}" for part in DENOISING for figure in ("loss", "accuracy", "unigram_loss")}
    assert figures | {"infilling/infilled_loss"} <= set(one)
    for key in ("loss", *figures):
        assert other[key] == pytest.approx(one[key], rel=1e-4), key
    assert one["loss"] == pytest.approx(sum(one[f"{part}/loss"] for part in DENOISING) / 3)
