"""The same curves for Weights & Biases, where the extra is installed and the config names a project."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from configs.errors import ConfigError
from configs.extras import install_command
from pretrain.monitor.tensorboard_log import scalars


def check_wandb_installed() -> None:
    """Make sure that the optional package is there.

    Raises:
        ConfigError: if it is not; says how to install it.
    """
    if importlib.util.find_spec("wandb") is None:
        raise ConfigError(
            "needs the package wandb, which is not installed",
            where="monitor.wandb_project",
            expected=f"{install_command('wandb')}, or monitor.wandb_project=null",
        )


class WandbLog:
    """One Weights & Biases run per session; the sessions of a resumed run share a group.

    Without a network or a login it writes offline files below `directory`, for `wandb sync`. Sends the config and
    the curves; no environment variables, no code, no command line, no console output.

    Args:
        project: name of the project.
        directory: where local files go.
        name: group of the sessions, such as the name of the output directory.
        resumed_step: step that this session starts from; None for a new run.
        config: the run's config as plain values.

    Raises:
        ConfigError: if the package is not installed.
    """

    def __init__(
        self, project: str, *, directory: Path, name: str, resumed_step: int | None, config: Mapping[str, Any]
    ) -> None:
        check_wandb_installed()
        import wandb

        settings = wandb.Settings(
            silent=True, console="off", disable_code=True, disable_git=True, x_disable_meta=True, x_disable_stats=True
        )
        options: dict[str, Any] = {
            "project": project,
            "dir": str(directory),
            "group": name,
            "name": f"{name} from step {resumed_step or 0}",
            "config": dict(config),
            "settings": settings,
        }
        mode = os.environ.get("WANDB_MODE") or ("online" if wandb.login(prompt=False, verify=False) else "offline")
        try:
            self._run = wandb.init(mode=mode, **options)
        except wandb.errors.Error as error:
            # No network, a refused login: the curves are kept here and can be sent later.
            print(f"wandb: {type(error).__name__}; writing offline files below {directory}/wandb", flush=True)
            self._run = wandb.init(mode="offline", **options)

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Add the points of one record."""
        points = dict(scalars(kind, values))
        if points:
            self._run.log(points, step=step)

    def close(self) -> None:
        """Send what is queued; safe to call twice."""
        self._run.finish()
