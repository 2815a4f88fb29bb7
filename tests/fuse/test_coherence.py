"""What another door changes shows in a mount at once, although the kernel may keep names and attributes for longer than
these tests wait."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuse.helpers import Mount, wait_for

SOON = 4.0  # seconds: less than the kernel keeps attributes, so that only a word from the other door can explain it


def soon(what: object, see: object) -> None:
    assert callable(see)
    wait_for(lambda: bool(see() == what), SOON, lambda: f"the mount still shows {see()!r}, not {what!r}")


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_content_size_and_mode_from_the_command_line(mount: Mount) -> None:
    file = mount.path / "f"
    file.write_text("one\n")
    assert file.read_text() == "one\n" and file.stat().st_size == 4
    mount.tarbox("write", "--tenant", "t1", "/f", "something longer\n")
    soon("something longer\n", file.read_text)
    soon(17, lambda: file.stat().st_size)
    mount.tarbox("chmod", "--tenant", "t1", "600", "/f")
    soon(0o600, lambda: file.stat().st_mode & 0o777)


def test_names_from_the_command_line(mount: Mount) -> None:
    (mount.path / "d").mkdir()
    (mount.path / "d" / "a").write_text("a")
    assert (mount.path / "d" / "a").read_text() == "a"
    mount.tarbox("mv", "--tenant", "t1", "/d/a", "/d/b")
    soon(["b"], lambda: names(mount.path / "d"))
    soon(False, (mount.path / "d" / "a").exists)
    mount.tarbox("rm", "--tenant", "t1", "-r", "/d")
    soon(False, (mount.path / "d").exists)


def test_a_file_held_open_follows(mount: Mount) -> None:
    (mount.path / "f").write_bytes(b"x" * 100_000)
    with open(mount.path / "f", "rb", buffering=0) as held:
        assert held.read(5) == b"xxxxx"
        mount.tarbox("write", "--tenant", "t1", "/f", "y" * 50)
        soon(b"y" * 50, lambda: os.pread(held.fileno(), 1000, 0))


@pytest.fixture
def second(mount: Mount, tmp_path: Path) -> Iterator[Mount]:
    """Another mount of the same tenant."""
    folder = tmp_path / "second"
    folder.mkdir()
    other = Mount(folder, "t1", mount.env["TARBOX_DATABASE_URL"])
    try:
        other.start()
        yield other
        other.stop()
    finally:
        other.close()


def test_two_mounts_of_one_tenant(mount: Mount, second: Mount) -> None:
    here, there = mount.path / "f", second.path / "f"
    here.write_text("one")
    soon("one", there.read_text)
    with open(there, "a") as more:
        more.write(" two")
    soon("one two", here.read_text)
    soon(7, lambda: here.stat().st_size)
    os.rename(there, second.path / "g")
    soon(["g"], lambda: names(mount.path))
    soon(False, here.exists)


def test_a_file_open_in_one_mount_outlives_its_name_in_the_other(mount: Mount, second: Mount) -> None:
    (mount.path / "f").write_bytes(b"kept" * 5000)
    with open(mount.path / "f", "rb", buffering=0) as held:
        os.unlink(second.path / "f")
        soon(False, (mount.path / "f").exists)
        assert held.read(20000) == b"kept" * 5000
