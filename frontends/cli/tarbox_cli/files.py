"""Commands on single files and directories: cat, write, touch, mkdir, rmdir, rm."""

from __future__ import annotations

import errno
import stat
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from tarbox_cli.arguments import UsageError, at_layer, moment, permissions, raw_bytes, tenant_path
from tarbox_cli.output import Output, named, text
from tarbox_cli.session import DIRTY_LIMIT, PIECE, Place, Refused, Session, Tally, enter, join
from tarbox_core.errors import FsError
from tarbox_core.types import NOW, Attr

if TYPE_CHECKING:
    from tarbox_cli.commands import Verbs
    from tarbox_core.handles import FileHandle


# --- content, also for cp, put and get


@contextmanager
def opened(session: Session, path: bytes, file: FileHandle) -> Iterator[FileHandle]:
    """Release an open file at the end. When the block succeeds, an error of the release is the command's error."""
    try:
        yield file
    except BaseException as error:
        if isinstance(error, (FsError, OSError)):
            session.run(path, file.release, session.caller)
        raise
    session.run(path, file.release, session.caller)


def open_for_writing(session: Session, place: Place, attr: Attr | None, mode: int, truncate: bool) -> tuple[Attr, FileHandle]:
    """The file at a place, made where `attr` says that nothing stands there."""
    if attr is None:
        return session.run(place.path, session.fs.create, session.caller, place.parent, place.name, mode, exclusive=True)
    refuse_special(attr, place.path)
    return attr, session.run(
        place.path, session.fs.open, session.caller, attr.ino, read=False, write=True, truncate=truncate, kill_suid=session.kill_suid
    )


def refuse_special(attr: Attr, path: bytes) -> None:
    """Only regular files have content here: a FIFO or device leads to nothing outside a mount."""
    if attr.is_dir:
        raise FsError(errno.EISDIR, path)
    if attr.is_symlink:
        raise FsError(errno.ELOOP, path)
    if not attr.is_reg:
        raise FsError(errno.EOPNOTSUPP, path)


def put_bytes(session: Session, path: bytes, file: FileHandle, offset: int, data: bytes | memoryview, append: bool = False) -> None:
    """Write all of `data`, and send it off when much has gathered in memory."""
    while len(data):
        if file.moves_head:
            done = _command(session, path, file, offset, data)
        else:
            done = session.run(path, file.write, session.caller, offset, data, append=append, kill_suid=session.kill_suid)
        offset += done
        data = memoryview(data)[done:]
    if session.fs.dirty_bytes() >= DIRTY_LIMIT:
        session.run(path, file.flush, session.caller)


def _command(session: Session, path: bytes, file: FileHandle, offset: int, data: bytes | memoryview) -> int:
    """Have a control file carry out what is written to it; the error is the reason it gives."""
    try:
        return session.move(file.write, session.caller, offset, data)
    except FsError as error:
        raise Refused(f"{text(path)}: {error.__cause__ or error}") from error


def pieces(session: Session, path: bytes, file: FileHandle) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes) of a file's content from start to end, holes as zeros."""
    offset = 0
    while True:
        data = session.run(path, file.read, session.caller, offset, PIECE)
        if not data:
            return
        yield offset, data
        offset += len(data)


def give_attributes(session: Session, path: bytes, ino: int, *, owner: tuple[int, int] | None, mode: int | None, atime: int, mtime: int) -> None:
    """What a copy takes over. A new owner takes set-id bits away, so a mode with such bits comes in a step of its own."""
    uid, gid = (None, None) if owner is None else owner
    if owner is not None and mode is not None and mode & 0o6000:
        session.run(path, session.fs.setattr, session.caller, ino, uid=uid, gid=gid)
        uid = gid = None
    session.run(path, session.fs.setattr, session.caller, ino, uid=uid, gid=gid, mode=mode, atime=atime, mtime=mtime)


# --- cat


def cat_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("paths", metavar="PATH", nargs="+", type=tenant_path)
    at_layer(parser)


