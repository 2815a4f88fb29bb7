"""The verbs of one operation, each a transaction: what `os`, `shutil` and pathlib call them, on a tenant's tree.

Not here: verbs of layers (layers.py), those of several operations (courses.py), open files (opening.py, raw.py).
"""

from __future__ import annotations

import errno
import os
import stat as modes
from collections.abc import Callable
from io import IncrementalNewlineDecoder
from typing import Concatenate, Final, Generic, NamedTuple, ParamSpec, TypeVar

from tarbox_core.client.failures import naming
from tarbox_core.client.names import Path, absolute, encoded, given, text
from tarbox_core.client.opening import NEWLINES, READ, REPLACE, opened
from tarbox_core.client.stats import DirEntry, stat_result
from tarbox_core.client.visit import Visit
from tarbox_core.content import inline_max
from tarbox_core.effects import Op, within
from tarbox_core.errors import FsError, RetryableError
from tarbox_core.types import NOW, Attr, Entry

P = ParamSpec("P")
R = TypeVar("R")

NEW_FOLDER: Final = 0o777
ID_MAX: Final = (1 << 32) - 2  # of a user or group; -1 stands for none
LATEST: Final = (1 << 63) - 1  # ns since the epoch
_ALL: Final = 1 << 62  # bytes; more than any file has
_PAGE: Final = 1024  # entries of a directory read at once
_COPIED_AT_ONCE: Final = 4 << 20


class Verb(NamedTuple, Generic[P, R]):
    """An operation for Trees of either kind. `reading`: see base.conduct."""

    op: Callable[Concatenate[Visit, P], Op[R]]
    reading: bool


def reads(op: Callable[Concatenate[Visit, P], Op[R]]) -> Verb[P, R]:
    return Verb(op, True)


def changes(op: Callable[Concatenate[Visit, P], Op[R]]) -> Verb[P, R]:
    return Verb(op, False)


# --- what is there


@reads
def stat(v: Visit, path: Path, *, follow_symlinks: bool = True) -> Op[os.stat_result]:
    """As os.stat. Times have ns, st_size is the content's length."""
    with naming(path):
        attr = yield from v.attr(absolute(path), follow=follow_symlinks)
    return stat_result(attr, v.session.block_size)


def _kind(v: Visit, path: Path, follow: bool = True) -> Op[int]:
    """The type bits of what is there, 0 for nothing."""
    try:
        attr = yield from v.attr(absolute(path), follow=follow)
    except ValueError:  # which nothing can be called
        return 0
    except FsError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
            return 0
        with naming(path):
            raise
    return modes.S_IFMT(attr.mode)


@reads
def exists(v: Visit, path: Path) -> Op[bool]:
    """False for a link that leads nowhere."""
    kind = yield from _kind(v, path)
    return kind != 0


@reads
def lexists(v: Visit, path: Path) -> Op[bool]:
    """True for a link that leads nowhere, too."""
    kind = yield from _kind(v, path, follow=False)
    return kind != 0


@reads
def is_dir(v: Visit, path: Path) -> Op[bool]:
    kind = yield from _kind(v, path)
    return kind == modes.S_IFDIR


@reads
def is_file(v: Visit, path: Path) -> Op[bool]:
    """Whether it is a regular file, or a link to one."""
    kind = yield from _kind(v, path)
    return kind == modes.S_IFREG


@reads
def is_symlink(v: Visit, path: Path) -> Op[bool]:
    kind = yield from _kind(v, path, follow=False)
    return kind == modes.S_IFLNK


@reads
def readlink(v: Visit, path: Path) -> Op[str]:
    """Where a symbolic link leads."""
    with naming(path):
        attr = yield from v.attr(absolute(path), follow=False)
        target = yield from v.fs.readlink(v.caller, attr.ino)
    return text(target)


def _entries(v: Visit, ino: int) -> Op[list[Entry]]:
    """All of a directory but "." and ".."."""
    folder = yield from v.fs.opendir(v.caller, ino)
    found: list[Entry] = []
    offset = 2
    while page := (yield from folder.read(v.caller, offset, _PAGE)):
        found += page
        offset = page[-1].offset
    return found


@reads
def listdir(v: Visit, path: Path = "/") -> Op[list[str]]:
    """The names in a directory, in the order of their bytes. Always str; os.fsencode gives the bytes."""
    with naming(path):
        attr = yield from v.attr(absolute(path))
        entries = yield from _entries(v, attr.ino)
    return [text(entry.name) for entry in entries]


