"""The control files: which there are, who may use them, what they say. What writing to them does is `control_files`'.

A node is its path below /.tarbox, and its number a hash of that, so numbers are the same in every door and at any time;
what is remembered is only which path a number that was given out stands for. Files whose content cannot be known before
they are opened show no size. The owner is the root directory's: who may write there may make checkpoints, switch, and read
what changed anywhere.
"""

from __future__ import annotations

import errno
import json
import stat
from collections import Counter
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

from tarbox_core import access, listing, path
from tarbox_core import statements as sql
from tarbox_core.cache import Lru
from tarbox_core.columns import table
from tarbox_core.control_files import CommandFile, ControlDir, ControlFile, NewLayer, SwitchLayer, TextFile
from tarbox_core.directory import OpenDir
from tarbox_core.effects import Op, run
from tarbox_core.errors import FsError, LayerError
from tarbox_core.filesystem import Filesystem
from tarbox_core.handles import DirHandle
from tarbox_core.inode import found
from tarbox_core.layer import HEAD, Layer
from tarbox_core.types import NAME_MAX, R_OK, ROOT_INO, W_OK, Attr, Caller, Entry
from tarbox_core.viewing import Views

CONTROL: Final = 1 << 62
NAME: Final = b".tarbox"
_REMEMBERED: Final = 16384  # paths

Path = tuple[bytes, ...]
Text = Callable[["Nodes", Caller, Path], Op[bytes]]


def number(node: Path) -> int:
    """The inode number of a control node."""
    return CONTROL | int.from_bytes(blake2b(b"/".join(node), digest_size=8).digest(), "big") >> 2


ROOT: Final = number(())
LAYERS: Final = (b"layers",)
DIFF: Final = (b"layers", b"diff")
TREE: Final = (b"layers", b"tree")
HISTORY: Final = (b"history",)


class Kind(NamedTuple):
    """A kind of control file: one whose text is read, or one that takes commands. `secret`: it names what not everybody
    may see."""

    text: Text | None = None
    command: type[CommandFile] | None = None
    secret: bool = False


