"""Commands that give names to what is there, or make it anew elsewhere in the tenant: mv, cp, ln."""

from __future__ import annotations

import errno
import stat
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from tarbox_cli.arguments import from_here, link_target, tenant_path
from tarbox_cli.files import give_attributes, make_directory, open_for_writing, opened, refuse_special
from tarbox_cli.output import Output, text
from tarbox_cli.session import PIECE, Place, Refused, Session, Tally, enter, join
from tarbox_core.errors import FsError
from tarbox_core.types import RENAME_EXCHANGE, RENAME_NOREPLACE, ROOT_INO, Attr

if TYPE_CHECKING:
    from tarbox_cli.commands import Verbs


# --- mv


def mv_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("sources", metavar="SRC", nargs="+", type=tenant_path)
    parser.add_argument("dest", metavar="DEST", type=tenant_path, help="a new name, or a directory to move into")
    parser.add_argument("-f", "--force", action="store_true", help="replace what stands there (this is what happens anyhow)")
    parser.add_argument("-n", "--no-clobber", action="store_true", help="an error where something stands there")
    parser.add_argument("-T", "--no-target-directory", action="store_true", help="DEST is the new name even if it is a directory")
    parser.add_argument("--exchange", action="store_true", help="let the two change places")


def mv(options: Namespace, out: Output) -> int:
    tally = Tally()
    flags = RENAME_EXCHANGE if options.exchange else RENAME_NOREPLACE if options.no_clobber else 0
    exact = options.exchange or options.no_target_directory
    with enter(options, changes=True) as session:
        for path in options.sources:
            with tally.each():
                source = session.place(path)
                if exact and len(options.sources) > 1:
                    raise FsError(errno.ENOTDIR, options.dest)
                target = session.place(options.dest) if exact else session.target(options.dest, path, len(options.sources) > 1)
                if (path.endswith(b"/") or target.path.endswith(b"/")) and not session.attr(path.rstrip(b"/"), follow=False).is_dir:
                    raise FsError(errno.ENOTDIR, path)
                try:
                    session.run(
                        path if session.child(source) is None else target.path,
                        session.fs.rename, session.caller, source.parent, source.name, target.parent, target.name, flags,
                    )
                except FsError as error:
                    if error.errno == errno.EINVAL:
                        raise Refused(f"{text(target.path)}: a directory cannot be moved into itself") from error
                    raise
    return tally.status


# --- cp


def cp_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("sources", metavar="SRC", nargs="+", type=tenant_path)
    parser.add_argument("dest", metavar="DEST", type=tenant_path, help="a new name, or a directory to copy into")
    parser.add_argument("-r", "-R", "--recursive", action="store_true", help="directories and everything in them; symbolic links stay links")
    parser.add_argument("-p", "--preserve", action="store_true", help="keep modes, owners, times and extended attributes")
    parser.add_argument("-a", "--archive", action="store_true", help="both, and hard links among the copied stay together")
    parser.add_argument("-n", "--no-clobber", action="store_true", help="leave alone what is there")


