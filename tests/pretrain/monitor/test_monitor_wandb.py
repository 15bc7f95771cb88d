from __future__ import annotations

import importlib.machinery
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from monitor_runs import monitor, record, run_config

from pretrain.monitor import EvalRecord


class FakeRun:
    def __init__(self) -> None:
        self.points: list[tuple[int, dict[str, float]]] = []
        self.finished = 0

    def log(self, points: dict[str, float], step: int) -> None:
        self.points.append((step, points))

    def finish(self) -> None:
        self.finished += 1


class FakeWandb(types.ModuleType):
    """Stands in for the optional package: remembers how it was called."""

    def __init__(self, api_key: str | None, refuses_online: bool = False) -> None:
        super().__init__("wandb")
        self.__spec__ = importlib.machinery.ModuleSpec("wandb", None)
        self._api_key = api_key
        self.errors = types.SimpleNamespace(Error=RuntimeError)
        self.calls: list[dict[str, Any]] = []
        self.run = FakeRun()
        self._refuses_online = refuses_online

    def Settings(self, **values: Any) -> dict[str, Any]:
        return values

    def login(self, *, prompt: bool, verify: bool) -> bool:
        assert not prompt  # nobody may sit there to answer
        return self._api_key is not None

    def init(self, **options: Any) -> FakeRun:
        self.calls.append(options)
        if self._refuses_online and options["mode"] == "online":
            raise RuntimeError("no network")
        return self.run


def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wandb: FakeWandb) -> FakeWandb:
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    config = run_config(tmp_path / "demo", "monitor.wandb_project=bessemer", "monitor.tensorboard=false")
    watched = monitor(config, resumed_step=10)
    for step in range(11, 16):
        watched.log_step(record(step))
    watched.log_eval(EvalRecord(15, "books", 2.0, {"perplexity": 7.4, "bits_per_byte": None}))
    watched.close()
    return wandb


def test_the_curves_are_those_of_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    wandb = report(tmp_path, monkeypatch, FakeWandb(api_key="key"))
    (call,) = wandb.calls
    assert (call["mode"], call["project"], call["group"]) == ("online", "bessemer", "demo")
    assert call["config"]["model"]["hidden_size"] == 128
    steps = [step for step, _ in wandb.run.points]
    assert steps == [11, 15, 15]
    assert wandb.run.points[1][1]["train/loss"] == 7.85
    assert wandb.run.points[2][1] == {"validation/books/loss": 2.0, "validation/books/perplexity": 7.4}
    assert wandb.run.finished == 1


def test_without_a_login_it_stays_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    wandb = report(tmp_path, monkeypatch, FakeWandb(api_key=None))
    assert [call["mode"] for call in wandb.calls] == ["offline"]


def test_without_a_network_it_falls_back_to_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    wandb = report(tmp_path, monkeypatch, FakeWandb(api_key="a-secret-key", refuses_online=True))
    assert [call["mode"] for call in wandb.calls] == ["online", "offline"]
    assert wandb.run.points
    assert "a-secret-key" not in capsys.readouterr().out


def test_nothing_about_machine_code_or_environment_is_collected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = report(tmp_path, monkeypatch, FakeWandb(api_key="key"))
    settings = wandb.calls[0]["settings"]
    assert settings["disable_code"] and settings["disable_git"] and settings["x_disable_meta"]
    assert settings["console"] == "off"