class Nodes:
    """The control files of one door."""

    def __init__(self, fs: Filesystem) -> None:
        self._fs = fs
        self._since = fs.session.clock()
        self._paths: Lru[int, Path] = Lru(_REMEMBERED)
        self._refusal = b""
        self.views = Views(fs, number(TREE), b"/".join((b"", NAME, *TREE, b"")))

    def path(self, ino: int) -> Path:
        """The path that a number stands for. ESTALE where it is not known any more."""
        node = _FIXED.get(ino) or self._paths.get(ino)
        if node is None and ino != ROOT:
            raise FsError(errno.ESTALE, ino)
        return node or ()

    def refused(self, node: Path, error: Exception) -> None:
        """Remember, for last_error, why something was refused."""
        text = f"{listing.utc(self._fs.session.clock())} {listing.quoted(b'/'.join(node)).decode()}: {error}\n"
        self._refusal = text.encode("utf-8", "backslashreplace")

    # --- attributes

    def look(self, caller: Caller, node: Path) -> Op[Attr]:
        """The attributes of what stands at a path; ENOENT, and what the words in it are refused for."""
        if node[:1] == HISTORY and len(node) > 1:
            return (yield from self._remembered(caller, node))
        root = yield from self.root()
        if node in _DIRECTORIES:
            return self._attr(node, stat.S_IFDIR | 0o555, root)
        kind = _kind(node)
        if kind is None:
            raise FsError(errno.ENOENT, node[-1])
        if node[:-1] == DIFF:
            yield from self._pair(node)
        writers = root.mode & 0o222
        mode = writers if kind.command else writers << 1 if kind.secret else 0o444
        return self._attr(node, stat.S_IFREG | mode, root)

    def root(self) -> Op[Attr]:
        rows = yield from run(sql.INODE(*self._fs.session.key, ROOT_INO))
        return found(rows[0], ROOT_INO)

    def _attr(self, node: Path, mode: int, like: Attr) -> Attr:
        """Node attributes with that mode, and the owner and times of another inode (those of the door, for the root's)."""
        ino = number(node)
        if ino not in _FIXED:
            self._paths.put(ino, node)
        atime, mtime, ctime = (self._since,) * 3 if like.ino == ROOT_INO else (like.atime, like.mtime, like.ctime)
        parent = (number(node[:-1]) if node else ROOT_INO) if stat.S_ISDIR(mode) else 0
        return Attr(ino, mode, like.uid, like.gid, 1, 0, 0, 0, atime, mtime, ctime, like.layer, parent)

    def lookup(self, caller: Caller, parent: int, name: bytes) -> Op[Attr]:
        """ENOENT, ENOTDIR, EACCES, ENAMETOOLONG; "." and ".." as everywhere."""
        node = self.path(parent)
        if name in (b".", b".."):
            node = node if name == b"." else node[:-1]
            return (yield from self.look(caller, node))
        if len(name) > NAME_MAX:
            raise FsError(errno.ENAMETOOLONG, name)
        if _kind(node) is not None and node[:1] != HISTORY:
            raise FsError(errno.ENOTDIR, name)
        if node == TREE:
            ino = yield from self.enter(name)
            return (yield from self.views.getattr(ino))
        return (yield from self.look(caller, (*node, name)))

    def enter(self, word: bytes) -> Op[int]:
        """The number of the root of a sealed layer's tree."""
        try:
            return (yield from self.views.enter(word))
        except LayerError as error:
            self.refused((*TREE, word), error)
            raise FsError(error.errno, word) from error

    def getattr(self, ino: int) -> Op[Attr]:
        return self.look(Caller(), self.path(ino))

    def access(self, caller: Caller, ino: int, mask: int) -> Op[None]:
        attr = yield from self.look(caller, self.path(ino))
        if mask & W_OK and self._fs.session.read_only:
            raise FsError(errno.EROFS, ino)
        access.require(caller, attr, mask)

    def listxattr(self, ino: int) -> Op[list[bytes]]:
        self.path(ino)
        yield from ()
        return []

    # --- opening

    def open(self, caller: Caller, ino: int, *, read: bool, write: bool) -> Op[ControlFile]:
        """EISDIR; EACCES for reading a command, or writing a text; EROFS; what its words are refused for."""
        node = self.path(ino)
        attr = yield from self.look(caller, node)
        kind = _kind(node)
        if attr.is_dir or kind is None:
            raise FsError(errno.EISDIR, ino)
        s = self._fs.session
        if write and s.read_only:
            raise FsError(errno.EROFS, ino)
        if s.enforce:
            access.require(caller, attr, (W_OK if write else R_OK) if kind.command else (R_OK if read else 0) | (W_OK if write else 0))
        if kind.command is not None:
            if not write:
                raise FsError(errno.EACCES, ino)
            return kind.command(attr, self._fs, lambda error: self.refused(node, error))
        if write or kind.text is None:
            raise FsError(errno.EACCES, ino)
        return TextFile(attr, (yield from kind.text(self, caller, node)))

    def opendir(self, caller: Caller, ino: int) -> Op[DirHandle]:
        node = self.path(ino)
        attr = yield from self.look(caller, node)
        if not attr.is_dir:
            raise FsError(errno.ENOTDIR, ino)
        s = self._fs.session
        if s.enforce:
            access.require(caller, attr, R_OK)
        if node[:1] == HISTORY:
            try:
                real = yield from path.resolve(s, caller, _real(node), follow=False)
            except FsError as error:
                if error.errno != errno.ENOENT:
                    raise
            else:
                return HistoryDir(self, node, OpenDir(s, real))
        above = ROOT_INO if not node else number(node[:-1])
        named = [(b".", ino, 4), (b"..", above, 4), *((yield from self._trees()) if node == TREE else _INSIDE.get(node, ()))]
        return ControlDir([Entry(name, child, kind, offset, None) for offset, (name, child, kind) in enumerate(named, 1)])

    def _trees(self) -> Op[list[tuple[bytes, int, int]]]:
        """Each sealed layer once: under its name, or, where it has none that fits, the beginning of its id."""
        sealed = [layer for layer in (yield from self._fs.layers()) if layer.sealed_at is not None]
        short = Counter(layer.short for layer in sealed)
        words = []
        for layer in sealed:
            word = (layer.name or "").encode()
            if not 0 < len(word) <= NAME_MAX:
                word = (layer.short if short[layer.short] == 1 else layer.id).encode()
            words.append((word, self.views.number(word, layer), 4))
        return words

    # --- layers

    def layers(self, caller: Caller, node: Path) -> Op[bytes]:
        layers = yield from self._fs.layers()
        return _text(table(listing.layer_rows(layers, _standing(self._fs, layers))))

    def layers_json(self, caller: Caller, node: Path) -> Op[bytes]:
        layers = yield from self._fs.layers()
        return _text([json.dumps(listing.layer_values(layers, _standing(self._fs, layers)), indent=2, ensure_ascii=False)])

    def current(self, caller: Caller, node: Path) -> Op[bytes]:
        """What the tree stands on: the layer's id and name, then the branch."""
        s = self._fs.session
        layer = yield from self._last()
        first = "no checkpoint yet" if layer is None else " ".join(filter(None, (layer.short, layer.name)))
        return _text([first, "read-only view" if s.view else f"branch {s.head}"])

    def _last(self) -> Op[Layer | None]:
        """The sealed layer that the door's tree stands on."""
        layer = yield from self._fs.current()
        if layer.sealed_at is not None:
            return layer
        return None if layer.parent_id is None else (yield from self._fs.layer(layer.parent_id))

    def _pair(self, node: Path) -> Op[tuple[str, str]]:
        """The two layers of <a>..<b>, which are there; without b it is the head."""
        try:
            first, dots, last = node[-1].decode("utf-8", "backslashreplace").partition("..")
            if not first or not dots:
                raise LayerError(errno.ENOENT, "which layers? <a>..<b>, or <a>.. for what has changed since")
            for word in (first, last or HEAD):
                yield from self._fs.layer(word)
            return first, last or HEAD
        except LayerError as error:
            self.refused(node, error)
            raise FsError(error.errno, node[-1]) from error

    def changes(self, caller: Caller, node: Path) -> Op[bytes]:
        words = yield from self._pair(node)
        return _text(listing.name_status((yield from self._fs.changes(*words))))

    # --- the door

    def stats(self, caller: Caller, node: Path) -> Op[bytes]:
        fs = self._fs
        layers = yield from fs.layers()
        last = yield from self._last()
        st = yield from fs.statfs()
        values = {
            "tenant": fs.tenant.name, "branch": fs.session.head, "layer": "-" if last is None else last.short,
            "layers": sum(layer.sealed_at is not None for layer in layers), "inodes": st.files - st.files_free, "bytes": st.total - st.free,
            "block_size": st.block_size, "dirty_bytes": fs.dirty_bytes(),
        }  # fmt: skip
        return _text([f"{key} {value}" for key, value in values.items()])

    def last_error(self, caller: Caller, node: Path) -> Op[bytes]:
        yield from ()
        return self._refusal

    # --- history: the tree once more, with each file's past in its place

    def _remembered(self, caller: Caller, node: Path) -> Op[Attr]:
        """What stands at a path of the tree; what stood there last is a secret."""
        try:
            return self.mirrored(node, (yield from path.resolve(self._fs.session, caller, _real(node), follow=False)))
        except FsError as error:
            if error.errno != errno.ENOENT:
                raise
        try:
            versions = yield from self._fs.history(_real(node), 2)  # the first of them is of the end
        except LayerError as error:
            self.refused(node, error)
            raise FsError(error.errno, node[-1]) from error
        root = yield from self.root()
        was_folder = any(version.attr is not None and version.attr.is_dir for version in versions)
        return self._attr(node, stat.S_IFDIR | 0o555 if was_folder else stat.S_IFREG | (root.mode & 0o222) << 1, root)

    def history(self, caller: Caller, node: Path) -> Op[bytes]:
        try:
            return _text(listing.history((yield from self._fs.history(_real(node)))))
        except LayerError as error:
            raise FsError(error.errno, node[-1]) from error

    def mirrored(self, node: Path, real: Attr) -> Attr:
        """A node of history/ is a directory where the tree has one, and may be read by whom that inode may be."""
        mode = stat.S_IFDIR | real.mode & 0o555 if real.is_dir else stat.S_IFREG | real.mode & 0o444
        return self._attr(node, mode, real)


