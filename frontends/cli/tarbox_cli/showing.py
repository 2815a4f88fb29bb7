"""Commands that look at names and attributes: ls, tree, stat. What they print for people and as JSON."""

from __future__ import annotations

import os
import shutil
import stat
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from tarbox_cli.arguments import at_layer, count, standing, tenant_path
from tarbox_cli.layers import called, holder
from tarbox_cli.output import Output, columns, human, iso, kind, local, named, octal, quote, symbolic, text
from tarbox_cli.session import Session, Tally, enter, join
from tarbox_cli.users import group_name, user_name
from tarbox_core.types import Attr

if TYPE_CHECKING:
    from tarbox_cli.commands import Verbs
    from tarbox_core.layer import Layer


class Item(NamedTuple):
    """A file as it is shown: the name to print, its path, its attributes, and what a symbolic link points to."""

    name: bytes
    path: bytes
    attr: Attr
    target: bytes | None = None


def described(item: Item) -> dict[str, Any]:
    """An item as a JSON object. The name is the path's last, times are UTC, sizes bytes, the mode is octal text."""
    attr = item.attr
    name = item.path.rstrip(b"/").rsplit(b"/", 1)[-1] or b"/"
    shown: dict[str, Any] = {
        **named("name", name), **named("path", item.path), "type": kind(attr.mode), "mode": octal(attr.mode), "uid": attr.uid, "gid": attr.gid,
        "size": attr.size, "stored": attr.blocks, "links": attr.nlink, "inode": attr.ino, "layer": attr.layer,
        "mtime": iso(attr.mtime), "ctime": iso(attr.ctime), "atime": iso(attr.atime),
    }
    if item.target is not None:
        shown |= named("target", item.target)
    if stat.S_ISCHR(attr.mode) or stat.S_ISBLK(attr.mode):
        shown["device"] = [os.major(attr.rdev), os.minor(attr.rdev)]
    return shown


def _target(session: Session, attr: Attr, path: bytes) -> bytes | None:
    return session.run(path, session.fs.readlink, session.caller, attr.ino) if attr.is_symlink else None


def _item(session: Session, name: bytes, path: bytes, attr: Attr, links: bool) -> Item:
    return Item(name, path, attr, _target(session, attr, path) if links else None)


# --- ls


def ls_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("paths", metavar="PATH", nargs="*", type=tenant_path, help="what to list (/)")
    parser.add_argument("-l", dest="long", action="store_true", help="with type, mode, links, owner, size and time")
    parser.add_argument("-a", "--all", action="store_true", help="also names that begin with a dot")
    parser.add_argument("-A", dest="all", action="store_true", help="the same as -a")
    parser.add_argument("-R", "--recursive", action="store_true", help="directories below, too")
    parser.add_argument("-d", "--directory", action="store_true", help="directories themselves, not what they hold")
    parser.add_argument("-h", "--human", action="store_true", help="sizes as 1.5K, 234M")
    parser.add_argument("-n", "--numeric", action="store_true", help="owners by number")
    parser.add_argument("-1", dest="single", action="store_true", help="one name a line")
    parser.add_argument("-t", dest="by_time", action="store_true", help="newest first")
    parser.add_argument("-S", dest="by_size", action="store_true", help="largest first")
    parser.add_argument("-r", "--reverse", action="store_true", help="the other way round")
    at_layer(parser)


