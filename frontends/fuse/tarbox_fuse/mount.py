"""Making and unmaking mounts: mount(2) as root, fusermount3 for everybody else, and what can be wrong with either.

Every failure is a MountError with one line that says what to do. Nothing here serves requests.
"""

from __future__ import annotations

import array
import ctypes
import errno
import os
import shutil
import socket
import stat
import subprocess
from typing import Final, NamedTuple

from tarbox_core.errors import TarboxError

FSTYPE: Final = "fuse.tarbox"
DEVICE: Final = "/dev/fuse"

_MS_RDONLY: Final = 1
_MNT_DETACH: Final = 2
_UMOUNT_NOFOLLOW: Final = 8
_FUSE_CONF: Final = "/etc/fuse.conf"


class MountError(TarboxError):
    """A mount could not be made or unmade."""


class MountPoint(NamedTuple):
    """A line of /proc/self/mountinfo."""

    path: str
    device: str  # "major:minor", one of its own for every FUSE mount
    fstype: str
    source: str


def _unescape(field: str) -> str:
    """Undo the octal escapes that the kernel writes for blanks and backslashes in paths."""
    if "\\" not in field:
        return field
    raw = field.encode("utf-8", "surrogateescape")
    for code in (b"040", b"011", b"012", b"134"):  # the backslash last: it may stand before digits of a name
        raw = raw.replace(b"\\" + code, bytes((int(code, 8),)))
    return raw.decode("utf-8", "surrogateescape")


def mounts() -> list[MountPoint]:
    """All mounts that this process sees, in mount order."""
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            fields, _, rest = line.partition(" - ")
            words, tail = fields.split(" "), rest.split(" ")
            found.append(MountPoint(_unescape(words[4]), words[2], tail[0], _unescape(tail[1])))
    return found


def mounted_at(path: str) -> MountPoint | None:
    """The uppermost mount exactly at `path`, an absolute path without links."""
    return next((m for m in reversed(mounts()) if m.path == path), None)


def canonical(path: str) -> str:
    """The path as mountinfo spells it; asks nothing of the mount itself, which may be dead or ours."""
    parent, name = os.path.split(os.path.abspath(path))
    return os.path.join(os.path.realpath(parent), name) if name else parent


def check_mountpoint(path: str) -> str:
    """The canonical path of a directory that can be mounted over; MountError says why not."""
    where = canonical(path)
    _refuse_mounted(where, path)
    try:
        info = os.stat(where)
        if not stat.S_ISDIR(info.st_mode):
            raise MountError(f"{path}: the mount point is not a directory")
        where = os.path.realpath(where)
        _refuse_mounted(where, path)
        if os.listdir(where):
            raise MountError(f"{path}: the mount point is not empty")
    except FileNotFoundError:
        raise MountError(f"{path}: the mount point does not exist; make it first: mkdir -p {path}") from None
    except OSError as error:
        raise MountError(f"{path}: the mount point cannot be used: {error.strerror}") from None
    return where


def _refuse_mounted(where: str, path: str) -> None:
    there = mounted_at(where)
    if there is not None:
        command = "tarbox umount" if there.fstype == FSTYPE else "umount"
        raise MountError(f"{path}: already a mount point; unmount it first with: {command} {path}")


def check_device(allow_other: bool) -> None:
    """Whether a mount can be made here at all; MountError says what is missing."""
    if not os.path.exists(DEVICE):
        raise MountError(f"there is no {DEVICE}: load the fuse module (modprobe fuse), or run the container with --device {DEVICE} --cap-add SYS_ADMIN")
    if os.geteuid() == 0:
        return
    if shutil.which("fusermount3") is None:
        raise MountError("mounting as an ordinary user needs fusermount3: apt-get install fuse3")
    if allow_other and not _user_allow_other():
        raise MountError(f"--allow-other for ordinary users needs a line user_allow_other in {_FUSE_CONF}")


def _user_allow_other() -> bool:
    try:
        with open(_FUSE_CONF, encoding="utf-8", errors="replace") as lines:
            return any(line.partition("#")[0].strip() == "user_allow_other" for line in lines)
    except OSError:
        return False


