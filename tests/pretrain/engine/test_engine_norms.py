"""Norms over many elements are those of fp64: the engine's, the fine-tuning's, in each way to hold a model."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from pretrain.engine.norms import BLOCK_ELEMENTS, square_sum
from pretrain.engine.task_engine import clip_gradients
from tests.pretrain.engine.norm_table import LAYOUTS, LIMIT, SIZES, difference, table

ELEMENTS, VALUE = 1 << 22, 0.7134e-3
CPU = torch.device("cpu")


def equal_elements() -> tuple[torch.Tensor, float]:
    """A tensor whose norm is known, and which torch adds up wrong by more than a thousandth."""
    tensor = torch.full((ELEMENTS,), VALUE)
    exact = float(tensor[0]) * math.sqrt(ELEMENTS)
    assert abs(float(tensor.norm()) / exact - 1) > 1e-3
    return tensor, exact


def test_many_elements_are_added_as_in_fp64() -> None:
    tensor, exact = equal_elements()
    assert math.sqrt(square_sum([tensor], CPU)) == pytest.approx(exact, rel=1e-12)
    assert math.sqrt(square_sum([tensor.view(2048, -1), tensor], CPU)) == pytest.approx(exact * 2**0.5, rel=1e-12)


@pytest.mark.parametrize("elements", [0, 1, BLOCK_ELEMENTS - 1, BLOCK_ELEMENTS, BLOCK_ELEMENTS + 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_no_element_is_left_out_at_the_edges_of_blocks(elements: int, dtype: torch.dtype) -> None:
    tensor = torch.randn(elements, generator=torch.Generator().manual_seed(elements)).to(dtype)
    assert float(square_sum([tensor], CPU)) == pytest.approx(float(tensor.double().square().sum()), rel=1e-12)


def test_large_and_not_finite_elements_show() -> None:
    assert float(square_sum([torch.tensor([3e30, 4e30])], CPU)) == pytest.approx(25e60, rel=1e-6)
    assert math.isnan(square_sum([torch.tensor([1.0, math.nan])], CPU))
    assert math.isinf(square_sum([torch.tensor([-math.inf, 1.0])], CPU))
    assert float(square_sum([], CPU)) == 0.0


def test_tensors_on_another_device_are_one_kernel_with_fp64_sums() -> None:
    # The meta device stands for a GPU: it computes nothing, but shows formats and placement.
    found = square_sum([torch.empty(3, device="meta"), torch.empty(2, 2, device="meta")], torch.device("meta"))
    assert (found.device.type, found.dtype, found.shape) == ("meta", torch.float64, ())


def test_fine_tuning_without_zero_clips_by_the_norm_of_fp64() -> None:
    parameter = torch.nn.Parameter(torch.zeros(ELEMENTS))
    parameter.grad, exact = equal_elements()
    untouched = torch.nn.Parameter(torch.zeros(1))
    clip_gradients([parameter, untouched], exact / 2)
    torch.testing.assert_close(parameter.grad[:4], torch.full((4,), VALUE / 2), rtol=1e-5, atol=0.0)
    clip_gradients([parameter], exact)
    torch.testing.assert_close(parameter.grad[:4], torch.full((4,), VALUE / 2), rtol=1e-5, atol=0.0)


def clipping_without_zero() -> None:
    """Stage 0 in fp32: upstream's norm of many equal elements is wrong on the CPU, and our clipping is in its place."""
    from pretrain.engine.task_engine import task_engine
    from pretrain.optimizers.adamw_config import AdamWConfig

    model = torch.nn.Linear(ELEMENTS, 1, bias=False)
    optimizer = AdamWConfig(lr=1.0, clip_grad_norm=1e-3)
    engine = task_engine(model, optimizer, zero_stage=0, precision="fp32", micro_batch_size=1)

    def clipped(clip: Callable[[], None]) -> float:
        model.weight.grad = torch.full_like(model.weight, VALUE)
        clip()
        return float(model.weight.grad[0, 0])

    expected = 1e-3 / ELEMENTS**0.5
    off = abs(clipped(lambda: type(engine).clip_fp32_gradients(engine)) / expected - 1)
    assert off > 1e-3, f"upstream's clipping is only off by {off}: no need to replace it"
    assert abs(clipped(engine.clip_fp32_gradients) / expected - 1) < 1e-4
    assert "clip_fp32_gradients" in type(engine)._take_model_step.__code__.co_names


@pytest.mark.slow
def test_norms_of_ranks_are_those_of_one_process_in_fp64() -> None:
    chosen = tuple(layout for layout in LAYOUTS if layout[0] in ("1 rank", "ZeRO 3, data 2, offload", "tensor 2"))
    found = table("1M", chosen)
    single = found["1 rank"]
    assert single.elements >= 1e6
    assert len(found) == 3
    assert max(difference(norms, single) for norms in found.values()) < LIMIT


def test_the_table_s_models_have_as_many_elements_as_it_says() -> None:
    from tests.pretrain.engine.norm_table import case_of

    for size in SIZES:
        elements = case_of("size", 1, {}, size).config().model.num_parameters()
        assert elements == pytest.approx(float(size[:-1]) * 1e6, rel=0.1)
