"""System calls that programs lean on, each on a mounted tenant, most of them between several processes.

What POSIX asks verb by verb is in tests/posix; here is what needs a kernel: mmap, locks, open files, errors of flushes.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import random
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuse.helpers import ROOT, Mount, run, wait_for

both_transports = pytest.mark.parametrize("mount", [(), ("--transport", "libfuse")], indirect=True, ids=["kernel", "libfuse"])
# Not marked so: what libfuse 2 has no call for (fallocate, lseek, copy_file_range, rename flags), and hard links, each of
# which it takes for a file of its own until its attributes expire.
needs_root = pytest.mark.skipif(not ROOT, reason="other owners and device nodes need root")


@contextlib.contextmanager
def fails(*numbers: int) -> Iterator[None]:
    with pytest.raises(OSError) as caught:
        yield
    assert caught.value.errno in numbers, f"{caught.value}, not {[errno.errorcode[n] for n in numbers]}"


class Peer:
    """Another process: it runs a program that says a line when it is ready and goes on when it is told to."""

    def __init__(self, program: str, *arguments: str | Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", "import fcntl, os, sys, mmap\n" + program, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def go_on(self) -> None:
        assert self.process.stdin
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


@both_transports
def test_mmap_writes_are_seen_by_others_and_stay(mount: Mount) -> None:
    name = mount.path / "mapped"
    size = 3 * 65536 + 100
    name.write_bytes(bytes(size))
    with name.open("r+b") as file, mmap.mmap(file.fileno(), 0) as shared:
        shared[65530:65545] = b"across a block."
        shared[size - 4 : size] = b"last"
        program = "f = open(sys.argv[1], 'r+b'); m = mmap.mmap(f.fileno(), 0); print(m[65530:65545].decode(), flush=True); m[0:5] = b'other'; m.flush()"
        with Peer(program, name) as peer:
            assert peer.line() == "across a block."
            assert peer.process.wait(30) == 0
        assert shared[0:5] == b"other"
        shared.flush()
        assert name.read_bytes()[65530:65545] == b"across a block."
    mount.remount()
    content = name.read_bytes()
    assert (len(content), content[:5], content[65530:65545], content[-4:]) == (size, b"other", b"across a block.", b"last")
    assert content.count(0) == size - 24
    with name.open("r+b") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as private:
        private[0:5] = b"never"
    assert name.read_bytes()[:5] == b"other"


@both_transports
def test_flock_between_processes(mount: Mount) -> None:
    name = mount.path / "lock"
    name.touch()
    program = """
f = open(sys.argv[1])
fcntl.flock(f, fcntl.LOCK_EX)
print('held', flush=True)
sys.stdin.readline()
fcntl.flock(f, fcntl.LOCK_UN)
print('gone', flush=True)
sys.stdin.readline()
"""
    with Peer(program, name) as peer, name.open() as file:
        assert peer.line() == "held"
        with fails(errno.EWOULDBLOCK):
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        peer.go_on()
        fcntl.flock(file, fcntl.LOCK_SH)  # waits until it is free
        assert peer.line() == "gone"
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(file, fcntl.LOCK_UN)
    with Peer(program, name) as peer, name.open() as file:
        assert peer.line() == "held"
        peer.process.kill()
        fcntl.flock(file, fcntl.LOCK_EX)  # a killed holder holds nothing


@both_transports
def test_record_locks_between_processes(mount: Mount) -> None:
    name = mount.path / "records"
    name.write_bytes(bytes(100))
    program = "f = open(sys.argv[1], 'r+b'); fcntl.lockf(f, fcntl.LOCK_EX, 10, 20); print('held', flush=True); sys.stdin.readline()"
    with name.open("r+b") as file, Peer(program, name) as peer:
        assert peer.line() == "held"
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 20, 0)
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 0, 30)
        for kind in (fcntl.LOCK_EX, fcntl.LOCK_SH):
            with fails(errno.EAGAIN, errno.EACCES):
                fcntl.lockf(file, kind | fcntl.LOCK_NB, 5, 25)
        waiter = threading.Thread(target=fcntl.lockf, args=(file, fcntl.LOCK_EX, 100, 0))
        waiter.start()
        peer.go_on()
        waiter.join(60)
        assert not waiter.is_alive()
    with name.open("r+b") as file, Peer(program, name) as peer:
        assert peer.line() == "held"
        peer.process.kill()
        fcntl.lockf(file, fcntl.LOCK_EX, 100, 0)


@both_transports
def test_appends_of_several_processes_keep_every_line(mount: Mount) -> None:
    name = mount.path / "log"
    program = """
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
for i in range(400):
    os.write(fd, f"{sys.argv[2]} {i} ".encode().ljust(99, b".") + b"\\n")
