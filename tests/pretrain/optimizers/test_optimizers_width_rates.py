"""Rates and weight decays of models with a base width, by optimizer; what is refused; a resume with another base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from configs.durations import Duration
from configs.errors import CheckpointError, ConfigError
from configs.load import find_recipe, load_config
from pretrain.checkpoint.compatibility import check_compatible
from pretrain.config import DataConfig, OptimizerConfig, RunConfig, TrainingConfig
from pretrain.config.kinds import OPTIMIZERS
from pretrain.engine.parameter_groups import grouped_optimizer
from pretrain.models.gpt.config import GPTConfig
from pretrain.models.parameter_table import ParameterSpec

MODEL: dict[str, Any] = {
    "num_layers": 2,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "seq_length": 16,
    "vocab_size": 128,
    "output_bias": True,
    "base_hidden_size": 16,
}
RATES = {
    "adamw": (1 / 4, 1.0),
    "lion": (1 / 4, 1.0),
    "adagrad": (1 / 4, 1.0),
    "sgd": (1.0, 4.0),
    "adafactor": (1 / 2, 1.0),
    "adafactor relative_step=False": (1 / 4, 1.0),
    "muon": (1 / 2, 1.0),
    "muon scale=spectral": (1.0, 1.0),
}
"""Of matrices and of what has one axis of the model's width, which is four times its base's."""


def optimizer(name: str, **keys: Any) -> OptimizerConfig:
    name, _, option = name.partition(" ")
    if option:
        keys[option.partition("=")[0]] = option.partition("=")[2]
    section = OPTIMIZERS.declaration(name).model_validate({"lr": 0.1} | keys)
    assert isinstance(section, OptimizerConfig)
    return section


def run(model: dict[str, Any], chosen: OptimizerConfig) -> RunConfig:
    return RunConfig(
        output=Path("unused"),
        model=GPTConfig(**model),
        data=DataConfig.model_validate({"train": ["unused"]}),
        training=TrainingConfig(duration=Duration(4, "steps"), micro_batch_size=1, global_batch_size=1),
        optimizer=chosen,
    )


def groups(model: dict[str, Any], chosen: OptimizerConfig) -> dict[str, dict[str, Any]]:
    """The group of each parameter by the parameter's name."""
    parameters = []
    for spec in GPTConfig(**model).parameters():
        parameters.append(torch.nn.Parameter(torch.zeros(spec.shape)))
        parameters[-1].spec = spec  # type: ignore[attr-defined]
    found = grouped_optimizer(parameters, chosen, model["num_layers"]).param_groups
    return {parameter.spec.name: group for group in found for parameter in group["params"]}


@pytest.mark.parametrize("name", RATES)
def test_the_rates_of_each_optimizer(name: str) -> None:
    chosen, (of_matrices, of_vectors) = optimizer(name), RATES[name]
    specs = list(GPTConfig(**MODEL).parameters())
    assert {chosen.width_rate(spec) for spec in specs if spec.is_hidden_matrix} == {of_matrices}
    others = [spec for spec in specs if not spec.is_hidden_matrix]
    assert {chosen.width_rate(spec) for spec in others if spec.name != "output_layer.bias"} == {of_vectors}
    assert [chosen.width_rate(spec) for spec in others if spec.name == "output_layer.bias"] == [1.0]
    assert all(chosen.width_rate(spec) == 1.0 for spec in GPTConfig(**MODEL | {"base_hidden_size": None}).parameters())


def test_muon_trains_the_heads_matrices_by_adam() -> None:
    dense = ParameterSpec("lm_head.dense.weight", (64, 64), "last", GPTConfig(**MODEL).normal(0.02), matrix_growth=4.0)
    assert optimizer("muon").width_rate(dense) == 1 / 4


def test_the_decay_of_a_step_stays_that_of_the_base_and_rates_of_layers_are_kept() -> None:
    found = groups(MODEL, optimizer("adamw", layer_decay=0.5, weight_decay=0.2))
    matrix, norm = found["decoder.layers.0.mlp.linear_fc1.weight"], found["decoder.layers.0.input_layernorm.weight"]
    assert (matrix["lr_scale"], matrix["weight_decay"], matrix["decay_scale"]) == (0.125, 0.8, 4.0)
    assert (norm["lr_scale"], norm["weight_decay"], norm["decay_scale"]) == (0.5, 0.0, 0.0)
    embedding = found["embedding.word_embeddings.weight"]
    assert (embedding["lr_scale"], embedding["weight_decay"]) == (0.25, 0.2)
    of_sgd = groups(MODEL, optimizer("sgd", weight_decay=0.2))["embedding.word_embeddings.weight"]
    assert (of_sgd["lr_scale"], of_sgd["weight_decay"]) == (4.0, 0.05)


def test_optimizers_without_a_rule_are_refused() -> None:
    run(MODEL, optimizer("adagrad"))
    run(MODEL | {"base_hidden_size": None}, optimizer("lamb"))
    for chosen, told in (
        (optimizer("lamb"), "optimizer.name=lamb has its weight decay within the update"),
        (optimizer("adagrad", initial_sum=0.1), r"has optimizer.initial_sum=0.1 \(not 0\)"),
    ):
        with pytest.raises(ValidationError, match=rf"model.base_hidden_size is set, and .*{told}"):
            run(MODEL, chosen)

    class Unknown(type(optimizer("adamw"))):  # type: ignore[misc]
        width_exponents = OptimizerConfig.width_exponents

    with pytest.raises(ValidationError, match="does not say how its learning rates go with the width"):
        run(MODEL, Unknown(lr=0.1))


def test_families_without_width_scaling_do_not_know_the_key() -> None:
    with pytest.raises(ConfigError, match=r"unknown key model.base_hidden_size .*belongs to model.name=gpt or bert"):
        load_config(RunConfig, find_recipe("t5-tiny", "pretrain"), ["model.base_hidden_size=64"])


def test_a_resume_with_another_base_is_refused() -> None:
    saved = {"config": run(MODEL, optimizer("adamw")).model_dump(mode="json"), "step": 3}
    check_compatible(saved, run(MODEL, optimizer("adamw")), None, None)
    check_compatible(saved, run(MODEL | {"base_head_size": 16}, optimizer("adamw")), None, None)  # what null means
    for changed in ({"base_hidden_size": 32}, {"base_hidden_size": None}, {"base_head_size": 8}):
        with pytest.raises(CheckpointError, match=f"model.{next(iter(changed))} "):
            check_compatible(saved, run(MODEL | changed, optimizer("adamw")), None, None)
