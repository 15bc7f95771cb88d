from __future__ import annotations

import time

import pytest

from pretrain.models.gpt.config import GPTConfig
from pretrain.monitor import flops
from pretrain.monitor.flops import DevicePeak, device_peak, published_peak_flops_per_s
from pretrain.monitor.speed import SpeedMeter
from pretrain.parallel.layout import Layout

from monitor_runs import record  # isort: skip

measured_matmul_flops_per_s = flops.measured_matmul_flops_per_s


@pytest.mark.parametrize(
    ("name", "bf16_tflops", "fp32_tflops"),
    [
        ("NVIDIA A100-SXM4-80GB", 312.0, 19.5),
        ("NVIDIA A100 80GB PCIe", 312.0, 19.5),
        ("NVIDIA A10G", 70.0, 31.5),
        ("NVIDIA A10", 125.0, 31.2),
        ("NVIDIA H100 80GB HBM3", 989.4, 67.0),
        ("NVIDIA H100 PCIe", 756.0, 51.0),
        ("NVIDIA H100 NVL", 835.5, 60.0),
        ("NVIDIA H200", 989.4, 67.0),
        ("NVIDIA GH200 480GB", 989.4, 67.0),
        ("NVIDIA H20", 148.0, 44.0),
        ("NVIDIA B200", 2250.0, 75.0),
        ("NVIDIA GB200", 2500.0, 80.0),
        ("NVIDIA L40S", 362.0, 91.6),
        ("NVIDIA L4", 121.0, 30.3),
        ("NVIDIA GeForce RTX 4090", 165.2, 82.6),
        ("NVIDIA GeForce RTX 3090 Ti", 80.0, 40.0),
        ("NVIDIA RTX 6000 Ada Generation", 364.2, 91.1),
        ("Tesla V100-SXM2-32GB", 125.0, 15.7),
        ("Tesla T4", 65.0, 8.1),
        ("AMD Instinct MI300X", 1307.4, 163.4),
        ("AMD Instinct MI250X", 191.5, 47.9),
    ],
)
def test_the_peak_goes_by_the_devices_own_name(name: str, bf16_tflops: float, fp32_tflops: float) -> None:
    assert published_peak_flops_per_s(name, "bf16") == pytest.approx(bf16_tflops * 1e12)
    assert published_peak_flops_per_s(name, "fp16") == pytest.approx(bf16_tflops * 1e12)
    assert published_peak_flops_per_s(name, "fp32") == pytest.approx(fp32_tflops * 1e12)


@pytest.mark.parametrize("name", ["cpu", "Imaginary 9000", "NVIDIA H2000", "NVIDIA XL40"])
def test_a_device_that_only_resembles_one_has_no_peak(name: str) -> None:
    assert published_peak_flops_per_s(name, "bf16") is None


def test_what_is_configured_wins_and_a_cpu_is_measured() -> None:
    assert device_peak("NVIDIA H200", "bf16", 500.0).flops_per_s == 500e12
    assert device_peak("NVIDIA H200", "bf16").flops_per_s == pytest.approx(989.4e12)
    cpu = device_peak("cpu", "fp32")
    assert cpu.flops_per_s == cpu.measured_flops_per_s == 2e9
    assert device_peak("Imaginary 9000", "bf16").flops_per_s is None


def test_the_measured_product_is_plausible_short_and_leaves_the_random_state_alone() -> None:
    import torch

    before = torch.random.get_rng_state()
    measured = measured_matmul_flops_per_s("cpu", "fp32", budget_s=0.05)
    assert 1e8 < measured < 1e14
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_measured_product_is_of_random_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    product, operands = torch.mm, []

    def seen(left: torch.Tensor, right: torch.Tensor, *, out: torch.Tensor) -> torch.Tensor:
        operands[:] = [left, right]
        return product(left, right, out=out)

    monkeypatch.setattr(torch, "mm", seen)
    measured_matmul_flops_per_s("cpu", "fp32", budget_s=0.0)
    left, right = operands
    assert not torch.equal(left, right)
    for operand in operands:
        assert operand.mean() == pytest.approx(0.0, abs=0.01)
        assert operand.std() == pytest.approx(1.0, abs=0.01)
        assert len(operand.unique()) > 100_000


def test_mfu_by_hand() -> None:
    """A model whose count can be done on paper: N without the input table, plus 12 L d T."""
    model = GPTConfig(
        num_layers=2, hidden_size=4, num_attention_heads=2, ffn_hidden_size=8, seq_length=16, vocab_size=128,
        activation="gelu", normalization="RMSNorm", position_embedding="rope",
    )  # fmt: skip
    layer = 3 * 4 * 4 + 4 * 4 + 4 * 8 + 8 * 4 + 2 * 4
    weights = 2 * layer + 4 + 128 * 4
    per_token = 6 * weights + 12 * 2 * 4 * 16
    assert model.flops_per_token() == per_token

    layout = Layout(tensor=2, data=2)
    peak = DevicePeak(flops_per_s=1e9, measured_flops_per_s=5e8, source="test")
    meter = SpeedMeter(
        seq_length=16,
        flops_per_token=lambda consumed_samples: per_token,
        world_size=layout.world_size,
        peak=peak,
        total_steps=10,
    )
    meter.add(record(1, global_batch_size=8, step_time_s=9.0))
    meter.add(record(2, global_batch_size=8, step_time_s=0.25))
    meter.add(record(3, global_batch_size=8, step_time_s=0.75))
    figures = meter.take()
    tokens_per_s = 2 * 8 * 16 / 1.0
    assert figures["tokens_per_s"] == tokens_per_s
    assert figures["mfu"] == pytest.approx(tokens_per_s * per_token / 4 / 1e9)
    assert figures["matmul_share"] == pytest.approx(2 * figures["mfu"])
    assert meter.take()["tokens_per_s"] is None  # nothing since


def test_a_step_of_shorter_rows_counts_their_operations() -> None:
    peak = DevicePeak(flops_per_s=1e6, measured_flops_per_s=None, source="test")
    batch = record(1).global_batch_size
    meter = SpeedMeter(
        seq_length=16,
        flops_per_token=lambda consumed_samples: 10.0 if consumed_samples < 2 * batch else 100.0,
        world_size=1,
        peak=peak,
        total_steps=10,
    )
    for step in (1, 2, 3):
        meter.add(record(step, step_time_s=0.5))
    assert meter.take()["tflops_per_device"] == pytest.approx(batch * 16 * (10 + 100) / 1e12)


def test_time_left_counts_everything_since_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    peak = DevicePeak(None, None, "test")
    meter = SpeedMeter(
        seq_length=16, flops_per_token=lambda consumed_samples: 1.0, world_size=1, peak=peak, total_steps=110
    )
    assert meter.time_left_s(0) is None
    meter.add(record(51))
    assert meter.time_left_s(51) is None
    now[0] += 30.0  # ten steps and a validation
    meter.add(record(61))
    assert meter.time_left_s(61) == pytest.approx(49 * 3.0)
    assert meter.time_left_s(111) == 0
