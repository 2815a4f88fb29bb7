"""The tree with its control files: /.tarbox is found in the root by name, is never listed, and cannot be made, moved or removed.

What a door opens for a tenant. A number says whom a verb concerns: the tree itself, a sealed layer (`viewing`), or a
control file (`control_nodes`); the tree's own verbs pay one comparison for it.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import NoReturn

from tarbox_core import access, making, path
from tarbox_core.control_nodes import CONTROL, NAME, ROOT, TREE, Nodes
from tarbox_core.control_nodes import Path as Node
from tarbox_core.effects import Op
from tarbox_core.errors import ENODATA, FsError, ScopeError
from tarbox_core.filesystem import Filesystem
from tarbox_core.handles import DirHandle, FileHandle
from tarbox_core.session import BLOCK_CACHE
from tarbox_core.types import ROOT_INO, X_OK, Attr, Caller, TenantInfo
from tarbox_core.viewing import VIEWS


def _refuse(ino: int, name: bytes | None = None) -> NoReturn:
    """A change beyond the tree itself: a sealed layer is read-only, and control files are what they are."""
    raise FsError(errno.EPERM if ino >= CONTROL else errno.EROFS, ino if name is None else name)


def _taken(parent: int, name: bytes) -> None:
    """Refuse what would make a name beyond the tree, or the reserved one."""
    if parent >= VIEWS:
        _refuse(parent, name)
    if parent == ROOT_INO and name == NAME:
        raise FsError(errno.EEXIST, name)


def _kept(parent: int, name: bytes) -> None:
    """Refuse what would take away a name beyond the tree, or the reserved one."""
    if parent >= VIEWS or (parent == ROOT_INO and name == NAME):
        _refuse(max(parent, CONTROL) if parent == ROOT_INO else parent, name)


class ControlledFilesystem(Filesystem):
    """A Filesystem with /.tarbox in its root."""

    def __init__(
        self,
        tenant: TenantInfo,
        clock: Callable[[], int],
        *,
        enforce: bool = True,
        read_only: bool = False,
        view: bool = False,
        audit: bool = True,
        audit_batch: int = 100,
        block_cache: int = BLOCK_CACHE,
        defer: bool = False,
    ) -> None:
        super().__init__(
            tenant, clock, enforce=enforce, read_only=read_only, view=view, audit=audit, audit_batch=audit_batch, block_cache=block_cache, defer=defer,
        )  # fmt: skip
        self._nodes = Nodes(self)
        self._views = self._nodes.views

    # --- names and attributes

    def lookup(self, caller: Caller, parent: int, name: bytes) -> Op[Attr]:
        if parent < VIEWS:
            if name == NAME and parent == ROOT_INO:
                return self._enter(caller)
            return super().lookup(caller, parent, name)
        if name == b".." and parent == ROOT:
            return super().getattr(ROOT_INO)
        return (self._nodes if parent >= CONTROL else self._views).lookup(caller, parent, name)

    def _enter(self, caller: Caller) -> Op[Attr]:
        if self.session.enforce:
            root = yield from self._nodes.root()
            access.require(caller, root, X_OK, NAME)
        return (yield from self._nodes.look(caller, ()))

    def getattr(self, ino: int) -> Op[Attr]:
        if ino < VIEWS:
            return super().getattr(ino)
        return (self._nodes if ino >= CONTROL else self._views).getattr(ino)

    def setattr(
        self,
        caller: Caller,
        ino: int,
        *,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        size: int | None = None,
        atime: int | None = None,
        mtime: int | None = None,
        ctime: int | None = None,
        kill_suid: bool = False,
    ) -> Op[Attr]:
        if ino < VIEWS:
            return super().setattr(
                caller, ino, mode=mode, uid=uid, gid=gid, size=size, atime=atime, mtime=mtime, ctime=ctime, kill_suid=kill_suid
            )
        if ino >= CONTROL and size is not None and (mode, uid, gid) == (None, None, None):
            return self._truncated(caller, ino)
        _refuse(ino)

    def _truncated(self, caller: Caller, ino: int) -> Op[Attr]:
        """What a shell's ">" does to a file that it opens."""
        opened = yield from self._nodes.open(caller, ino, read=False, write=True)
        return opened.attr()

    def access(self, caller: Caller, ino: int, mask: int) -> Op[None]:
        if ino < VIEWS:
            return super().access(caller, ino, mask)
        return (self._nodes if ino >= CONTROL else self._views).access(caller, ino, mask)

    def readlink(self, caller: Caller, ino: int) -> Op[bytes]:
        if ino < VIEWS:
            return super().readlink(caller, ino)
        if ino >= CONTROL:
            raise FsError(errno.EINVAL, ino)
        return self._views.readlink(caller, ino)

    def mknod(self, caller: Caller, parent: int, name: bytes, mode: int, rdev: int = 0) -> Op[Attr]:
        _taken(parent, name)
        return super().mknod(caller, parent, name, mode, rdev)

    def mkdir(self, caller: Caller, parent: int, name: bytes, mode: int) -> Op[Attr]:
        _taken(parent, name)
        return super().mkdir(caller, parent, name, mode)

    def symlink(self, caller: Caller, parent: int, name: bytes, target: bytes) -> Op[Attr]:
        _taken(parent, name)
        return super().symlink(caller, parent, name, target)

    def link(self, caller: Caller, ino: int, parent: int, name: bytes) -> Op[Attr]:
        _taken(parent, name)
        if ino >= VIEWS:
            raise FsError(errno.EXDEV, name)
        return super().link(caller, ino, parent, name)

    def unlink(self, caller: Caller, parent: int, name: bytes) -> Op[None]:
        _kept(parent, name)
        return super().unlink(caller, parent, name)

    def rmdir(self, caller: Caller, parent: int, name: bytes) -> Op[None]:
        _kept(parent, name)
        return super().rmdir(caller, parent, name)

    def rename(self, caller: Caller, parent: int, name: bytes, newparent: int, newname: bytes, flags: int = 0) -> Op[None]:
        _kept(parent, name)
        _taken(newparent, newname)
        return super().rename(caller, parent, name, newparent, newname, flags)

    # --- open files and directories

    def create(self, caller: Caller, parent: int, name: bytes, mode: int, *, exclusive: bool = False) -> Op[tuple[Attr, FileHandle]]:
        if parent < CONTROL:
            _taken(parent, name)
            return super().create(caller, parent, name, mode, exclusive=exclusive)
        return self._create(caller, parent, name, exclusive)

    def _create(self, caller: Caller, parent: int, name: bytes, exclusive: bool) -> Op[tuple[Attr, FileHandle]]:
        """No control file is ever made, but one that is there is opened."""
        try:
            attr = yield from self._nodes.lookup(caller, parent, name)
        except FsError as error:
            raise FsError(errno.EPERM if error.errno == errno.ENOENT else error.errno, name) from error
        if exclusive:
            raise FsError(errno.EEXIST, name)
        return attr, (yield from self._nodes.open(caller, attr.ino, read=False, write=True))

    def open(
        self, caller: Caller, ino: int, *, read: bool = True, write: bool = False, truncate: bool = False, kill_suid: bool = False
    ) -> Op[FileHandle]:
        if ino < VIEWS:
            return super().open(caller, ino, read=read, write=write, truncate=truncate, kill_suid=kill_suid)
        return (self._nodes if ino >= CONTROL else self._views).open(caller, ino, read=read, write=write or truncate)

    def opendir(self, caller: Caller, ino: int) -> Op[DirHandle]:
        if ino < VIEWS:
            return super().opendir(caller, ino)
        return (self._nodes if ino >= CONTROL else self._views).opendir(caller, ino)

    # --- extended attributes

    def getxattr(self, caller: Caller, ino: int, name: bytes) -> Op[bytes]:
        if ino < VIEWS:
            return super().getxattr(caller, ino, name)
        if ino >= CONTROL:
            raise FsError(ENODATA, name)
        return self._views.getxattr(caller, ino, name)

    def setxattr(self, caller: Caller, ino: int, name: bytes, value: bytes, flags: int = 0) -> Op[None]:
        if ino >= VIEWS:
            _refuse(ino, name)
        return super().setxattr(caller, ino, name, value, flags)

    def listxattr(self, caller: Caller, ino: int) -> Op[list[bytes]]:
        if ino < VIEWS:
            return super().listxattr(caller, ino)
        return self._nodes.listxattr(ino) if ino >= CONTROL else self._views.listxattr(caller, ino)

    def removexattr(self, caller: Caller, ino: int, name: bytes) -> Op[None]:
        if ino >= VIEWS:
            _refuse(ino, name)
        return super().removexattr(caller, ino, name)

    # --- path verbs

    def resolve(self, caller: Caller, path_: bytes, *, follow: bool = True) -> Op[Attr]:
        return making.settling(self.session, self._resolve(caller, path_, follow=follow), every=True)

    def resolve_parent(self, caller: Caller, path_: bytes) -> Op[tuple[Attr, bytes]]:
        return making.settling(self.session, self._resolve_parent(caller, path_), every=True)

    def _resolve(self, caller: Caller, path_: bytes, *, follow: bool) -> Op[Attr]:
        try:
            return (yield from path.resolve(self.session, caller, path_, follow=follow, reserved=NAME))
        except path.Reserved as there:
            attr = yield from self._walk(caller, there.rest, follow=follow)
        if path_.endswith(b"/") and not attr.is_dir:
            raise FsError(errno.ENOTDIR, path_)
        return attr

    def _resolve_parent(self, caller: Caller, path_: bytes) -> Op[tuple[Attr, bytes]]:
        folder, name = path.split_last(path_)
        attr = yield from self._resolve(caller, folder, follow=True)
        if not attr.is_dir:
            raise FsError(errno.ENOTDIR, path_)
        return attr, name

    def _walk(self, caller: Caller, names: list[bytes], *, follow: bool) -> Op[Attr]:
        """On from /.tarbox. In a sealed layer that layer's root is what absolute links begin at."""
        node: Node = ()
        if self.session.scope:  # nothing there but that directory as of a layer
            if tuple(names[: len(TREE)]) != TREE or names[len(TREE) : len(TREE) + 1] in ([], [b".."]):
                raise ScopeError(errno.EACCES, b"/".join((b"", NAME, *names)))
            path.require(self.session, names[len(TREE) + 1 :], b"/" + b"/".join(names[len(TREE) + 1 :]))
        attr = yield from self._enter(caller)
        while names:
            name, *names = names
            if not attr.is_dir:
                raise FsError(errno.ENOTDIR, name)
            if name == b"..":
                if not node:
                    return (yield from self._resolve(caller, b"/" + b"/".join(names), follow=follow))
                node = node[:-1]
            elif node == TREE:
                root = yield from self._nodes.enter(name)
                try:
                    return (yield from self._views.resolve(caller, root, b"/" + b"/".join(names), follow=follow))
                except path.Reserved as above:
                    names = above.rest
            else:
                node = (*node, name)
            attr = yield from self._nodes.look(caller, node)
        return attr
