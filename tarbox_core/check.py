"""fsck and gc, as operations that return what they found and did."""

from __future__ import annotations

import errno
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace

from tarbox_core import check_statements as sql
from tarbox_core import layer, layer_check, packing_statements, texts
from tarbox_core import statements as tree
from tarbox_core.content import inline_max
from tarbox_core.delta.codec import apply, unpack_whole
from tarbox_core.delta.text import count_lines
from tarbox_core.effects import Op, Query, finish, many, run
from tarbox_core.errors import DeltaError, FsError
from tarbox_core.filesystem import Filesystem
from tarbox_core.hashing import digests
from tarbox_core.session import Session
from tarbox_core.types import ROOT_INO, Caller

PAGE = 64  # blocks hashed at once
TEXTS = 16  # read at once
LOST_AND_FOUND = b"lost+found"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be. `kind` is a word for scripts, `text` a sentence for people; `repaired`
    says what was done about it, or is None."""

    kind: str
    ino: int
    text: str
    repaired: str | None = None


@dataclass(frozen=True, slots=True)
class Swept:
    """What gc removed."""

    blocks: int
    bytes: int  # of blocks and texts
    unlinked: int
    strays: int
    texts: int = 0


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


class _Fsck:
    def __init__(self, s: Session, repair: bool) -> None:
        self.s = s
        self.repair = repair
        self.findings: list[Finding] = []

    def found(self, kind: str, ino: int, text: str, repaired: str, *queries: Query) -> Op[None]:
        """Report, and mend with these statements where repairing."""
        if self.repair and queries:
            if ino and queries[0].statement not in (tree.DENTRY_DROP, tree.INODE_REAP):
                yield from run(tree.INODE_COPY_UP(*self.s.key, ino))
            yield from run(*queries)
        self.findings.append(Finding(kind, ino, text, repaired if self.repair and queries else None))

    def structure(self) -> Op[None]:
        s = self.s
        for parent, name, ino in (yield from many(sql.DANGLING(*s.key))):
            text = f"the name {_text(name)} in directory {parent} stands for inode {ino}, which does not exist or is not linked"
            yield from self.found("dangling-name", ino, text, "removed the name", tree.DENTRY_DROP(*s.key, parent, name))
        for ino, mode in (yield from many(sql.NAMELESS(*s.key))):
            yield from self._nameless(ino, mode)
        for parent, name, ino, kind, real in (yield from many(sql.KINDS(*s.key))):
            text = f"the name {_text(name)} in directory {parent} says type {kind}, inode {ino} is of type {real}"
            yield from self.found("wrong-type", 0, text, "corrected the name", tree.DENTRY_PUT(s.tenant, s.layer, parent, name, ino, real))
        for ino, parent, real in (yield from many(sql.PARENTS(*s.key))):
            text = f"directory {ino} lies in {real} but takes {parent} for its parent"
            set_parent = tree.INODE_SET(s.tenant, s.layer, ino, None, None, None, None, None, None, real)
            yield from self.found("wrong-parent", ino, text, "corrected the parent", set_parent)
        for ino, links, real in (yield from many(sql.LINKS(*s.key))):
            text = f"inode {ino} counts {links} links and has {real}"
            yield from self.found("wrong-links", ino, text, "corrected the count", sql.SET_LINKS(s.tenant, s.layer, ino, real))

    def unlinked(self) -> Op[None]:
        """What nobody can have open and is still stored. In sealed layers that is no damage: gc takes it."""
        s = self.s
        for (ino,) in (yield from many(sql.UNLINKED(*s.key))) if s.alone else ():
            if ino not in s.files:
                yield from self.found("unlinked", ino, f"inode {ino} is unlinked and still stored", "removed it", tree.INODE_REAP(*s.key, ino))

    def _nameless(self, ino: int, mode: int) -> Op[None]:
        """Give it a name in /lost+found, which is made where it is missing."""
        s = self.s
        queries: list[Query] = []
        if self.repair:
            rows = yield from many(tree.CHILD(*s.key, ROOT_INO, LOST_AND_FOUND))
            now = s.clock()
            if rows:
                folder = rows[0][0]
            else:
                folder = yield from s.take_number()
                yield from run(
                    tree.INODE_COPY_UP(*s.key, ROOT_INO),
                    tree.DENTRY_PUT(s.tenant, s.layer, ROOT_INO, LOST_AND_FOUND, folder, 4),
                    tree.INODE_PUT(s.tenant, s.layer, folder, stat.S_IFDIR | 0o700, 0, 0, 2, 0, 0, 0, now, ROOT_INO, None, None),
                    tree.INODE_TOUCH(s.tenant, s.layer, ROOT_INO, now, 1),
                )
            queries.append(tree.DENTRY_PUT(s.tenant, s.layer, folder, b"#%d" % ino, ino, mode >> 12))
        text = f"inode {ino} has no name"
        yield from self.found("nameless", ino, text, f"named it /lost+found/#{ino}", *queries)

    def layers(self) -> Op[None]:
        """Whether layers and branches agree with each other, and the rows with them."""
        for trouble in (yield from layer_check.look(self.s)):
            yield from self.found(trouble.kind, 0, trouble.text, trouble.repaired, *trouble.repair)

    def content(self) -> Op[None]:
        s = self.s
        for ino, size, inline in (yield from many(sql.CONTENT(*s.key, inline_max(s.block_size)))):
            held = "none" if inline is None else f"{inline} bytes"
            yield from self.found("wrong-content", ino, f"inode {ino} of {size} bytes has {held} of inline content", "")
        for ino, place in (yield from many(sql.PAST_END(*s.key, s.block_size))):
            text = f"inode {ino} has blocks behind its end, from block {place} on"
            yield from self._cut(ino, place, text)
        for ino, stored, real in (yield from many(sql.STORED(*s.key, s.block_size))):
            text = f"inode {ino} says it stores {stored} bytes and stores {real}"
            yield from self.found("wrong-blocks", ino, text, "corrected the number", sql.SET_STORED(s.tenant, s.layer, ino, real))

    def references(self) -> Op[None]:
        """Of all layers: content without its file, and files without their content."""
        s = self.s
        for ino, stamp, place in (yield from many(sql.MISSING(s.tenant))):
            text = f"block {place} of inode {ino} (layer {layer_check.stamp_text(stamp)}) is missing; reading it fails"
            yield from self.found("missing-block", ino, text, "")
        strays = yield from many(sql.STRAYS(s.tenant))
        for (ino,) in strays:
            text = f"extents or attributes of inode {ino}, which does not exist"
            yield from self.found("stray", 0, text, "removed them", sql.STRAYS_DROP(s.tenant, [ino]))

    def _cut(self, ino: int, place: int, text: str) -> Op[None]:
        s = self.s
        chunk, kept = divmod(place, tree.CHUNK_BLOCKS)
        queries = [tree.EXTENT_CUT(*s.key, ino, chunk + 1 if kept else chunk)]
        if kept:
            rows = yield from many(tree.EXTENTS(*s.key, ino, [chunk]))
            queries.append(tree.EXTENT_PUT(s.tenant, s.layer, ino, [chunk], [rows[0][1][: kept * 32]]))
        yield from self.found("past-end", ino, text, "cut them off", *queries)

    def blocks(self, progress: Callable[[int], None]) -> Op[None]:
        """Hash every block of the tenant."""
        s = self.s
        after = b""
        while rows := (yield from many(sql.BLOCK_PAGE(s.tenant, after, PAGE))):
            for (name, data), digest in zip(rows, digests([data for _, data in rows]), strict=True):
                if digest != name:
                    users = yield from many(sql.BLOCK_USERS(s.tenant, name))
                    where = ", ".join(str(ino) for ino, _ in users) or "no inode"
                    text = f"block {name.hex()} ({len(data)} bytes) does not match its hash; used by {where}"
                    yield from self.found("corrupt-block", users[0][0] if users else 0, text, "")
            after = rows[-1][0]
            progress(len(rows))

    def texts(self) -> Op[None]:
        """Rebuild every text of the tenant."""
        s = self.s
        for ino, stamp in (yield from many(sql.TEXTLESS(s.tenant))):
            text = f"the text of inode {ino} (layer {layer_check.stamp_text(stamp)}) is missing; reading it fails"
            yield from self.found("missing-text", ino, text, "")
        after = b""
        while rows := (yield from many(sql.TEXT_PAGE(s.tenant, after, TEXTS))):
            for row in rows:
                name, wrong = row[0], (yield from self._wrong(*row))
                if wrong:
                    user = (yield from many(sql.TEXT_USER(s.tenant, name)))[0][0]
                    used = f"used by {user}" if user else "used by other texts, or none"
                    yield from self.found("corrupt-text", user or 0, f"text {name.hex()} {wrong}; {used}", "")
            after = rows[-1][0]

    def _wrong(self, name: bytes, size: int, lines: int, base: bytes | None, fits: bool, data: bytes) -> Op[str]:
        """What is wrong with a text; nothing where all is well."""
        if not fits:
            return "leans on one that is missing, or counts wrongly how much it leans on"
        try:
            text = unpack_whole(data) if base is None else apply((yield from texts.read(self.s, base, 0)), data)
        except DeltaError as error:
            return f"cannot be rebuilt: {error}"
        except FsError:
            return "leans on one that cannot be rebuilt"
        if digests([text]) != [name]:
            return "does not match its hash"
        texts.keep(self.s, name, text)
        return "" if (len(text), count_lines(text)) == (size, lines) else "has another size or other lines than it says"


def fsck(
    fs: Filesystem, *, repair: bool = False, layers: bool = False, progress: Callable[[int], None] = lambda blocks: None
) -> Op[list[Finding]]:
    """Look at how layers and branches stand, at the whole tree of this one, at every block and every text; with `layers` also at
    the trees of the other branches and of every sealed layer. Findings in the order of the checks, none where all is well.

    `repair` mends names, counts and extents in the same transaction, while no other change to the tenant runs. Lost
    and corrupt blocks and texts cannot be mended: they are named with the inodes that use them; nor is what is wrong
    in a sealed layer. `progress` is told of blocks as they are hashed.
    """
    s = fs.session
    check = _Fsck(s, repair)
    if repair:
        if s.read_only:
            raise FsError(errno.EROFS)
        yield from s.exclude_all()
    yield from check.texts()  # with the plans for single keys
    yield from run(sql.WHOLE(), sql.JOINING())
    yield from check.layers()
    if repair:
        yield from layer.refresh(s)
    yield from check.structure()
    yield from check.unlinked()
    yield from check.content()
    yield from check.references()
    yield from check.blocks(progress)
    if layers:
        yield from _others(fs, check)
    mended = [f for f in check.findings if f.repaired]
    if mended:
        yield from run(*s.record(Caller(), "fsck", ROOT_INO, "/", metadata={"repaired": len(mended)}))
    return check.findings


def _others(fs: Filesystem, check: _Fsck) -> Op[None]:
    """The tree of each sealed layer and of the other branches; what several of them see is told of the first."""
    known = {(found.kind, found.text) for found in check.findings}
    for other in (yield from layer.listing(fs.session)):
        if other.stamp == fs.session.layer:
            continue
        seen = yield from layer.visible(fs.session, other)
        inside = _Fsck(fs.look(replace(fs.tenant, layer=other.stamp, visible=seen)).session, repair=False)
        yield from inside.structure()
        yield from inside.content()
        where = f"on branch {other.branch}" if other.branch else f"in layer {other.label}"
        for found in inside.findings:
            if (found.kind, found.text) not in known:
                known.add((found.kind, found.text))
                check.findings.append(replace(found, text=f"{where}: {found.text}"))


def gc(fs: Filesystem) -> Op[Swept]:
    """Remove blocks and texts that no layer names, unlinked inodes that nobody can have open, and strays. No mutation of
    the tenant runs meanwhile."""
    s = fs.session
    if s.read_only:
        raise FsError(errno.EROFS)
    yield from s.exclude_all(sql.WHOLE(), sql.JOINING())
    unlinked = yield from _reap_anywhere(s)
    strays = [ino for (ino,) in (yield from many(sql.STRAYS(s.tenant)))]
    if strays:
        yield from run(sql.STRAYS_DROP(s.tenant, strays))
    rows = yield from finish(
        packing_statements.EXTENTS_SWEEP(s.tenant),
        sql.TEXTS_DROP(s.tenant),
        sql.UNREFERENCED_DROP(s.tenant),
        *s.record(Caller(), "gc", ROOT_INO, "/", metadata={"unlinked": unlinked, "strays": len(strays)}),
    )
    (dropped, text_bytes), (blocks, size) = rows[1][0], rows[2][0]
    s.blocks.clear()
    return Swept(blocks, size + text_bytes, unlinked, len(strays), dropped)


def _reap_anywhere(s: Session) -> Op[int]:
    """Remove unlinked inodes from all layers; how many rows. Again where that leaves a younger layer's row nothing to hide."""
    count = 0
    while s.alone:
        found = yield from many(sql.UNLINKED_ANYWHERE(s.tenant))
        unlinked = [(ino, stamp, visible) for ino, stamp, visible in found if ino not in s.files]
        if not unlinked:
            break
        yield from run(*(tree.INODE_REAP(s.tenant, stamp, visible, ino) for ino, stamp, visible in unlinked))
        count += len(unlinked)
    return count


def reap(fs: Filesystem) -> Op[int]:
    """Remove what was unlinked while a door that is gone had it open; how many. For the first mount of a tenant."""
    s = fs.session
    if s.read_only or not s.alone:
        return 0
    inos = [ino for (ino,) in (yield from many(sql.UNLINKED(*s.key))) if ino not in s.files]
    if inos:
        yield from s.begin()
        yield from finish(*(tree.INODE_REAP(*s.key, ino) for ino in inos))
    return len(inos)
