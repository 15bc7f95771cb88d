"""What a rank holds of weights, gradients and optimizer state; what cannot fit is refused before anything starts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from configs.errors import MachineError
from configs.load import find_recipe, load_config
from pretrain import preflight
from pretrain.config import RunConfig
from pretrain.monitor import memory
from pretrain.parallel.launch import Launch
from pretrain.parallel.layout import Layout, resolve_layout
from pretrain.parallel.state_memory import state_memory, weights_of_stages

LAUNCH = Launch(0, 8, 0, 8, "localhost", 1, "torchrun")
BF16, OFFLOAD = "training.precision=bf16", "parallel.offload_optimizer=true"


def recipe(name: str, *settings: str) -> RunConfig:
    return load_config(RunConfig, find_recipe(name, "pretrain"), ["model.vocab_size=32000", *settings])


@pytest.mark.parametrize(
    ("stage", "settings", "expected"),
    [
        (0, [BF16], (18, 0)),
        (1, [BF16], (2 + 4 + 12 / 4, 0)),
        (2, [BF16], (2 + 16 / 4, 0)),
        (3, [BF16], (18 / 4, 0)),
        (3, [], (20 / 4, 0)),
        (1, [BF16, OFFLOAD], (2 + 4, 16 / 4)),
        (2, [BF16, OFFLOAD], (2, 20 / 4)),
        (3, [BF16, OFFLOAD], (2 / 4, 20 / 4)),
    ],
)
def test_bytes_a_weight_on_four_data_ranks(stage: int, settings: list[str], expected: tuple[float, float]) -> None:
    """On the device, and in host memory without the checkpoint's copy."""
    found = state_memory(recipe("gpt-tiny", f"parallel.zero_stage={stage}", *settings), Layout(data=4), 1_000_000)
    assert (found.device_bytes / 1e6, found.host_bytes / 1e6 - 12 / 4) == pytest.approx(expected)


def test_stages_share_the_weights() -> None:
    model = recipe("llama-7b").model
    stages = weights_of_stages(model, Layout(tensor=2, pipeline=4))
    # The norms are whole on both tensor ranks.
    assert sum(stages) == pytest.approx(model.num_parameters() / 2, rel=1e-3)
    assert stages[1] == stages[2] == min(stages) and weights_of_stages(model, Layout()) == [model.num_parameters()]


def check(monkeypatch: pytest.MonkeyPatch, config: RunConfig, host: float, device: float | None) -> None:
    monkeypatch.setattr(memory, "host_total_bytes", lambda: int(host * 1e12))
    monkeypatch.setattr(memory, "device_total_bytes", lambda local_rank: None if device is None else int(device * 1e9))
    preflight._check_memory(config, resolve_layout(config, LAUNCH.world_size), LAUNCH, trains=True)


def test_what_cannot_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    config = recipe("llama-70b-8gpu")
    check(monkeypatch, config, 2.3, 80)
    with pytest.raises(MachineError, match=r"8 ranks hold 2207\.\d GB .* in this machine's memory.*2000\.0 GB"):
        check(monkeypatch, config, 2.0, 80)
    with pytest.raises(MachineError, match=r"a rank holds 17\.2 GB .* on its GPU"):
        check(monkeypatch, config, 2.3, 16)
    with pytest.raises(MachineError, match=r"ZeRO 2: a rank holds 138\.0 GB"):
        check(monkeypatch, recipe("llama-70b-8gpu", "parallel.zero_stage=2"), 2.3, 80)
    with pytest.raises(MachineError, match="in this machine's memory"):
        check(monkeypatch, recipe("llama-7b"), 0.2, None)


@pytest.mark.parametrize(("name", "ranks"), [("llama-70b-64gpu", 64), ("llama-70b-512gpu", 512), ("llama-7b", 8)])
def test_the_recipes_fit_their_machines(monkeypatch: pytest.MonkeyPatch, name: str, ranks: int) -> None:
    config = recipe(name)
    layout = resolve_layout(config, ranks)
    assert state_memory(config, layout, max(weights_of_stages(config.model, layout))).device_bytes < 60e9


def test_a_container_may_have_less_than_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "_CONTROL_GROUP_LIMITS", (str(tmp_path / "none"),))
    machine = memory.host_total_bytes()
    write: Callable[[str], int] = (tmp_path / "limit").write_text
    monkeypatch.setattr(memory, "_CONTROL_GROUP_LIMITS", (str(tmp_path / "limit"),))
    for text, expected in (("max\n", machine), ("1000000\n", 1_000_000), (f"{2**62}\n", machine)):
        write(text)
        assert memory.host_total_bytes() == expected


@pytest.mark.parametrize(
    ("stage", "settings", "expected"),
    [(0, [BF16], 14), (2, [BF16], 2 + 12 / 4), (3, ["training.precision=fp32"], 20 / 4)],
)
def test_an_evaluation_holds_no_gradients_and_no_copy(stage: int, settings: list[str], expected: float) -> None:
    config = recipe("gpt-125m", f"parallel.zero_stage={stage}", *settings)
    found = state_memory(config, Layout(data=4), 4_000_000, trains=False)
    assert (found.device_bytes / 4e6, found.host_bytes) == (pytest.approx(expected), 0)
