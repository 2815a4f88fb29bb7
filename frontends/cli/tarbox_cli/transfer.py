"""put and get: files and whole directories between this host and a tenant.

Kept: content with its holes, modes, times, symbolic links, hard links among what one command copies, extended attributes
of the user (for root all that mean something elsewhere), and for root the owners. What comes out of a tenant is not
trusted: names cannot leave the destination, links already there are replaced and not followed, a file appears whole or
not at all, set-uid bits are dropped unless the owner comes along, and devices are made only when asked for.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from tarbox_cli.arguments import at_layer, host_path, tenant_path
from tarbox_cli.files import give_attributes, make_directory, open_for_writing, opened, put_bytes
from tarbox_cli.output import Output, complain, human, quote, text
from tarbox_cli.progress import Progress
from tarbox_cli.session import PIECE, Place, Refused, Session, Tally, enter, join
from tarbox_core.errors import FsError
from tarbox_core.types import SEEK_DATA, SEEK_HOLE, Attr

if TYPE_CHECKING:
    from tarbox_cli.commands import Verbs
    from tarbox_core.handles import FileHandle

_DOTS: Final = (b"", b".", b"..")


class Transfer:
    """What put and get have in common: the session, the errors, the counts."""

    def __init__(self, session: Session, tally: Tally, progress: Progress, *, devices: bool) -> None:
        self.session = session
        self.tally = tally
        self.progress = progress
        self.devices = devices
        self.root = os.geteuid() == 0
        self.counts = {"files": 0, "directories": 0, "links": 0, "special": 0, "skipped": 0}

    def skip(self, path: bytes, why: str) -> None:
        self.progress.clear()
        self.counts["skipped"] += 1
        complain(f"{text(path)}: skipped: {why}")

    def carries(self, xattr: bytes) -> bool:
        """Whether an extended attribute means something on the other side."""
        return xattr.startswith(b"user.") or (self.root and (xattr.startswith(b"trusted.") or xattr == b"security.capability"))

    @contextlib.contextmanager
    def each(self) -> Iterator[None]:
        with self.tally.each(self.progress.clear):
            yield


# --- put


class Putter(Transfer):
    """One run of put."""

    def __init__(self, session: Session, tally: Tally, progress: Progress, *, devices: bool) -> None:
        super().__init__(session, tally, progress, devices=devices)
        self._links: dict[tuple[int, int], int] = {}  # (device, inode) of the host -> inode of the tenant

    def put(self, path: bytes, target: Place, info: os.stat_result | None = None) -> None:
        """One thing and what is below it."""
        if info is None:
            info = os.lstat(path)
        mode = info.st_mode
        session = self.session
        if stat.S_ISDIR(mode):
            self.put_directory(path, target, info)
            return
        there = session.child(target)  # also lets the core see that the name is free: the new file then costs one more trip in all
        if there is not None:
            if there.is_dir:
                raise FsError(errno.EISDIR, target.path)
            if not (stat.S_ISREG(mode) and there.is_reg and there.nlink == 1):
                session.run(target.path, session.fs.unlink, session.caller, target.parent, target.name)
                there = None
        key = (info.st_dev, info.st_ino)
        if info.st_nlink > 1:
            known = self._links.get(key)
            if known is not None:
                if there is not None:
                    session.run(target.path, session.fs.unlink, session.caller, target.parent, target.name)
                session.run(target.path, session.fs.link, session.caller, known, target.parent, target.name)
                self.counts["links"] += 1
                self.progress.add(files=1)
                return
        if stat.S_ISREG(mode):
            ino = self._file(path, target, there)
            if info.st_nlink > 1:
                self._links[key] = ino
            self.counts["files"] += 1
            self.progress.add(files=1)
            return
        elif stat.S_ISLNK(mode):
            leads = os.readlink(path)
            made = session.run(target.path, session.fs.symlink, session.caller, target.parent, target.name, leads)
            self.counts["links"] += 1
        elif (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)) and not (self.devices and self.root):
            self.skip(path, "a device; root can copy it with --devices")
            return
        else:
            made = session.run(target.path, session.fs.mknod, session.caller, target.parent, target.name, mode, info.st_rdev)
            self.counts["special"] += 1
        if info.st_nlink > 1:
            self._links[key] = made.ino
        self._attributes(path, info, made, target.path)
        self.progress.add(files=1)

    def put_directory(self, path: bytes, target: Place, info: os.stat_result) -> None:
        made = self.session.child(target)
        if made is None:
            made = make_directory(self.session, target, stat.S_IMODE(info.st_mode) & 0o777)
        elif not made.is_dir:
            raise FsError(errno.ENOTDIR, target.path)
        self.counts["directories"] += 1
        self.put_contents(path, made.ino, target.path)
        self._attributes(path, info, made, target.path)

    def put_contents(self, path: bytes, folder: int, at: bytes) -> None:
        with os.scandir(path) as found:
            names = sorted(entry.name for entry in found)
        self.session.expect(folder, at)
        for name in names:
            with self.each():
                self.put(join(path, name), Place(folder, name, join(at, name)))

    def _file(self, path: bytes, target: Place, there: Attr | None) -> int:
        """Content and attributes of a regular file; its inode in the tenant."""
        session = self.session
        source = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)  # it may have been replaced by something that blocks
        try:
            info = os.fstat(source)
            if not stat.S_ISREG(info.st_mode):
                raise Refused(f"{text(path)}: changed while it was read")
            made, file = open_for_writing(session, target, there, stat.S_IMODE(info.st_mode) & 0o777, truncate=True)
            with opened(session, target.path, file):
                end = 0
                for offset, data in _host_pieces(source, info, path):
                    put_bytes(session, target.path, file, offset, data)
                    end = offset + len(data)
                    self.progress.add(len(data))
                if end < info.st_size and info.st_blocks * 512 < info.st_size:  # a hole up to the end
                    session.run(target.path, file.flush, session.caller)
                    session.run(target.path, session.fs.setattr, session.caller, made.ino, size=info.st_size)
                # While the file is open, so that a new one goes out in one piece with its attributes.
                self._attributes(path, info, made, target.path)
        finally:
            os.close(source)
        return made.ino

    def _attributes(self, path: bytes, info: os.stat_result, made: Attr, at: bytes) -> None:
        session = self.session
        for name in os.listxattr(path, follow_symlinks=False):
            key = os.fsencode(name)
            if self.carries(key):
                value = os.getxattr(path, name, follow_symlinks=False)
                session.run(at, session.fs.setxattr, session.caller, made.ino, key, value)
        mode = stat.S_IMODE(info.st_mode)
        same = stat.S_IMODE(made.mode) == mode
        owner = (info.st_uid, info.st_gid) if self.root and (made.uid, made.gid) != (info.st_uid, info.st_gid) else None
        wanted = None if made.is_symlink or (same and owner is None) else mode
        give_attributes(session, at, made.ino, owner=owner, mode=wanted, atime=info.st_atime_ns, mtime=info.st_mtime_ns)


def _host_pieces(source: int, info: os.stat_result, path: bytes) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes) of a host's file, without its holes."""
    try:
        if info.st_blocks * 512 >= info.st_size:
            offset = 0
            while data := os.read(source, PIECE):
                yield offset, data
                offset += len(data)
                if offset >= info.st_size and len(data) < PIECE:
                    return
            return
        end = 0
        while end < info.st_size:
            try:
                start = os.lseek(source, end, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return
                raise
            end = os.lseek(source, start, os.SEEK_HOLE)
            for offset in range(start, end, PIECE):
                data = os.pread(source, min(PIECE, end - offset), offset)
                if not data:
                    return
                yield offset, data
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error


def put_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("sources", metavar="SRC", nargs="+", type=host_path, help="files and directories of this host; DIR/. for what DIR holds")
    parser.add_argument("dest", metavar="DEST", type=tenant_path, help="a directory of the tenant, or a new name")
    parser.add_argument("--devices", action="store_true", help="device files, too (root)")


def put(options: Namespace, out: Output) -> int:
    tally = Tally()
    started = time.monotonic()
    with enter(options, changes=True) as session, Progress() as progress:
        putter = Putter(session, tally, progress, devices=options.devices)
        if progress.shown:
            progress.total = sum(_host_size(source) for source in options.sources)
        for source in options.sources:
            with putter.each():
                info = os.stat(source) if source.endswith(b"/") else os.lstat(source)
                bare = source.rstrip(b"/") or b"/"
                if stat.S_ISDIR(info.st_mode) and bare.rsplit(b"/", 1)[-1] in _DOTS:
                    _put_what_it_holds(putter, bare, options.dest, info)
                    continue
                target = session.target(options.dest, bare, len(options.sources) > 1)
                if target.path.endswith(b"/") and not stat.S_ISDIR(info.st_mode):
                    raise FsError(errno.ENOTDIR, target.path)
                putter.put(bare, target, info=info)
    _summary(options, out, putter, started)
    return tally.status


def _put_what_it_holds(putter: Putter, path: bytes, dest: bytes, info: os.stat_result) -> None:
    """`put DIR/. DEST`: DEST becomes what DIR is."""
    at = putter.session.find(dest)
    if at is None:
        putter.put_directory(path, putter.session.place(dest), info)
    elif not at.is_dir:
        raise FsError(errno.ENOTDIR, dest)
    else:
        putter.put_contents(path, at.ino, dest)


def _host_size(path: bytes) -> int:
    """Bytes below a path, for the progress bar; what cannot be read is reported later, by the copying."""
    total = 0
    with contextlib.suppress(OSError):
        info = os.lstat(path)
        if stat.S_ISREG(info.st_mode):
            return info.st_size
        if stat.S_ISDIR(info.st_mode):
            for folder, _, names in os.walk(path):
                for name in names:
                    with contextlib.suppress(OSError):
                        info = os.lstat(join(folder, name))
                        total += info.st_size if stat.S_ISREG(info.st_mode) else 0
    return total


# --- get


class Getter(Transfer):
    """One run of get."""

    def __init__(self, session: Session, tally: Tally, progress: Progress, *, devices: bool) -> None:
        super().__init__(session, tally, progress, devices=devices)
        self._links: dict[int, bytes] = {}  # inode of the tenant -> where it is on the host
        self._number = 0
        umask = session.umask
        # Without root the file belongs to whoever runs this: a set-id bit would lend out a stranger's program in his name.
        self._mask = 0o7777 if self.root else 0o1777
        self._folder_mode = 0o777 & ~umask

    def get(self, path: bytes, attr: Attr, dest: bytes) -> None:
        """One thing and what is below it."""
        if attr.is_dir:
            self.get_directory(path, attr, dest)
            return
        there = _lstat(dest)
        if there is not None and stat.S_ISDIR(there.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), dest)
        if attr.nlink > 1 and attr.ino in self._links:
            with self._beside(dest) as scratch:
                os.link(self._links[attr.ino], scratch, follow_symlinks=False)
            self.counts["links"] += 1
            self.progress.add(files=1)
            return
        if attr.is_reg:
            self._content(path, attr, dest)
            self.counts["files"] += 1
        elif attr.is_symlink:
            session = self.session
            leads = session.run(path, session.fs.readlink, session.caller, attr.ino)
            with self._beside(dest) as scratch:
                os.symlink(leads, scratch)
                self._attributes(path, attr, scratch)
            self.counts["links"] += 1
        elif (stat.S_ISCHR(attr.mode) or stat.S_ISBLK(attr.mode)) and not (self.devices and self.root):
            self.skip(path, "a device; root can copy it with --devices")
            return
        else:
            with self._beside(dest) as scratch:
                os.mknod(scratch, stat.S_IFMT(attr.mode) | 0o600, attr.rdev)
                self._attributes(path, attr, scratch)
            self.counts["special"] += 1
        if attr.nlink > 1:
            self._links[attr.ino] = dest
        self.progress.add(files=1)

    def get_directory(self, path: bytes, attr: Attr, dest: bytes, named: bool = False) -> None:
        """A directory. `named`: by the user, so a symbolic link to a directory that stands there is where he wants it."""
        there = _lstat(dest)
        if there is not None and stat.S_ISLNK(there.st_mode) and not (named and os.path.isdir(dest)):
            os.unlink(dest)
            there = None
        if there is None:
            os.mkdir(dest, 0o700)
        elif not os.path.isdir(dest):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), dest)
        self.counts["directories"] += 1
        self.get_contents(path, attr, dest)
        self._attributes(path, attr, dest)

    def get_contents(self, path: bytes, attr: Attr, dest: bytes) -> None:
        session = self.session
        for entry in session.entries(attr.ino, path):
            if b"/" in entry.name or b"\0" in entry.name or entry.name in _DOTS:
                raise FsError(errno.EIO, path)  # no program of ours stores such a name
            inner = join(path, entry.name)
            with self.each():
                self.get(inner, session.attributes(entry, inner), join(dest, entry.name))

    @contextlib.contextmanager
    def _beside(self, dest: bytes) -> Iterator[bytes]:
        """A free name in the same directory; what the block made there becomes `dest`, or goes when the block fails."""
        self._number += 1
        scratch = join(os.path.dirname(dest) or b".", b".tarbox-%d-%d" % (os.getpid(), self._number))
        try:
            yield scratch
            os.rename(scratch, dest)
        except BaseException as error:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(scratch)
            if isinstance(error, OSError) and error.filename == scratch:
                raise OSError(error.errno, error.strerror, dest) from error
            raise

    def _content(self, path: bytes, attr: Attr, dest: bytes) -> None:
        session = self.session
        with opened(session, path, session.run(path, session.fs.open, session.caller, attr.ino)) as file, self._beside(dest) as scratch:
            target = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                self._fill(file, path, attr, target, dest)
            finally:
                os.close(target)
            self._attributes(path, attr, scratch)

    def _fill(self, file: FileHandle, path: bytes, attr: Attr, target: int, dest: bytes) -> None:
        session = self.session
        sparse = attr.blocks < attr.size
        size = file.attr().size
        try:
            for offset, data in tenant_pieces(session, path, file, sparse):
                view = memoryview(data)
                while view:
                    done = os.pwrite(target, view, offset)
                    view = view[done:]
                    offset += done
                self.progress.add(len(data))
            if sparse:
                os.ftruncate(target, size)
        except OSError as error:
            raise OSError(error.errno, error.strerror, dest) from error

    def into(self, path: bytes, attr: Attr, dest: bytes) -> None:
        """A file's content into a device or FIFO of the host, which stays what it is."""
        session = self.session
        with opened(session, path, session.run(path, session.fs.open, session.caller, attr.ino)) as file, open(dest, "wb", buffering=0) as target:
            for _, data in tenant_pieces(session, path, file, False):
                view = memoryview(data)
                while view:
                    view = view[target.write(view) or 0 :]
        self.counts["files"] += 1

    def _attributes(self, path: bytes, attr: Attr, at: bytes) -> None:
        """Owner, extended attributes, mode and times, in this order: the first takes set-id bits away, the last must be last."""
        session = self.session
        if self.root:
            os.chown(at, attr.uid, attr.gid, follow_symlinks=False)
        for name in session.run(path, session.fs.listxattr, session.caller, attr.ino):
            if self.carries(name):
                value = session.run(path, session.fs.getxattr, session.caller, attr.ino, name)
                try:
                    os.setxattr(at, name, value, follow_symlinks=False)
                except OSError as error:
                    self.progress.clear()
                    complain(f"{text(path)}: attribute {quote(name)} not kept: {(error.strerror or '').lower()}")
                    self.tally.status = 1
        if not attr.is_symlink:
            os.chmod(at, stat.S_IMODE(attr.mode) & self._mask)
        os.utime(at, ns=(attr.atime, attr.mtime), follow_symlinks=False)