def ls(options: Namespace, out: Output) -> int:
    tally = Tally()
    paths: list[bytes] = options.paths or [standing()]
    objects: list[dict[str, Any]] = []
    with enter(options, changes=False, layer=options.layer) as session:
        files: list[Item] = []
        folders: list[Item] = []
        links = options.long or options.json
        for path in paths:
            with tally.each():
                # As ls does: a named symbolic link is followed, unless its own details are asked for.
                attr = session.attr(path, follow=not options.long or path.endswith(b"/"))
                item = _item(session, path, path, attr, links)
                (folders if attr.is_dir and not options.directory else files).append(item)
        files = _sorted(files, options)
        if options.json:
            objects += [described(item) for item in files]
        elif files:
            _print(files, options, out)
        heads = len(paths) > 1 or options.recursive
        first = not files
        for folder in _sorted(folders, options):
            stack = [folder]
            while stack:
                at = stack.pop()
                with tally.each():
                    entries = session.entries(at.attr.ino, at.path)
                    items = [
                        _item(session, entry.name, join(at.path, entry.name), session.attributes(entry, join(at.path, entry.name)), links)
                        for entry in entries
                        if options.all or not entry.name.startswith(b".")
                    ]
                    items = _sorted(items, options)
                    if options.json:
                        objects += [described(item) for item in items]
                    else:
                        if heads:
                            out.line((b"" if first else b"\n") + out.name(at.path) + b":")
                        _print(items, options, out)
                    first = False
                    if options.recursive:
                        stack += [item for item in reversed(items) if item.attr.is_dir]
    if options.json:
        out.json(objects)
    return tally.status


def _sorted(items: list[Item], options: Namespace) -> list[Item]:
    def key(item: Item) -> tuple[int, bytes]:
        return (-item.attr.size if options.by_size else -item.attr.mtime if options.by_time else 0), item.name

    return sorted(items, key=key, reverse=options.reverse)


def _print(items: list[Item], options: Namespace, out: Output) -> None:
    if options.long:
        rows = [[cell.encode() for cell in _details(item.attr, options)] + [_shown(item, out)] for item in items]
        for line in columns(rows, right={1, 4}):
            out.line(line)
    elif out.terminal and not options.single:
        for row in _side_by_side([quote(item.name) for item in items], shutil.get_terminal_size().columns):
            out.line(row)
    else:
        for item in items:
            out.line(out.name(item.name))


def _shown(item: Item, out: Output) -> bytes:
    return out.name(item.name) + (b"" if item.target is None else b" -> " + out.name(item.target))


def _details(attr: Attr, options: Namespace) -> list[str]:
    size = human(attr.size) if options.human else str(attr.size)
    if stat.S_ISCHR(attr.mode) or stat.S_ISBLK(attr.mode):
        size = f"{os.major(attr.rdev)},{os.minor(attr.rdev)}"
    user, group = (str(attr.uid), str(attr.gid)) if options.numeric else (user_name(attr.uid), group_name(attr.gid))
    return [symbolic(attr.mode), str(attr.nlink), user, group, size, local(attr.mtime)]


def _side_by_side(names: list[str], width: int) -> Iterator[str]:
    """Names in as many columns as fit, read downwards."""
    for lines in range(1, len(names) + 1):
        table = [names[at : at + lines] for at in range(0, len(names), lines)]
        widths = [max(map(len, column)) for column in table]
        if sum(widths) + 2 * (len(widths) - 1) <= width or lines == len(names):
            for row in range(lines):
                cells = [column[row].ljust(size) for column, size in zip(table, widths, strict=True) if row < len(column)]
                yield "  ".join(cells).rstrip()
            return


# --- tree


def tree_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("paths", metavar="PATH", nargs="*", type=tenant_path, help="where to begin (/)")
    parser.add_argument("-L", dest="level", metavar="N", type=count, help="no deeper than N levels")
    parser.add_argument("-a", "--all", action="store_true", help="also names that begin with a dot")
    parser.add_argument("-d", dest="folders", action="store_true", help="directories only")
    parser.add_argument("-s", "--size", action="store_true", help="with sizes")
    at_layer(parser)


def tree(options: Namespace, out: Output) -> int:
    tally = Tally()
    objects = []
    counts = [0, 0]
    with enter(options, changes=False, layer=options.layer) as session:
        for path in options.paths or [standing()]:
            with tally.each():
                root = _item(session, path, path, session.attr(path), True)
                if options.json:
                    objects.append(_branch_object(session, root, options, 1, tally))
                else:
                    out.line(_shown(root, out))
                    if root.attr.is_dir:
                        _branch(session, root, options, out, "", 1, counts, tally)
    if options.json:
        out.json(objects)
    else:
        total = f"{counts[0]} {'directory' if counts[0] == 1 else 'directories'}"
        out.line(f"\n{total}" if options.folders else f"\n{total}, {counts[1]} {'file' if counts[1] == 1 else 'files'}")
    return tally.status


