"""Random operations, checkpoints, switches, branches, squashes and deletions on Tarbox beside `layer_model`. After each step the tree of
the branch it was done on and that of some sealed layer must be what the model says, and the list of layers too.

A machine's doors are given by the test (`make_scene`): the same steps go through the core or a mount. Hypothesis drives it by
its rules, and makes what it finds small; `walk` drives it far, by plain random choices.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar

from hypothesis import currently_in_test_context, note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.layer_model import DIR, FIFO, FILE, LINK, MAIN, Branch, Layer, Model, Node, Refused, Shown, Tree

Seen = dict[bytes, tuple[Shown, tuple[int, ...]]]  # what a tree shows, by path, and the times

R = TypeVar("R")

NAMES = [b"a", b"b", b"c", b"d", b"e", b"\xff \n"]
LAYER_NAMES = ["one", "two", "three words are fine", "\u00e9t\u00e9"]
BRANCHES = ["side", "other"]
MANY = 14  # names in a tree, about: more are not made
LINES = [b"alpha\n", b"beta beta\n", b"\n", b"gamma " * 30 + b"\n", b"delta\n"]

chances = st.randoms(use_true_random=False)


class Listed(NamedTuple):
    """A line of the list of layers. Ids are whole; `branch` is the one that writes to it."""

    id: str
    name: str | None
    parent: str | None
    automatic: bool
    branch: str | None


class Door(Protocol):
    """A way into a branch of the tenant. Verbs that are refused raise something with an `errno`."""

    branch: str
    behind: bool  # another door may have moved the head since this one looked

    def refresh(self) -> None: ...
    def mkdir(self, path: bytes, mode: int) -> None: ...
    def mkfifo(self, path: bytes, mode: int) -> None: ...
    def create(self, path: bytes, mode: int) -> None: ...
    def symlink(self, target: bytes, path: bytes) -> None: ...
    def write(self, path: bytes, data: bytes, offset: int) -> None: ...
    def truncate(self, path: bytes, size: int) -> None: ...
    def unlink(self, path: bytes) -> None: ...
    def rmdir(self, path: bytes) -> None: ...
    def rename(self, old: bytes, new: bytes) -> None: ...
    def link(self, old: bytes, new: bytes) -> None: ...
    def chmod(self, path: bytes, mode: int) -> None: ...
    def chown(self, path: bytes, uid: int, gid: int) -> None: ...
    def setxattr(self, path: bytes, name: bytes, value: bytes | None) -> None: ...
    def show(self) -> Seen: ...
    def look(self, word: str) -> Seen: ...
    def layers(self) -> list[Listed]: ...
    def checkpoint(self, name: str | None, automatic: bool) -> str | None: ...
    def switch(self, word: str) -> None: ...
    def make_branch(self, name: str, word: str) -> None: ...
    def delete_branch(self, name: str) -> None: ...
    def delete_layer(self, word: str) -> None: ...
    def squash(self, first: str, last: str) -> None: ...
    def gc(self) -> None:
        """Pack, then collect."""

    def close(self) -> None: ...


class Scene(Protocol):
    """A tenant of its own for one run."""

    def open_doors(self, branch: str) -> list[Door]: ...
    def finish(self) -> None:
        """fsck, and the end of the tenant."""


class LayerMachine(RuleBasedStateMachine):
    make_scene: Callable[[], Scene]

    @initialize()
    def begin(self) -> None:
        self.done: list[str] = []
        self.scene = type(self).make_scene()
        self.doors = {MAIN: self.scene.open_doors(MAIN)}
        door = self.doors[MAIN][0]
        root = door.show()[b"/"][0]
        self.model = Model(Node(root.ino, DIR, root.mode, root.uid, root.gid))
        self.acted = door  # the door of the last step
        self.number = 0
        self.shown: dict[str, Any] = {}  # by branch, what was shown of it last
        self.listed = True  # something may have changed the list of layers
        self.compare()

    # --- helpers

    def say(self, text: str) -> None:
        self.done.append(text)
        if currently_in_test_context():
            note(text)

    def door(self, chance: random.Random, *, looks: bool = True) -> tuple[Door, Branch]:
        """The door of the next step. `looks`: it must know where its head stands."""
        branch = chance.choice([MAIN, MAIN, *self.doors])
        door = chance.choice(self.doors[branch])
        if looks and door.behind:
            door.refresh()
            door.behind = False
        self.acted = door
        return door, self.model.branches[branch]

    def both(self, model: Callable[[], R], door: Callable[[], object]) -> tuple[bool, R | None]:
        """A verb on the model and on a door, which must agree whether it is refused, and why. Whether it was done."""
        self.listed = True
        try:
            expected = model()
        except Refused as refused:
            try:
                door()
            except Exception as error:
                number = getattr(error, "errno", None)
                if number is None:
                    raise
                assert number == refused.errno, f"refused with {error!r} instead of {refused}"
                self.done[-1] += f": {refused}"
                return False, None
            raise AssertionError(f"not refused, though the model says {refused}") from None
        door()
        return True, expected

    def moved(self, branch: str, by: Door) -> None:
        for door in self.doors[branch]:
            door.behind = door.behind or door is not by

    def changed(self, branch: Branch) -> None:
        branch.changed = True

    def new_path(self, chance: random.Random, tree: Tree, within: bytes | None = None) -> bytes | None:
        """A name that is free, not below `within`; None where there is none in the directory that was drawn."""
        folders = [p for p in tree.paths(DIR) if within is None or not (p + b"/").startswith(within + b"/")]
        folder = chance.choice(folders)
        free = [name for name in NAMES if name not in tree.at(folder).entries]
        return folder.rstrip(b"/") + b"/" + chance.choice(free) if free and folder.count(b"/") < 4 else None

    def some(self, chance: random.Random, tree: Tree, *kinds: int) -> bytes | None:
        paths = [p for p in tree.paths(*kinds) if p != b"/"]
        return chance.choice(paths) if paths else None

    def word(self, chance: random.Random) -> tuple[Layer | Branch | str, str]:
        """A word for a layer: what the model takes and what a door takes."""
        named: list[Layer | Branch | str] = [*self.model.layers, *self.model.layers[-3:], *self.model.layers[-3:]]
        named += [*self.model.branches.values(), "nowhere"]
        word = chance.choice(named)
        if isinstance(word, Layer):
            return word, chance.choice([word.id, word.name or word.id])
        return (word, word.open_id) if isinstance(word, Branch) else (word, word)

    # --- the tree

    @rule(chance=chances)
    def make(self, chance: random.Random) -> None:
        door, branch = self.door(chance)
        path = self.new_path(chance, branch.tree)
        if path is None or sum(1 for _ in branch.tree.walk()) > MANY:
            return
        kind, mode = chance.choice([DIR, DIR, FILE, FILE, FILE, LINK, FIFO]), chance.choice([0o755, 0o640, 0o777, 0o600])
        self.say(f"{door.branch}: make {path!r} of kind {kind}")
        target = b"to/" + path
        if kind == LINK:
            door.symlink(target, path)
            mode = 0o777
        else:
            {DIR: door.mkdir, FILE: door.create, FIFO: door.mkfifo}[kind](path, mode)
        # Its number is known when the tree is shown next.
        branch.tree.put(path, Node(0, kind, mode, content=target if kind == LINK else b""))
        if kind == FILE and chance.random() < 0.7:
            self._write(door, branch, path, 0, self.content(chance))
        self.changed(branch)

    def content(self, chance: random.Random) -> bytes:
        if chance.random() < 0.3:
            return bytes([chance.randrange(256)]) * chance.choice([1, 100, 4096, 4097, 9000, 150_000])
        return b"".join(chance.choice(LINES) for _ in range(chance.choice([1, 40, 150, 400])))

    def _write(self, door: Door, branch: Branch, path: bytes, offset: int, data: bytes) -> None:
        self.say(f"{door.branch}: write {len(data)} bytes at {offset} of {path!r}")
        door.write(path, data, offset)
        node = branch.tree.at(path)
        node.content = node.content[:offset].ljust(offset, b"\0") + data + node.content[offset + len(data) :]
        self.changed(branch)

    @rule(chance=chances)
    def write(self, chance: random.Random) -> None:
        door, branch = self.door(chance)
        path = self.some(chance, branch.tree, FILE)
        if path is None:
            return
        size = len(branch.tree.at(path).content)
        offset = chance.choice([0, size, size // 2, size + chance.choice([1, 5000])])
        self._write(door, branch, path, offset, self.content(chance))

    @rule(chance=chances)
    def edit(self, chance: random.Random) -> None:
        """As an editor saves: the new text under a new name, then renamed over the old. What was no text becomes one."""
        door, branch = self.door(chance)
        path = self.some(chance, branch.tree, FILE)
        if path is None:
            return
        old = branch.tree.at(path).content[:50_000]
        lines = old.splitlines(keepends=True) if b"\0" not in old and b"\n" in old else [chance.choice(LINES) for _ in range(200)]
        place = chance.randrange(len(lines) + 1)
        lines[place : place + chance.randrange(3)] = [b"edited %d\n" % chance.randrange(1000)]
        beside = path + b".new"
        self.say(f"{door.branch}: edit {path!r}")
        door.create(beside, 0o644)
        branch.tree.put(beside, Node(0, FILE, 0o644))
        self._write(door, branch, beside, 0, b"".join(lines))
        door.rename(beside, path)
        branch.tree.put(path, branch.tree.take(beside))

    @rule(chance=chances)
    def truncate(self, chance: random.Random) -> None:
        door, branch = self.door(chance)
        path = self.some(chance, branch.tree, FILE)
        if path is None:
            return
        node = branch.tree.at(path)
        size = chance.choice([0, len(node.content) // 2, len(node.content) + chance.choice([1, 7000])])
        if size == len(node.content):
            return
        self.say(f"{door.branch}: truncate {path!r} to {size}")
        door.truncate(path, size)
        node.content = node.content[:size].ljust(size, b"\0")
        self.changed(branch)

    @rule(chance=chances)
    def remove(self, chance: random.Random) -> None:
        door, branch = self.door(chance)
        path = self.some(chance, branch.tree, DIR, FILE, LINK, FIFO)
        if path is None or branch.tree.at(path).entries:
            return
        self.say(f"{door.branch}: remove {path!r}")
        (door.rmdir if branch.tree.take(path).kind == DIR else door.unlink)(path)
        self.changed(branch)

    @rule(chance=chances)
    def rename(self, chance: random.Random) -> None:
        door, branch = self.door(chance)
        old = self.some(chance, branch.tree, DIR, FILE, LINK, FIFO)
        if old is None:
            return
        node = branch.tree.at(old)
        new = self.new_path(chance, branch.tree, old) if chance.random() < 0.6 else self.some(chance, branch.tree, node.kind)
        if new is None or (new + b"/").startswith(old + b"/") or (old + b"/").startswith(new + b"/"):
            return
        there = next((n for path, n in branch.tree.walk() if path == new), None)
        if there is node or (there is not None and there.entries):
            return
        self.say(f"{door.branch}: rename {old!r} to {new!r}")
        door.rename(old, new)
        branch.tree.put(new, branch.tree.take(old))
        self.changed(branch)

    @rule(chance=chances)
    def link(self, chance: random.Random) -> None:
        door, branch = self.door(chance)
        old, new = self.some(chance, branch.tree, FILE, LINK), self.new_path(chance, branch.tree)
        if old is None or new is None:
            return
        self.say(f"{door.branch}: link {old!r} as {new!r}")
        door.link(old, new)
        branch.tree.put(new, branch.tree.at(old))
        self.changed(branch)

    @rule(chance=chances)
    def attributes(self, chance: random.Random) -> None:
        door, branch = self.door(chance)
        path = chance.choice(branch.tree.paths(DIR, FILE))
        node = branch.tree.at(path)
        if chance.random() < 0.5:
            node.mode = chance.choice([0o700, 0o755, 0o644, 0o1777 if node.kind == DIR else 0o600])
            self.say(f"{door.branch}: chmod {path!r} {node.mode:o}")
            door.chmod(path, node.mode)
        else:
            node.uid, node.gid = chance.choice([0, 7]), chance.choice([0, 8])
            self.say(f"{door.branch}: chown {path!r} {node.uid}:{node.gid}")
            door.chown(path, node.uid, node.gid)
        self.changed(branch)

    @rule(chance=chances)
    def xattr(self, chance: random.Random) -> None:
        door, branch = self.door(chance)
        path, name = chance.choice(branch.tree.paths(DIR, FILE)), chance.choice([b"user.a", b"user.b"])
        held = branch.tree.at(path).xattrs
        value = None if name in held and chance.random() < 0.5 else chance.choice([b"", b"x", b"y" * 300])
        self.say(f"{door.branch}: xattr {name!r} of {path!r}: {value!r:.20}")
        door.setxattr(path, name, value)
        if value is None:
            del held[name]
        else:
            held[name] = value
        self.changed(branch)

    # --- layers

    @rule(chance=chances)
    def checkpoint(self, chance: random.Random) -> None:
        door, branch = self.door(chance, looks=chance.random() < 0.5)
        name, automatic = chance.choice([None, None, *LAYER_NAMES]), chance.random() < 0.2
        self.say(f"{door.branch}: checkpoint {name!r}{', automatic' if automatic else ''}")
        self.both(lambda: self.model.checkpoint(branch, name, automatic), lambda: door.checkpoint(name, automatic))
        door.behind = False
        self.moved(branch.name, door)

    @rule(chance=chances)
    def switch(self, chance: random.Random) -> None:
        door, branch = self.door(chance, looks=chance.random() < 0.5)
        target, word = ("-", "-") if chance.random() < 0.3 else self.word(chance)
        self.say(f"{door.branch}: switch {word}")
        done, _ = self.both(lambda: self.model.switch(branch, target), lambda: door.switch(word))
        if done:
            door.behind = False
            self.moved(branch.name, door)

    @rule(chance=chances)
    def make_branch(self, chance: random.Random) -> None:
        door, branch = self.door(chance, looks=chance.random() < 0.5)
        name = chance.choice(BRANCHES)
        target, word = self.word(chance)
        self.say(f"{door.branch}: branch {name} from {word}")
        done, _ = self.both(lambda: self.model.branch(branch, name, target), lambda: door.make_branch(name, word))
        if done:
            self.doors[name] = self.scene.open_doors(name)
            self.shown[name] = self.doors[name][0].show()
            self.moved(branch.name, door)

    @rule(chance=chances)
    def delete_branch(self, chance: random.Random) -> None:
        door, branch = self.door(chance)
        name = chance.choice([*BRANCHES, MAIN, "nowhere"])
        self.say(f"{door.branch}: delete branch {name}")
        done, _ = self.both(lambda: self.model.delete_branch(branch, name), lambda: door.delete_branch(name))
        if done:
            for gone in self.doors.pop(name):
                gone.close()

    @rule(chance=chances)
    def delete_layer(self, chance: random.Random) -> None:
        door, _ = self.door(chance, looks=chance.random() < 0.5)
        target, word = self.word(chance)
        self.say(f"{door.branch}: delete {word}")
        self.both(lambda: self.model.delete(target), lambda: door.delete_layer(word))

    @rule(chance=chances)
    def squash(self, chance: random.Random) -> None:
        door, _ = self.door(chance, looks=chance.random() < 0.5)
        last, end = self.word(chance)
        first, start = self.word(chance)
        if isinstance(last, Layer) and chance.random() < 0.8:  # a run of some length
            first = last
            for _ in range(chance.randrange(1, 5)):
                first = first.parent or first
            start = first.id
        self.say(f"{door.branch}: squash {start}..{end}")
        self.both(lambda: self.model.squash(first, last), lambda: door.squash(start, end))

    @rule(chance=chances)
    def gc(self, chance: random.Random) -> None:
        door, _ = self.door(chance)
        self.say(f"{door.branch}: pack and gc")
        door.gc()

    # --- the whole

    @invariant()
    def compare(self) -> None:
        door, branch = self.acted, self.model.branches[self.acted.branch]
        if self.listed:
            self.compare_layers(door)
        if door.behind:
            door.refresh()
            door.behind = False
        shown = door.show()
        self.compare_trees(branch.tree, shown, branch.name)
        self.shown[branch.name] = shown
        self.number += 1
        if self.model.layers:
            layer = self.model.layers[self.number * 7 % len(self.model.layers)]
            self.compare_layer(door, layer)

    def compare_layer(self, door: Door, layer: Layer) -> None:
        seen, was = door.look(layer.id), layer.seen
        assert seen == was, f"layer {layer.id} ({layer.name}) is not what it was when it was sealed: " + "; ".join(
            f"{path!r} is {seen.get(path)!s:.300}, was {was.get(path)!s:.300}" for path in sorted(seen.keys() | was.keys()) if seen.get(path) != was.get(path)
        )

    def compare_trees(self, tree: Tree, shown: Seen, what: str) -> None:
        for path, node in tree.walk():
            if node.ino == 0 and path in shown:
                node.ino = shown[path][0].ino
        expected = tree.show()
        found = {path: entry for path, (entry, _) in shown.items()}
        assert found == expected, f"{what}: " + "; ".join(
            f"{path!r} is {found.get(path)!s:.300}, should be {expected.get(path)!s:.300}"
            for path in sorted(found.keys() | expected.keys()) if found.get(path) != expected.get(path)
        )  # fmt: skip

    def compare_layers(self, door: Door) -> None:
        """The list of layers, and from it the ids of those that were sealed since."""
        self.listed = False
        listed = door.layers()
        sealed = [layer for layer in listed if layer.branch is None]
        known = {layer.id for layer in self.model.layers}
        fresh = [layer for layer in self.model.layers if not layer.id]
        unknown = [layer.id for layer in sealed if layer.id not in known]
        assert len(fresh) == len(unknown) < 2
        for layer, ident in zip(fresh, unknown, strict=True):
            layer.id = ident
            layer.seen = self.shown[layer.branch]
        expected = {Listed(y.id, y.name, y.parent.id if y.parent else None, y.automatic, None) for y in self.model.layers}
        assert set(sealed) == expected
        opened = {layer.branch: layer for layer in listed if layer.branch is not None}
        bases = {name: branch.base.id if branch.base else None for name, branch in self.model.branches.items()}
        assert {name: layer.parent for name, layer in opened.items()} == bases
        for name, layer in opened.items():
            self.model.branches[name].open_id = layer.id

    def teardown(self) -> None:
        if hasattr(self, "model"):
            try:
                for door in self.doors[MAIN]:
                    self.acted = door
                    door.behind = True
                    self.compare()
                for layer in self.model.layers:
                    self.compare_layer(door, layer)
            finally:
                self.scene.finish()


# How often each step is taken on a long walk.
WEIGHTS = {
    "make": 8, "write": 7, "edit": 10, "truncate": 3, "remove": 2, "rename": 4, "link": 2, "attributes": 3, "xattr": 3,
    "checkpoint": 7, "switch": 5, "make_branch": 2, "delete_branch": 2, "delete_layer": 3, "squash": 4, "gc": 3,
}  # fmt: skip


def walk(machine: type[LayerMachine], seed: int, steps: int) -> LayerMachine:
    """That many random steps, and the check of everything at the end."""
    chance = random.Random(seed)
    walker = machine()
    walker.begin()
    try:
        for _ in range(steps):
            getattr(walker, chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0])(chance)
            walker.compare()
    except BaseException as error:
        error.add_note(f"seed {seed}, step {len(walker.done)}; the last steps:\n" + "\n".join(walker.done[-40:]))
        raise
    walker.teardown()
    return walker