def cat(options: Namespace, out: Output) -> int:
    tally = Tally()
    with enter(options, changes=False, layer=options.layer) as session:
        for path in options.paths:
            with tally.each():
                attr = session.attr(path)
                refuse_special(attr, path)
                with opened(session, path, session.run(path, session.fs.open, session.caller, attr.ino)) as file:
                    for _, data in pieces(session, path, file):
                        out.write(data)
    return tally.status


# --- write


def write_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", type=tenant_path)
    parser.add_argument("content", metavar="CONTENT", nargs="?", type=raw_bytes, help="exactly what the file is to hold; without it standard input is read")
    parser.add_argument("--append", action="store_true", help="write behind what is there")
    parser.add_argument("-m", "--mode", type=permissions, help="permissions of a new file (0666 less the umask)")


def write(options: Namespace, out: Output) -> int:
    path = options.path
    source: BinaryIO | None = None
    if options.content is None:
        if sys.stdin is None:
            raise UsageError("no CONTENT given, and standard input is closed", "write")
        source = sys.stdin.buffer
    with enter(options, changes=True) as session:
        attr = session.find(path)
        if attr is None:
            link = session.find(path, follow=False)
            if link is not None:  # a symbolic link to nothing
                raise FsError(errno.ENOENT, path)
            if path.endswith(b"/"):
                raise FsError(errno.EISDIR, path)
            place = session.place(path)
        else:
            place = Place(0, b"", path)
        mode = options.mode(stat.S_IFREG, session.umask) if options.mode else 0o666 & ~session.umask
        attr, file = open_for_writing(session, place, attr, mode, truncate=not options.append)
        total = 0
        with opened(session, path, file):
            for data in [options.content] if source is None else _given(source):
                put_bytes(session, path, file, total, data, options.append)
                total += len(data)
            session.run(path, file.flush, session.caller)
            size = file.attr().size
    if options.json:
        out.json(named("path", path) | {"inode": attr.ino, "written": total, "size": size})
    return 0


def _given(source: BinaryIO) -> Iterator[bytes]:
    """What there is to read. A short piece is the last, so that Ctrl-D is wanted once."""
    data = source.read(PIECE)
    yield data
    while len(data) == PIECE:
        data = source.read(PIECE)
        yield data


# --- touch


def touch_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("paths", metavar="PATH", nargs="+", type=tenant_path)
    parser.add_argument("-c", "--no-create", action="store_true", help="make no file")
    parser.add_argument("-d", "--date", metavar="TIME", type=moment, help="this time instead of now: ISO 8601, or @SECONDS")
    parser.add_argument("-a", dest="access", action="store_true", help="the access time only")
    parser.add_argument("-m", dest="modification", action="store_true", help="the modification time only")


def touch(options: Namespace, out: Output) -> int:
    tally = Tally()
    with enter(options, changes=True) as session:
        for path in options.paths:
            with tally.each():
                attr = session.find(path)
                if attr is None:
                    if options.no_create:
                        continue
                    if path.endswith(b"/"):
                        raise FsError(errno.ENOENT, path)
                    place = session.place(path)
                    attr = session.run(place.path, session.fs.mknod, session.caller, place.parent, place.name, stat.S_IFREG | 0o666 & ~session.umask)
                    if options.date is None:
                        continue
                when = NOW if options.date is None else options.date
                both = options.access == options.modification
                session.run(path, session.fs.setattr,
                    session.caller, attr.ino,
                    atime=when if both or options.access else None, mtime=when if both or options.modification else None,
                )
    return tally.status


# --- directories


def mkdir_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("paths", metavar="PATH", nargs="+", type=tenant_path)
    parser.add_argument("-p", "--parents", action="store_true", help="missing directories above, too; no error where it is there")
    parser.add_argument("-m", "--mode", type=permissions, help="permissions, octal or symbolic (0777 less the umask)")


def mkdir(options: Namespace, out: Output) -> int:
    tally = Tally()
    with enter(options, changes=True) as session:
        usual = 0o777 & ~session.umask
        mode = options.mode(stat.S_IFDIR | usual, session.umask) if options.mode else usual
        for path in options.paths:
            with tally.each():
                if options.parents:
                    make_directories(session, path, mode)
                else:
                    if not path.strip(b"/"):
                        raise FsError(errno.EEXIST, path)
                    make_directory(session, session.place(path), mode, exact=bool(options.mode))
    return tally.status