def tenant_pieces(session: Session, path: bytes, file: FileHandle, sparse: bool) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes) of a tenant's file from start to end; without its holes where it is `sparse`."""
    size = file.attr().size
    start, end = 0, 0 if sparse else size
    while True:
        for offset in range(start, end, PIECE):
            data = session.run(path, file.read, session.caller, offset, min(PIECE, end - offset))
            if not data:
                return
            yield offset, data
        if end >= size:
            return
        try:
            start = session.run(path, file.seek, session.caller, end, SEEK_DATA)
        except FsError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        end = session.run(path, file.seek, session.caller, start, SEEK_HOLE)


def _lstat(path: bytes) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def get_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("sources", metavar="SRC", nargs="+", type=tenant_path, help="files and directories of the tenant; DIR/. for what DIR holds")
    parser.add_argument("dest", metavar="DEST", type=host_path, help="a directory of this host, or a new name")
    parser.add_argument("--devices", action="store_true", help="device files, too (root)")
    at_layer(parser)


def get(options: Namespace, out: Output) -> int:
    tally = Tally()
    started = time.monotonic()
    dest: bytes = options.dest
    with enter(options, changes=False, layer=options.layer) as session, Progress() as progress:
        getter = Getter(session, tally, progress, devices=options.devices)
        if progress.shown:
            progress.total = sum(_tenant_size(session, source) for source in options.sources)
        for source in options.sources:
            with getter.each():
                attr = session.attr(source, follow=source.endswith(b"/"))
                name = source.rstrip(b"/").rsplit(b"/", 1)[-1]
                inside = os.path.isdir(dest)
                if name in _DOTS and attr.is_dir:
                    if inside:
                        getter.get_contents(source, attr, dest)
                    else:
                        getter.get_directory(source, attr, dest, named=True)
                    continue
                if not inside and len(options.sources) > 1:
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), dest)
                if inside:
                    getter.get(source, attr, join(dest, name))
                elif attr.is_dir:
                    getter.get_directory(source, attr, dest.rstrip(b"/"), named=True)
                elif attr.is_reg and os.path.exists(dest) and not os.path.isfile(dest):
                    getter.into(source, attr, dest)
                else:
                    getter.get(source, attr, os.path.realpath(dest) if os.path.isfile(dest) else dest)
    _summary(options, out, getter, started)
    return tally.status


def _tenant_size(session: Session, path: bytes) -> int:
    """Bytes below a path, for the progress bar."""
    with contextlib.suppress(FsError):
        attr = session.attr(path, follow=False)
        if attr.is_dir:
            return sum(found.size for _, found in session.walk(attr, path) if found.is_reg)
        return attr.size if attr.is_reg else 0
    return 0


def _summary(options: Namespace, out: Output, transfer: Transfer, started: float) -> None:
    seconds = time.monotonic() - started
    moved = transfer.progress.bytes
    if options.json:
        out.json(transfer.counts | {"bytes": moved, "seconds": round(seconds, 3), "complete": transfer.tally.status == 0})
    elif transfer.progress.shown:
        counts = ", ".join(f"{count} {what}" for what, count in transfer.counts.items() if count)
        out.flush()
        complain(f"{counts or 'nothing'}, {human(moved)}B in {seconds:.1f} s ({human(moved / max(seconds, 0.001))}B/s)")


VERBS: Verbs = {"put": (put_arguments, put), "get": (get_arguments, get)}
