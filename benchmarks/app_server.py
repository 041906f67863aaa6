"""The App's server as a process of its own, for tests, benchmarks and pictures."""

from __future__ import annotations

import ctypes
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE, Popen


def free_port() -> int:
    """Find a port that nothing listens to."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


_APP = """
import sys, time
import fiftyone as fo
session = fo.launch_app(address="127.0.0.1", port=int(sys.argv[1]), remote=True)
while not session._client._connected:
    time.sleep(0.1)
time.sleep(1)
print("the session is there", flush=True)
sys.stdin.read()
"""


def start_app(log: Path, port: int | None = None) -> tuple[Popen[bytes], str]:
    """Start the FiftyOne App's server; return its process with its address.

    It reads plugins and database from the environment, and ends with its stdin.
    """
    port = port or free_port()
    with log.open("wb") as out:
        process = Popen(
            [sys.executable, "-c", _APP, str(port)],
            stdin=PIPE,
            stdout=out,
            stderr=subprocess.STDOUT,
            preexec_fn=end_with_parent,
        )
    url = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        # A session that finds no server tries again after 10 seconds; where a page is
        # open by then, it takes the page's dataset away.
        return _answers(f"{url}/fiftyone") and "the session is there" in log.read_text()

    try:
        wait_until(process, "the FiftyOne App", ready)
    except RuntimeError as error:
        raise RuntimeError(f"{error}\n{log.read_text()}") from error
    return process, url


def stop_app(process: Popen[bytes]) -> None:
    """End the App's server."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_until(
    process: Popen[bytes], name: str, ready: Callable[[], bool], seconds: float = 240
) -> None:
    """Wait until a server answers; raise a RuntimeError if it ends or stays silent."""
    deadline = time.monotonic() + seconds
    while not ready():
        if process.poll() is not None:
            raise RuntimeError(f"{name} ended at once, with code {process.returncode}.")
        if time.monotonic() > deadline:
            process.kill()
            raise RuntimeError(f"{name} did not answer within {seconds:.0f} s.")
        time.sleep(0.1)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


def end_with_parent() -> None:
    """End a child process with its parent, where the system can."""
    # A killed test run must not leave its servers behind.
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
