"""Modules are built without memory for their parameters, and get it one by one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from pretrain.config import ModelConfig, ParallelConfig
from pretrain.models.family import StagePlace
from pretrain.models.initial_values import InitialValues
from pretrain.models.initialization import build_stage, materialize
from pretrain.models.parameter_table import Constant, Normal, ParameterSpec


class TiedConfig(ModelConfig):
    name: str = "tied"

    def parameters(self) -> Iterator[ParameterSpec]:
        yield ParameterSpec("table.weight", (self.padded_vocab_size, self.hidden_size), "first", Normal(0.5))
        yield ParameterSpec("norm.weight", (self.hidden_size,), "last", Constant(1.0), decays=False)


class TiedNetwork(torch.nn.Module):
    def __init__(self, model: ModelConfig) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(model.padded_vocab_size, model.hidden_size)
        self.output = torch.nn.Linear(model.hidden_size, model.padded_vocab_size, bias=False)
        self.output.weight = self.table.weight
        self.norm = torch.nn.LayerNorm(model.hidden_size, bias=False)
        self.norm.weight.mark = "kept"  # type: ignore[attr-defined]
        self.register_buffer("angles", torch.arange(4.0))


class TiedFamily:
    def build(self, model, parallel, dtype, place):
        return TiedNetwork(model).to(dtype), "config"


MODEL = TiedConfig(num_layers=1, hidden_size=8, seq_length=4, vocab_size=16, vocab_multiple=16)


def build() -> TiedNetwork:
    module, config = build_stage(TiedFamily(), MODEL, ParallelConfig(), torch.bfloat16, StagePlace())  # type: ignore[arg-type]
    assert config == "config" and isinstance(module, TiedNetwork)
    return module


def test_parameters_have_no_memory_until_they_are_filled() -> None:
    module = build()
    assert {(p.device.type, p.dtype) for p in module.parameters()} == {("meta", torch.bfloat16)}
    assert module.angles.tolist() == [0, 1, 2, 3], "a buffer is what the constructor made"
    materialize(module, torch.device("cpu"), InitialValues(1))
    assert {(p.device.type, p.dtype) for p in module.parameters()} == {("cpu", torch.bfloat16)}
    assert module.table.weight.detach().float().std() == pytest.approx(0.5, rel=0.2)
    assert torch.equal(module.norm.weight, torch.ones(8, dtype=torch.bfloat16))


def test_what_is_shared_and_what_is_noted_at_a_parameter_stays() -> None:
    module = build()
    filled: list[str] = []

    def fill(spec, shape, start, stop, target):
        filled.append(spec.name)
        target.fill_(2.0)

    materialize(module, torch.device("cpu"), fill)
    assert filled == ["table.weight", "norm.weight"]
    assert module.output.weight is module.table.weight
    assert module.norm.weight.mark == "kept" and module.norm.weight.spec.name == "norm.weight"
    assert module.table.weight.requires_grad and module.table.weight.is_leaf


def test_other_modules_are_built_as_ever_afterwards() -> None:
    build()
    assert torch.nn.Linear(2, 2).weight.device.type == "cpu"


def test_a_module_that_is_not_as_its_table_says_is_found() -> None:
    wide = MODEL.model_copy(update={"hidden_size": 16})

    class Narrow(TiedFamily):
        def build(self, model, parallel, dtype, place):
            return super().build(MODEL, parallel, dtype, place)

    with pytest.raises(AssertionError, match=r"table.weight is \(16, 8\), by its table \(16, 16\)"):
        build_stage(Narrow(), wide, ParallelConfig(), torch.float32, StagePlace())  # type: ignore[arg-type]
