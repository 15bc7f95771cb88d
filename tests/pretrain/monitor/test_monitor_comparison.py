"""Runs side by side: the figures of each, the settings that differ, their curves in one picture."""

from __future__ import annotations

from pathlib import Path

import pytest
from monitor_runs import run_config
from test_monitor_summary import trained
from typer.testing import CliRunner

from configs.errors import ConfigError, DataError
from pretrain.monitor.__main__ import app
from pretrain.monitor.comparison import comparison_rows, differing_settings, read_run


def test_figures_stand_side_by_side_and_only_settings_that_differ(tmp_path: Path) -> None:
    trained(tmp_path / "a")
    trained(tmp_path / "b", "optimizer.lr=0.5")
    rows = dict(comparison_rows([read_run(tmp_path / name) for name in "ab"]))
    assert rows["step"] == ["40", "40"]
    assert rows["validation, best"] == ["3.5000 at 30"] * 2
    assert rows["validation, last"] == ["3.7500"] * 2
    assert rows["test, last"] == ["3.0000"] * 2 and "test, best" not in rows
    own = run_config(tmp_path / "a").optimizer.lr
    assert rows["optimizer.lr"] == [str(own), "0.5"]
    assert "output" not in rows and "optimizer.min_lr" not in rows


def test_a_key_that_one_run_has_not_is_told() -> None:
    found = differing_settings([{"model": {"name": "gpt", "bias": True}}, {"model": {"name": "bert"}}])
    assert found == [("model.name", ["gpt", "bert"]), ("model.bias", ["True", "-"])]


@pytest.mark.parametrize("names", ["a", "aa"])
def test_one_run_is_nothing_to_compare(tmp_path: Path, names: str) -> None:
    trained(tmp_path / "a")
    with pytest.raises(ConfigError, match="were given"):
        comparison_rows([read_run(tmp_path / name) for name in names])


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no training records"):
        read_run(tmp_path)


def test_the_command_prints_a_table_and_draws(tmp_path: Path) -> None:
    from PIL import Image

    for name in "ab":
        trained(tmp_path / name)
    picture = tmp_path / "both.png"
    arguments = ["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--output", str(picture)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "3.5000 at 30" in done.output and done.output.rstrip().endswith(str(picture))
    with Image.open(picture) as drawn:
        assert drawn.format == "PNG" and drawn.width > 1000
