"""What a checkpoint of AdamW holds of each parameter."""

from __future__ import annotations

from pretrain.optimizers.adamw_config import AdamWConfig

STATES = ("master", *(state.name for state in AdamWConfig.states))
