"""Sealed layers beside a door's own tree: each is a read-only Filesystem whose inode numbers are moved out of the tree's way.

A view is a layer under one of the words for it. Its nodes are numbered VIEWS | view << 44 | inode, so a number says by
itself where it belongs; the Filesystems behind the views come and go. Whatever is asked of a view asks first whether its
layer is still there, because a squash takes a layer's rows apart.
"""

from __future__ import annotations

import errno
import itertools
from collections.abc import Sequence
from typing import Final

from tarbox_core import path
from tarbox_core.cache import Lru
from tarbox_core.effects import Op
from tarbox_core.errors import FsError, LayerError
from tarbox_core.filesystem import Filesystem
from tarbox_core.handles import DirHandle, FileHandle
from tarbox_core.layer import Layer
from tarbox_core.types import ROOT_INO, Attr, Caller, Entry

VIEWS: Final = 1 << 61
_SHIFT: Final = 44
_INO: Final = (1 << _SHIFT) - 1
_VIEWS_MAX: Final = 1 << 17
_KEPT: Final = 64  # Filesystems


class View:
    """One layer's tree, and what its inodes are called outside."""

    def __init__(self, fs: Filesystem, base: int, above: int) -> None:
        self.fs = fs
        self._base = base
        self._above = above  # the number of the directory that its root stands in

    def attr(self, attr: Attr) -> Attr:
        parent = self._above if attr.ino == ROOT_INO else attr.parent and self._base | attr.parent
        return attr._replace(ino=self._base | attr.ino, parent=parent)

    def entry(self, entry: Entry, folder: int) -> Entry:
        if entry.name == b".." and folder == self._base | ROOT_INO:
            return entry._replace(ino=self._above)
        return entry._replace(ino=self._base | entry.ino, attr=None if entry.attr is None else self.attr(entry.attr))


class Views:
    """The views of one door. `above` is the number of the directory that they stand in, `prefix` its path."""

    def __init__(self, fs: Filesystem, above: int, prefix: bytes) -> None:
        self._fs = fs
        self._above = above
        self._prefix = prefix
        self._next = itertools.count()
        self._numbers: dict[tuple[bytes, str], int] = {}  # by word and the layer's id
        self._words: dict[int, tuple[bytes, str]] = {}
        self._views: Lru[int, View] = Lru(_KEPT)

    def number(self, word: bytes, layer: Layer) -> int:
        """The number of a view's root. ENFILE after 131,072 of them."""
        key = (word, layer.id)
        view = self._numbers.get(key)
        if view is None:
            view = next(self._next)
            if view >= _VIEWS_MAX:
                raise FsError(errno.ENFILE, word)
            self._words[view] = key
            view = self._numbers.setdefault(key, view)
        return VIEWS | view << _SHIFT | ROOT_INO

    def enter(self, word: bytes) -> Op[int]:
        """The number of the root of the sealed layer that the word means; LayerError."""
        layer = yield from self._fs.layer(word.decode("utf-8", "backslashreplace"))
        if layer.sealed_at is None:
            raise LayerError(errno.ENOENT, f"layer {layer.label} is still written to: it can be looked at once it is sealed")
        return self.number(word, layer)

    def resolve(self, caller: Caller, ino: int, path_: bytes, *, follow: bool) -> Op[Attr]:
        """Where an absolute path leads in a view, whose root is "/" to it. path.Reserved where ".." leads out of it."""
        view = yield from self.of(ino)
        return view.attr((yield from path.resolve(view.fs.session, caller, path_, follow=follow, reserved=b"..")))

    def of(self, ino: int) -> Op[View]:
        """The view a number belongs to. ESTALE where its layer is gone."""
        number = (ino ^ VIEWS) >> _SHIFT
        known = self._words.get(number)
        if known is None:
            raise FsError(errno.ESTALE, ino)
        word, ident = known
        view = self._views.get(number)
        try:
            if view is not None:
                yield from self._fs.layer(ident)
                return view
            seen = yield from self._fs.view(ident)
        except LayerError as error:
            raise FsError(errno.ESTALE, ino) from error
        view = View(self._fs.look(seen), VIEWS | number << _SHIFT, self._above)
        view.fs.session.names.root = self._prefix + word
        self._views.put(number, view)
        return view

    # --- verbs, as the facade has them

    def lookup(self, caller: Caller, parent: int, name: bytes) -> Op[Attr]:
        view = yield from self.of(parent)
        return view.attr((yield from view.fs.lookup(caller, parent & _INO, name)))

    def getattr(self, ino: int) -> Op[Attr]:
        view = yield from self.of(ino)
        return view.attr((yield from view.fs.getattr(ino & _INO)))

    def access(self, caller: Caller, ino: int, mask: int) -> Op[None]:
        view = yield from self.of(ino)
        yield from view.fs.access(caller, ino & _INO, mask)

    def readlink(self, caller: Caller, ino: int) -> Op[bytes]:
        view = yield from self.of(ino)
        return (yield from view.fs.readlink(caller, ino & _INO))

    def getxattr(self, caller: Caller, ino: int, name: bytes) -> Op[bytes]:
        view = yield from self.of(ino)
        return (yield from view.fs.getxattr(caller, ino & _INO, name))

    def listxattr(self, caller: Caller, ino: int) -> Op[list[bytes]]:
        view = yield from self.of(ino)
        return (yield from view.fs.listxattr(caller, ino & _INO))

    def open(self, caller: Caller, ino: int, *, read: bool, write: bool) -> Op[FileHandle]:
        view = yield from self.of(ino)
        return SeenFile(view, (yield from view.fs.open(caller, ino & _INO, read=read, write=write)))

    def opendir(self, caller: Caller, ino: int) -> Op[DirHandle]:
        view = yield from self.of(ino)
        return SeenDir(self, ino, (yield from view.fs.opendir(caller, ino & _INO)))


