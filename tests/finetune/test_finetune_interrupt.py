"""A rank of a fine-tuning hears a second Ctrl-C while it waits for others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# In a C function that no signal makes return, as a rank that waits for others may be.
RANK = """if True:
    import ctypes, os, signal, sys
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests in the background ignores it
    from finetune.stopping import stop_request
    from pretrain.engine import task_engine

    task_engine.join_ranks = lambda *_: None
    with stop_request() as stop, task_engine.task_processes() as launch:
        stop.begin()
        libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
        libc.pthread_mutex_lock(mutex)
        print("waits", flush=True)
        libc.pthread_mutex_lock(mutex)
"""


@pytest.mark.slow
def test_an_interrupt_ends_a_rank_that_waits_in_c() -> None:
    environ = {**os.environ, "RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.Popen([sys.executable, "-c", RANK], cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "waits\n"
    process.send_signal(signal.SIGINT)
    time.sleep(1.2)  # one keystroke may reach a rank twice within a second
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