class Copier:
    """One run of cp. Content is copied by reference where blocks allow: `copy_range` decides. `source`: the tree to copy
    from, where it is another one."""

    def __init__(self, session: Session, tally: Tally, *, preserve: bool, links: bool, clobber: bool, source: Session | None = None) -> None:
        self.session = session
        self.source = source or session
        self.tally = tally
        self.preserve = preserve
        self.clobber = clobber
        self._links: dict[int, int] | None = {} if links else None  # inode copied -> its copy
        self._made: set[int] = set()  # directories of this run: no directory being copied lies above them

    def copy(self, path: bytes, attr: Attr, target: Place) -> None:
        """One thing, and what is below it."""
        if attr.is_dir:
            self._directory(path, attr, target)
            return
        session = self.session
        there = session.child(target)
        if there is not None:
            if not self.clobber:
                return
            if self._is_itself(there, attr):
                raise same(path, target.path)
            if there.is_dir:
                raise FsError(errno.EISDIR, target.path)
            if not (there.is_reg and attr.is_reg):
                session.run(target.path, session.fs.unlink, session.caller, target.parent, target.name)
                there = None
        if self._links is not None and attr.nlink > 1:
            known = self._links.get(attr.ino)
            if known is not None:
                if there is not None:
                    session.run(target.path, session.fs.unlink, session.caller, target.parent, target.name)
                session.run(target.path, session.fs.link, session.caller, known, target.parent, target.name)
                return
        if attr.is_symlink:
            content = self.source.run(path, self.source.fs.readlink, session.caller, attr.ino)
            made = session.run(target.path, session.fs.symlink, session.caller, target.parent, target.name, content)
        elif attr.is_reg:
            made = self._content(path, attr, target, there)
        else:
            mode = attr.mode & ~session.umask
            made = session.run(target.path, session.fs.mknod, session.caller, target.parent, target.name, mode, attr.rdev)
        if self._links is not None and attr.nlink > 1:
            self._links[attr.ino] = made.ino
        self.keep(path, attr, target.path, made)

    def _is_itself(self, there: Attr, attr: Attr) -> bool:
        return self.source is self.session and there.ino == attr.ino

    def _content(self, path: bytes, attr: Attr, target: Place, there: Attr | None) -> Attr:
        session, origin = self.session, self.source
        mode = attr.mode & 0o777 & ~session.umask
        with opened(origin, path, origin.run(path, origin.fs.open, session.caller, attr.ino)) as source:
            made, copy = open_for_writing(session, target, there, mode, truncate=True)
            with opened(session, target.path, copy):
                size = source.attr().size
                offset = 0
                while offset < size:
                    done = session.run(target.path, session.fs.copy_range, session.caller, source, offset, copy, offset, min(64 * PIECE, size - offset))
                    if not done:
                        break
                    offset += done
                session.run(target.path, copy.flush, session.caller)
        return made

    def _directory(self, path: bytes, attr: Attr, target: Place) -> None:
        session = self.session
        there = session.child(target)
        if there is not None and self._is_itself(there, attr):
            raise same(path, target.path)
        if self.source is session:
            self._refuse_loop(attr, target)
        new = there is None
        if there is None:
            # Its owner must be able to fill it; the last word on its mode comes at the end.
            there = make_directory(session, target, attr.mode & 0o777 & ~session.umask | 0o700)
        elif not there.is_dir:
            raise FsError(errno.ENOTDIR, target.path)
        self._made.add(there.ino)
        inside = there.ino
        session.expect(inside, target.path)
        for entry in self.source.entries(attr.ino, path):
            inner = join(path, entry.name)
            with self.tally.each():
                self.copy(inner, self.source.attributes(entry, inner), Place(inside, entry.name, join(target.path, entry.name)))
        if self.preserve:
            self.keep(path, attr, target.path, there)
        elif new:
            mode = attr.mode & 0o777 & ~session.umask
            if stat.S_IMODE(there.mode) & 0o777 != mode:
                session.run(target.path, session.fs.setattr, session.caller, inside, mode=stat.S_IMODE(there.mode) & 0o7000 | mode)

    def _refuse_loop(self, attr: Attr, target: Place) -> None:
        """A directory cannot be copied below itself."""
        session = self.session
        at = target.parent
        while at not in self._made:
            if at == attr.ino:
                raise Refused(f"{text(target.path)}: a directory cannot be copied into itself")
            if at == ROOT_INO:
                return
            at = session.run(target.path, session.fs.getattr, at).parent

    def keep(self, path: bytes, attr: Attr, copy_path: bytes, copy: Attr) -> None:
        """Give a copy the attributes of what it was made from, where that is wanted."""
        if not self.preserve:
            return
        session, source = self.session, self.source
        for name in source.run(path, source.fs.listxattr, session.caller, attr.ino):
            value = source.run(path, source.fs.getxattr, session.caller, attr.ino, name)
            session.run(copy_path, session.fs.setxattr, session.caller, copy.ino, name, value)
        mode = None if attr.is_symlink else stat.S_IMODE(attr.mode)
        give_attributes(session, copy_path, copy.ino, owner=(attr.uid, attr.gid), mode=mode, atime=attr.atime, mtime=attr.mtime)