class HistoryDir:
    """An open directory of history/: that of the tree, with other numbers."""

    def __init__(self, nodes: Nodes, node: Path, opened: OpenDir) -> None:
        self._nodes = nodes
        self._node = node
        self._opened = opened
        self.ino = number(node)

    def read(self, caller: Caller, offset: int, limit: int, *, plus: bool = True) -> Op[Sequence[Entry]]:
        entries = yield from self._opened.read(caller, offset, limit, plus=plus)
        return [self._shown(entry) for entry in entries]

    def _shown(self, entry: Entry) -> Entry:
        if entry.name in (b".", b".."):
            return entry._replace(ino=self.ino if entry.name == b"." else number(self._node[:-1]))
        node = (*self._node, entry.name)
        attr = None if entry.attr is None else self._nodes.mirrored(node, entry.attr)
        return entry._replace(ino=number(node), kind=4 if entry.kind == 4 else 8, attr=attr)


def _real(node: Path) -> bytes:
    """The path in the tree of a node of history/."""
    return b"/" + b"/".join(node[1:])


def _standing(fs: Filesystem, layers: Sequence[Layer]) -> int:
    """The stamp of the layer that a door writes to or shows, by what was just read: another door may have moved the head."""
    s = fs.session
    return s.layer if s.view else next((layer.stamp for layer in layers if layer.branch == s.head), s.layer)


