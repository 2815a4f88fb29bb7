"""Open regular files: reading, and gathering writes. Storing what was gathered is `storing`'s, truncation and holes are `space`'s.

One OpenFile stands for an inode however often it is open in this session. Writes gather in memory and are stored, as
one transaction, by flush, fsync, the last release or when they grow past FLUSH_AT. The doors let several threads read
an OpenFile, or one do anything else.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from tarbox_core import access, audit, lines, making, space, storing, texts
from tarbox_core import statements as sql
from tarbox_core.content import Pieces, chunk_of, hash_at
from tarbox_core.effects import Op, Query, Rows, finish, run
from tarbox_core.errors import FsError, RetryableError
from tarbox_core.inode import Change, FileRow, changed, file_row, found
from tarbox_core.session import Ranges, Session
from tarbox_core.types import HOLE, R_OK, W_OK, Attr, Caller

FLUSH_AT = 8 << 20  # bytes gathered in one file
AHEAD = 1 << 20  # bytes fetched beyond a sequential read


class OpenFile:
    """A regular file in use: what is stored of it, as far as this session has seen, and what is yet to be stored."""

    direct = False
    moves_head = False

    def __init__(self, s: Session, generation: int, row: FileRow, new: making.New | None = None) -> None:
        self._s = s
        self.generation = generation  # the tree it belongs to
        self.operations: list[str] = []  # what was done to a new file, for the audit
        self.new = new  # it is not stored at all yet, and `stored` is what it will be without its content
        self.ino = row.attr.ino
        self.stored = row.attr
        self.whole = row.inline  # the stored content, where it is in one piece: of a small file, or of a packed one that was read
        self.packed = row.packed
        self.chunks: dict[int, bytes] = {}  # hashes of the chunks seen so far
        self.known = True  # all these belong to `stored`
        self.pieces = Pieces(s.block_size)
        self.cut: lines.Was | None = None  # what it held before it was cut to nothing, until something is written
        self.mtime = 0  # of the pieces; it may have been set, to any time
        self.changed = 0  # when a piece was last gathered
        self.tried = False  # to store the new file was begun, so it may be there
        self.late = False  # its mode, owner or times changed while another thread stored it as a new file
        self.killed = False  # a write took the set-uid bits
        self.refs = 0
        self.keep_cache = False  # what a kernel has of its pages from the last open is what is stored
        self.mixed = False  # another door wrote to it meanwhile
        self.closing = False  # the last open was released and only storing is left
        self.dirty_since = 0
        self.written = 0  # bytes since the last flush, for the audit
        self.writer: Caller | None = None  # whose these are: a flush in the background or a release is nobody's
        self._reads: deque[int] = deque()
        self._reader: Caller | None = None
        self._next = 0  # where a sequential reader goes on

    # --- the tree it belongs to

    @property
    def stale(self) -> bool:
        """Another tree stands where this file's stood: it can be read as it was, and no longer changed."""
        return self.generation != self._s.at.generation

    @property
    def key(self) -> tuple[int, int, Ranges]:
        return self._s.key_of(self.generation)

    def require_current(self) -> None:
        """ESTALE for a change to a file of a tree that is gone; what was still to be stored of it is lost."""
        if self.stale:
            self.new = None
            self.pieces.clear()
            self.killed = self.late = False
            raise FsError(errno.ESTALE, self.ino)

    def require_there(self, ctime: int | None) -> None:
        """ESTALE for a file of a tree that stays as it is, where its stored row, behind what was read of its content, says that it
        is older than it was, or there is none: the layer that held it was removed."""
        if (self.stale or self._s.view) and (ctime is None or ctime < self.stored.ctime):
            raise FsError(errno.ESTALE, self.ino)

    # --- attributes

    @property
    def size(self) -> int:
        return max(self.stored.size, self.pieces.end)

    @property
    def dirty(self) -> bool:
        return bool(self.pieces) or self.new is not None or self.killed or self.late or self.pieces.end > self.stored.size

    @property
    def unlinked(self) -> bool:
        return self.stored.nlink == 0

    def attr(self) -> Attr:
        """The attributes with the gathered writes' effect."""
        if not self.dirty:
            return self.stored
        mode = access.without_suid(self.stored.mode) if self.killed else self.stored.mode
        mtime = self.mtime or self.stored.mtime
        return self.stored._replace(mode=mode, size=self.size, mtime=mtime, ctime=max(self.changed, self.stored.ctime))

    def overlay(self, attr: Attr) -> Attr:
        """Take note of attributes just read, where they are newer; what a caller should see."""
        if self.new is None and attr.ctime > self.stored.ctime:
            if (attr.size, attr.mtime) != (self.stored.size, self.stored.mtime):
                self.known = False
            self.stored = attr
        return self.attr()

    def doubt(self) -> None:
        """Another door changed it: look again before the next read."""
        if self.new is None:
            self.known = False

    def counts(self, nlink: int) -> None:
        """How many names it has, as far as this session can tell."""
        self.stored = self.stored._replace(nlink=max(0, nlink))

    # --- reading

    def read(self, caller: Caller, offset: int, size: int, *, final: bool = True) -> Op[bytes]:
        """Up to `size` bytes from `offset`; fewer only at the end of the file. `final`: the transaction may end with it."""
        yield from self.look()
        end = min(offset + size, self.size)
        if offset >= end:
            return b""
        ahead = offset == self._next and size < AHEAD // 2  # who asks for more reads ahead without our help
        self._next = end
        self._count_read(caller, end - offset)
        needed = self.pieces.uncovered(offset, end)
        base = (yield from self._fetch(needed, ahead=ahead, send=finish if final else run)) if needed else {}
        return self.pieces.read(offset, end, base)

    def _count_read(self, caller: Caller, size: int) -> None:
        """For the audit, a record for each user. Several threads may read: each step on the queue is one that no other
        can split."""
        last, self._reader = self._reader, caller
        if last is not None and last.uid != caller.uid:
            self._note_reads(last)
        self._reads.append(size)
        if len(self._reads) > 1024:
            self._reads.append(self._read_bytes())

    def _note_reads(self, caller: Caller) -> None:
        if size := self._read_bytes():
            self._s.note(caller, "read", self.ino, self._s.names.path(self.ino), size=size)

    def _read_bytes(self) -> int:
        total = 0
        while True:
            try:
                total += self._reads.popleft()
            except IndexError:
                return total

    def look(self) -> Op[None]:
        """Read its row, where another door may have changed it."""
        if self.known:
            return
        rows = yield from run(sql.INODE_FULL(*self.key, self.ino))
        self.require_there(file_row(rows[0], self.ino).attr.ctime if rows[0] else None)
        self.saw(file_row(rows[0], self.ino))

    def saw(self, row: FileRow) -> None:
        self.stored, self.whole, self.packed = row
        self.chunks = {}
        self.known = True

    def refresh(self, row: FileRow) -> None:
        """The row as another open has just read it."""
        attr = row.attr
        if attr.ctime >= self.stored.ctime and (attr.size, attr.mtime, attr.ctime) != (self.stored.size, self.stored.mtime, self.stored.ctime):
            self.saw(row)

    def _fetch(self, needed: list[int], *, ahead: bool, send: Callable[..., Op[list[Rows]]]) -> Op[dict[int, bytes]]:
        """Stored blocks by their place, and what a sequential reader will want next into the cache. EIO where one is lost."""
        s = self._s
        if self.packed is not None and self.whole is None:
            self.whole = yield from texts.read(s, self.packed, self.ino, send)
        whole = self.whole
        if whole is not None:
            return {index: whole[index * s.block_size : (index + 1) * s.block_size] for index in needed}
        if ahead:
            last = (self.stored.size - 1) // s.block_size
            needed = [*needed, *range(needed[-1] + 1, min(needed[-1] + AHEAD // s.block_size, last) + 1)]
        base: dict[int, bytes] = {}
        if all(chunk_of(index) in self.chunks for index in needed):
            lacking: dict[bytes, list[int]] = {}
            for index in needed:
                digest = hash_at(self.chunks, index)
                if digest != HOLE:
                    data = s.blocks.get(digest)
                    if data is None:
                        lacking.setdefault(digest, []).append(index)
                    else:
                        base[index] = data
            if not lacking:
                return base
            rows = (yield from send(sql.BLOCKS(s.tenant, list(lacking))))[0]
            for digest, data in rows:
                s.blocks.put(digest, data, len(data))
                for index in lacking.pop(digest):
                    base[index] = data
            if lacking:  # another door rewrote the file and gc took the old blocks: see how it stands now
                self.known = False
                raise RetryableError("40001", "the file changed")
            return base
        chunks = sorted({chunk_of(index) for index in needed})
        key = self.key
        extents, blocks, packed = yield from send(
            sql.EXTENTS(*key, self.ino, chunks), sql.BLOCKS_AT(*key, self.ino, needed), sql.INODE_PACKED(*key, self.ino)
        )
        is_packed, ctime = packed[0] if packed else (False, None)
        self.require_there(ctime)
        if is_packed or ctime != self.stored.ctime:
            # Packed meanwhile, or changed: each of the statements saw what was committed when it began, so together they may
            # have seen a mixture.
            self.known = False
            raise RetryableError("40001", "the file changed")
        self.chunks.update(dict.fromkeys(chunks, b""))
        self.chunks.update(extents)
        for index, digest, data in blocks:
            s.blocks.put(digest, data, len(data))
            base[index] = data
        for index in needed:
            if index not in base and hash_at(self.chunks, index) != HOLE:
                raise FsError(errno.EIO, self.ino)
        return base

    # --- writing

    def write(
        self, caller: Caller, offset: int, data: bytes | memoryview, *, append: bool = False, kill_suid: bool = False
    ) -> Op[int]:
        """Gather bytes; how many were taken. An append is stored at once where other doors are: two of them may append to one
        file. EFBIG beyond the tenant's largest size, EROFS."""
        if self._s.read_only:
            raise FsError(errno.EROFS, self.ino)
        self.require_current()
        if append and not self._s.alone and self.new is None:
            return (yield from self._append(caller, data, kill_suid))
        if len(self.pieces) * self._s.block_size >= FLUSH_AT:
            yield from self.flush(caller)  # may be run again, and what follows must not
        if append:
            yield from self.look()
            offset = self.size
        return self._gather(caller, offset, data, kill_suid)

    def _append(self, caller: Caller, data: bytes | memoryview, kill_suid: bool) -> Op[int]:
        """Write behind the end as it is now, whoever else appends, and store that in the same transaction."""
        end = yield from self.look_again()
        taken = self._gather(caller, end, data, kill_suid)
        try:
            yield from self.flush(caller)
        except BaseException:  # it may be run again
            self.pieces.cut(end)
            self.written -= taken
            raise
        return taken

    def _gather(self, caller: Caller, offset: int, data: bytes | memoryview, kill_suid: bool) -> int:
        room = self._s.max_file_size - offset
        if room <= 0 and len(data):
            raise FsError(errno.EFBIG, self.ino)
        data = data[:room]
        if not data:
            return 0
        if not self.dirty:
            self.dirty_since = self._s.clock()
        self.pieces.write(offset, data)
        self.mtime = self.changed = self._s.clock()
        self.killed = self.killed or (kill_suid and access.without_suid(self.stored.mode) != self.stored.mode)
        self.written += len(data)
        self.writer = caller
        return len(data)

    @property
    def lingers(self) -> bool:
        """It may be closed without being stored. The door stores it soon."""
        return self._s.lingers and self.new is not None

    def forget(self) -> None:
        """Let go of what was gathered and is not stored."""
        self.pieces.clear()
        self.killed = False
        self.written, self.writer = 0, None

    def look_again(self) -> Op[int]:
        """Take the file as it is stored now, whoever wrote it by whatever clock, and as it stays until this transaction ends; its
        size, where an append goes. For a door that nobody tells of changes."""
        s = self._s
        rows = yield from s.begin(sql.INODE_FULL(*s.key, self.ino), exclusive=(s.inode_lock(self.ino),))
        self.require_current()
        self.saw(file_row(rows[0], self.ino))
        return self.size

    def flush(self, caller: Caller) -> Op[None]:
        """Store what was gathered: visible to every door when it returns."""
        return storing.flush(self._s, self, caller)

    def change(self, caller: Caller, change: Change) -> Attr:
        """chmod, chown and utimens of a new file."""
        self.stored = changed(self._s, caller, self.stored, change)
        if change.mtime is not None:
            self.mtime = self.stored.mtime
        self.operations.append(change.operation)
        return self.attr()

    def settled(self, then: Attr | None = None) -> None:
        """The new file is stored, its content perhaps not. `then`: what was stored of it, where that was not under this
        file's lock; what changed since is still to be stored."""
        if self.new is not None:
            self.late = then is not None and then is not self.stored
            self._s.waiting.pop((self.new.parent, self.new.name), None)
            self.new = None
            self.operations = []

    def content_put(self, attr: Attr, inline: bytes | None) -> Query:
        s = self._s
        return sql.INODE_CONTENT(s.tenant, s.layer, self.ino, attr.size, attr.blocks, inline, attr.mode, attr.mtime, attr.ctime)

    def was_stored(self, attr: Attr, inline: bytes | None, chunks: dict[int, bytes]) -> None:
        """The transaction committed: this is what is stored now, and nothing is left to store."""
        same = self.known and inline is None and self.whole is None and attr.size >= self.stored.size
        chunks = (self.chunks | chunks) if same else chunks
        self.saw(FileRow(attr, inline))
        self.chunks = chunks
        self.pieces.clear()
        if self.cut is not None and self.cut.size <= FLUSH_AT:  # else the next flush replaces more of it
            self.cut = None
        self.killed = self.late = False
        self.written, self.writer = 0, None
        self.settled()
        if self.closing:
            self._s.closed(self)

    def require_kept(self, rows: Rows) -> Attr:
        """The inode as stored, when it is no older than what this session stored. EIO, once, when the server crashed and
        lost that: commits are asynchronous, so a writer must learn of it at the latest from its fsync."""
        then = self.stored
        if not rows and not self.unlinked:
            raise FsError(errno.EIO, self.ino)
        row = found(rows, self.ino)
        if not self.late and row.ctime < then.ctime and (row.size, row.mtime) != (then.size, then.mtime):
            self.saw(file_row(rows, self.ino))
            raise FsError(errno.EIO, self.ino)
        return row

    def fsync(self, caller: Caller) -> Op[None]:
        """Store what was gathered and harden it, with all that was committed before. To be run with durable=True."""
        if self._s.read_only:
            return
        self.require_current()
        if self.dirty:
            yield from self.flush(caller)
        else:
            s = self._s
            record = s.record(caller, "fsync", self.ino, s.names.path(self.ino))
            rows = yield from finish(sql.INODE_FULL(*s.key, self.ino), *record)
            self.require_kept(rows[0])

    # --- extent

    def truncate(self, caller: Caller, size: int, *, kill_suid: bool = False) -> Op[None]:
        self.require_current()
        return making.settling(self._s, space.truncate(self._s, self, caller, size, kill_suid=kill_suid), ino=self.ino)

    def fallocate(self, caller: Caller, mode: int, offset: int, length: int) -> Op[None]:
        self.require_current()
        return making.settling(self._s, space.fallocate(self._s, self, caller, mode, offset, length), ino=self.ino)

    def seek(self, caller: Caller, offset: int, whence: int) -> Op[int]:
        return making.settling(self._s, space.seek(self._s, self, offset, whence), ino=self.ino)

    # --- the end of an open

    def release(self, caller: Caller) -> Op[None]:
        """One open less. The last one stores what is left, and removes a file that has no name any more.

        Where storing fails the file stays in the session's table with what it holds, for `dirty_files` to try again.
        """
        s = self._s
        self._note_reads(self._reader or caller)
        if not self.mixed and not self.dirty and not self.stale:
            s.versions.put(self.ino, (self.stored.ctime, self.stored.size))
        if self.refs > 1:
            yield from audit.flush(s, s.audit_batch)
            self.refs -= 1  # last, because what is before it may be run again
            return
        self.closing = True
        if self.stale:
            yield from self.flush(caller)  # says what is lost
        elif self.unlinked and not s.read_only:
            rows = yield from s.begin(sql.INODE(*s.key, self.ino), exclusive=(s.inode_lock(self.ino),))
            if rows[0] and (found(rows[0], self.ino).nlink or not s.alone):  # another door gave it a name, or may have it open
                yield from self.flush(caller)
            elif s.alone:
                yield from finish(sql.INODE_REAP(*s.key, self.ino))
        elif self.lingers:
            return  # `dirty_files` has it, and whoever opens it meanwhile
        elif self.dirty:
            yield from self.flush(caller)
        else:
            s.closed(self)
            yield from audit.flush(s, s.audit_batch)
        s.closed(self)


class SeenFile(NamedTuple):
    """A file's row as it was just read, and from which generation's tree."""

    generation: int
    row: FileRow


def open(
    s: Session, caller: Caller, ino: int, *, read: bool, write: bool, truncate: bool, kill_suid: bool
) -> Op[OpenFile]:
    """The open file of a regular file's inode. EISDIR, ELOOP (a symbolic link), ENXIO (a special file), EACCES, EROFS."""
    if s.read_only and (write or truncate):
        raise FsError(errno.EROFS, ino)
    at = s.at
    rows = yield from (run if truncate else finish)(sql.INODE_FULL(s.tenant, at.layer, at.visible, ino))
    row = file_row(rows[0], ino)
    _require_openable(s, caller, row.attr, read=read, write=write or truncate)
    if truncate:
        file = s.opened(ino)
        if file is None or file.generation != at.generation:
            file = OpenFile(s, at.generation, row)
        yield from file.truncate(caller, 0, kill_suid=kill_suid)
        return held(_kept(s, file))
    return hold(s, at.generation, row, caller, kill_suid=kill_suid)


def open_seen(s: Session, caller: Caller, seen: SeenFile, *, read: bool, write: bool) -> Op[OpenFile]:
    """As `open`, of a row that was just read."""
    generation, row = seen
    if s.read_only and write:
        raise FsError(errno.EROFS, row.attr.ino)
    if generation != s.at.generation:  # the head moved since
        at = s.at
        rows = yield from finish(sql.INODE_FULL(s.tenant, at.layer, at.visible, row.attr.ino))
        generation, row = at.generation, file_row(rows[0], row.attr.ino)
    _require_openable(s, caller, row.attr, read=read, write=write)
    return hold(s, generation, row, caller)


def _require_openable(s: Session, caller: Caller, attr: Attr, *, read: bool, write: bool) -> None:
    if attr.is_dir:
        raise FsError(errno.EISDIR, attr.ino)
    if not attr.is_reg:
        raise FsError(errno.ELOOP if attr.is_symlink else errno.ENXIO, attr.ino)
    if s.enforce:
        access.require(caller, attr, (R_OK if read else 0) | (W_OK if write else 0))


def hold(
    s: Session, generation: int, row: FileRow, caller: Caller, *, kill_suid: bool = False, new: making.New | None = None
) -> OpenFile:
    """The session's OpenFile of an inode, whose row was just read from that generation's tree or is to be made, with one
    use more."""
    attr = row.attr
    file = s.opened(attr.ino)
    if file is None or generation != file.generation:
        if new is not None and generation != s.at.generation:
            raise RetryableError("40001", "the head moved")  # what waits belongs to the present tree
        file = _kept(s, OpenFile(s, generation, row, new))
        if new is not None:
            file.dirty_since = s.clock()
            s.waiting[new.parent, new.name] = file
    else:
        file.refresh(row)
    file.keep_cache = s.versions.get(attr.ino) == (attr.ctime, attr.size)
    if kill_suid and access.without_suid(attr.mode) != attr.mode:
        file.killed, file.mtime = True, s.clock()
        file.changed = file.mtime
    s.note(caller, "open", attr.ino, s.names.path(attr.ino))
    return held(file)


def _kept(s: Session, file: OpenFile) -> OpenFile:
    """The session's one OpenFile of that inode: this, or what another thread has just opened."""
    there = s.files.get(file.ino)
    if there is not None and there.generation < file.generation:
        s.closed(there)
    there = s.files.setdefault(file.ino, file)
    return there if there.generation == file.generation else file


def held(file: OpenFile) -> OpenFile:
    """With one use more."""
    if file.closing:
        file.closing = False
    else:
        file.refs += 1
    return file