def make_directory(session: Session, place: Place, mode: int, exact: bool = False) -> Attr:
    """A new directory. `exact`: also the bits that a directory takes over from the one above it."""
    made = session.run(place.path, session.fs.mkdir, session.caller, place.parent, place.name, mode)
    if exact and stat.S_IMODE(made.mode) != mode and mode & 0o7000:
        made = session.run(place.path, session.fs.setattr, session.caller, made.ino, mode=mode)
    return made


def make_directories(session: Session, path: bytes, mode: int | None = None) -> Attr:
    """The directory at `path`, and the missing ones above it. `mode` is for the last one only."""
    attr = session.find(path)
    if attr is not None:
        if not attr.is_dir:
            raise FsError(errno.EEXIST, path)
        return attr
    names = [name for name in path.split(b"/") if name]
    here = session.attr(b"/")
    for last in range(1, len(names) + 1):
        place = Place(here.ino, names[last - 1], b"/" + b"/".join(names[:last]))
        found = session.child(place)
        if found is None:
            # As mkdir -p: the ones above can be entered and filled by their owner, whatever the umask.
            usual = 0o777 & ~session.umask
            found = make_directory(session, place, usual | 0o300 if last < len(names) else usual if mode is None else mode)
        elif found.is_symlink:
            found = session.attr(place.path)
        if not found.is_dir:
            raise FsError(errno.ENOTDIR, place.path)
        here = found
    return here


def rmdir_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("paths", metavar="PATH", nargs="+", type=tenant_path)


def rmdir(options: Namespace, out: Output) -> int:
    tally = Tally()
    with enter(options, changes=True) as session:
        for path in options.paths:
            with tally.each():
                place = session.place(path)
                session.run(path, session.fs.rmdir, session.caller, place.parent, place.name)
    return tally.status


# --- rm


def rm_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("paths", metavar="PATH", nargs="*", type=tenant_path)
    parser.add_argument("-r", "-R", "--recursive", action="store_true", help="directories and everything in them")
    parser.add_argument("-f", "--force", action="store_true", help="no error where there is nothing")


def rm(options: Namespace, out: Output) -> int:
    tally = Tally()
    if not options.paths and not options.force:
        raise UsageError("the following arguments are required: PATH", "rm")
    with enter(options, changes=True) as session:
        for path in options.paths:
            with tally.each():
                try:
                    place = session.place(path)
                    attr = session.attr(path.rstrip(b"/"), follow=False)
                except FsError as error:
                    if options.force and error.errno in (errno.ENOENT, errno.ENOTDIR):
                        continue
                    raise
                if path.endswith(b"/") and not attr.is_dir:
                    raise FsError(errno.ENOTDIR, path)
                if attr.is_dir:
                    if not options.recursive:
                        raise FsError(errno.EISDIR, path)
                    remove_tree(session, place, attr, tally)
                else:
                    session.run(path, session.fs.unlink, session.caller, place.parent, place.name)
    return tally.status


def remove_tree(session: Session, place: Place, attr: Attr, tally: Tally) -> None:
    """Remove a directory and all below it; what cannot be removed is told, and the rest goes."""
    stack: list[tuple[Place, int, bool]] = [(place, attr.ino, False)]
    while stack:
        at, ino, emptied = stack.pop()
        with tally.each():
            if emptied:
                session.run(at.path, session.fs.rmdir, session.caller, at.parent, at.name)
                continue
            stack.append((at, ino, True))
            for entry in session.entries(ino, at.path):
                inner = Place(ino, entry.name, join(at.path, entry.name))
                if stat.S_ISDIR(entry.kind << 12):
                    stack.append((inner, entry.ino, False))
                else:
                    with tally.each():
                        session.run(inner.path, session.fs.unlink, session.caller, inner.parent, inner.name)


VERBS: Verbs = {
    "cat": (cat_arguments, cat), "write": (write_arguments, write), "touch": (touch_arguments, touch), "mkdir": (mkdir_arguments, mkdir),
    "rmdir": (rmdir_arguments, rmdir), "rm": (rm_arguments, rm),
}
