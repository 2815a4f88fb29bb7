"""The doors that the suite of this folder is run over, and what of it a door is excused from (exclusions.toml)."""

from __future__ import annotations

import itertools
import os
import shutil
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import enterable_directory
from tests.fuse.helpers import Mount, can_mount
from tests.gateway import through_gateway
from tests.posix.door import CoreDoor, Door, HostDoor
from tests.tenants import BLOCK, ROOT, Tenant, prepare

EXCLUSIONS = Path(__file__).with_name("exclusions.toml")
MAX_FILE_SIZE = 1 << 30
VARIANTS = 4  # of one test, over the remote door

_numbers = itertools.count(1)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """An excluded test must fail: one that passes has lost its reason to be excluded. Of a test's many sizes, the remote door
    gets a few: that arithmetic is the core's, whatever driver is below, and these tests take most of the suite's time."""
    exclusions = tomllib.loads(EXCLUSIONS.read_text())
    remote: dict[tuple[Path, str], list[pytest.Item]] = {}
    for item in items:
        if EXCLUSIONS.parent not in item.path.parents or not isinstance(item, pytest.Function) or not hasattr(item, "callspec"):
            continue
        door = item.callspec.params.get("door")
        if door == "remote":
            remote.setdefault((item.path, item.originalname), []).append(item)
        reason = exclusions.get(door, {}).get(item.originalname)
        if reason is not None:
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True))
    chosen = {id(item) for variants in remote.values() for item in variants[:: -(-len(variants) // VARIANTS)]}
    left = [item for variants in remote.values() for item in variants if id(item) not in chosen]
    if left:
        config.hook.pytest_deselected(items=left)
        gone = set(map(id, left))
        items[:] = [item for item in items if id(item) not in gone]


@pytest.fixture(scope="module")
def module_url(pg_url_module: str) -> str:
    """A database with the schema in it, for all tests of a file."""
    return prepare(pg_url_module)


@pytest.fixture(scope="module")
def module_tenant(module_url: str) -> Iterator[Tenant]:
    tenant = Tenant(module_url, block_size=BLOCK, max_file_size=MAX_FILE_SIZE)
    yield tenant
    tenant.finish()


@pytest.fixture(scope="module")
def module_mount(module_tenant: Tenant) -> Iterator[Mount]:
    """One mount for all tests of a file, where other users reach it whatever other runs of the tests do to pytest's folders."""
    if not can_mount() or os.geteuid() != 0:
        if os.environ.get("CI") and os.geteuid() == 0:
            pytest.fail("this machine cannot mount (/dev/fuse), and in CI that is a failure")
        pytest.skip("no /dev/fuse on this machine" if not can_mount() else "the suite acts as several users, which over a mount only root can")
    folder = enterable_directory() / "mnt"
    folder.mkdir()
    mount = Mount(folder, module_tenant.info.name, module_tenant.url, "--allow-other")
    try:
        mount.start()
        yield mount
        assert not mount.expired, f"the mount hung; the daemon's log:\n{mount.log.read_text()}"
        mount.stop()
        assert mount.traceback() == ""
    finally:
        mount.close()
        shutil.rmtree(folder.parent)


def settled(tenant: Tenant) -> None:
    """fsck finds nothing. The kernel tells a mount of closed files a little later, so what is unlinked has a while to go."""
    for _ in range(100):
        findings = tenant.fsck()
        if all(finding.kind != "unlinked" for finding in findings):
            break
        time.sleep(0.05)
    assert findings == [], "fsck found damage after the test"


@pytest.fixture(params=["core", "remote", "mount"])
def door(request: pytest.FixtureRequest, module_url: str) -> Iterator[Door]:
    """An empty directory that belongs to root, through each door, as root. After the test fsck must find nothing."""
    if request.param != "mount":
        tenant = Tenant(module_url, block_size=BLOCK, max_file_size=MAX_FILE_SIZE)
        session = through_gateway(tenant, enforce=True) if request.param == "remote" else tenant.session(enforce=True)
        core = CoreDoor(session, ROOT)
        yield core
        core.finish()
        tenant.finish()
        return
    mount: Mount = request.getfixturevalue("module_mount")
    folder = mount.path / str(next(_numbers))
    folder.mkdir()
    host = HostDoor(folder)
    mask = os.umask(0)
    try:
        yield host
    finally:
        os.umask(mask)
        host.finish()
        shutil.rmtree(folder)
    settled(request.getfixturevalue("module_tenant"))
