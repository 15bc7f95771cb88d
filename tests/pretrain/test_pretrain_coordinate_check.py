"""The coordinate check: widths, slopes, and that width scaling keeps what a step changes of activations."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from configs.durations import Duration
from configs.errors import ConfigError
from pretrain.config import DataConfig, OptimizerConfig, ParallelConfig, RunConfig, TrainingConfig
from pretrain.config.kinds import OPTIMIZERS
from pretrain.coordinate_check import at_width, main
from pretrain.models.gpt.config import GPTConfig
from pretrain.monitor.coordinates import Coordinates
from tests.distributed import run_ranks
from tests.pretrain.engine.layout_cases import PRELOAD, SEQ_LENGTH, VOCAB, Case
from tests.pretrain.tiny_run import FIM_TOKENS, make_corpus, tiny_config

WIDTHS, STEPS = (32, 64, 128, 256), 4
RATES = {"adamw": 1e-2, "sgd": 0.5, "adafactor": 0.1, "muon": 2e-2}


def recipe(optimizer: str, **model: Any) -> RunConfig:
    sizes: dict[str, Any] = {"num_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "num_query_groups": 2}
    section = OPTIMIZERS.declaration(optimizer).model_validate({"lr": RATES[optimizer]})
    assert isinstance(section, OptimizerConfig)
    return RunConfig(
        output=Path("unused"),
        model=GPTConfig(**sizes, ffn_hidden_size=128, seq_length=SEQ_LENGTH, vocab_size=VOCAB, **model),
        data=DataConfig.model_validate({"train": ["unused"]}),
        parallel=ParallelConfig(zero_stage=1),
        training=TrainingConfig(
            duration=Duration(STEPS, "steps"), micro_batch_size=8, global_batch_size=8, precision="fp32"
        ),
        optimizer=section,
    )


def measured(configs: dict[str, list[RunConfig]]) -> dict[str, Coordinates]:
    """In a process of its own: the coordinates of each list of widths, on one batch again and again."""
    import torch

    from pretrain.coordinate_check import measure
    from pretrain.data.token_facts import TokenFacts
    from pretrain.engine import topology
    from pretrain.parallel.launch import discover
    from pretrain.parallel.layout import resolve_layout

    torch.set_num_threads(1)
    place = topology.start(discover(), resolve_layout(next(iter(configs.values()))[0], 1))
    batches = [Case("samples", 1, micro_batch_size=8, global_batch_size=8).micro_batches(0, 0, 1)] * STEPS
    return {name: measure(runs, batches, TokenFacts(VOCAB, {}), place) for name, runs in configs.items()}


@pytest.mark.parametrize("key", ["start_from", "checkpoint.branch_from"])
def test_weights_of_another_run_are_refused(key: str, tmp_path: Path) -> None:
    overrides = ["data.train=unused", f"output={tmp_path / 'run'}", f"{key}={tmp_path / 'other'}"]
    with pytest.raises(ConfigError, match="weights have one width") as refused:
        main(overrides, ["gpt-tiny"], widths="32,64", steps=1, grow="heads", output=None)
    assert refused.value.where == key


@pytest.mark.slow
def test_with_a_base_width_what_a_step_changes_stays_and_without_it_grows() -> None:
    configs = {"adamw None": [at_width(recipe("adamw"), width) for width in WIDTHS]}
    for optimizer in RATES:
        run = recipe(optimizer, base_hidden_size=64)
        configs[f"{optimizer} 64"] = [at_width(run, width) for width in WIDTHS]
    gemma = recipe("adamw", base_hidden_size=64, embedding_scale=True)
    configs["scaled embeddings"] = [at_width(gemma, width) for width in WIDTHS]
    wider_heads = recipe("adamw", base_hidden_size=64, base_head_size=16)
    configs["wider heads"] = [at_width(wider_heads, width, "head_size") for width in WIDTHS]
    found = run_ranks(measured, 1, configs, process_group=False, preload=PRELOAD, timeout_s=300)[0]
    slopes = {name: {kind: c.slope("change", kind, STEPS) for kind in c.kinds} for name, c in found.items()}
    for name, by_kind in slopes.items():
        assert set(by_kind) == {"embedding", "attention", "mlp", "hidden", "logits"}
        if not name.endswith("None"):
            assert all(-0.7 < slope < 0.3 for slope in by_kind.values()), (name, slopes)
    for kind in ("attention", "mlp", "hidden", "logits"):
        assert slopes["adamw None"][kind] > 0.75, slopes
    # Before training only the logits fall with the width: the output layer's multiplier is as if all had learnt.
    before = {kind: found["adamw 64"].slope("size", kind, 0) for kind in found["adamw 64"].kinds}
    assert before.pop("logits") == pytest.approx(-0.5, abs=0.1)
    assert all(abs(slope) < 0.05 for slope in before.values())


def checked(run: RunConfig) -> Coordinates:
    """In a process of its own: the check of a run as the command has it."""
    from pretrain.coordinate_check import check

    return check([at_width(run, width) for width in (16, 32)], 1)


@pytest.mark.slow
def test_an_objective_whose_evaluation_reads_other_rows_is_checked(tmp_path: Path) -> None:
    run = tiny_config(tmp_path, make_corpus(tmp_path, special=FIM_TOKENS), objective__name="fill_in_middle")
    found = run_ranks(checked, 1, run, process_group=False, preload=PRELOAD)[0]
    assert list(found.sizes) == [16, 32] and found.last_step == 1


@pytest.mark.parametrize("words", ["64", "64,wide", "0,64", "64,64"])
def test_widths_are_two_or_more_numbers(words: str) -> None:
    with pytest.raises(ConfigError, match=r"--widths: is '(?s:.*)two widths or more"):
        main(["output=unused", "data.train=unused"], ["gpt-tiny"], widths=words, steps=1, grow="heads", output=None)


def test_inner_widths_grow_in_proportion() -> None:
    run = recipe("adamw", base_hidden_size=64)
    heads, wider = at_width(run, 128).model, at_width(run, 128, "head_size").model
    assert isinstance(heads, GPTConfig) and isinstance(wider, GPTConfig)
    assert (heads.hidden_size, heads.ffn_size, heads.num_attention_heads, heads.query_groups) == (128, 256, 8, 4)
    assert (heads.head_size, wider.head_size, wider.num_attention_heads) == (16, 32, 4)
    assert heads.base_hidden_size == 64 and heads.width_ratio == 2.0
    # What scores are divided by goes with the size of a head: by twice as much, and by the base's root besides.
    own = recipe("adamw", base_hidden_size=64, base_head_size=16, query_scale=4)
    heads, wider = at_width(own, 128).model, at_width(own, 128, "head_size").model
    assert isinstance(heads, GPTConfig) and isinstance(wider, GPTConfig)
    assert heads.softmax_scale(0) == 1 / 2 and wider.softmax_scale(0) == pytest.approx(1 / 4)
    with pytest.raises(ConfigError, match=r"80 has no whole model.num_query_groups, which is 2 (?s:.*)multiples of 32"):
        at_width(run, 80)


def test_slopes_are_exponents_of_the_width(tmp_path: Path) -> None:
    widths = (16, 32, 64)
    sizes = {width: [{"mlp": 3.0 * width**power} for power in (0.0, -0.5)] for width in widths}
    changes = {width: [{"mlp": 2.0 * width}] for width in widths}
    found = Coordinates(sizes, changes)
    assert found.slope("size", "mlp", 0) == pytest.approx(0.0, abs=1e-12)
    assert found.slope("size", "mlp", 1) == pytest.approx(-0.5)
    assert found.slope("change", "mlp", 1) == pytest.approx(1.0)
    assert math.isnan(Coordinates(sizes, {width: [{"mlp": 0.0}] for width in widths}).slope("change", "mlp", 1))
    lines = found.table().splitlines()
    assert lines[0].split() == ["kind", "figure", "step", "width", "16", "width", "32", "width", "64", "slope"]
    assert lines[1].split() == ["mlp", "change", "1", "3.20e+01", "6.40e+01", "1.28e+02", "+1.00"]
    assert len(lines) == 4
    found.plot(tmp_path / "coordinates.png")
    assert (tmp_path / "coordinates.png").read_bytes().startswith(b"\x89PNG")
