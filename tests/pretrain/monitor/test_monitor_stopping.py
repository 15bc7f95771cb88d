from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from monitor_runs import record

from configs.errors import ExitStatus, UserError
from pretrain.divergence import Diverged, NonFiniteGuard
from pretrain.stopping import StopRequest

ROOT = Path(__file__).parents[3]
LOOP = """
import sys, time
from pretrain.stopping import StopRequest
with StopRequest(same_keystroke_s=float(sys.argv[1]) if len(sys.argv) > 1 else 1.0) as stop:
    print("ready", flush=True)
    while stop.requested is None or len(sys.argv) > 1:
        time.sleep(0.02)
print("saved after", stop.requested, flush=True)
sys.exit(75)
"""


def started(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", LOOP, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", StopRequest.SIGNALS)
def test_a_signal_lets_the_step_finish_and_the_state_be_saved(number: signal.Signals) -> None:
    process = started()
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert out == f"saved after {number.name}\n"
    assert process.returncode == ExitStatus.INTERRUPTED == 75
    assert "finishing the step and saving" in err and "Traceback" not in err


def test_a_second_interrupt_exits_at_once_without_saving() -> None:
    process = started("-1")
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    while "finishing the step" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == "" and "nothing is saved" in err


@pytest.mark.skipif(sys.platform != "linux", reason="whether a thread sleeps is read from /proc")
def test_a_signal_is_taken_while_the_main_thread_waits_in_c() -> None:
    """In a C function that no signal makes return, as a rank that waits for others may be."""
    code = (
        "import ctypes, os, threading\n"
        "from pathlib import Path\n"
        "from pretrain.stopping import StopRequest\n"
        "with StopRequest() as stop:\n"
        "    def ask():\n"
        "        while Path(f'/proc/self/task/{os.getpid()}/stat').read_text().split()[2] != 'S': pass\n"
        "        os.kill(os.getpid(), 15)\n"
        "        while stop.requested is None: pass\n"
        "        os.write(1, stop.requested.encode())\n"
        "        os._exit(7)\n"
        "    libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)\n"
        "    libc.pthread_mutex_lock(mutex)\n"
        "    threading.Thread(target=ask).start()\n"
        "    libc.pthread_mutex_lock(mutex)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert (done.returncode, done.stdout) == (7, "SIGTERM"), done.stderr


def test_a_hangup_that_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.requested is None
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_one_keystroke_that_arrives_twice_is_one_interrupt() -> None:
    """From the terminal and from a launcher, which adds a SIGTERM."""
    code = (
        "import os, signal\n"
        "from pretrain.stopping import StopRequest\n"
        "with StopRequest() as stop:\n"
        "    for name in ('SIGINT', 'SIGINT', 'SIGTERM', 'SIGTERM'):\n"
        "        os.kill(os.getpid(), getattr(signal, name))\n"
        "    print(stop.requested)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, "SIGINT\n")
    assert done.stderr.count("finishing the step") == 1


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR2"])
def test_before_there_is_anything_to_lose_a_signal_ends_it_at_once(name: str) -> None:
    """As while the data is looked at: `run` takes the signals before that."""
    code = (
        "import os, signal, time\n"
        "from pretrain import main, preflight\n"
        f"preflight.check = lambda config: (os.kill(os.getpid(), signal.{name}), time.sleep(50))\n"
        "from pretrain.config import RunConfig\n"
        "from configs.load import find_recipe, load_config\n"
        "main.run(load_config(RunConfig, find_recipe('gpt-tiny', 'pretrain'), []))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=45, cwd=ROOT)
    assert done.returncode == 75, done.stderr
    assert f"{name}: nothing was begun that could be lost" in done.stderr and "Traceback" not in done.stderr


def test_from_the_beginning_on_a_signal_is_a_wish() -> None:
    with StopRequest(has_begun=False) as stop:
        stop.begin()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested == "SIGTERM"


def test_the_first_signal_gives_the_reason() -> None:
    with StopRequest() as stop:
        assert stop.requested is None
        os.kill(os.getpid(), signal.SIGUSR2)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested == "SIGUSR2"


def test_the_earlier_handlers_come_back() -> None:
    before = {number: signal.getsignal(number) for number in StopRequest.SIGNALS}
    with pytest.raises(ValueError), StopRequest():
        assert all(signal.getsignal(number) != before[number] for number in before)
        raise ValueError
    assert {number: signal.getsignal(number) for number in before} == before


def test_only_the_main_thread_can_take_signals() -> None:
    failures: list[BaseException] = []

    def install() -> None:
        try:
            StopRequest().install()
        except RuntimeError as error:
            failures.append(error)

    thread = threading.Thread(target=install)
    thread.start()
    thread.join()
    assert "main thread" in str(failures[0])


def test_skipped_steps_in_a_row_end_the_run_with_a_report() -> None:
    guard = NonFiniteGuard(3)
    guard.observe(record(1, loss=4.25))
    for step in (2, 3):
        guard.observe(record(step, loss=math.nan, grad_norm=math.inf, skipped=True))
    with pytest.raises(Diverged) as caught:
        guard.observe(record(4, loss=math.nan, grad_norm=math.inf, skipped=True, learning_rate=0.5))
    assert isinstance(caught.value, UserError) and caught.value.status == ExitStatus.DIVERGED == 3
    text = caught.value.render()
    assert text.startswith("step 4: training diverged: the last 3 steps in a row")
    for expected in ("4.25", "nan", "inf", "0.5", "what to try", "optimizer.lr"):
        assert expected in text
    assert text.count("yes") == 3 and text.count(" no") >= 1


def test_a_good_step_between_starts_the_count_anew() -> None:
    guard = NonFiniteGuard(2)
    for step in range(1, 20):
        guard.observe(record(step, skipped=step % 2 == 0, loss=math.inf if step % 2 == 0 else 1.0))
    assert guard.in_a_row == 0


@pytest.mark.parametrize("limit", [0, 1])
def test_the_smallest_limits_end_at_the_first(limit: int) -> None:
    with pytest.raises(Diverged, match="the last step had"):
        NonFiniteGuard(limit).observe(record(1, loss=math.nan, skipped=True))


def test_a_loss_scale_that_is_being_found_is_no_divergence() -> None:
    guard = NonFiniteGuard(2)
    for step, scale in enumerate((65536.0, 32768.0, 16384.0, 2.0), start=1):
        guard.observe(record(step, grad_norm=math.inf, skipped=True, loss_scale=scale))
    assert guard.in_a_row == 0
    guard.observe(record(5, grad_norm=math.inf, skipped=True, loss_scale=1.0))
    with pytest.raises(Diverged, match="bf16"):
        guard.observe(record(6, grad_norm=math.inf, skipped=True, loss_scale=1.0))


def test_a_loss_that_is_not_finite_counts_whatever_the_scale() -> None:
    guard = NonFiniteGuard(2)
    guard.observe(record(1, loss=math.nan, skipped=True, loss_scale=65536.0))
    with pytest.raises(Diverged):
        guard.observe(record(2, loss=math.nan, skipped=True, loss_scale=32768.0))