"""
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(Peer(program, name, str(i))) for i in range(4)]
        assert [peer.process.wait(120) for peer in peers] == [0] * 4
    mount.remount()
    lines = name.read_text().splitlines()
    assert len(lines) == 1600 and all(len(line) == 99 for line in lines)
    for i in range(4):
        assert [int(line.split()[1]) for line in lines if line.startswith(f"{i} ")] == list(range(400))


@both_transports
def test_rename_over_an_open_file(mount: Mount) -> None:
    """The way editors save: who has the old file open keeps it."""
    old, new = mount.path / "old", mount.path / "new"
    old.write_text("old content")
    with old.open("r+") as held:
        new.write_text("new content, longer")
        inode = new.stat().st_ino
        new.rename(old)
        assert held.read() == "old content"
        held.write(", still written")
        held.flush()
        assert os.fstat(held.fileno()).st_nlink == 0
        assert old.read_text() == "new content, longer" and old.stat().st_ino == inode
        held.seek(0)
        assert held.read() == "old content, still written"
    # libfuse hides what is unlinked under a name of its own until the file is released, which comes after close.
    wait_for(lambda: os.listdir(mount.path) == ["old"], 10, lambda: f"left over: {os.listdir(mount.path)}")


@both_transports
def test_unlinked_but_open(mount: Mount) -> None:
    name = mount.path / "scratch"
    body = random.Random(3).randbytes(300_000)
    with open(name, "w+b") as file:
        file.write(body[:100_000])
        name.unlink()
        assert not name.exists()
        file.write(body[100_000:])
        file.flush()
        os.fsync(file.fileno())
        s = os.fstat(file.fileno())
        assert (s.st_nlink, s.st_size) == (0, 300_000)
        name.write_text("another of the same name")
        file.seek(0)
        assert file.read() == body
        os.ftruncate(file.fileno(), 10)
        assert os.pread(file.fileno(), 100, 0) == body[:10]
    assert name.read_text() == "another of the same name"
    folder = mount.path / "folder"
    folder.mkdir()
    fd = os.open(folder, os.O_RDONLY)
    folder.rmdir()
    with fails(errno.ENOENT):
        os.mkdir("below", dir_fd=fd)
    with fails(errno.ENOENT):
        os.listdir(fd)
    os.close(fd)


def test_sparse_files(mount: Mount) -> None:
    name = mount.path / "sparse"
    size, at = 1 << 30, (1 << 29) + 123
    with open(name, "w+b") as file:
        fd = file.fileno()
        os.truncate(fd, size)
        os.pwrite(fd, b"island", at)
        os.fsync(fd)
        assert os.pread(fd, 12, at - 3) == bytes(3) + b"island" + bytes(3)
        assert 0 < os.fstat(fd).st_blocks * 512 <= 1 << 20
        data = os.lseek(fd, 0, os.SEEK_DATA)
        assert at - (1 << 17) < data <= at
        hole = os.lseek(fd, at, os.SEEK_HOLE)
        assert at + 6 <= hole < at + (1 << 17)
        with fails(errno.ENXIO):
            os.lseek(fd, hole, os.SEEK_DATA)
        with fails(errno.ENXIO):
            os.lseek(fd, size, os.SEEK_HOLE)
        assert os.lseek(fd, 0, os.SEEK_HOLE) == 0
    run("cp", "--sparse=auto", name, mount.path / "copy")
    assert (mount.path / "copy").stat().st_blocks * 512 <= 1 << 20
    run("cmp", name, mount.path / "copy", timeout=180)


def test_fallocate_and_punched_holes(mount: Mount) -> None:
    name = mount.path / "file"
    body = random.Random(4).randbytes(400_000)
    name.write_bytes(body)
    run("fallocate", "-p", "-o", "65536", "-l", "200000", name)
    expected = body[:65536] + bytes(200_000) + body[265_536:]
    assert name.read_bytes() == expected
    run("fallocate", "-z", "-o", "300000", "-l", "1000", name)
    expected = expected[:300_000] + bytes(1000) + expected[301_000:]
    with open(name, "r+b") as file:
        os.posix_fallocate(file.fileno(), 399_000, 2_000)
        assert os.fstat(file.fileno()).st_size == 401_000
    mount.remount()
    assert name.read_bytes() == expected + bytes(1000)
    run("fallocate", "-n", "-o", "401000", "-l", "500000", name)
    assert name.stat().st_size == 401_000


def test_copy_file_range(mount: Mount) -> None:
    body = random.Random(5).randbytes(1_000_000)
    source, target = mount.path / "source", mount.path / "target"
    source.write_bytes(body)
    with open(source, "rb") as read, open(target, "wb") as written:
        done = 0
        while done < 900_000 and (n := os.copy_file_range(read.fileno(), written.fileno(), 900_000 - done, 50_001 + done, 7 + done)):
            done += n
    assert target.read_bytes() == bytes(7) + body[50_001:950_001]
    mount.remount()
    assert target.read_bytes() == bytes(7) + body[50_001:950_001]


def test_hard_links(mount: Mount) -> None:
    a, folder = mount.path / "a", mount.path / "folder"
    folder.mkdir()
    a.write_text("shared")
    os.link(a, folder / "b")
    os.link(folder / "b", folder / "c")
    assert {os.stat(n).st_ino for n in (a, folder / "b", folder / "c")} == {a.stat().st_ino}
    assert a.stat().st_nlink == 3
    (folder / "b").write_text("through another name")
    (folder / "c").chmod(0o600)
    assert a.read_text() == "through another name" and stat.S_IMODE(a.stat().st_mode) == 0o600
    a.unlink()
    assert (folder / "c").stat().st_nlink == 2
    with fails(errno.EPERM):
        os.link(folder, mount.path / "dirlink")
    with fails(errno.EEXIST):
        os.link(folder / "b", folder / "c")
    with fails(errno.EXDEV):
        os.link(folder / "b", mount.path.parent / "outside")
    os.symlink("folder/b", mount.path / "soft")
    os.link(mount.path / "soft", mount.path / "hardlink-to-soft", follow_symlinks=False)
    assert os.readlink(mount.path / "hardlink-to-soft") == "folder/b"


@both_transports
def test_extended_attributes(mount: Mount) -> None:
    name = mount.path / "f"
    name.touch()
    values = {"user.empty": b"", "user.bytes": bytes(range(256)), "user.large": b"x" * 30_000, "user.n\u00e4me": b"v"}
    for key, value in values.items():
        os.setxattr(name, key, value)
    with fails(errno.EEXIST):
        os.setxattr(name, "user.empty", b"1", os.XATTR_CREATE)
    with fails(errno.ENODATA):
        os.setxattr(name, "user.none", b"1", os.XATTR_REPLACE)
    os.setxattr(name, "user.empty", b"2", os.XATTR_REPLACE)
    values["user.empty"] = b"2"
    mount.remount()
    assert sorted(os.listxattr(name)) == sorted(values)
    assert {key: os.getxattr(name, key) for key in os.listxattr(name)} == values
    os.removexattr(name, "user.large")
    with fails(errno.ENODATA):
        os.getxattr(name, "user.large")
    with fails(errno.ENODATA):
        os.removexattr(name, "user.large")
    with fails(errno.ERANGE, errno.ENAMETOOLONG):
        os.setxattr(name, "user." + "n" * 251, b"")
    for elsewhere in ("system.unheard-of", "plain"):
        with fails(errno.EOPNOTSUPP):
            os.setxattr(name, elsewhere, b"")
    run("setfattr", "-n", "user.tool", "-v", "0x00ff", name)
    assert "user.tool=0x00ff" in run("getfattr", "-d", "-e", "hex", "--absolute-names", name).stdout


@both_transports
def test_names_of_any_bytes(mount: Mount) -> None:
    root = os.fsencode(mount.path)
    alphabet = bytes(b for b in range(1, 256) if b != ord("/"))
    dice = random.Random(6)
    names = {alphabet, b"\xff" * 255, b"-rf", b" ", b"new\nline", b"*", b"\\", b"'\"", "\u00e9".encode(), "e\u0301".encode(), b"...", b"CON", b"a", b"A"}
    names |= {bytes(dice.choices(alphabet, k=255)) for _ in range(20)}
    for name in names:
        with open(root + b"/" + name, "wb") as file:
            file.write(name)
    for _ in range(2):
        assert set(os.listdir(root)) == names
        for name in names:
            with open(root + b"/" + name, "rb") as file:
                assert file.read() == name
        mount.remount()
    for call in (os.mkdir, os.stat, os.unlink, os.readlink):
        with fails(errno.ENAMETOOLONG):
            call(root + b"/" + b"n" * 256)
    for name in names:
        os.rename(root + b"/" + name, root + b"/x")
        os.unlink(root + b"/x")
    assert os.listdir(root) == []


@both_transports
def test_long_paths(mount: Mount) -> None:
    root = os.fsencode(mount.path)
    path = root
    while len(path) + 252 <= 4095:
        path += b"/" + b"d" * 250
        os.mkdir(path)
    path += b"/" + b"f" * (4095 - len(path) - 1)
    assert len(path) == 4095
    with open(path, "wb") as file:
        file.write(b"far down")
    with open(path, "rb") as file:
        assert file.read() == b"far down"
    with fails(errno.ENAMETOOLONG):
        os.stat(path + b"f")
    fd = os.open(os.path.dirname(path), os.O_RDONLY)  # below what one path can say
    for i in range(10):
        os.mkdir(b"e" * 255, dir_fd=fd)
        below = os.open(b"e" * 255, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
        assert os.listdir(fd) == [], i
    os.close(fd)
    target = b"t" * 4095
    os.symlink(target, root + b"/long")
    mount.remount()
    assert os.readlink(root + b"/long") == target
    with open(path, "rb") as file:
        assert file.read() == b"far down"
    run("rm", "-r", root + b"/" + b"d" * 250)


@both_transports
def test_loops_of_symbolic_links_and_paths_through_files(mount: Mount) -> None:
    os.symlink("b", mount.path / "a")
    os.symlink("a", mount.path / "b")
    with fails(errno.ELOOP):
        os.stat(mount.path / "a")
    (mount.path / "file").touch()
    for call in (os.stat, os.mkdir, os.listdir, os.unlink):
        with fails(errno.ENOTDIR):
            call(mount.path / "file" / "below")
    with fails(errno.ELOOP):
        os.open(mount.path / "a", os.O_RDONLY | os.O_NOFOLLOW)


@both_transports
def test_fifos_and_sockets_work(mount: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(mount.path / "fifo", 0o600)
    with Peer("print(open(sys.argv[1]).read(), flush=True)", mount.path / "fifo") as peer:
        with open(mount.path / "fifo", "w") as file:
            file.write("through a fifo")
        assert peer.line() == "through a fifo"
    monkeypatch.chdir(mount.path)  # a socket's path may have 107 bytes
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind("socket")
        server.listen()
        client.connect("socket")
        assert stat.S_ISSOCK(os.stat("socket").st_mode)
    monkeypatch.chdir("/")


@both_transports
@needs_root
def test_device_nodes_keep_their_numbers(mount: Mount) -> None:
    os.mknod(mount.path / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(mount.path / "large", stat.S_IFBLK | 0o600, os.makedev(4095, 1048575))
    mount.remount()
    assert os.stat(mount.path / "null").st_rdev == os.makedev(1, 3) and stat.S_ISCHR(os.stat(mount.path / "null").st_mode)
    assert os.stat(mount.path / "large").st_rdev == os.makedev(4095, 1048575) and stat.S_ISBLK(os.stat(mount.path / "large").st_mode)


@both_transports
def test_times_to_the_nanosecond(mount: Mount) -> None:
    name = mount.path / "t"
    name.touch()
    for ns in (0, 1, 999_999_999, -1, -(10**9), 2**32 * 10**9, 1_700_000_000_123_456_789):
        os.utime(name, ns=(ns, ns + 5))
        s = name.stat()
        assert (s.st_atime_ns, s.st_mtime_ns) == (ns, ns + 5)
    before = name.stat()
    name.chmod(0o600)
    after = name.stat()
    assert after.st_ctime_ns > before.st_ctime_ns and after.st_mtime_ns == before.st_mtime_ns
    mount.remount()
    assert name.stat().st_mtime_ns == after.st_mtime_ns and name.stat().st_ctime_ns == after.st_ctime_ns
    folder = mount.path / "d"
    folder.mkdir()
    os.utime(folder, ns=(1, 1))
    (folder / "new").touch()
    assert folder.stat().st_mtime_ns > 1


@both_transports
def test_a_directory_read_while_it_changes(mount: Mount) -> None:
    """Every name that stays is seen exactly once, whatever comes and goes."""
    folder = mount.path / "d"
    folder.mkdir()
    stay = {f"stay-{i:05}" for i in range(800)}
    for name in stay:
        (folder / name).touch()
        (folder / name.replace("stay", "go")).touch()
    seen = []
    with os.scandir(folder) as names:
        for i, entry in enumerate(names):
            seen.append(entry.name)
            if i == 10:
                for j in range(800):
                    (folder / f"go-{j:05}").unlink()
                    (folder / f"new-{j:05}").touch()
    assert len(seen) == len(set(seen))
    assert stay <= set(seen)
    assert set(os.listdir(folder)) == stay | {f"new-{j:05}" for j in range(800)}
    run("rm", "-r", folder)


def test_renameat2_flags(mount: Mount) -> None:
    libc = ctypes.CDLL(None, use_errno=True)

    def renameat2(old: str, new: str, flags: int) -> int:
        result = libc.renameat2(-100, os.fsencode(mount.path / old), -100, os.fsencode(mount.path / new), flags)
        return ctypes.get_errno() if result else 0

    (mount.path / "a").write_text("A")
    (mount.path / "b").mkdir()
    (mount.path / "b/inside").touch()
    assert renameat2("a", "b", 1) == errno.EEXIST
    assert renameat2("a", "b", 2) == 0
    assert (mount.path / "b").read_text() == "A" and os.listdir(mount.path / "a") == ["inside"]
    assert renameat2("b", "c", 2) == errno.ENOENT
    assert renameat2("b", "c", 1) == 0
    assert renameat2("a", "a/inside/x", 0) in (errno.EINVAL, errno.ENOTDIR)


@both_transports
@needs_root
@pytest.mark.mount_options("--allow-other")
def test_permissions_bind_other_users(mount: Mount) -> None:
    os.chmod(mount.path.parent, 0o755)  # pytest's own directories are closed to others
    os.chmod(mount.path.parent.parent, 0o755)
    os.chmod(mount.path.parent.parent.parent, 0o755)
    root = mount.path
    root.chmod(0o755)
    (root / "secret").write_text("s")
    (root / "secret").chmod(0o600)
    (root / "sticky").mkdir()
    (root / "sticky").chmod(0o1777)
    (root / "sticky/root's").touch()
    (root / "group").mkdir()
    os.chown(root / "group", 0, 100)
    (root / "group").chmod(0o2777)
    program = """
