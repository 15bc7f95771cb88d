from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from configs.errors import MachineError
from pretrain.monitor.tensorboard_server import TensorBoardServer, check_port_free

ROOT = Path(__file__).parents[3]


def wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.1)
    return condition()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status == 200 and b"TensorBoard" in response.read()
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def test_a_port_in_use_is_one_error_that_names_key_and_port() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(MachineError, match=f"(?s)monitor.serve_tensorboard.*port {port}") as caught:
            check_port_free(port)
    assert int(caught.value.status) == 2
    check_port_free(port)
    check_port_free(0)


@pytest.mark.slow
def test_it_serves_on_the_loopback_address_until_it_is_closed(tmp_path: Path) -> None:
    server = TensorBoardServer(tmp_path, 0)
    try:
        assert wait_until(lambda: answers(server.url), 60)
        process = psutil.Process(server._process.pid)
        addresses = {connection.laddr.ip for connection in process.net_connections() if connection.status == "LISTEN"}
        assert addresses == {"127.0.0.1"}
    finally:
        server.close()
    assert not psutil.pid_exists(server._process.pid)
    check_port_free(server.port)
    server.close()


@pytest.mark.slow
def test_it_ends_with_a_run_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path\n"
        "from pretrain.monitor.tensorboard_server import TensorBoardServer\n"
        "s = TensorBoardServer(Path(sys.argv[1]), 0); print(s.port, s._process.pid, flush=True); time.sleep(100)\n"
    )
    run = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert run.stdout is not None
    port, pid = map(int, run.stdout.readline().split())
    try:
        assert wait_until(lambda: answers(f"http://127.0.0.1:{port}/"), 60)
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        gone = wait_until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie", 10)
        assert gone
        check_port_free(port)
    finally:
        run.kill()
        run.stdout.close()
