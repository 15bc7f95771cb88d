"""TensorBoard as a child process on the loopback address, for the time of a run.

Run as a module, this file becomes TensorBoard after asking the kernel to end it together with its parent, so that
a killed run does not leave a server behind that holds the port.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from configs.errors import MachineError

HOST = "127.0.0.1"
_MODULE = "pretrain.monitor.tensorboard_server"
_PR_SET_PDEATHSIG = 1


def check_port_free(port: int) -> None:
    """Make sure that a server could listen on `port` of the loopback address; 0 is always free.

    Raises:
        MachineError: if the port is taken or not allowed.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As TensorBoard does: a port whose last connection is closing counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise MachineError(
                f"port {port} on {HOST} cannot be used ({error.strerror})",
                where="monitor.serve_tensorboard",
                expected="a free port, or 0 for any free one",
            ) from None


class TensorBoardServer:
    """A running TensorBoard.

    Args:
        log_dir: directory with event files.
        port: where to listen on the loopback address; 0 picks a free port.

    Raises:
        MachineError: if the port is taken.
    """

    def __init__(self, log_dir: Path, port: int) -> None:
        check_port_free(port)
        self.port = port or _any_free_port()
        self._process = subprocess.Popen(
            [sys.executable, "-m", _MODULE, str(os.getpid()), str(log_dir.resolve()), str(self.port)],
            cwd=Path(__file__).parents[2],  # where the module is found, however this process was started
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C in the terminal is for the run, which then stops this child itself
        )
        atexit.register(self.close)

    @property
    def url(self) -> str:
        """Where a browser on this machine finds it."""
        return f"http://{HOST}:{self.port}/"

    def close(self) -> None:
        """End the server; safe to call twice."""
        atexit.unregister(self.close)
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def _any_free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _become_tensorboard(parent: int, log_dir: str, port: str) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before it could be tied to
        return
    command = ["-m", "tensorboard.main", "--logdir", log_dir, "--host", HOST, "--port", port]
    os.execv(sys.executable, [sys.executable, *command, "--reload_interval", "10"])


if __name__ == "__main__":
    _become_tensorboard(int(sys.argv[1]), sys.argv[2], sys.argv[3])
