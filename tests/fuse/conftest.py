"""Fixtures that mount. After each test the mount is unmounted as a user would and fsck must find nothing.

A machine that cannot mount skips these tests, but fails them where CI is set: green must mean that they ran.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import pytest

from tests.fuse.helpers import Mount, can_mount


class Server(Protocol):
    """What tests/conftest.py gives as pg_server."""

    def template(self, name: str, fill: Callable[[str], None]) -> str: ...
    def database(self, template: str = ...) -> AbstractContextManager[str]: ...


def _init(url: str) -> None:
    subprocess.run([sys.executable, "-m", "tarbox_cli", "init"], env={**os.environ, "TARBOX_DATABASE_URL": url}, check=True, timeout=120)


@pytest.fixture(scope="session")
def mountable() -> None:
    """Skips, or fails in CI, where this machine cannot mount."""
    if not can_mount():
        if os.environ.get("CI"):
            pytest.fail("this machine cannot mount (/dev/fuse, fusermount3), and in CI that is a failure")
        pytest.skip("this machine cannot mount: /dev/fuse or fusermount3 is missing")


@pytest.fixture
def database(mountable: None, pg_server: Server) -> Iterator[str]:
    """The URL of a database of the test's own, with the schema in it."""
    with pg_server.database(pg_server.template("initialised", _init)) as url:
        yield url


@pytest.fixture
def mount(tmp_path: Path, database: str, request: pytest.FixtureRequest) -> Iterator[Mount]:
    """A tenant's mount as the command line makes it; the parameter and the mark `mount_options` are further options."""
    folder = tmp_path / "mnt"
    folder.mkdir()
    mount = Mount(folder, "t1", database, *getattr(request, "param", ()), *(word for mark in request.node.iter_markers("mount_options") for word in mark.args))
    try:
        mount.start()
        yield mount
        assert not mount.expired, f"the mount hung; the daemon's log:\n{mount.log.read_text()}"
        mount.stop()
        mount.fsck()
        assert mount.traceback() == ""
    finally:
        mount.close()


@pytest.fixture
def tenant_mount(mount: Mount) -> Path:
    """The directory of `mount`, for tests that need nothing else of it."""
    return mount.path
