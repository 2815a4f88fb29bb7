"""The kernel's opcodes, one row each: which verb, with what of the request, and how its result becomes a reply.

FsError becomes its errno; trouble with the database EIO and one line in the log; anything else is a bug here or in the
core: EIO and a traceback. Nothing is remembered here: node numbers tell inodes and trees (`kernel`), and caching is the
core's. A node of a tree that another has replaced is ESTALE, at which the kernel looks its name up again; through a handle
it is read as it was.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from typing import Final, NamedTuple

from tarbox_core.errors import DiskFullError, FsError, TarboxError
from tarbox_core.handles import FileHandle
from tarbox_core.types import NOW, Caller
from tarbox_fuse import abi, codec
from tarbox_fuse.codec import DEFAULT_TIMEOUTS, Body, Encoder, ProtocolError, Timeouts
from tarbox_fuse.kernel import split, tree_of
from tarbox_fuse.verbs import Verbs

log = logging.getLogger("tarbox.fuse")

#: Asked of the mount's root, this attribute answers "<pid> <start time>" of the daemon, as /proc/<pid>/stat counts it.
DAEMON_XATTR: Final = b"tarbox.daemon"

#: Header and payload of a reply, or None where the protocol wants none.
Reply = tuple[bytes, bytes] | None
Handler = Callable[[int, Caller, Body], bytes | None]


class Options(NamedTuple):
    """How a session shall behave. `writeback` lets the kernel gather writes; sizes and times are then its own."""

    timeouts: Timeouts = DEFAULT_TIMEOUTS
    writeback: bool = False
    keep_cache: bool = False  # the kernel may keep a file's pages from one open to the next
    max_pages: int = 256  # pages in one request
    max_background: int = 64


_WANTED: Final = (
    abi.ASYNC_READ | abi.ATOMIC_O_TRUNC | abi.EXPORT_SUPPORT | abi.BIG_WRITES | abi.AUTO_INVAL_DATA | abi.DO_READDIRPLUS
    | abi.READDIRPLUS_AUTO | abi.ASYNC_DIO | abi.PARALLEL_DIROPS | abi.MAX_PAGES | abi.CACHE_SYMLINKS | abi.HANDLE_KILLPRIV_V2
    | abi.INIT_EXT
)  # fmt: skip

_ACCESS: Final = os.O_RDONLY | os.O_WRONLY | os.O_RDWR
_CALLERS_KEPT: Final = 256


def daemon_identity(pid: int) -> bytes:
    """"<pid> <start time>" of a process, so that a number used again is not mistaken for it. OSError when it is gone."""
    with open(f"/proc/{pid}/stat", "rb") as stat:
        return b"%d %s" % (pid, stat.read().rpartition(b")")[2].split()[19])


class Dispatcher:
    """Answers requests of one mount. `handle` may run in any number of threads."""

    def __init__(self, verbs: Verbs, options: Options, on_init: Callable[[], None]) -> None:
        self._verbs = verbs
        self._fs = verbs.fs
        self._session = verbs.fs.session
        self._run = verbs.run
        self._options = options
        self._encoder = Encoder(options.timeouts)
        self._on_init = on_init
        self._identity = daemon_identity(os.getpid())
        self._callers: dict[tuple[int, int, int], Caller] = {}
        self._handlers: dict[int, Handler] = {
            abi.LOOKUP: self._lookup,
            abi.FORGET: self._ignore,
            abi.GETATTR: self._getattr,
            abi.SETATTR: self._setattr,
            abi.READLINK: self._readlink,
            abi.SYMLINK: self._symlink,
            abi.MKNOD: self._mknod,
            abi.MKDIR: self._mkdir,
            abi.UNLINK: self._unlink,
            abi.RMDIR: self._rmdir,
            abi.RENAME: self._rename,
            abi.LINK: self._link,
            abi.OPEN: self._open,
            abi.READ: self._read,
            abi.WRITE: self._write,
            abi.STATFS: self._statfs,
            abi.RELEASE: self._release,
            abi.FSYNC: self._fsync,
            abi.SETXATTR: self._setxattr,
            abi.GETXATTR: self._getxattr,
            abi.LISTXATTR: self._listxattr,
            abi.REMOVEXATTR: self._removexattr,
            abi.FLUSH: self._flush,
            abi.INIT: self._init,
            abi.OPENDIR: self._opendir,
            abi.READDIR: self._readdir,
            abi.RELEASEDIR: self._releasedir,
            abi.FSYNCDIR: self._fsyncdir,
            abi.CREATE: self._create,
            abi.INTERRUPT: self._ignore,  # every request has begun by the time another thread could read this; it ends soon
            abi.DESTROY: self._sync,
            abi.IOCTL: self._ioctl,
            abi.BATCH_FORGET: self._ignore,
            abi.FALLOCATE: self._fallocate,
            abi.READDIRPLUS: self._readdirplus,
            abi.RENAME2: self._rename2,
            abi.LSEEK: self._lseek,
            abi.COPY_FILE_RANGE: self._copy_file_range,
            abi.SYNCFS: self._sync,
        }

    def handle(self, buffer: memoryview, size: int) -> Reply:
        """The reply to the request in the first `size` bytes of `buffer`; never raises."""
        unique = 0
        try:
            opcode, unique, nodeid, uid, gid, pid, body = codec.decode(buffer, size)
            handler = self._handlers.get(opcode)
            if handler is None:
                return codec.encode_header(16, -errno.ENOSYS, unique), b""
            who = (uid, gid, pid)
            caller = self._callers.get(who) or self._new_caller(who)
            payload = handler(nodeid, caller, body)
            if payload is None:
                return None
            return codec.encode_header(16 + len(payload), 0, unique), payload
        except FsError as error:
            number = error.errno
        except DiskFullError as error:
            log.error("the database has no room: %s", error)
            number = errno.ENOSPC
        except TarboxError as error:
            log.error("%s", error)
            number = errno.EIO
        except ProtocolError as error:
            log.error("the kernel sent %s", error)
            unique, number = error.unique, errno.EIO
            if not unique:
                return None
        except Exception:
            log.exception("request %d failed", buffer[4] if size > 4 else 0)
            number = errno.EIO
        return codec.encode_header(16, -number, unique), b""

    def _new_caller(self, who: tuple[int, int, int]) -> Caller:
        if len(self._callers) >= _CALLERS_KEPT:
            self._callers.clear()
        uid, gid, pid = who
        caller = self._callers[who] = Caller(uid, gid, (), pid)
        return caller

    # --- nodes

    def _tree(self) -> int:
        """Of the tree that an operation begun now reads; it may move on while it runs."""
        return tree_of(self._session.at.generation)

    def _ino(self, nodeid: int) -> int:
        """The inode of a node; ESTALE for a file of another tree."""
        ino, tree = split(nodeid)
        if tree and tree != self._tree():
            raise FsError(errno.ESTALE, ino)
        return ino

    # --- the session

    def _init(self, nodeid: int, caller: Caller, body: Body) -> bytes:
        major, minor, readahead, offered = body
        if major < abi.MAJOR:
            log.error("this kernel speaks version %d of the FUSE protocol; at least 7 is needed", major)
            raise FsError(errno.EPROTO)
        wanted = _WANTED | (abi.WRITEBACK_CACHE if self._options.writeback else 0)
        pages = self._options.max_pages if offered & abi.MAX_PAGES else 32
        reply = codec.encode_init(min(minor, abi.MINOR), readahead, offered & wanted, self._options.max_background, pages)
        if major == abi.MAJOR:  # a newer kernel asks again in our version
            self._on_init()
        return reply

    def _ignore(self, nodeid: int, caller: Caller, body: Body) -> None:
        return None

    def _sync(self, nodeid: int, caller: Caller, body: Body) -> bytes:
        self._verbs.sync(caller)
        return b""

    def _statfs(self, nodeid: int, caller: Caller, body: Body) -> bytes:
        return codec.encode_statfs(self._run(self._fs.statfs))

    def _ioctl(self, nodeid: int, caller: Caller, body: Body) -> bytes:
        raise FsError(errno.ENOTTY, nodeid)

    # --- names

    def _lookup(self, nodeid: int, caller: Caller, body: Body) -> bytes:
        tree, ino = self._tree(), self._ino(nodeid)
        try:
            return self._encoder.entry(self._run(lambda: self._fs.lookup(caller, ino, body[0])), tree)
        except FsError as error:
            if error.errno == errno.ENOENT and self._encoder.absent is not None:
                return self._encoder.absent
            raise

    def _mknod(self, nodeid: int, caller: Caller, body: Body) -> bytes:
        mode, rdev, _umask, name = body
        tree = self._tree()
        return self._encoder.entry(self._run(lambda: self._fs.mknod(caller, nodeid, name, mode, rdev)), tree)

    def _mkdir(self, nodeid: int, caller: Caller, body: Body) -> bytes:
        mode, _umask, name = body
        return self._encoder.entry(self._run(lambda: self._fs.mkdir(caller, nodeid, name, mode & 0o7777)), 0)

    def _symlink(self, nodeid: int, caller: Caller, body: Body) -> bytes:
        name, target = body
        return self._encoder.entry(self._run(lambda: self._fs.symlink(caller, nodeid, name, target)), 0)

    def _link(self, nodeid: int, caller: Caller, body: Body) -> bytes:
        tree, ino, name = self._tree(), self._ino(body[0]), body[1]
        return self._encoder.entry(self._run(lambda: self._fs.link(caller, ino, nodeid, name)), tree)

    def _unlink(self, nodeid: int, caller: Caller, body: Body) -> bytes:
        self._run(lambda: self._fs.unlink(caller, nodeid, body[0]))
        return b""

    def _rmdir(self, nodeid: int, caller: Caller, body: Body) -> bytes:
        self._run(lambda: self._fs.rmdir(caller, nodeid, body[0]))
        return b""

    def _rename(self, nodeid: int, caller: Caller, body: Body) -> bytes:
        newparent, name, newname = body
        self._run(lambda: self._fs.rename(caller, nodeid, name, newparent, newname))
        return b""

    def _rename2(self, nodeid: int, caller: Caller, body: Body) -> bytes:
        newparent, flags, name, newname = body
        self._run(lambda: self._fs.rename(caller, nodeid, name, newparent, newname, flags))
        return b""

    def _readlink(self, nodeid: int, caller: Caller, body: Body) -> bytes:
        return self._run(lambda: self._fs.readlink(caller, nodeid))

    # --- attributes

    def _getattr(self, nodeid: int, caller: Caller, body: Body) -> bytes:
        ino, tree = split(nodeid)
        if tree and tree != self._tree():
            opened = self._verbs.left_open(ino, tree)
            if opened is None:
                raise FsError(errno.ESTALE, ino)
            return self._encoder.attr(opened.attr())
        return self._encoder.attr(self._run(lambda: self._fs.getattr(ino)))

    def _setattr(self, nodeid: int, caller: Caller, body: Body) -> bytes:
        valid, _fh, size, atime, mtime, ctime, mode, uid, gid = body
        changes: dict[str, int | bool] = {}
        if valid & abi.FATTR_MODE:
            changes["mode"] = mode & 0o7777
        if valid & abi.FATTR_UID:
            changes["uid"] = uid
        if valid & abi.FATTR_GID:
            changes["gid"] = gid
        if valid & abi.FATTR_SIZE:
            changes["size"] = size
        if valid & abi.FATTR_ATIME:
            changes["atime"] = NOW if valid & abi.FATTR_ATIME_NOW else atime
        if valid & abi.FATTR_MTIME:
            changes["mtime"] = NOW if valid & abi.FATTR_MTIME_NOW else mtime
        if valid & abi.FATTR_CTIME and self._options.writeback:
            changes["ctime"] = ctime
        # Who changes owners never keeps the bits; who writes or cuts keeps them only with CAP_FSETID, which the kernel knows.
        if valid & (abi.FATTR_KILL_SUIDGID | abi.FATTR_UID | abi.FATTR_GID):
            changes["kill_suid"] = True
        return self._encoder.attr(self._verbs.setattr(caller, self._ino(nodeid), **changes))

    def _setxattr(self, nodeid: int, caller: Caller, body: Body) -> bytes:
        ino, (name, value, flags) = self._ino(nodeid), body
        self._run(lambda: self._fs.setxattr(caller, ino, name, value, flags))
        return b""

    def _getxattr(self, nodeid: int, caller: Caller, body: Body) -> bytes:
        room, name = body
        if name == DAEMON_XATTR and nodeid == abi.ROOT_ID:
            return self._fit(self._identity, room)
        ino = self._ino(nodeid)
        return self._fit(self._run(lambda: self._fs.getxattr(caller, ino, name)), room)

    def _listxattr(self, nodeid: int, caller: Caller, body: Body) -> bytes:
        ino = self._ino(nodeid)
        names = self._run(lambda: self._fs.listxattr(caller, ino))
        return self._fit(b"".join(name + b"\0" for name in names), body[0])

    def _fit(self, value: bytes, room: int) -> bytes:
        if not room:
            return codec.encode_xattr_size(len(value), 0)
        if len(value) > room:
            raise FsError(errno.ERANGE)
        return value

    def _removexattr(self, nodeid: int, caller: Caller, body: Body) -> bytes:
        ino = self._ino(nodeid)
        self._run(lambda: self._fs.removexattr(caller, ino, body[0]))
        return b""

    # --- files

    def _open_flags(self, opened: FileHandle, changes: bool) -> int:
        flags = 0
        if opened.direct:
            flags |= abi.FOPEN_DIRECT_IO
        elif self._options.keep_cache or opened.keep_cache:
            flags |= abi.FOPEN_KEEP_CACHE
        if not changes:
            flags |= abi.FOPEN_NOFLUSH  # nothing can be dirty: spare the trip that close(2) would wait for
        return flags

    def _open(self, nodeid: int, caller: Caller, body: Body) -> bytes:
        flags, open_flags = body
        access = flags & _ACCESS
        write = access != os.O_RDONLY
        truncate = bool(flags & os.O_TRUNC)
        tree, ino = self._tree(), self._ino(nodeid)
        fh, opened = self._verbs.open(
            caller, ino,
            read=access != os.O_WRONLY or self._options.writeback,  # the kernel reads the rest of a page that it gathers
            write=write,
            truncate=truncate,
            kill_suid=bool(open_flags & abi.OPEN_KILL_SUIDGID),
        )  # fmt: skip
        self._require_same(tree, caller, fh)
        return codec.encode_open(fh, self._open_flags(opened, write or truncate), 0)

    def _require_same(self, tree: int, caller: Caller, fh: int) -> None:
        """A handle of one tree must not get a node of another: ESTALE, where the tree was replaced meanwhile."""
        if tree != self._tree():
            self._verbs.release(caller, fh)
            raise FsError(errno.ESTALE)

    def _create(self, nodeid: int, caller: Caller, body: Body) -> bytes:
        flags, mode, _umask, _open_flags, name = body
        tree = self._tree()
        fh, attr, opened = self._verbs.create(
            caller, nodeid, name, mode & 0o7777, exclusive=bool(flags & os.O_EXCL), truncate=bool(flags & os.O_TRUNC)
        )
        self._require_same(tree, caller, fh)
        # However it was opened, its close is what shows the new file to the other doors.
        return self._encoder.create(attr, tree, fh, self._open_flags(opened, True))

    def _read(self, nodeid: int, caller: Caller, body: Body) -> bytes:
        return self._verbs.read(caller, body[0], body[1], body[2])

    def _write(self, nodeid: int, caller: Caller, body: Body) -> bytes:
        fh, offset, write_flags, flags, data = body
        append = bool(flags & os.O_APPEND) and not write_flags & abi.WRITE_CACHE and not self._options.writeback
        return codec.encode_write(self._verbs.write(caller, fh, offset, data, append, bool(write_flags & abi.WRITE_KILL_SUIDGID)), 0)

    def _flush(self, nodeid: int, caller: Caller, body: Body) -> bytes:
        self._verbs.flush(caller, body[0])
        return b""

    def _release(self, nodeid: int, caller: Caller, body: Body) -> bytes:
        self._verbs.release(caller, body[0])
        return b""

    def _fsync(self, nodeid: int, caller: Caller, body: Body) -> bytes:
        self._verbs.fsync(caller, body[0])
        return b""

    def _fallocate(self, nodeid: int, caller: Caller, body: Body) -> bytes:
        fh, offset, length, mode = body
        self._verbs.fallocate(caller, fh, mode, offset, length)
        return b""

    def _lseek(self, nodeid: int, caller: Caller, body: Body) -> bytes:
        fh, offset, whence = body
        return codec.encode_lseek(self._verbs.seek(caller, fh, offset, whence))

    def _copy_file_range(self, nodeid: int, caller: Caller, body: Body) -> bytes:
        source, source_offset, _nodeid_out, target, target_offset, length, _flags = body
        length = min(length, 1 << 30)  # the reply counts in 32 bits
        return codec.encode_write(self._verbs.copy(caller, source, source_offset, target, target_offset, length), 0)

    # --- directories

    def _opendir(self, nodeid: int, caller: Caller, body: Body) -> bytes:
        return codec.encode_open(self._verbs.opendir(caller, nodeid), 0, 0)

    def _readdir(self, nodeid: int, caller: Caller, body: Body) -> bytes:
        fh, offset, size = body[:3]
        return self._encoder.entries(self._verbs.readdir(caller, fh, offset, size // 32 + 1, False), size)

    def _readdirplus(self, nodeid: int, caller: Caller, body: Body) -> bytes:
        fh, offset, size = body[:3]
        tree = self._tree()
        return self._encoder.entries_plus(self._verbs.readdir(caller, fh, offset, size // 160 + 1, True), tree, size)

    def _releasedir(self, nodeid: int, caller: Caller, body: Body) -> bytes:
        self._verbs.releasedir(body[0])
        return b""

    def _fsyncdir(self, nodeid: int, caller: Caller, body: Body) -> bytes:
        self._verbs.sync(caller)
        return b""
