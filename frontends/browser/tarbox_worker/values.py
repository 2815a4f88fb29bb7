"""What the page is told, as values for JSON: camelCase keys, times in ms since the epoch, numbers beyond 2**53 as text."""

from __future__ import annotations

import errno
import stat
from typing import Any, Final

from tarbox_core import listing
from tarbox_core.compare import Change
from tarbox_core.errors import ConnectError, ConnectionLost, FsError, GatewayError, LayerError, TarboxError, errno_name
from tarbox_core.history import Version
from tarbox_core.layer import Branch, Layer
from tarbox_core.trail import Record
from tarbox_core.types import S_IFMT, Attr

Value = dict[str, Any]

_MS: Final = 10**6  # ns
_FAR: Final = 2**63 / _MS - 1  # ms
_KINDS: Final = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link", stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket"}  # else "device"


class Conflict(TarboxError):
    """What is there is not what the page saw."""


class Refused(TarboxError):
    """What the page asked for makes no sense. The text says why."""


def text(name: bytes) -> str:
    """Bytes that are not UTF-8 become lone surrogates."""
    return name.decode("utf-8", "surrogateescape")


def shown(path: str) -> str:
    """A path for people, which is text."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def raw(path: str) -> bytes:
    """A path as the core takes it. Refused where it does not begin at the root, or has a NUL."""
    if not path.startswith("/") or "\0" in path:
        raise Refused(f"{path!r} is no path from the root")
    return word(path)


def word(given: str) -> bytes:
    """The bytes of a text from the page. Refused where it has surrogates that stand for none."""
    try:
        return given.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise Refused(f"{given!r} is no text") from None


def ms(time: int) -> float:
    return time / _MS


def ns(time: float | None) -> int | None:
    """A time from the page. Refused beyond what is stored."""
    if time is not None and abs(time) > _FAR:
        raise Refused(f"{time} is no time")
    return None if time is None else round(time * _MS)


def attributes(attr: Attr) -> Value:
    """`version` changes with every change of the inode; `stored` is what it takes in bytes, `layer` the stamp of the layer that
    it was last changed in (see `layer`)."""
    return {
        "ino": str(attr.ino), "kind": _KINDS.get(attr.mode & S_IFMT, "device"), "mode": attr.mode & 0o7777, "uid": attr.uid, "gid": attr.gid,
        "links": attr.nlink, "size": attr.size, "stored": attr.blocks, "mtime": ms(attr.mtime), "ctime": ms(attr.ctime), "atime": ms(attr.atime),
        "version": version(attr), "layer": str(attr.layer),
    }  # fmt: skip


def version(attr: Attr) -> str:
    return str(attr.ctime)


def entry(name: bytes, attr: Attr) -> Value:
    return {"name": text(name), **attributes(attr)}


def layer(one: Layer) -> Value:
    return {
        "stamp": str(one.stamp), "id": one.id, "name": one.name, "label": one.label, "message": one.message, "parent": one.parent_id,
        "createdAt": ms(one.created_at), "sealedAt": None if one.sealed_at is None else ms(one.sealed_at), "automatic": one.automatic, "branch": one.branch,
    }  # fmt: skip


def layers(found: list[Layer], standing: int) -> list[Value]:
    """In the order they were begun. `current`: what the tree is written to; `beneath`: it rests on this one."""
    below = {one.stamp for one in listing.line_to(found, standing)[1:]}
    return [layer(one) | {"current": one.stamp == standing, "beneath": one.stamp in below} for one in found]


def branch(one: Branch) -> Value:
    return {"name": one.name, "layer": str(one.layer), "createdAt": ms(one.created_at)}


def change(one: Change) -> Value:
    """`status`: A added, D deleted, R renamed, T of another type, M of another content, m otherwise."""
    return {
        "status": one.status, "path": text(one.path), "oldPath": None if one.old_path is None else text(one.old_path), "content": one.content,
        "old": None if one.old is None else attributes(one.old), "new": None if one.new is None else attributes(one.new),
    }  # fmt: skip


def past(one: Version) -> Value:
    """A version of a file."""
    counts = one.counts
    return {
        "layer": layer(one.layer), "status": one.status, "path": text(one.path), "oldPath": None if one.old_path is None else text(one.old_path),
        "attributes": None if one.attr is None else attributes(one.attr), "lines": one.lines,
        "counts": None if counts is None else {"added": counts.added, "deleted": counts.deleted, "modified": counts.modified},
    }  # fmt: skip


def record(one: Record) -> Value:
    """A record of the audit. `result` is None or the name of an errno."""
    return {
        "id": str(one.id), "at": ms(one.at), "layer": one.layer, "layerName": one.layer_name, "operation": one.operation,
        "ino": None if one.ino is None else str(one.ino), "path": one.path, "uid": one.uid, "pid": one.pid,
        "result": errno_name(one.result) if one.result else None, "bytes": one.bytes, "metadata": one.metadata,
    }  # fmt: skip


def failure(error: BaseException) -> Value:
    """An error: `code` for programs, `message` for people, `errno` by its name where there is one."""
    number: str | None = None
    match error:
        case FsError() | LayerError():
            number = errno.errorcode.get(error.errno, "EIO")
            code = number
        case ConnectionLost(committing=True):
            code = "unknown"  # whether it took effect
        case ConnectionLost() | ConnectError():
            code = "connection"
        case GatewayError():
            code = f"gateway-{error.code}"
        case Conflict():
            code = "conflict"
        case Refused():
            code = "usage"
        case TarboxError():
            code = "failed"
        case _:
            code = "internal"
    return {"code": code, "message": str(error) or type(error).__name__, "errno": number}
