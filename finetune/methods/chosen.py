"""The method that a task's settings chose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finetune.methods.config import AdapterConfig

if TYPE_CHECKING:
    from finetune.methods.adapter import Adapter
    from finetune.tasks.base_config import TaskConfig


def adapter_of(config: TaskConfig) -> Adapter | None:
    """What puts the adapter of a task's method into its network; None: all of the network is trained."""
    if not isinstance(config.method, AdapterConfig):
        return None
    made: Adapter = config.method.implement()(config.method, config.adapted_as, config.training_seed)
    return made
