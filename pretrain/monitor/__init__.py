"""Logging: metrics files, TensorBoard, the console, the stall watchdog, the summary."""

from pretrain.monitor.monitor import Monitor
from pretrain.monitor.records import EvalRecord, StepRecord

__all__ = ["EvalRecord", "Monitor", "StepRecord"]
