"""Mounts for tests: a daemon of the command line's on a directory, watched so that a hang fails one test and not the run.

A system call on a mount whose daemon is stuck cannot be interrupted, not even by SIGKILL, so the only cure is to kill
the daemon: the watchdog does that, and what waited gets ENOTCONN. Not here: databases (tests/conftest.py), fixtures.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = os.geteuid() == 0
LIMIT = 120  # seconds that a test may use a mount
MOUNT_LIMIT = 60


def run(
    *argv: str | bytes | Path, timeout: float = 120, check: bool = True, env: Mapping[str, str] | None = None, **more: Any
) -> subprocess.CompletedProcess[str]:
    """A program, to its end; a failure shows what it printed."""
    done = subprocess.run(argv, timeout=timeout, env={**os.environ, **env} if env else None, text=True, errors="surrogateescape", capture_output=True, **more)
    assert not check or done.returncode == 0, f"{argv} ended with {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done


def can_mount() -> bool:
    return os.path.exists("/dev/fuse") and (ROOT or (os.access("/dev/fuse", os.W_OK) and shutil.which("fusermount3") is not None))


def wait_for(what: Callable[[], bool], seconds: float, failure: Callable[[], str]) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, failure()
        time.sleep(0.02)


def mounted(folder: Path) -> bool:
    """Whether something is mounted there, dead or alive; unlike os.path.ismount it asks the kernel's table, never the daemon."""
    name = str(folder).replace("\\", "\\134").replace(" ", "\\040")
    return any(line.split()[4] == name for line in Path("/proc/self/mountinfo").read_text().splitlines())


def lazy_unmount(folder: Path) -> None:
    if mounted(folder):
        run(*(["umount", "-l"] if ROOT else ["fusermount3", "-uz"]), folder, check=False, timeout=30)


class Mount:
    """A tenant mounted on `path` by `tarbox mount --foreground`."""

    def __init__(self, path: Path, tenant: str, url: str, *options: str, env: Mapping[str, str] | None = None, limit: float = LIMIT) -> None:
        self.path = path
        self.tenant = tenant
        self.env = {"TARBOX_DATABASE_URL": url, **(env or {})}
        self.options = options
        self.log = path.with_name(path.name + ".log")
        self.expired = False
        self.daemon: subprocess.Popen[bytes] | None = None
        self._watchdog = threading.Timer(limit, self._expire)
        self._watchdog.daemon = True
        self._watchdog.start()

    def tarbox(self, *arguments: str | Path, **more: Any) -> subprocess.CompletedProcess[str]:
        return run(sys.executable, "-m", "tarbox_cli", *arguments, env=self.env, **more)

    def start(self) -> None:
        """Mount, and wait until the kernel shows it and the root answers."""
        command = [sys.executable, "-m", "tarbox_cli", "mount", str(self.path), "--tenant", self.tenant, "--create-tenant", "--foreground", *self.options]
        with self.log.open("ab") as log:
            self.daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **self.env}, start_new_session=True)
        daemon = self.daemon
        wait_for(
            lambda: mounted(self.path) or daemon.poll() is not None, MOUNT_LIMIT,
            lambda: f"not mounted after {MOUNT_LIMIT} s; the daemon's log:\n{self.log.read_text()}",
        )
        assert daemon.poll() is None, f"the daemon ended with {daemon.returncode}; its log:\n{self.log.read_text()}"
        os.stat(self.path)

    def stop(self) -> None:
        """Unmount as a user would, and wait for the daemon to end by itself."""
        if self.daemon is None:
            return
        self.tarbox("umount", self.path)
        code = self.daemon.wait(60)
        self.daemon = None
        assert code == 0, f"the daemon ended with {code}; its log:\n{self.log.read_text()}"
        assert not mounted(self.path)

    def remount(self) -> None:
        self.stop()
        self.start()

    def kill(self) -> None:
        """kill -9 of the daemon, as it stands; whatever watches over it lives on and cleans up."""
        assert self.daemon is not None and self.daemon.poll() is None, "there is no daemon to kill"
        self.daemon.send_signal(signal.SIGKILL)
        self.daemon.wait(30)
        self.daemon = None

    def fsck(self) -> subprocess.CompletedProcess[str]:
        return self.tarbox("fsck", "--tenant", self.tenant)

    def _expire(self) -> None:
        self.expired = True
        self._destroy()

    def _destroy(self) -> None:
        daemon = self.daemon
        if daemon is not None and daemon.poll() is None:
            try:
                os.killpg(daemon.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            daemon.wait(30)
        self.daemon = None
        lazy_unmount(self.path)

    def close(self) -> None:
        """Leave nothing behind, whatever happened."""
        self._watchdog.cancel()
        self._watchdog.join()
        self._destroy()

    def traceback(self) -> str:
        """What the daemon's log holds of Python tracebacks: a test that leaves one has found a bug, even if it passed."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return text[text.index("Traceback") :] if "Traceback" in text else ""
