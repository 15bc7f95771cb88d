"""What can be watched of a run: metrics files, TensorBoard, the console, the watchdog, the summary."""

from pretrain.monitor.monitor import Monitor
from pretrain.monitor.records import EvalRecord, StepRecord

__all__ = ["EvalRecord", "Monitor", "StepRecord"]
