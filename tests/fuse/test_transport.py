"""What a mount must do whatever tree is behind it, through both transports; the tree here is one in memory.

What libfuse 2 cannot carry (rename flags, fallocate, lseek, copy_file_range, set-id bits on write) is asked of the
kernel's protocol alone.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import json
import mmap
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fuse.helpers import ROOT, wait_for
from tests.fuse.memory import MemoryMount
from tests.fuse.memory_fs import COUNTERS

NOBODY = 65534


@pytest.fixture(params=["kernel", "libfuse"])
def transport(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name == "libfuse":
        pytest.importorskip("fuse", reason="fusepy or libfuse.so.2 is not installed", exc_type=(ImportError, OSError))  # type: ignore[arg-type]
    return name


def _mounted(folder: Path, *options: str) -> Iterator[Path]:
    folder.mkdir()
    mount = MemoryMount(folder, *options)
    try:
        mount.start()
        yield folder
        assert not mount.expired, f"the mount hung; its log:\n{mount.log.read_text()}"
        mount.stop()
        assert mount.traceback() == ""
    finally:
        mount.close()


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that other users may enter, unlike tmp_path."""
    folder = Path(tempfile.mkdtemp(prefix="tarbox-transport-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def root(place: Path, mountable: None, transport: str, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A mount through each transport; a parameter is a tuple of options."""
    yield from _mounted(place / "mnt", "--transport", transport, *getattr(request, "param", ()))


@pytest.fixture
def kernel(place: Path, mountable: None, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A mount through the kernel's protocol."""
    yield from _mounted(place / "mnt", *getattr(request, "param", ()))


def counters(path: Path) -> dict[str, int]:
    found: dict[str, int] = json.loads(os.getxattr(path, COUNTERS))
    return found


def refused(number: int) -> Any:
    return pytest.raises(OSError, check=lambda error: error.errno == number)


# --- names


def test_names_of_any_bytes(root: Path) -> None:
    names = [b"\xff\xfe", b" lead", b"new\nline", "größe".encode(), b"-rf", b"x" * 255, b"a\\b", b"\x01"]
    for name in names:
        (root / os.fsdecode(name)).write_bytes(name)
    assert sorted(os.listdir(os.fsencode(root))) == sorted(names)
    assert all((root / os.fsdecode(name)).read_bytes() == name for name in names)
    with refused(errno.ENAMETOOLONG):
        (root / ("x" * 256)).touch()


def test_directories(root: Path) -> None:
    (root / "a/b/c").mkdir(parents=True)
    assert (root / "a").stat().st_nlink == 3
    with refused(errno.ENOTEMPTY):
        (root / "a").rmdir()
    with refused(errno.EEXIST):
        (root / "a").mkdir()
    with refused(errno.ENOENT):
        (root / "b").rmdir()
    (root / "f").touch()
    with refused(errno.ENOTDIR):
        (root / "f/x").touch()
    os.removedirs(root / "a/b/c")
    assert os.listdir(root) == ["f"]


def test_many_entries_each_once_with_their_types(root: Path) -> None:
    expected = {f"file-{n:04}" for n in range(1500)} | {f"dir-{n:04}" for n in range(50)} | {"link"}
    for name in expected:
        if name.startswith("file"):
            (root / name).touch()
        elif name.startswith("dir"):
            (root / name).mkdir()
    (root / "link").symlink_to("nowhere")
    for _ in range(2):  # the second time from the kernel's dentries
        with os.scandir(root) as entries:
            found = list(entries)
        assert len(found) == len(expected) and {entry.name for entry in found} == expected
        assert all(entry.is_dir(follow_symlinks=False) == entry.name.startswith("dir") for entry in found)
        assert all(entry.inode() == (root / entry.name).lstat().st_ino for entry in found)


def test_links(root: Path, transport: str) -> None:
    (root / "f").write_text("text")
    os.link(root / "f", root / "hard")
    (root / "soft").symlink_to("f")
    assert (root / "hard").stat().st_nlink == 2 and (root / "hard").samefile(root / "f")
    assert os.readlink(root / "soft") == "f" and (root / "soft").read_text() == "text"
    assert (root / "soft").lstat().st_size == 1
    (root / "f").unlink()
    # libfuse gives each name a node of its own, with attributes of its own until they expire.
    wait_for(lambda: (root / "hard").stat().st_nlink == 1, 60 if transport == "libfuse" else 0, lambda: "the link count is stale")
    with refused(errno.ENOENT):
        (root / "soft").read_text()
    target = "t" * 4095
    (root / "long").symlink_to(target)
    assert os.readlink(root / "long") == target


def test_rename(root: Path) -> None:
    (root / "d").mkdir()
    (root / "a").write_text("a")
    (root / "b").write_text("b")
    os.rename(root / "a", root / "b")
    assert (root / "b").read_text() == "a" and not (root / "a").exists()
    os.rename(root / "b", root / "d/c")
    os.rename(root / "d", root / "e")
    assert (root / "e/c").read_text() == "a"
    with refused(errno.EINVAL):
        os.rename(root / "e", root / "e/f")


def _renameat2(old: Path, new: Path, flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), ctypes.c_uint(flags)):
        raise OSError(ctypes.get_errno(), "renameat2")


def test_rename_flags(kernel: Path) -> None:
    (kernel / "a").write_text("a")
    (kernel / "b").write_text("b")
    with refused(errno.EEXIST):
        _renameat2(kernel / "a", kernel / "b", 1)
    _renameat2(kernel / "a", kernel / "b", 2)
    assert ((kernel / "a").read_text(), (kernel / "b").read_text()) == ("b", "a")


def test_special_files(root: Path) -> None:
    os.mkfifo(root / "pipe", 0o600)
    assert stat.S_ISFIFO((root / "pipe").stat().st_mode)
    if ROOT:
        os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        info = (root / "null").stat()
        assert stat.S_ISCHR(info.st_mode) and info.st_rdev == os.makedev(1, 3)
        assert (root / "null").read_bytes() == b""  # the device answers: root's mounts allow devices


# --- attributes


def test_attributes(root: Path) -> None:
    before = os.umask(0o027)
    try:
        (root / "f").touch()
        (root / "d").mkdir()
    finally:
        os.umask(before)
    assert (root / "f").stat().st_mode == stat.S_IFREG | 0o640
    assert (root / "d").stat().st_mode == stat.S_IFDIR | 0o750
    os.chmod(root / "f", 0o4711)
    assert (root / "f").stat().st_mode == stat.S_IFREG | 0o4711
    info = (root / "f").stat()
    assert (info.st_uid, info.st_gid, info.st_nlink, info.st_size) == (os.getuid(), os.getgid(), 1, 0)
    if ROOT:
        os.chown(root / "f", 1000, 1001)
        info = (root / "f").stat()
        assert (info.st_uid, info.st_gid, info.st_mode & 0o7777) == (1000, 1001, 0o711)
        os.chown(root / "f", -1, 5)
        assert ((root / "f").stat().st_uid, (root / "f").stat().st_gid) == (1000, 5)


def test_times_to_the_nanosecond(root: Path) -> None:
    path = root / "f"
    path.touch()
    for atime, mtime in [(1, 2), (1_234_567_890_123_456_789, 1_600_000_000_999_999_999), (-5_000_000_001, -1)]:
        os.utime(path, ns=(atime, mtime))
        assert (path.stat().st_atime_ns, path.stat().st_mtime_ns) == (atime, mtime)
    os.utime(path)
    assert path.stat().st_mtime_ns > 1_700_000_000 * 10**9
    subprocess.run(["touch", "-a", "-d", "@1000", path], check=True)
    assert path.stat().st_atime == 1000 and path.stat().st_mtime_ns > 1_700_000_000 * 10**9


def test_xattrs(root: Path) -> None:
    path = root / "f"
    path.touch()
    os.setxattr(path, "user.a", b"1\x002")
    os.setxattr(path, "user.big", b"x" * 60000)
    assert os.getxattr(path, "user.a") == b"1\x002"
    assert os.getxattr(path, "user.big") == b"x" * 60000
    assert sorted(os.listxattr(path)) == ["user.a", "user.big"]
    with refused(errno.EEXIST):
        os.setxattr(path, "user.a", b"2", os.XATTR_CREATE)
    with refused(errno.ENODATA):
        os.setxattr(path, "user.b", b"2", os.XATTR_REPLACE)
    os.setxattr(path, "user.a", b"", os.XATTR_REPLACE)
    assert os.getxattr(path, "user.a") == b""
    os.removexattr(path, "user.a")
    with refused(errno.ENODATA):
        os.getxattr(path, "user.a")
    with refused(errno.ENODATA):
        os.removexattr(path, "user.a")


def test_statvfs(root: Path) -> None:
    info = os.statvfs(root)
    assert info.f_namemax == 255 and info.f_blocks * info.f_frsize == 1 << 40 and info.f_bavail * info.f_frsize == 1 << 39


# --- contents


def test_what_is_written_is_read(root: Path) -> None:
    data = os.urandom((5 << 20) + 321)
    (root / "big").write_bytes(data)
    assert (root / "big").stat().st_size == len(data)
    assert hashlib.sha256((root / "big").read_bytes()).digest() == hashlib.sha256(data).digest()
    with (root / "big").open("r+b") as file:
        file.seek(1_000_000)
        file.write(b"patch")
        file.seek(999_998)
        assert file.read(9) == data[999_998:1_000_000] + b"patch" + data[1_000_005:1_000_007]


def test_sizes(root: Path) -> None:
    path = root / "f"
    path.write_bytes(b"0123456789")
    os.truncate(path, 4)
    assert path.read_bytes() == b"0123"
    with path.open("r+b") as file:
        file.truncate(6)
        assert os.fstat(file.fileno()).st_size == 6
        file.seek(10)
        file.write(b"x")
    assert path.read_bytes() == b"0123" + bytes(6) + b"x"
    path.open("wb").close()
    assert path.stat().st_size == 0


def test_appending_from_two_handles(root: Path) -> None:
    with (root / "log").open("ab", buffering=0) as one, (root / "log").open("ab", buffering=0) as two:
        for n in range(50):
            (one if n % 2 else two).write(b"%02d\n" % n)
    assert (root / "log").read_bytes() == b"".join(b"%02d\n" % n for n in range(50))


def test_unlinked_but_open(root: Path, transport: str) -> None:
    with (root / "f").open("w+b") as file:
        file.write(b"still here")
        file.flush()
        (root / "f").unlink()
        assert not (root / "f").exists() and os.fstat(file.fileno()).st_size == 10
        if transport == "kernel":
            assert os.listdir(root) == [] and os.fstat(file.fileno()).st_nlink == 0
        file.write(b", and more")
        file.flush()
        file.seek(0)
        assert file.read() == b"still here, and more"
    # libfuse hides it under a name of its own until the release, which comes after close.
    wait_for(lambda: os.listdir(root) == [], 10, lambda: f"left over: {os.listdir(root)}")


def test_mapped_writes(root: Path) -> None:
    path = root / "f"
    path.write_bytes(bytes(3 * mmap.PAGESIZE))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as pages:
        pages[5000:5005] = b"hello"
        pages.flush()
        assert path.read_bytes()[5000:5005] == b"hello"


def test_fsync_is_durable_and_close_is_a_flush(root: Path) -> None:
    before = counters(root)
    with (root / "f").open("wb") as file:
        file.write(b"x")
        file.flush()
        os.fsync(file.fileno())
        assert counters(root)["durable"] == before["durable"] + 1
        file.write(b"y")
    assert counters(root)["flushes"] > before["flushes"]
    fd = os.open(root, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    assert counters(root)["durable"] == before["durable"] + 2


def test_what_stays_open_is_flushed_before_long(root: Path) -> None:
    with (root / "f").open("wb", buffering=0) as file:
        file.write(b"x")
        wait_for(lambda: counters(root)["flushes"] > 0, 60, lambda: "nothing was flushed in the background")


LOCKER = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
try:
    {"flock": fcntl.flock, "lockf": fcntl.lockf}[sys.argv[2]](fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError as error:
    sys.exit(error.errno)
"""


@pytest.mark.parametrize("kind", ["flock", "lockf"])
def test_locks_between_processes(root: Path, kind: str) -> None:
    path = root / "f"
    path.touch()

    def other() -> int:
        return subprocess.run([sys.executable, "-c", LOCKER, path, kind], check=False, timeout=60).returncode

    with path.open("r+b") as file:
        getattr(fcntl, kind)(file, fcntl.LOCK_EX)
        assert other() in (errno.EAGAIN, errno.EACCES)
        getattr(fcntl, kind)(file, fcntl.LOCK_UN)
        assert other() == 0


def test_holes(kernel: Path) -> None:
    fd = os.open(kernel / "f", os.O_RDWR | os.O_CREAT)
    try:
        os.write(fd, b"x" * 10000)
        os.posix_fallocate(fd, 0, 20000)
        assert os.fstat(fd).st_size == 20000
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.fallocate64(fd, 3, ctypes.c_int64(100), ctypes.c_int64(50)) == 0  # KEEP_SIZE | PUNCH_HOLE
        assert os.pread(fd, 200, 0) == b"x" * 100 + bytes(50) + b"x" * 50
        assert os.lseek(fd, 5, os.SEEK_DATA) == 5 and os.lseek(fd, 5, os.SEEK_HOLE) == 20000
        with refused(errno.ENXIO):
            os.lseek(fd, 30000, os.SEEK_DATA)
        assert libc.fallocate64(fd, 8, ctypes.c_int64(0), ctypes.c_int64(4096)) == -1 and ctypes.get_errno() == errno.EOPNOTSUPP
    finally:
        os.close(fd)


def test_copy_file_range(kernel: Path) -> None:
    data = os.urandom(300_000)
    (kernel / "a").write_bytes(data)
    with (kernel / "a").open("rb") as source, (kernel / "b").open("wb") as target:
        assert os.copy_file_range(source.fileno(), target.fileno(), 250_000, 1000, 0) == 250_000
    assert (kernel / "b").read_bytes() == data[1000:251_000]
    with (kernel / "a").open("r+b") as file:  # within one file: one lock, not two
        assert os.copy_file_range(file.fileno(), file.fileno(), 1000, 0, 200_000) == 1000
    assert (kernel / "a").read_bytes()[200_000:201_000] == data[:1000]


@pytest.mark.skipif(not ROOT, reason="needs another user")
@pytest.mark.parametrize("kernel", [("--allow-other",)], indirect=True)
def test_set_id_bits_go_when_another_user_writes(kernel: Path) -> None:
    path = kernel / "f"
    path.write_bytes(b"abc")
    os.chmod(kernel, 0o777)
    for change in ("printf x >> f", "truncate -s 1 f", ": > f"):
        os.chmod(path, 0o6777)
        subprocess.run(["sh", "-c", change], user=NOBODY, group=NOBODY, check=True, cwd=kernel)
        assert path.stat().st_mode & 0o7777 == 0o777, change
    os.chmod(path, 0o6777)
    with path.open("r+b") as file:
        file.write(b"x")
    assert path.stat().st_mode & 0o7777 == 0o6777  # root may keep them


@pytest.mark.skipif(not ROOT, reason="needs another user")
@pytest.mark.parametrize("root", [("--allow-other",)], indirect=True)
def test_the_kernel_checks_permissions(root: Path) -> None:
    (root / "secret").write_text("s")
    (root / "secret").chmod(0o600)
    for command in ("cat secret", "echo x > new"):
        done = subprocess.run(["sh", "-c", command], user=NOBODY, group=NOBODY, capture_output=True, text=True, check=False, cwd=root)
        assert done.returncode and "Permission denied" in done.stderr


@pytest.mark.parametrize("root", [("--read-only",)], indirect=True)
def test_read_only(root: Path) -> None:
    with refused(errno.EROFS):
        (root / "f").touch()


# --- several clients at once


CLIENT = """
import os, sys
root, me, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
os.mkdir(f"{root}/{me}")
for n in range(count):
    with open(f"{root}/{me}/{n}", "w") as file:
        file.write(me * n)
    with open(f"{root}/shared", "a") as file:
        file.write(f"{me} {n}\\n")
for n in range(count):
    with open(f"{root}/{me}/{n}") as file:
        assert file.read() == me * n
    if n % 2:
        os.unlink(f"{root}/{me}/{n}")
"""


@pytest.mark.parametrize("root", [("--delay", "0.001")], indirect=True)
def test_clients_side_by_side(root: Path) -> None:
    """With a tree that must wait for its database, requests of several clients are in work at the same time."""
    clients = [subprocess.Popen([sys.executable, "-c", CLIENT, root, me, "20"]) for me in "abcd"]
    assert [client.wait(100) for client in clients] == [0, 0, 0, 0]
    assert sorted((root / "shared").read_text().splitlines()) == sorted(f"{me} {n}" for me in "abcd" for n in range(20))
    assert all(sorted(map(int, os.listdir(root / me))) == list(range(0, 20, 2)) for me in "abcd")
    assert counters(root)["most"] >= 2
