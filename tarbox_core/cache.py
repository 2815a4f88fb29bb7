"""What a session remembers of the database: blocks by hash, directories, and the names inodes were last seen under.

Bounded, and the only such memory; the doors keep none. Blocks can never be stale, because a hash names one content.
Names serve the audit's paths alone, never an answer to a caller.
"""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

from tarbox_core.types import ROOT_INO, Attr

K = TypeVar("K")
V = TypeVar("V")


class Lru(Generic[K, V]):
    """A mapping that forgets what was used longest ago once its weight passes `limit`.

    Safe between threads: what leaves or enters the dict does so by one atomic operation, whose result says what to add
    to the weight or take from it. A race costs an entry, never a wrong value, and the weight never drifts.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.weight = 0
        self._items: dict[K, tuple[V, int]] = {}

    def get(self, key: K) -> V | None:
        item = self._items.pop(key, None)
        if item is None:
            return None
        if self._items.setdefault(key, item) is not item:  # another thread has put a newer one
            self.weight -= item[1]
        return item[0]

    def put(self, key: K, value: V, weight: int = 1) -> None:
        self.drop(key)
        item = (value, weight)
        if self._items.setdefault(key, item) is item:
            self.weight += weight
        while self.weight > self.limit:
            try:
                oldest = next(iter(self._items))
            except (StopIteration, RuntimeError):
                return  # empty, or another thread is at it
            self.drop(oldest)

    def keys(self) -> list[K]:
        return list(self._items)

    def drop(self, key: K) -> None:
        item = self._items.pop(key, None)
        if item is not None:
            self.weight -= item[1]

    def clear(self) -> None:
        self._items.clear()
        self.weight = 0


class Names:
    """inode -> (parent, name), as lookups and changes of this session showed them."""

    def __init__(self, limit: int = 65536) -> None:
        self._names: Lru[int, tuple[int, bytes]] = Lru(limit)
        self.root = b""  # the path of the root, where that is not "/"

    def saw(self, ino: int, parent: int, name: bytes) -> None:
        self._names.put(ino, (parent, name))

    def drop(self, ino: int) -> None:
        self._names.drop(ino)

    def inos(self) -> list[int]:
        return self._names.keys()

    def places(self) -> list[tuple[int, bytes]]:
        """The directories and names themselves."""
        return [seen for ino in self.inos() if (seen := self.of(ino)) is not None]

    def of(self, ino: int) -> tuple[int, bytes] | None:
        """The directory and name it was last seen under."""
        return self._names.get(ino)

    def path(self, ino: int, name: bytes | None = None) -> str | None:
        """The path of an inode, or of a name in it; None where a link of the chain was forgotten."""
        parts = [] if name is None else [name]
        for _ in range(4096):
            if ino == ROOT_INO:
                parts.append(self.root)
                return b"/".join(reversed(parts)).decode("utf-8", "backslashreplace") or "/"
            seen = self._names.get(ino)
            if seen is None:
                return None
            ino, part = seen
            parts.append(part)
        return None


class Content(NamedTuple):
    """What the row of a regular file says of its content (`inode.FileRow`)."""

    inline: bytes | None
    packed: bytes | None


class Seen(NamedTuple):
    """An inode, when it was seen, and under which name, as far as that was looked at."""

    attr: Attr
    when: int
    place: tuple[int, bytes] | None
    content: Content | None = None


class Recent:
    """Inodes as this session last saw them, for a moment. Of directories what the session itself did to them is known, for after
    each new name the kernel asks for its directory again."""

    KEPT_FOR = 10**9  # ns

    def __init__(self, limit: int = 16384) -> None:
        self._seen: Lru[int, Seen] = Lru(limit)
        self._named: Lru[tuple[int, bytes], tuple[int, int]] = Lru(limit)  # what a name stood for, and when

    def saw(self, attr: Attr, now: int, place: tuple[int, bytes] | None = None, content: Content | None = None) -> None:
        """`place`: the directory and name that it was found at. Contents weigh by their size."""
        if place is None:
            before = self._seen.get(attr.ino)
            place = None if before is None else before.place
        else:
            self._named.put(place, (attr.ino, now))
        weight = 1 if content is None or content.inline is None else 1 + len(content.inline) // 128
        self._seen.put(attr.ino, Seen(attr, now, place, content), weight)

    def added(self, ino: int, now: int, links: int) -> None:
        """This session added a name to a directory, and as many links to it."""
        seen = self._seen.get(ino)
        if seen is not None:
            attr = seen.attr
            self._seen.put(ino, seen._replace(attr=attr._replace(mtime=now, ctime=now, nlink=attr.nlink + links)))

    def changed(self, *inos: int) -> None:
        for ino in inos:
            self._seen.drop(ino)

    def inos(self) -> list[int]:
        return self._seen.keys()

    def last(self, ino: int) -> Attr | None:
        """However long ago."""
        seen = self._seen.get(ino)
        return None if seen is None else seen.attr

    def now(self, ino: int, now: int) -> Attr | None:
        seen = self._seen.get(ino)
        return seen.attr if seen is not None and now - seen.when < self.KEPT_FOR else None

    def content(self, ino: int) -> Content | None:
        """Of what was just found with `now` or `below`."""
        seen = self._seen.get(ino)
        return None if seen is None else seen.content

    def below(self, parent: int, name: bytes, now: int) -> Attr | None:
        """What was found at a name, unless it was changed since: its own number is among what taking the name from it changes."""
        ino, when = self._named.get((parent, name)) or (0, 0)
        seen = self._seen.get(ino)
        if seen is None or seen.place != (parent, name) or now - min(when, seen.when) >= self.KEPT_FOR:
            return None
        return seen.attr
