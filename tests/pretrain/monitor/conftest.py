from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def quick_matmul(monkeypatch: pytest.MonkeyPatch) -> None:
    """The speed of this machine is not what most of these tests are about."""
    monkeypatch.setattr("pretrain.monitor.flops.measured_matmul_flops_per_s", lambda device, precision: 2e9)
