"""A small run to monitor: its config, its records, a monitor that reports them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from configs.load import load_config
from pretrain.config import RunConfig
from pretrain.monitor import Monitor, StepRecord
from pretrain.parallel.layout import Layout

RECIPE = Path(__file__).parents[3] / "configs" / "pretrain" / "gpt-tiny.yaml"
BATCH = 16
SEQ = 128


def run_config(output_dir: Path, *overrides: str) -> RunConfig:
    # A configured peak makes the figures exact.
    common = [f"output={output_dir}", "monitor.log_interval=5", "monitor.peak_tflops=0.001"]
    return load_config(RunConfig, RECIPE, [*common, *overrides])


def record(step: int, **changes: Any) -> StepRecord:
    values: dict[str, Any] = {
        "step": step,
        "consumed_samples": step * BATCH,
        "consumed_tokens": step * BATCH * SEQ,
        "loss": 8.0 - step / 100,
        "losses": {"lm": 8.0 - step / 100},
        "grad_norm": 1.0,
        "learning_rate": 1e-3,
        "param_norm": 30.0,
        "global_batch_size": BATCH,
        "step_time_s": 0.5,
        "data_time_s": 0.1,
        "skipped": False,
        "skipped_total": 0,
        "loss_scale": None,
    }
    return StepRecord(**(values | changes))


def monitor(config: RunConfig, **changes: Any) -> Monitor:
    values: dict[str, Any] = {
        "layout": Layout(data=2),
        "flops_per_token": lambda consumed_samples: 1000.0,
        "device_name": "cpu",
        "total_steps": 40,
        "is_main": True,
        "resumed_step": None,
    }
    return Monitor(config, **(values | changes))
