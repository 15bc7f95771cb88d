"""Fused kernels: where they are chosen, that they compute what the separate ones do, and the gelu that is another."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.nn import functional

from pretrain.config import ParallelConfig
from pretrain.models import fusions
from pretrain.models.encoder.modern_config import ModernEncoderConfig
from pretrain.models.gpt.config import GPTConfig
from tests.distributed import run_ranks
from tests.pretrain.engine.layout_cases import PRELOAD, Case, Trajectory, largest_differences, train

SIZES: dict[str, Any] = {"num_layers": 1, "hidden_size": 8, "num_attention_heads": 2, "seq_length": 8}


def chosen(activation: str, bias: bool, zero_stage: int = 1, fused: str = "auto") -> tuple[bool, bool]:
    """Whether bias and activation are fused, whether bias, dropout and sum are."""
    kind = ModernEncoderConfig if activation == "geglu" else GPTConfig
    parallel = ParallelConfig(zero_stage=zero_stage, fusions=fused)  # type: ignore[arg-type]
    found = fusions.fusion_settings(kind(**SIZES, activation=activation, bias=bias), parallel)
    return found["bias_activation_fusion"], found["bias_dropout_fusion"]


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fusions, "can_compile", lambda: True)


@pytest.mark.usefixtures("compiler")
def test_only_what_computes_the_same_is_fused() -> None:
    assert chosen("swiglu", bias=False) == chosen("swiglu", bias=True) == (True, True)
    assert chosen("gelu_tanh", bias=True) == (True, True)
    # Fused, gelu would be its approximation by tanh.
    assert chosen("gelu", bias=True) == chosen("gelu", bias=False) == chosen("geglu", bias=False) == (False, True)
    # megatron-core has this one with a bias only.
    assert chosen("gelu_tanh", bias=False) == (False, True)
    # ZeRO-3 takes the bias away before the backward pass.
    assert chosen("gelu_tanh", bias=True, zero_stage=3) == chosen("swiglu", bias=True, zero_stage=3) == (False, True)
    assert chosen("swiglu", bias=False, zero_stage=3) == (True, True)
    assert chosen("swiglu", bias=False, fused="none") == (False, False)


def test_nothing_is_fused_where_torch_cannot_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert chosen("swiglu", bias=False) == (False, False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    spec = importlib.machinery.ModuleSpec("triton", None)
    monkeypatch.delenv("CC", raising=False)
    for triton, compiler, expected in (
        (None, "/usr/bin/gcc", False),
        (spec, None, False),
        (spec, "/usr/bin/gcc", True),
    ):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name, triton=triton: triton)
        monkeypatch.setattr(shutil, "which", lambda name, compiler=compiler: compiler)
        assert fusions.can_compile() is expected
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setenv("CC", "clang-18")
    assert fusions.can_compile()


def test_the_activation_is_the_config_s_whether_fused_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.linspace(-3, 3, 7)
    separate = fusions.fusion_settings(GPTConfig(**SIZES, activation="gelu_tanh"), ParallelConfig())
    torch.testing.assert_close(separate["activation_func"](x), functional.gelu(x, approximate="tanh"))
    exact = fusions.fusion_settings(GPTConfig(**SIZES, activation="gelu", bias=True), ParallelConfig())
    assert exact["activation_func"] is functional.gelu


@pytest.fixture
def uncompiled() -> Iterator[None]:
    """The fused functions run as they are written, without a compiler."""
    with torch.compiler.set_stance("force_eager"):
        yield


@pytest.mark.usefixtures("uncompiled")
def test_fused_functions_have_the_values_and_gradients_of_the_separate_ones() -> None:
    from megatron.core.fusions.fused_bias_gelu import bias_gelu_impl
    from megatron.core.fusions.fused_bias_swiglu import bias_swiglu_impl

    def swiglu(x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        gate, up = (x + bias).chunk(2, -1)
        return functional.silu(gate) * up

    for fused, separate in (
        (bias_gelu_impl, lambda x, bias: functional.gelu(x + bias, approximate="tanh")),
        (bias_swiglu_impl, swiglu),
    ):
        given = [torch.randn(5, 16, generator=torch.Generator().manual_seed(1)), torch.linspace(-1, 1, 16)]
        found = [fused, separate]
        for number, function in enumerate(found):
            x, bias = (t.clone().requires_grad_() for t in given)
            y = function(x, bias)
            y.square().sum().backward()
            found[number] = (y, x.grad, bias.grad)
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def train_with_fused_functions(case: Case) -> Trajectory:
    """On each rank: `train`, with every fusion chosen, and not compiled."""
    fusions.can_compile = lambda: True  # the rank is a process of its own
    settings, seen = fusions.fusion_settings, []
    from pretrain.models import megatron_config

    megatron_config.fusion_settings = lambda *a: seen.append(settings(*a)) or seen[-1]
    with torch.compiler.set_stance("force_eager"):
        trajectory = train(case)
    assert all(found["bias_dropout_fusion"] for found in seen) and seen
    assert seen[0]["bias_activation_fusion"] or case.parallel["zero_stage"] == 3
    return trajectory


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "ranks", "parallel"),
    [
        ("gpt2", 1, {"zero_stage": 1}),
        pytest.param("llama", 2, {"zero_stage": 3, "zero3_persistent_elements": 0}, marks=pytest.mark.slow),
        pytest.param("gpt2", 2, {"zero_stage": 3, "zero3_persistent_elements": 0}, marks=pytest.mark.slow),
        pytest.param("gpt2", 2, {"zero_stage": 2, "tensor_size": 2, "sequence_parallel": True}, marks=pytest.mark.slow),
    ],
)
def test_fused_training_is_that_of_the_separate_functions(family: str, ranks: int, parallel: dict[str, Any]) -> None:
    case = Case("fused", ranks, parallel, family=family)
    expected = run_ranks(train, 1, case.reference(), process_group=False, preload=PRELOAD)[0]
    found = run_ranks(train_with_fused_functions, ranks, case, process_group=False, preload=PRELOAD)[0]
    assert max(largest_differences(found, expected)) < 1e-4
