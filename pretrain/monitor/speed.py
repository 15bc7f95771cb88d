"""How fast the run is: tokens, floating-point operations and time, summed between two lines of the log."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from pretrain.monitor.flops import DevicePeak
from pretrain.monitor.records import StepRecord


class SpeedMeter:
    """Sums steps until they are asked for.

    The first step of a session is left out of the speeds: it pays for compilation, allocation and connections.

    Args:
        seq_length: tokens in a sample.
        flops_per_token: floating-point operations that one trained token needs, of a step by the samples consumed
            before it: rows may be shorter at first.
        world_size: devices that share the work.
        peak: what a device could do.
        total_steps: steps of the whole run; None where it ends by time.
    """

    def __init__(
        self,
        *,
        seq_length: int,
        flops_per_token: Callable[[int], float],
        world_size: int,
        peak: DevicePeak,
        total_steps: int | None,
    ) -> None:
        self._seq_length = seq_length
        self._flops_per_token, self._world_size = flops_per_token, world_size
        self._peak = peak
        self._total_steps = total_steps
        self._started_s: float | None = None
        self._first_step = 0
        self._clear()

    def add(self, record: StepRecord) -> None:
        """Count one step."""
        if self._started_s is None:
            self._started_s, self._first_step = time.monotonic(), record.step
            return
        self._steps += 1
        tokens = record.global_batch_size * self._seq_length
        self._tokens += tokens
        self._flops += tokens * self._flops_per_token(record.consumed_samples - record.global_batch_size)
        self._time_s += record.step_time_s
        self._data_time_s += record.data_time_s

    def take(self) -> dict[str, Any]:
        """The figures since the last call, and a new start; None where no step can be judged yet."""
        values = self.figures()
        self._clear()
        return values

    def figures(self) -> dict[str, Any]:
        """The figures since the last `take`.

        Keys: `step_time_s`, `data_time_s` (means), `tokens_per_s`, `tflops_per_device`, `mfu`, `matmul_share`, and the
        sums that means over longer spans need, `interval_tokens` and `interval_time_s`.
        """
        if not self._steps or self._time_s <= 0:
            names = ("step_time_s", "data_time_s", "tokens_per_s", "tflops_per_device", "mfu", "matmul_share")
            return {**dict.fromkeys(names), "interval_tokens": 0, "interval_time_s": 0.0}
        tokens_per_s = self._tokens / self._time_s
        flops_per_s = self._flops / self._world_size / self._time_s
        mfu, matmul_share = self._peak.utilization(flops_per_s)
        return {
            "step_time_s": self._time_s / self._steps,
            "data_time_s": self._data_time_s / self._steps,
            "tokens_per_s": tokens_per_s,
            "tflops_per_device": flops_per_s / 1e12,
            "mfu": mfu,
            "matmul_share": matmul_share,
            "interval_tokens": self._tokens,
            "interval_time_s": self._time_s,
        }

    def time_left_s(self, step: int) -> float | None:
        """Seconds to the end at this session's pace, validations and saves included; None where it is not known."""
        if self._total_steps is None or self._started_s is None or step <= self._first_step:
            return None
        pace_s = (time.monotonic() - self._started_s) / (step - self._first_step)
        return max(0, self._total_steps - step) * pace_s

    def _clear(self) -> None:
        self._steps = 0
        self._tokens = 0
        self._flops = 0.0
        self._time_s = 0.0
        self._data_time_s = 0.0
