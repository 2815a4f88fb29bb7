"""Commands that change who may do what: chmod, chown."""

from __future__ import annotations

import re
import stat
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING

from tarbox_cli.arguments import Parser, owner, permissions, tenant_path
from tarbox_cli.output import Output
from tarbox_cli.session import Session, Tally, enter
from tarbox_core.types import Attr

if TYPE_CHECKING:
    from tarbox_cli.commands import Verbs


def _each(session: Session, path: bytes, attr: Attr, recursive: bool, tally: Tally, change: Callable[[bytes, Attr], None]) -> None:
    """What stands at a path, then what is below it."""
    with tally.each():
        change(path, attr)
    if recursive and attr.is_dir:
        for inner, found in session.walk(attr, path):
            with tally.each():
                change(inner, found)


def chmod_arguments(parser: ArgumentParser) -> None:
    if isinstance(parser, Parser):
        parser.dashed_words = re.compile(r"-[rwxXst]+([-+=,].*)?\Z")  # `chmod -w FILE`
    parser.add_argument("mode", metavar="MODE", type=permissions, help="octal (0644) or symbolic (u+x,go-w)")
    parser.add_argument("paths", metavar="PATH", nargs="+", type=tenant_path)
    parser.add_argument("-R", "--recursive", action="store_true", help="everything below, too; symbolic links are left alone")


def chmod(options: Namespace, out: Output) -> int:
    tally = Tally()
    with enter(options, changes=True) as session:

        def change(path: bytes, attr: Attr) -> None:
            mode = options.mode(attr.mode, session.umask)
            if not attr.is_symlink and mode != stat.S_IMODE(attr.mode):
                session.run(path, session.fs.setattr, session.caller, attr.ino, mode=mode)

        for path in options.paths:
            with tally.each():
                _each(session, path, session.attr(path), options.recursive, tally, change)
    return tally.status


def chown_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("owner", metavar="USER[:GROUP]", type=owner, help="by name (of this host) or number; :GROUP for the group alone")
    parser.add_argument("paths", metavar="PATH", nargs="+", type=tenant_path)
    parser.add_argument("-R", "--recursive", action="store_true", help="everything below, too; symbolic links themselves")
    parser.add_argument("-h", "--no-dereference", action="store_true", help="a symbolic link itself, not what it points to")


def chown(options: Namespace, out: Output) -> int:
    tally = Tally()
    uid, gid = options.owner
    with enter(options, changes=True) as session:

        def change(path: bytes, attr: Attr) -> None:
            session.run(path, session.fs.setattr, session.caller, attr.ino, uid=uid, gid=gid)

        for path in options.paths:
            with tally.each():
                attr = session.attr(path, follow=not options.no_dereference and not options.recursive)
                _each(session, path, attr, options.recursive, tally, change)
    return tally.status


VERBS: Verbs = {"chmod": (chmod_arguments, chmod), "chown": (chown_arguments, chown)}
