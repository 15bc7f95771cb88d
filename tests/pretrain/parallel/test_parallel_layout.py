"""What a run's kinds say to its layout, and what is refused whatever the layout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from configs.errors import ConfigError
from pretrain.config import ModelConfig, RunConfig
from pretrain.config.optimizer import StateSpec
from pretrain.objectives.causal_config import CausalConfig
from pretrain.optimizers.adamw_config import AdamWConfig
from pretrain.parallel.layout import nearest_layouts, resolve_layout
from tests.pretrain.tiny_run import tiny_config

HERE = "tests.pretrain.parallel.test_parallel_layout"


class OwnOptimizerConfig(AdamWConfig):
    """Says neither that it is element-wise nor that it is not."""

    is_element_wise: ClassVar[bool] = False


class OneRankOptimizerConfig(AdamWConfig):
    """Wants whole matrices, and its states whole from ZeRO 1 on."""

    states: ClassVar[tuple[StateSpec, ...]] = (StateSpec("exp_avg"),)

    def layout_problems(self, sizes: Mapping[str, int], *, zero_stage: int) -> list[str]:
        found = [f"optimizer wants no tensor axis, found {sizes['tensor']}"] if sizes["tensor"] > 1 else []
        return found + ([f"optimizer wants zero_stage 0, found {zero_stage}"] if zero_stage else [])


class UncutObjectiveConfig(CausalConfig):
    """Cannot be asked of a pipeline."""

    def layout_problems(self, model: ModelConfig, sizes: Mapping[str, int], *, sequence_parallel: bool) -> list[str]:
        found = super().layout_problems(model, sizes, sequence_parallel=sequence_parallel)
        return found + ([f"objective wants one stage, found {sizes['pipeline']}"] if sizes["pipeline"] > 1 else [])


def run(**changes: Any) -> RunConfig:
    return tiny_config(Path("run"), Path("corpus"), **changes)


def test_an_optimizer_that_is_not_said_to_be_element_wise_is_refused_when_the_config_is_read() -> None:
    with pytest.raises(ConfigError) as refused:
        run(optimizer__name=f"{HERE}:OwnOptimizerConfig")
    said = refused.value.render()
    for part in (f"optimizer.name={HERE}:OwnOptimizerConfig", "is_element_wise = True", "OwnOptimizerConfig)"):
        assert part in said
    assert AdamWConfig(lr=1.0).problems() == []


def test_optimizer_and_objective_say_which_layouts_they_fit() -> None:
    own = {"optimizer__name": f"{HERE}:OneRankOptimizerConfig", "objective__name": f"{HERE}:UncutObjectiveConfig"}
    fits = run(**own, parallel__zero_stage=0)
    assert resolve_layout(fits, 4).data == 4
    # Of the layouts of 4 ranks with tensor and pipeline sizes, one is left.
    assert [str(layout) for layout in nearest_layouts(fits, 4)] == ["tensor 1 x pipeline 1 x data 4"]
    cut = run(**own, parallel__tensor_size=2, parallel__pipeline_size=2, parallel__zero_stage=0)
    with pytest.raises(ConfigError) as refused:
        resolve_layout(cut, 4)
    said = refused.value.render()
    assert "optimizer wants no tensor axis, found 2" in said and "objective wants one stage, found 2" in said
    assert "such as tensor 1 x pipeline 1 x data 4" in said
    with pytest.raises(ConfigError, match="optimizer wants zero_stage 0, found 1") as refused:
        resolve_layout(run(**own, parallel__zero_stage=1), 1)
    assert refused.value.expected is None  # no other batch size or layout would help


def test_every_length_of_a_schedule_has_to_fit_the_layout() -> None:
    schedule = "[{from_sample: 0, length: 6}, {from_sample: 40, length: 12}]"
    bert = {"model__name": "bert", "model__pooler": "false", "model__seq_length": 12, "model__num_attention_heads": 4}
    config = run(
        **bert,
        objective__name="masked",
        objective__length_schedule=schedule,
        parallel__tensor_size=4,
        parallel__sequence_parallel="true",
    )
    with pytest.raises(ConfigError, match="the length 6 of objective is not a multiple of the tensor size 4"):
        resolve_layout(config, 4)


def test_a_batch_that_fits_no_layout_is_told_with_those_that_do() -> None:
    config = run(training__global_batch_size=9, training__micro_batch_size=2)
    with pytest.raises(ConfigError, match=r"such as 8 or 12"):
        resolve_layout(config, 2)
