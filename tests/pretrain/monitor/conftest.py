from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def quick_matmul(monkeypatch: pytest.MonkeyPatch) -> None:
    """The speed of this machine is not what most of these tests are about."""
    monkeypatch.setattr("pretrain.monitor.flops.measured_matmul_flops_per_s", lambda device, precision: 2e9)