import errno, os, sys
os.chdir(sys.argv[1]); os.setgroups([]); os.setgid(65534); os.setuid(65534)
def tried(call, *words):
    try: call(*words); return 'ok'
    except OSError as e: return errno.errorcode[e.errno]
print(tried(open, 'secret'), tried(os.unlink, "sticky/root's"), tried(os.mkdir, 'new'), tried(os.chmod, 'secret', 0o666), tried(os.chown, 'secret', 65534, -1))
open('sticky/mine', 'w').write('m'); open('group/mine', 'w').close(); os.mkdir('group/below')
print(os.stat('sticky/mine').st_uid, os.stat('group/mine').st_gid, oct(os.stat('group/below').st_mode & 0o7000), tried(os.unlink, 'sticky/mine'))
"""
    shown = run(sys.executable, "-c", program, mount.path, cwd="/").stdout.split()
    assert shown == ["EACCES", "EPERM", "EACCES", "EPERM", "EPERM", "65534", "100", "0o2000", "ok"]


@both_transports
def test_statvfs_and_df(mount: Mount) -> None:
    v = os.statvfs(mount.path)
    assert v.f_namemax == 255 and v.f_blocks * v.f_frsize > 0 and v.f_bavail > 0
    assert str(mount.path) in run("df", mount.path).stdout


@both_transports
def test_a_file_may_not_grow_past_max_file_size(mount: Mount) -> None:
    config = mount.path.parent / "small.toml"
    config.write_text('[filesystem]\nmax_file_size = "1MB"\n')
    folder = mount.path.parent / "small"
    folder.mkdir()
    small = Mount(folder, "small", mount.env["TARBOX_DATABASE_URL"], "--config", str(config), *mount.options)
    try:
        small.start()
        limit = 1_000_000 if small.tarbox("--tenant", "small", "stat", "/").returncode == 0 else 0
        name = folder / "f"
        with open(name, "wb", buffering=0) as file:
            with fails(errno.EFBIG):
                os.truncate(name, 2 << 20)
            os.truncate(name, limit - 10)
            with fails(errno.EFBIG):
                os.pwrite(file.fileno(), b"beyond", 5 << 20)
                os.fsync(file.fileno())
        (folder / "g").write_bytes(b"x" * limit)
        small.stop()
        small.fsck()
    finally:
        small.close()


@both_transports
def test_what_the_mount_writes_the_command_line_reads_at_once(mount: Mount) -> None:
    (mount.path / "dir").mkdir()
    (mount.path / "dir/from-mount").write_text("written through the mount\n")
    assert mount.tarbox("cat", "--tenant", mount.tenant, "/dir/from-mount").stdout == "written through the mount\n"
    assert "from-mount" in mount.tarbox("ls", "--tenant", mount.tenant, "/dir").stdout