class SeenFile:
    """An open file of a sealed layer. It never changes, so whatever would change it is refused by the file itself (EROFS)."""

    direct = False
    moves_head = False
    stale = False
    dirty = False

    def __init__(self, view: View, opened: FileHandle) -> None:
        self._view = view
        self._opened = opened
        self.ino = self.attr().ino

    @property
    def keep_cache(self) -> bool:
        return self._opened.keep_cache

    def attr(self) -> Attr:
        return self._view.attr(self._opened.attr())

    def read(self, caller: Caller, offset: int, size: int, *, final: bool = True) -> Op[bytes]:
        return self._opened.read(caller, offset, size, final=final)

    def write(self, caller: Caller, offset: int, data: bytes | memoryview, *, append: bool = False, kill_suid: bool = False) -> Op[int]:
        return self._opened.write(caller, offset, data, append=append, kill_suid=kill_suid)

    def truncate(self, caller: Caller, size: int, *, kill_suid: bool = False) -> Op[None]:
        return self._opened.truncate(caller, size, kill_suid=kill_suid)

    def fallocate(self, caller: Caller, mode: int, offset: int, length: int) -> Op[None]:
        return self._opened.fallocate(caller, mode, offset, length)

    def seek(self, caller: Caller, offset: int, whence: int) -> Op[int]:
        return self._opened.seek(caller, offset, whence)

    def flush(self, caller: Caller) -> Op[None]:
        return self._opened.flush(caller)

    def fsync(self, caller: Caller) -> Op[None]:
        return self._opened.fsync(caller)

    def release(self, caller: Caller) -> Op[None]:
        return self._opened.release(caller)


class SeenDir:
    """An open directory of a sealed layer."""

    def __init__(self, views: Views, ino: int, opened: DirHandle) -> None:
        self._views = views
        self._opened = opened
        self.ino = ino

    def read(self, caller: Caller, offset: int, limit: int, *, plus: bool = True) -> Op[Sequence[Entry]]:
        view = yield from self._views.of(self.ino)
        entries = yield from self._opened.read(caller, offset, limit, plus=plus)
        return [view.entry(entry, self.ino) for entry in entries]