def _inside(session: Session, folder: Item, options: Namespace) -> list[Item]:
    found = []
    for entry in session.entries(folder.attr.ino, folder.path):
        if options.all or not entry.name.startswith(b"."):
            path = join(folder.path, entry.name)
            attr = session.attributes(entry, path)
            if attr.is_dir or not options.folders:
                found.append(_item(session, entry.name, path, attr, True))
    return sorted(found, key=lambda item: item.name)


def _branch(session: Session, folder: Item, options: Namespace, out: Output, indent: str, level: int, counts: list[int], tally: Tally) -> None:
    with tally.each():
        items = _inside(session, folder, options)
        for item in items:
            last = item is items[-1]
            size = f"[{human(item.attr.size):>5}]  " if options.size else ""
            out.line((indent + ("└── " if last else "├── ") + size).encode() + _shown(item, out))
            counts[0 if item.attr.is_dir else 1] += 1
            if item.attr.is_dir and (options.level is None or level < options.level):
                _branch(session, item, options, out, indent + ("    " if last else "│   "), level + 1, counts, tally)


def _branch_object(session: Session, item: Item, options: Namespace, level: int, tally: Tally) -> dict[str, Any]:
    shown = described(item)
    if item.attr.is_dir and (options.level is None or level <= options.level):
        shown["entries"] = []
        with tally.each():
            shown["entries"] = [_branch_object(session, inner, options, level + 1, tally) for inner in _inside(session, item, options)]
    return shown


# --- stat


def stat_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("paths", metavar="PATH", nargs="+", type=tenant_path)
    parser.add_argument("-L", "--dereference", action="store_true", help="follow a symbolic link")
    at_layer(parser)


def stat_(options: Namespace, out: Output) -> int:
    tally = Tally()
    objects = []
    first = True
    with enter(options, changes=False, layer=options.layer) as session:
        for path in options.paths:
            with tally.each():
                attr = session.attr(path, follow=options.dereference)
                item = _item(session, path, path, attr, True)
                xattrs = session.run(path, session.fs.listxattr, session.caller, attr.ino)
                layer = holder(session, attr.layer)
                if options.json:
                    of_layer = {"layer_id": layer and layer.id, "layer_name": layer and layer.name}
                    objects.append(described(item) | of_layer | {"xattrs": [text(name) for name in xattrs]})
                    continue
                if not first:
                    out.line("")
                first = False
                out.fields(_lines(item, layer, xattrs, out))
    if options.json:
        out.json(objects)
    return tally.status


def _lines(item: Item, layer: Layer | None, xattrs: list[bytes], out: Output) -> Iterator[tuple[str, str | bytes]]:
    attr = item.attr
    yield "Path", out.name(item.path) + (b"" if item.target is None else b" -> " + out.name(item.target))
    yield "Type", kind(attr.mode)
    if stat.S_ISCHR(attr.mode) or stat.S_ISBLK(attr.mode):
        yield "Device", f"{os.major(attr.rdev)},{os.minor(attr.rdev)}"
    yield "Size", f"{attr.size} ({attr.blocks} stored)"
    yield "Mode", f"{octal(attr.mode)} {symbolic(attr.mode)}"
    yield "Owner", f"{attr.uid} ({user_name(attr.uid)}), group {attr.gid} ({group_name(attr.gid)})"
    yield "Links", str(attr.nlink)
    yield "Inode", str(attr.ino)
    if layer is not None:
        yield "Layer", called(layer) if layer.sealed_at is not None else f"{layer.short}, open"
    yield "Modified", iso(attr.mtime)
    yield "Changed", iso(attr.ctime)
    yield "Accessed", iso(attr.atime)
    for name in xattrs:
        yield "Attribute", out.name(name)


VERBS: Verbs = {"ls": (ls_arguments, ls), "tree": (tree_arguments, tree), "stat": (stat_arguments, stat_)}