@reads
def scandir(v: Visit, path: Path = "/") -> Op[list[DirEntry]]:
    """The entries of a directory with their attributes, in the order of their names' bytes."""
    shown = given(path)
    folder = text(shown) if isinstance(shown, bytes) else shown
    raw = absolute(path)
    found = []
    with naming(path):
        attr = yield from v.attr(raw)
        for entry in (yield from _entries(v, attr.ino)):
            own = entry.attr if entry.attr is not None else (yield from v.fs.getattr(entry.ino))
            target = (yield from _target(v, raw + b"/" + entry.name)) if own.is_symlink else None
            found.append(DirEntry(folder, entry.name, own, target, v.session.block_size))
    return found


def _target(v: Visit, path: bytes) -> Op[Attr | None]:
    try:
        return (yield from v.attr(path))
    except FsError:
        return None


# --- whole files


def _content(v: Visit, path: bytes) -> Op[bytes]:
    handle = yield from opened(v, path, READ)
    before = handle.attr()
    data = yield from handle.read(v.caller, 0, _ALL)
    yield from handle.release(v.caller)
    if before.size > inline_max(v.session.block_size):  # else it came with its row
        after = yield from v.fs.getattr(handle.ino)
        if (after.ctime, after.size) != (before.ctime, before.size):
            raise RetryableError("40001", "the file changed while it was read")
    return data


@reads
def read_bytes(v: Visit, path: Path) -> Op[bytes]:
    """The whole content of a file."""
    with naming(path):
        return (yield from _content(v, absolute(path)))


@reads
def read_text(v: Visit, path: Path, encoding: str = "utf-8", errors: str = "strict") -> Op[str]:
    """The whole content, with "\\r\\n" and "\\r" as "\\n". UnicodeDecodeError."""
    with naming(path):
        data = yield from _content(v, absolute(path))
    return IncrementalNewlineDecoder(None, translate=True).decode(data.decode(encoding, errors), final=True)


def _replace(v: Visit, path: bytes, data: bytes | bytearray | memoryview) -> Op[int]:
    handle = yield from opened(v, path, REPLACE)
    view = memoryview(data).cast("B")
    written = yield from within(handle.write(v.caller, 0, view))
    if written < len(view):
        raise FsError(errno.EFBIG, path)
    yield from handle.release(v.caller)
    return written


@changes
def write_bytes(v: Visit, path: Path, data: bytes | bytearray | memoryview) -> Op[int]:
    """Make a file's content this, and the file where there is none, at once: nobody sees a part of it. How many bytes."""
    with naming(path):
        return (yield from _replace(v, absolute(path), data))


@changes
def write_text(v: Visit, path: Path, data: str, encoding: str = "utf-8", errors: str = "strict", newline: str | None = None) -> Op[int]:
    """The same with text; `newline` in place of each "\\n". How many characters."""
    if not isinstance(data, str):
        raise TypeError(f"data must be str, not {type(data).__name__}")
    if newline not in NEWLINES:
        raise ValueError(f"illegal newline value: {newline!r}")
    plain = data if newline in (None, "", "\n") else data.replace("\n", newline)
    with naming(path):
        yield from _replace(v, absolute(path), plain.encode(encoding, errors))
    return len(data)


@changes
def copy(v: Visit, src: Path, dst: Path) -> Op[None]:
    """Content and permission bits of a regular file, as shutil.copy but to a path, not into a directory. Content is shared
    in the store."""
    source, target = absolute(src), absolute(dst)
    with naming(src, dst):
        there = yield from v.attr(source)
        old = yield from _target(v, target)
        if old is not None and old.ino == there.ino:
            raise FsError(errno.EINVAL, target)
        reader = yield from opened(v, source, READ)
        writer = yield from opened(v, target, REPLACE)
        done = 0
        while step := (yield from within(v.fs.copy_range(v.caller, reader, done, writer, done, _COPIED_AT_ONCE))):
            done += step
        yield from within(reader.release(v.caller))
        ino = writer.ino
        yield from within(writer.release(v.caller))
        yield from v.fs.setattr(v.caller, ino, mode=there.mode & 0o7777)


# --- names


@changes
def mkdir(v: Visit, path: Path, mode: int = NEW_FOLDER) -> Op[None]:
    """A new directory, its mode less the umask."""
    with naming(path):
        where = yield from v.place(absolute(path), errno.EEXIST)
        yield from v.fs.mkdir(v.caller, *where, v.mode(mode))


