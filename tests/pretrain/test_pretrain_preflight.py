"""What is checked before a run beside its disk: that a command which is started again does not begin anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs.errors import ConfigError
from pretrain import preflight
from tests.pretrain.tiny_run import tiny_config


@pytest.mark.parametrize("name", ["SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT"])
def test_a_command_that_is_started_again_does_not_begin_anew(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config(Path("run"), Path("/nowhere"), checkpoint__resume="never")
    monkeypatch.setenv(name, "1")
    with pytest.raises(ConfigError, match=f"checkpoint.resume: never, and {name}=1: this command was started again"):
        preflight.check(config)
    monkeypatch.setenv(name, "0")
    with pytest.raises(Exception, match="/nowhere"):
        preflight.check(config)
