"""What a run with an adapter may be, and what it holds."""

from __future__ import annotations

import pytest

from configs.errors import ConfigError
from configs.load import find_recipe, load_config
from pretrain.checkpoint.compatibility import find_changes
from pretrain.checkpoint.model_checkpoint import holds_adapter
from pretrain.config import RunConfig
from pretrain.config.method import LowRankMethod
from pretrain.parallel.layout import Layout
from pretrain.parallel.state_memory import state_memory, weights_of_stages

LORA = ("method.name=lora", "start_from=unused")


def run(*settings: str, recipe: str = "gpt-tiny") -> RunConfig:
    return load_config(RunConfig, find_recipe(recipe, "pretrain"), ["model.vocab_size=32000", *settings])


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (("method.name=lora",), r"start_from is null: its frozen weights would be drawn"),
        ((*LORA, "method.target_modules=[linear_fc3]"), r"names linear_fc3, .* did you mean linear_fc"),
        ((*LORA, "method.target_modules=[]"), r"method\.target_modules is empty"),
        ((*LORA, "model.base_hidden_size=64"), r"model\.base_hidden_size is set: no rule says"),
        ((*LORA, "optimizer.layer_decay=0.9"), r"freezes all of the model's weights, and optimizer\.layer_decay"),
        ((*LORA, "optimizer.embedding_gradient=0.1"), r"optimizer\.embedding_gradient is 0\.1"),
        ((*LORA, "method.dora=true"), r"dora"),
        (("method.name=adalora", "start_from=unused"), r"there is no training method 'adalora'"),
    ],
)
def test_what_contradicts_an_adapter_is_refused(settings: tuple[str, ...], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        run(*settings)


def test_a_family_that_names_no_layers_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.name=bert does not say which of its layers"):
        run(*LORA, recipe="bert-base")


def test_two_factors_stand_beside_each_chosen_matrix() -> None:
    config = run(*LORA, "method.r=4", "method.target_modules=[linear_fc2,linear_qkv]")
    model, table = config.model, list(config.trained_parameters())
    assert [spec.name.split(".", 3)[3] for spec in table[:4]] == [
        f"{layer}.adapter.lora_{factor}"
        for layer in ("self_attention.linear_qkv", "mlp.linear_fc2")
        for factor in ("A", "B")
    ]
    base = {spec.name: spec for spec in model.parameters()}
    for first, second in zip(table[::2], table[1::2], strict=True):
        matrix = base[first.name.replace("adapter.lora_A", "weight")]
        assert (second.shape[0], first.shape[1]) == matrix.shape and first.shape[0] == second.shape[1] == 4
        cut, whole = (second, first) if matrix.tensor_axis == 0 else (first, second)
        assert cut.tensor_axis == matrix.tensor_axis and whole.tensor_axis is None
        assert whole.sequence_partial and not cut.sequence_partial and second.blocks == matrix.blocks


@pytest.mark.parametrize(("rslora", "scale"), [(False, 4.0), (True, 8.0)])
def test_the_scale_goes_with_the_rank_or_its_root(rslora: bool, scale: float) -> None:
    assert LowRankMethod(r=4, alpha=16.0, rslora=rslora).scale == scale


def test_a_run_goes_on_with_its_own_method_alone() -> None:
    config = run(*LORA)
    saved = {"config": config.model_dump(mode="json"), "model": config.model.model_dump(mode="json")}
    assert find_changes(saved, config, None, None) == {}
    assert find_changes(saved, run(*LORA, "method.r=4"), None, None) == {"method.r": (8, 4)}
    assert find_changes(saved, run(), None, None) == {"method.name": ("lora", "full")}
    # Checkpoints of before there were methods hold whole models.
    before = {"config": {k: v for k, v in saved["config"].items() if k != "method"}, "model": saved["model"]}
    assert find_changes(before, run(), None, None) == {} and not holds_adapter(before)
    assert find_changes(before, config, None, None) == {"method.name": ("full", "lora")} and holds_adapter(saved)


def test_frozen_weights_take_no_gradients_and_no_states() -> None:
    config, layout = run(*LORA, "training.precision=bf16", "parallel.zero_stage=3"), Layout(data=4)
    trained = weights_of_stages(config.model, layout, config.trained_parameters())[0]
    frozen = weights_of_stages(config.model, layout)[0]
    found = state_memory(config, layout, trained, frozen=frozen)
    assert found.device_bytes == pytest.approx(18 / 4 * trained + 2 / 4 * frozen, rel=1e-3)
    whole = config.model.flops_per_token()
    assert 2 / 3 * whole < config.method.flops_per_token(config.model) < whole