@changes
def makedirs(v: Visit, path: Path, mode: int = NEW_FOLDER, exist_ok: bool = False) -> Op[None]:
    """A directory and all above it that are missing, together."""
    raw = absolute(path)
    with naming(path):
        missing: list[bytes] = []
        while True:
            try:
                attr = yield from v.attr(raw)
                break
            except FsError as error:
                if error.errno != errno.ENOENT or not raw.strip(b"/"):
                    raise
            raw = raw.rstrip(b"/")
            before, _, last = raw.rpartition(b"/")
            if last not in (b".", b".."):  # which are there when what is before them is
                missing.append(raw)
            raw = before or b"/"
        if not missing and not (exist_ok and attr.is_dir):
            raise FsError(errno.EEXIST, raw)
        for folder in reversed(missing):
            where = yield from v.place(folder, errno.EEXIST)
            try:
                yield from within(v.fs.mkdir(v.caller, *where, v.mode(mode)))
            except FsError as error:
                if error.errno != errno.EEXIST or (folder is missing[0] and not (exist_ok and (yield from _kind(v, folder)) == modes.S_IFDIR)):
                    raise


@changes
def remove(v: Visit, path: Path) -> Op[None]:
    """Take away a name of anything but a directory."""
    with naming(path):
        raw = absolute(path)
        where = yield from v.place(raw, errno.EISDIR)
        if raw.endswith(b"/"):
            yield from v.require_folder(raw)
        yield from v.fs.unlink(v.caller, *where)


@changes
def rmdir(v: Visit, path: Path) -> Op[None]:
    """Remove an empty directory."""
    with naming(path):
        where = yield from v.place(absolute(path))
        yield from v.fs.rmdir(v.caller, *where)


@changes
def rename(v: Visit, src: Path, dst: Path) -> Op[None]:
    """Move what stands at `src` to `dst`, replacing a file or an empty directory that is there."""
    with naming(src, dst):
        old, new = absolute(src), absolute(dst)
        source = yield from v.place(old, errno.EBUSY)
        target = yield from v.place(new, errno.EBUSY)
        if old.endswith(b"/") or new.endswith(b"/"):
            yield from v.require_folder(old)
        yield from v.fs.rename(v.caller, *source, *target)


@changes
def symlink(v: Visit, target: Path, path: Path) -> Op[None]:
    """A symbolic link at `path`, which leads to `target` as it is written."""
    leads = encoded(target)
    with naming(target, path):
        where = yield from v.free_place(absolute(path))
        yield from v.fs.symlink(v.caller, *where, leads)


@changes
def link(v: Visit, src: Path, dst: Path) -> Op[None]:
    """Another name for a file."""
    with naming(src, dst):
        attr = yield from v.attr(absolute(src), follow=False)
        where = yield from v.free_place(absolute(dst))
        yield from v.fs.link(v.caller, attr.ino, *where)


# --- attributes


@changes
def chmod(v: Visit, path: Path, mode: int, *, follow_symlinks: bool = True) -> Op[None]:
    with naming(path):
        attr = yield from v.attr(absolute(path), follow=follow_symlinks)
        yield from v.fs.setattr(v.caller, attr.ino, mode=mode & 0o7777)


@changes
def chown(v: Visit, path: Path, uid: int, gid: int, *, follow_symlinks: bool = True) -> Op[None]:
    """-1 leaves an owner as it is. OverflowError, as from os.chown."""
    for what, number in (("uid", uid), ("gid", gid)):
        if not -1 <= number <= ID_MAX:
            raise OverflowError(f"{what} is {'less than minimum' if number < 0 else 'greater than maximum'}")
    with naming(path):
        attr = yield from v.attr(absolute(path), follow=follow_symlinks)
        yield from v.fs.setattr(v.caller, attr.ino, uid=None if uid == -1 else uid, gid=None if gid == -1 else gid)


@changes
def utime(
    v: Visit, path: Path, times: tuple[float, float] | None = None, *, ns: tuple[int, int] | None = None, follow_symlinks: bool = True
) -> Op[None]:
    """Set the times of access and modification: in seconds, in ns, or both to now. OverflowError beyond the year 2262."""
    if times is not None and ns is not None:
        raise ValueError("utime: you may specify either 'times' or 'ns' but not both")
    if times is not None:
        first, second = times
        ns = round(first * 10**9), round(second * 10**9)
    if ns is not None and not all(abs(one) <= LATEST for one in ns):
        raise OverflowError("timestamp out of range")
    atime, mtime = (NOW, NOW) if ns is None else ns
    with naming(path):
        attr = yield from v.attr(absolute(path), follow=follow_symlinks)
        yield from v.fs.setattr(v.caller, attr.ino, atime=atime, mtime=mtime)


@changes
def truncate(v: Visit, path: Path, length: int) -> Op[None]:
    """Cut a file, or lengthen it by zeros."""
    with naming(path):
        attr = yield from v.attr(absolute(path))
        yield from v.fs.setattr(v.caller, attr.ino, size=length)
