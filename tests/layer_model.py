"""A plain model of a tenant with layers: whole trees in memory, copied at each checkpoint, and what each verb of layers does or
refuses. It knows no stamps; not here: anything of Tarbox's but the error its doors raise, and the random choices (layer_machine.py).
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from typing import NamedTuple

MAIN = "main"
DIR, FILE, LINK, FIFO = 4, 8, 10, 1


class Refused(Exception):
    """What the model says of a verb that must fail: `errno` is the reason."""

    def __init__(self, number: int) -> None:
        super().__init__(errno.errorcode[number])
        self.errno = number


class Shown(NamedTuple):
    """What a name of a tree shows, times left out. `content`: of a file its bytes, of a symbolic link its target."""

    ino: int
    kind: int
    mode: int
    uid: int
    gid: int
    nlink: int
    content: bytes | None
    xattrs: dict[bytes, bytes]


@dataclass(eq=False)
class Node:
    """An inode."""

    ino: int
    kind: int
    mode: int = 0
    uid: int = 0
    gid: int = 0
    content: bytes = b""
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    entries: dict[bytes, Node] = field(default_factory=dict)


class Tree:
    """A tree by paths, which are absolute; the root is b"/"."""

    def __init__(self, root: Node) -> None:
        self.root = root

    def walk(self) -> Iterator[tuple[bytes, Node]]:
        """Every name with its inode, the root first."""
        stack = [(b"/", self.root)]
        while stack:
            path, node = stack.pop()
            yield path, node
            stack += [(path.rstrip(b"/") + b"/" + name, node.entries[name]) for name in sorted(node.entries, reverse=True)]

    def paths(self, *kinds: int) -> list[bytes]:
        return [path for path, node in self.walk() if node.kind in kinds]

    def at(self, path: bytes) -> Node:
        node = self.root
        for name in path.split(b"/"):
            node = node.entries[name] if name else node
        return node

    def parent(self, path: bytes) -> tuple[Node, bytes]:
        above, _, name = path.rpartition(b"/")
        return self.at(above), name

    def put(self, path: bytes, node: Node) -> None:
        folder, name = self.parent(path)
        folder.entries[name] = node

    def take(self, path: bytes) -> Node:
        folder, name = self.parent(path)
        return folder.entries.pop(name)

    def show(self) -> dict[bytes, Shown]:
        names: dict[int, int] = {}
        for _, node in self.walk():
            names[node.ino] = names.get(node.ino, 0) + 1
        shown = {}
        for path, node in self.walk():
            links = 2 + sum(child.kind == DIR for child in node.entries.values()) if node.kind == DIR else names[node.ino]
            content = bytes(node.content) if node.kind in (FILE, LINK) else None
            shown[path] = Shown(node.ino, node.kind, node.mode, node.uid, node.gid, links, content, dict(node.xattrs))
        return shown


@dataclass(eq=False)
class Layer:
    """A sealed layer, and the branch it was sealed on. `id` is what Tarbox calls it; `seen` what a door showed of that branch last,
    times included."""

    name: str | None
    parent: Layer | None
    tree: Tree
    automatic: bool
    branch: str
    id: str = ""
    seen: dict[bytes, tuple[Shown, tuple[int, ...]]] = field(default_factory=dict)


@dataclass(eq=False)
class Branch:
    """`base`: the sealed layer its open one rests on; `changed`: whether anything was, since."""

    name: str
    tree: Tree
    base: Layer | None
    changed: bool
    previous: Layer | None = None
    open_id: str = ""


class Model:
    """A tenant. A word for a layer is a Layer, a Branch (its open layer), "-", or any string, which is a name that no layer has."""

    def __init__(self, root: Node) -> None:
        self.layers: list[Layer] = []
        self.branches = {MAIN: Branch(MAIN, Tree(root), None, True)}

    def _seal(self, branch: Branch, name: str | None = None, automatic: bool = True) -> Layer:
        layer = Layer(name, branch.base, Tree(deepcopy(branch.tree.root)), automatic, branch.name)
        self.layers.append(layer)
        branch.base, branch.changed = layer, False
        return layer

    def _sealed(self, word: Layer | Branch | str) -> Layer:
        if isinstance(word, str):
            raise Refused(errno.ENOENT)
        if isinstance(word, Branch):
            raise Refused(errno.EINVAL)
        return word

    def checkpoint(self, branch: Branch, name: str | None, automatic: bool = False) -> Layer | None:
        if name is not None and any(layer.name == name for layer in self.layers):
            raise Refused(errno.EEXIST)
        if automatic and not branch.changed:
            return None
        return self._seal(branch, name, automatic)

    def switch(self, branch: Branch, word: Layer | Branch | str) -> tuple[Layer | None, Layer | None]:
        """The layer gone to (None: the open one, stayed at) and the one left (None where nothing was to do)."""
        if word is branch:
            return None, None
        if word == "-":
            if branch.previous is None:
                raise Refused(errno.ENOENT)
            word = branch.previous
        target = self._sealed(word)
        if not branch.changed and branch.base is target:
            return target, None
        left = self._seal(branch) if branch.changed else branch.base
        branch.previous = left or branch.previous
        branch.base, branch.changed, branch.tree = target, False, Tree(deepcopy(target.tree.root))
        return target, left

    def branch(self, branch: Branch, name: str, word: Layer | Branch | str) -> Branch:
        if name in self.branches:
            raise Refused(errno.EEXIST)
        if word is branch:
            if branch.changed:
                self._seal(branch)
            assert branch.base is not None
            word = branch.base
        target = self._sealed(word)
        self.branches[name] = Branch(name, Tree(deepcopy(target.tree.root)), target, False)
        return self.branches[name]

    def delete_branch(self, branch: Branch, name: str) -> Layer | None:
        if name not in self.branches:
            raise Refused(errno.ENOENT)
        if name in (MAIN, branch.name):
            raise Refused(errno.EBUSY)
        gone = self.branches.pop(name)
        return self._seal(gone) if gone.changed else None

    def rests(self, layer: Layer) -> list[Layer | Branch]:
        """What was begun on a layer."""
        return [*(above for above in self.layers if above.parent is layer), *(b for b in self.branches.values() if b.base is layer)]

    def delete(self, word: Layer | Branch | str) -> None:
        if isinstance(word, str):
            raise Refused(errno.ENOENT)
        if isinstance(word, Branch) or self.rests(word):
            raise Refused(errno.EBUSY)
        self._forget([word], None)

    def squash(self, first: Layer | Branch | str, last: Layer | Branch | str) -> list[Layer]:
        """The layers that went."""
        for word in (first, last):
            if isinstance(word, str):
                raise Refused(errno.ENOENT)
        start, end = self._sealed(first), self._sealed(last)
        chain = [end]
        while chain[-1] is not start:
            below = chain[-1].parent
            if below is None:
                raise Refused(errno.EINVAL)
            chain.append(below)
        if len(chain) == 1:
            raise Refused(errno.EINVAL)
        gone = chain[1:]
        if any(other not in chain for layer in gone for other in self.rests(layer)):
            raise Refused(errno.EBUSY)
        end.parent = start.parent
        self._forget(gone, end)
        return gone

    def _forget(self, gone: list[Layer], instead: Layer | None) -> None:
        self.layers = [layer for layer in self.layers if layer not in gone]
        for branch in self.branches.values():
            if branch.previous in gone:
                branch.previous = instead