def _text(lines: Sequence[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


_DIRECTORIES: Final[dict[Path, Sequence[bytes]]] = {
    (): (b"history", b"last_error", b"layers", b"stats"),
    LAYERS: (b"current", b"diff", b"list", b"list.json", b"new", b"switch", b"tree"),
    DIFF: (),
    TREE: (),
    HISTORY: (),
}
_FILES: Final[dict[Path, Kind]] = {
    (b"layers", b"new"): Kind(command=NewLayer),
    (b"layers", b"switch"): Kind(command=SwitchLayer),
    (b"layers", b"list"): Kind(Nodes.layers),
    (b"layers", b"list.json"): Kind(Nodes.layers_json),
    (b"layers", b"current"): Kind(Nodes.current),
    (b"stats",): Kind(Nodes.stats),
    (b"last_error",): Kind(Nodes.last_error),
}
_CHANGES: Final = Kind(Nodes.changes, secret=True)
_PAST: Final = Kind(Nodes.history)
_FIXED: Final = {number(node): node for node in (*_DIRECTORIES, *_FILES)}
_INSIDE: Final = {
    node: [(name, number((*node, name)), 4 if (*node, name) in _DIRECTORIES else 8) for name in names] for node, names in _DIRECTORIES.items()
}


def _kind(node: Path) -> Kind | None:
    """The kind of file that a path is or may be, None for none."""
    if node[:-1] == DIFF:
        return _CHANGES
    return _PAST if node[:1] == HISTORY and len(node) > 1 else _FILES.get(node)
