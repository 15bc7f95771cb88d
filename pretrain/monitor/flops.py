"""How fast the device could be: published peaks by name, and the matrix product measured on the spot."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Literal

Precision = Literal["fp32", "bf16", "fp16"]

# Dense peaks in TFLOP/s from the makers' data sheets: (pattern in the device's name, 16-bit formats with 32-bit
# accumulation, fp32 without TF32). The first pattern that matches counts, so the special comes before the general.
_PEAKS: tuple[tuple[str, float, float], ...] = (
    (r"\bGB300\b", 2500.0, 80.0),
    (r"\bGB200\b", 2500.0, 80.0),
    (r"\bB300\b", 2250.0, 75.0),
    (r"\bB200\b", 2250.0, 75.0),
    (r"\bGH200\b", 989.4, 67.0),
    (r"\bH200 NVL\b", 835.5, 60.0),
    (r"\bH200\b", 989.4, 67.0),
    (r"\bH100 NVL\b", 835.5, 60.0),
    (r"\bH100 PCIe\b", 756.0, 51.0),
    (r"\bH100\b", 989.4, 67.0),
    (r"\bH800 PCIe\b", 756.0, 51.0),
    (r"\bH800\b", 989.4, 67.0),
    (r"\bH20\b", 148.0, 44.0),
    (r"\bA[18]00\b", 312.0, 19.5),
    (r"\bA40\b", 149.7, 37.4),
    (r"\bA30\b", 165.0, 10.3),
    (r"\bA10G\b", 70.0, 31.5),
    (r"\bA10\b", 125.0, 31.2),
    (r"\bL40S\b", 362.0, 91.6),
    (r"\bL40\b", 181.0, 90.5),
    (r"\bL4\b", 121.0, 30.3),
    (r"\bV100S\b", 130.0, 16.4),
    (r"\bV100\b", 125.0, 15.7),
    (r"\bT4\b", 65.0, 8.1),
    (r"\bRTX 6000 Ada\b", 364.2, 91.1),
    (r"\bRTX A6000\b", 154.8, 38.7),
    (r"\bRTX 5090\b", 209.5, 104.8),
    (r"\bRTX 4090\b", 165.2, 82.6),
    (r"\bRTX 4080\b", 97.5, 48.7),
    (r"\bRTX 3090 Ti\b", 80.0, 40.0),
    (r"\bRTX 3090\b", 71.0, 35.6),
    (r"\bRTX 3080\b", 59.5, 29.8),
    (r"\bMI355X\b", 2516.6, 157.3),
    (r"\bMI350X\b", 2306.9, 144.2),
    (r"\bMI325X\b", 1307.4, 163.4),
    (r"\bMI300X\b", 1307.4, 163.4),
    (r"\bMI250X?\b", 191.5, 47.9),  # one of the two dies; the framework sees each as a device
    (r"\bMI210\b", 181.0, 45.3),
)


@dataclass(frozen=True)
class DevicePeak:
    """What a model's speed is compared with, per device.

    Attributes:
        flops_per_s: the dense peak in the run's precision; None where the device is not known.
        measured_flops_per_s: what a large matrix product reached here; None where it was not measured.
        source: where `flops_per_s` comes from, in words.
        is_measured: whether `flops_per_s` was measured here, too.
    """

    flops_per_s: float | None
    measured_flops_per_s: float | None
    source: str
    is_measured: bool = False

    def is_below(self, flops_per_s: float) -> bool:
        """Whether `flops_per_s` is more than this peak, which then is none."""
        return self.flops_per_s is not None and flops_per_s > self.flops_per_s

    def utilization(self, flops_per_s: float) -> tuple[float | None, float | None]:
        """`flops_per_s` as shares of the peak (MFU) and of the measured matrix product.

        None where it is not known, and where the product was measured while the machine was busy: training was faster.
        """
        if self.is_measured and self.is_below(flops_per_s):
            return None, None
        return (
            flops_per_s / self.flops_per_s if self.flops_per_s else None,
            flops_per_s / self.measured_flops_per_s if self.measured_flops_per_s else None,
        )


def published_peak_flops_per_s(device_name: str, precision: Precision) -> float | None:
    """The dense peak of a device by the name it gives itself; None if the table has no such device."""
    spaced = re.sub(r"[-_/]+", " ", device_name)
    for pattern, half, single in _PEAKS:
        if re.search(pattern, spaced, re.IGNORECASE):
            return (single if precision == "fp32" else half) * 1e12
    return None


def device_peak(device_name: str, precision: Precision, configured_tflops: float | None = None) -> DevicePeak:
    """What to compare with: the configured peak, the published one, or (on a CPU) the measured one.

    Measures a matrix product, which takes a fraction of a second.
    """
    measured = measured_matmul_flops_per_s("cpu" if device_name == "cpu" else "cuda", precision)
    if configured_tflops is not None:
        return DevicePeak(configured_tflops * 1e12, measured, "monitor.peak_tflops")
    if device_name == "cpu":
        return DevicePeak(measured, measured, "matrix product measured on this CPU", is_measured=True)
    published = published_peak_flops_per_s(device_name, precision)
    if published is None:
        return DevicePeak(None, measured, f"unknown device {device_name!r}; set monitor.peak_tflops")
    return DevicePeak(published, measured, f"published dense {precision} peak of {device_name}")


def measured_matmul_flops_per_s(device: Literal["cpu", "cuda"], precision: Precision, budget_s: float = 0.25) -> float:
    """Floating-point operations per second of the best of a few large square matrix products.

    Args:
        device: where.
        precision: number format of the operands.
        budget_s: no further product is started after this time.
    """
    import torch

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    size = 1024 if device == "cpu" else 8192
    on_gpu = device == "cuda"
    # Normally distributed, as a model's: a GPU draws less power, and so runs faster, on equal numbers (894 TFLOP/s
    # against 788 on an H200). The global random state belongs to the run and must not be touched.
    generator = torch.Generator(device).manual_seed(0)
    left, right = (torch.empty((size, size), dtype=dtype, device=device).normal_(generator=generator) for _ in range(2))
    out = torch.empty((size, size), dtype=dtype, device=device)
    best_s = float("inf")
    started = time.perf_counter()
    for attempt in range(100):
        before = time.perf_counter()
        torch.mm(left, right, out=out)
        if on_gpu:
            torch.cuda.synchronize()
        # The first one pays for library start-up.
        if attempt > 0:
            best_s = min(best_s, time.perf_counter() - before)
        if attempt > 0 and time.perf_counter() - started > budget_s:
            break
    return 2.0 * size**3 / best_s