def same(path: bytes, other: bytes) -> Refused:
    return Refused(f"{text(path)} and {text(other)} are the same file")


def cp(options: Namespace, out: Output) -> int:
    tally = Tally()
    recursive = options.recursive or options.archive
    with enter(options, changes=True) as session:
        copier = Copier(session, tally, preserve=options.preserve or options.archive, links=options.archive, clobber=not options.no_clobber)
        for path in options.sources:
            with tally.each():
                attr = session.attr(path, follow=not recursive or path.endswith(b"/"))
                if not recursive:
                    refuse_special(attr, path)
                dots = path.rstrip(b"/").rsplit(b"/", 1)[-1] in (b"", b".", b"..")
                at = session.find(options.dest)
                if dots and at is not None and at.is_dir:  # `cp -r /a/. /b`: the contents
                    for entry in session.entries(attr.ino, path):
                        with tally.each():
                            inner = join(path, entry.name)
                            copier.copy(inner, session.attributes(entry, inner), Place(at.ino, entry.name, join(options.dest, entry.name)))
                    continue
                target = session.place(options.dest) if dots and at is None else session.target(options.dest, path, len(options.sources) > 1)
                if target.path.endswith(b"/") and not attr.is_dir:
                    raise FsError(errno.ENOTDIR, target.path)
                if attr.is_reg:  # a symbolic link that stands there is written through, as by cp
                    link = session.child(target)
                    if link is not None and link.is_symlink:
                        through = session.attr(target.path)
                        refuse_special(through, target.path)
                        if through.ino == attr.ino:
                            raise same(path, target.path)
                        if copier.clobber:
                            made = copier._content(path, attr, target, through)
                            copier.keep(path, attr, target.path, made)
                        continue
                copier.copy(path, attr, target)
    return tally.status


# --- ln


def ln_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("targets", metavar="TARGET", nargs="+", type=link_target, help="what exists; with -s any text")
    parser.add_argument("link", metavar="LINK", type=tenant_path, help="the new name, or a directory for it")
    parser.add_argument("-s", "--symbolic", action="store_true", help="a symbolic link")
    parser.add_argument("-f", "--force", action="store_true", help="replace what stands there")
    parser.add_argument("-n", "--no-dereference", action="store_true", help="a LINK that is a symbolic link to a directory is replaced itself")


def ln(options: Namespace, out: Output) -> int:
    tally = Tally()
    with enter(options, changes=True) as session:
        for content in options.targets:
            with tally.each():
                itself = options.no_dereference and len(options.targets) == 1 and (session.find(options.link, follow=False) or None)
                place = session.place(options.link) if itself and itself.is_symlink else session.target(options.link, content, len(options.targets) > 1)
                source = None
                if not options.symbolic:
                    path = from_here(content)
                    source = session.attr(path, follow=False)
                    if source.is_dir:
                        raise FsError(errno.EPERM, path)
                if options.force:
                    there = session.child(place)
                    if there is not None and source is not None and there.ino == source.ino:
                        continue
                    if there is not None:
                        session.run(place.path, session.fs.unlink, session.caller, place.parent, place.name)
                if source is None:
                    session.run(place.path, session.fs.symlink, session.caller, place.parent, place.name, content)
                else:
                    session.run(place.path, session.fs.link, session.caller, source.ino, place.parent, place.name)
    return tally.status


VERBS: Verbs = {"mv": (mv_arguments, mv), "cp": (cp_arguments, cp), "ln": (ln_arguments, ln)}