def mount(where: str, source: str, *, read_only: bool, allow_other: bool) -> int:
    """Mount at a path from `check_mountpoint`. The descriptor whose requests make up the mount."""
    check_device(allow_other)
    if os.geteuid() == 0:
        return _mount_as_root(where, source, read_only, allow_other)
    return _mount_as_user(where, source, read_only, allow_other)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _mount_as_root(where: str, source: str, read_only: bool, allow_other: bool) -> int:
    try:
        fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise MountError(f"{DEVICE} cannot be opened: {error.strerror}; is the fuse module loaded?") from None
    options = f"fd={fd},rootmode=40000,user_id=0,group_id=0,default_permissions"
    if allow_other:
        options += ",allow_other"
    flags = ctypes.c_ulong(_MS_RDONLY if read_only else 0)  # suid and device files stay usable: root mounts for whole systems
    if _libc().mount(source.encode(), os.fsencode(where), FSTYPE.encode(), flags, options.encode()) == 0:
        return fd
    number = ctypes.get_errno()
    os.close(fd)
    if number == errno.EPERM:
        raise MountError("mounting is not permitted here: run the container with --cap-add SYS_ADMIN --device /dev/fuse")
    if number == errno.ENODEV:
        raise MountError("the kernel knows no FUSE: load the fuse module (modprobe fuse)")
    if number == errno.EBUSY:
        raise MountError(f"{where}: busy")
    raise MountError(f"{where}: mounting failed: {os.strerror(number)}")


def _mount_as_user(where: str, source: str, read_only: bool, allow_other: bool) -> int:
    options = ["default_permissions", f"fsname={source}", "subtype=tarbox", "nosuid", "nodev"]
    if allow_other:
        options.append("allow_other")
    if read_only:
        options.append("ro")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours:
        with theirs:
            helper = subprocess.Popen(
                ["fusermount3", "-o", ",".join(options), "--", where],
                env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno())},
                pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            )  # fmt: skip
        _, complaint = helper.communicate()
        if helper.returncode:
            words = complaint.decode(errors="replace").strip().splitlines() or ["no reason given"]
            if not os.access(DEVICE, os.R_OK | os.W_OK):
                raise MountError(f"{DEVICE} may not be opened by this user: let root run chmod 666 {DEVICE}")
            raise MountError(f"{where}: {words[-1].removeprefix('fusermount3: ')}")
        fds = array.array("i")
        _, ancillary, _, _ = ours.recvmsg(1, socket.CMSG_SPACE(fds.itemsize))
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(data[: fds.itemsize])
    if not fds:
        raise MountError(f"{where}: fusermount3 handed over no descriptor")
    os.set_inheritable(fds[0], False)
    return fds[0]


def unmount(where: str, *, lazy: bool = False) -> None:
    """Take away the uppermost mount at `where`. OSError with EBUSY when it is in use; lazy: detach it at once."""
    if os.geteuid() == 0:
        if _libc().umount2(os.fsencode(where), _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0)):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), where)
        return
    command = ["fusermount3", "-u", *(["-z"] if lazy else []), "--", where]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except FileNotFoundError:
        raise MountError("unmounting as an ordinary user needs fusermount3: apt-get install fuse3") from None
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip().removeprefix("fusermount3: ")
        number = errno.EBUSY if "busy" in words.lower() else errno.EPERM
        raise OSError(number, words or "fusermount3 failed", where)


def set_read_ahead(device: str, size: int) -> None:
    """Let the kernel read `size` bytes ahead on a mount, as root; elsewhere the kernel's 128 KiB stay."""
    try:
        with open(f"/sys/class/bdi/{device}/read_ahead_kb", "w", encoding="ascii") as knob:
            knob.write(str(size >> 10))
    except OSError:
        return  # an ordinary user, or a container with a read-only /sys: slower, not wrong


def holders(where: str) -> list[str]:
    """Who uses the mount at `where`, as "name (pid)"; only processes that this user may look into."""
    found = []
    inside = where.rstrip("/") + "/"
    for pid in filter(str.isdigit, os.listdir("/proc")):
        links = [f"/proc/{pid}/{link}" for link in ("cwd", "root", "exe")]
        try:
            links += [f"/proc/{pid}/fd/{fd}" for fd in os.listdir(f"/proc/{pid}/fd")]
            with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as comm:
                name = comm.read().strip()
            with open(f"/proc/{pid}/maps", encoding="utf-8", errors="surrogateescape") as maps:
                used = any(inside in line for line in maps)
        except OSError:
            continue  # gone, or another user's
        if used or any(_points_into(link, where, inside) for link in links):
            found.append(f"{name} ({pid})")
    return found


def _points_into(link: str, where: str, inside: str) -> bool:
    try:
        target = os.readlink(link)
    except OSError:
        return False
    return target == where or target.startswith(inside)
