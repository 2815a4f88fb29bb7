"""Debian's pgbouncer in transaction mode, in front of the tests' server: few server connections that all clients share."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

CONFIG = """[databases]
* = host={server} port=5432
[pgbouncer]
listen_addr =
listen_port = 6432
unix_socket_dir = {home}
unix_socket_mode = 0777
auth_type = trust
auth_file = {home}/users
pool_mode = {mode}
default_pool_size = {size}
max_client_conn = 200
{more}
"""


def program() -> str:
    found = shutil.which("pgbouncer", path=os.environ.get("PATH", "") + ":/usr/sbin")
    assert found, "pgbouncer is not installed: README.md, the line for the tests, names what they need"
    return found


@contextmanager
def pooler(url: str, *, size: int = 2, mode: str = "transaction", more: str = "") -> Iterator[str]:
    """The URL of the same database through a pgbouncer, which runs as the server's user: only that may open its socket."""
    socket_of_server = Path(url.partition("host=")[2].partition("&")[0])
    owner = pwd.getpwuid((socket_of_server / ".s.PGSQL.5432").stat().st_uid)
    home = Path(tempfile.mkdtemp(prefix="tarbox-pool-", dir="/tmp"))
    home.chmod(0o755)
    (home / "users").write_text('"tarbox" ""\n"postgres" ""\n')
    (home / "pgbouncer.ini").write_text(CONFIG.format(server=socket_of_server, home=home, mode=mode, size=size, more=more))
    run_as: dict[str, object] = {}
    if os.getuid() == 0:
        run_as = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
        os.chown(home, owner.pw_uid, owner.pw_gid)
    with (home / "log").open("wb") as log:
        process = subprocess.Popen([program(), str(home / "pgbouncer.ini")], stdout=log, stderr=log, **run_as)  # type: ignore[call-overload]
    try:
        _await(home / ".s.PGSQL.6432", process, home / "log")
        database = urlsplit(url).path
        yield f"postgresql://tarbox@{database}?host={quote(str(home))}&port=6432"
    finally:
        process.terminate()
        process.wait(20)
        shutil.rmtree(home)


def _await(path: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 20
    while True:
        with socket.socket(socket.AF_UNIX) as stream:
            try:
                stream.connect(str(path))
                return
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
