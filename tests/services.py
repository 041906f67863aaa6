"""The real servers that the tests run against: MongoDB and the FiftyOne App."""

from __future__ import annotations

import ctypes
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def start_mongod(folder: Path) -> tuple[Popen[bytes], str]:
    """Start FiftyOne's own mongod in ``folder``; return it with its URI.

    FiftyOne attaches to any mongod of the same user that another FiftyOne process
    started, whatever its folder is. A server of our own keeps the tests out of the
    data that someone is working with on this machine.
    """
    folder.mkdir(parents=True)
    port = free_port()
    purelib = Path(sysconfig.get_path("purelib"))
    command = [
        str(purelib / "fiftyone" / "db" / "bin" / "mongod"),
        *("--dbpath", str(folder), "--logpath", str(folder / "mongod.log")),
        *("--bind_ip", "127.0.0.1", "--port", str(port), "--nounixsocket"),
        *("--wiredTigerCacheSizeGB", "0.5"),
    ]
    process = Popen(command, stdout=DEVNULL, preexec_fn=_end_with_parent)
    _wait(process, "mongod", lambda: _accepts(port))
    return process, f"mongodb://127.0.0.1:{port}"


_APP = """
import sys
import fiftyone as fo
session = fo.launch_app(address="127.0.0.1", port=int(sys.argv[1]), remote=True)
sys.stdin.read()
"""


def start_app(log: Path) -> tuple[Popen[bytes], str]:
    """Start the FiftyOne App's server; return its process with its address.

    It reads plugins and database from the environment, and ends with its stdin.
    """
    port = free_port()
    with log.open("wb") as out:
        process = Popen(
            [sys.executable, "-c", _APP, str(port)],
            stdin=PIPE,
            stdout=out,
            stderr=subprocess.STDOUT,
            preexec_fn=_end_with_parent,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(process, "the FiftyOne App", lambda: _answers(f"{url}/fiftyone"))
    except RuntimeError as error:
        raise RuntimeError(f"{error}\n{log.read_text()}") from error
    return process, url


def stop_app(process: Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def stop_mongod(process: Popen[bytes]) -> None:
    # Its data is thrown away: no need for the quarter of a minute of an orderly end.
    process.kill()
    process.wait()


def _wait(process: Popen[bytes], name: str, ready, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        if process.poll() is not None:
            raise RuntimeError(f"{name} ended at once, with code {process.returncode}.")
        if time.monotonic() > deadline:
            process.kill()
            raise RuntimeError(f"{name} did not answer within {seconds:.0f} s.")
        time.sleep(0.1)


def _accepts(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


def _end_with_parent() -> None:
    # A killed test run must not leave its servers behind.
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
