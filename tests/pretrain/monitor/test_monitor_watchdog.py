from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from pretrain.monitor.watchdog import Watchdog


def wait_where_a_step_hangs(seconds: float) -> None:
    time.sleep(seconds)


def test_a_stall_shows_rank_step_and_the_line_that_hangs(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as output:
        watchdog = Watchdog(0.2, rank=3, last_step=40, output=output)
        watchdog.alive(41)
        wait_where_a_step_hangs(0.6)
        watchdog.stop()
    text = (tmp_path / "out").read_text()
    assert "rank 3" in text and "the last one was 41" in text
    assert "wait_where_a_step_hangs" in text
    assert "the run goes on" in text


def test_a_stall_that_lasts_is_told_again(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as output:
        began_s = time.monotonic()
        watchdog = Watchdog(0.1, rank=0, last_step=0, output=output)
        while (tmp_path / "out").read_text().count("has not finished a step") < 3:
            time.sleep(0.05)
        watchdog.stop()
        most = (time.monotonic() - began_s) / 0.1
    assert (tmp_path / "out").read_text().count("has not finished a step") <= most


@pytest.mark.slow
def test_signs_of_life_keep_it_quiet(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as output:
        watchdog = Watchdog(2.0, rank=0, last_step=0, output=output)
        for step in range(26):
            time.sleep(0.1)
            watchdog.alive(step if step % 2 else None)
        watchdog.stop()
    assert (tmp_path / "out").read_text() == ""


@pytest.mark.slow
def test_it_stops_at_once_and_leaves_no_timer(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as output:
        watchdog = Watchdog(1.0, rank=0, last_step=0, output=output)
        time.sleep(0.1)
        watchdog.stop()
        time.sleep(1.5)
        watchdog.stop()
    assert (tmp_path / "out").read_text() == ""


@pytest.mark.slow
def test_a_library_that_holds_the_interpreter_lock_is_seen(tmp_path: Path) -> None:
    """No Python runs meanwhile: only faulthandler's own timer can speak."""
    code = (
        "import ctypes, time\n"
        "from pretrain.monitor.watchdog import Watchdog\n"
        "w = Watchdog(0.4, rank=2, last_step=7)\n"
        "time.sleep(0.3)\n"
        "def hold_the_lock(): ctypes.PyDLL(None).usleep(1_500_000)\n"
        "hold_the_lock()\n"
        "w.stop()\n"
        "print('went on')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[3]
    )
    assert done.stdout == "went on\n", done.stderr
    assert "Timeout (" in done.stderr and "hold_the_lock" in done.stderr
