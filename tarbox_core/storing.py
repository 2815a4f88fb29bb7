"""Storing what an OpenFile has gathered, as one transaction. Gathering and reading are `file`'s, truncation and holes `space`'s."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from tarbox_core import access, blocks, lines, making, texts
from tarbox_core import statements as sql
from tarbox_core.content import chunk_of, hash_at, inline_max, stored_bytes, with_hashes
from tarbox_core.effects import Op, Query, Row, finish, run
from tarbox_core.errors import FsError, RetryableError
from tarbox_core.inode import copied_up, file_row
from tarbox_core.session import Session
from tarbox_core.types import HOLE, Attr, Caller

if TYPE_CHECKING:
    from tarbox_core.file import OpenFile


def flush(s: Session, file: OpenFile, caller: Caller) -> Op[None]:
    """Store what was gathered: visible to every door when it returns."""
    if not file.dirty:
        return
    file.require_current()
    if file.new is not None:
        file.tried = True
        if file.size <= inline_max(s.block_size):
            yield from _store_new(s, file, file.new)
            return
        attr = file.attr()._replace(size=0, blocks=0)
        rows = yield from run(*making.queries(s, file.new, attr, target=None, inline=b"", also=file.operations))
        file.late = making.stored_before(rows[1][0])
        if not file.late:
            file.stored = _made(s, file, file.new, attr, rows[1][0])
    row, inline, old, base = yield from _below(s, file)
    was = file.cut or lines.Was(row.size, inline, old, base)
    size = max(row.size, file.pieces.end)
    mode = access.without_suid(row.mode) if file.killed else row.mode
    late: tuple[Query, ...] = ()
    if file.late:
        now = file.stored
        mode, row = now.mode, row._replace(uid=now.uid, gid=now.gid, atime=now.atime)
        late = (sql.INODE_SET(s.tenant, s.layer, file.ino, mode, now.uid, now.gid, now.atime, None, None, None),)
    after = row._replace(size=size, mode=mode, layer=s.layer, mtime=file.mtime or row.mtime, ctime=s.clock())
    drop_caps = (sql.XATTR_DROP(*s.key, file.ino, b"security.capability"),) if file.killed else ()
    if size <= inline_max(s.block_size):
        content = file.pieces.read(0, size, base) if size else b""
        after = after._replace(blocks=size)
        record = yield from _record(s, file, caller, was, {0: content}, {})
        yield from finish(*copied_up(s, (row,)), file.content_put(after, content), *late, *drop_caps, *record)
        file.was_stored(after, content, {})
        return
    whole = {n: _block(s, file, n, size, base) for n in {*file.pieces, *((0,) if inline else ())}}
    puts, hashes = blocks.puts(s, whole)
    record = yield from _record(s, file, caller, was, whole, hashes)
    new = {c: with_hashes(old[c], {n: h for n, h in hashes.items() if chunk_of(n) == c}) for c in old}
    changed = [c for c in sorted(new) if new[c] != old[c]]
    held = (0 if inline is not None else row.blocks) - stored_bytes(old.items(), row.size, s.block_size)
    after = after._replace(blocks=held + stored_bytes(new.items(), size, s.block_size))
    for put in puts[:-1]:
        yield from run(put)
    yield from finish(
        *puts[-1:],
        *copied_up(s, (row,)),
        sql.EXTENT_PUT(s.tenant, s.layer, file.ino, changed, [new[c] for c in changed]),
        file.content_put(after, None),
        *late,
        *drop_caps,
        *record,
    )
    file.was_stored(after, None, new)


def _record(s: Session, file: OpenFile, caller: Caller, was: lines.Was, whole: dict[int, bytes], hashes: dict[int, bytes]) -> Op[tuple[Query, ...]]:
    """What tells other doors of the write, and the audit."""
    changes = (yield from lines.changed(s, was, whole, hashes)) if s.audit and file.pieces else None
    return s.tell(file.ino) + s.record(file.writer or caller, "write", file.ino, s.names.path(file.ino), size=file.written, metadata=changes)


def _below(s: Session, file: OpenFile) -> Op[tuple[Attr, bytes | None, dict[int, bytes], dict[int, bytes]]]:
    """What is stored, under the inode's lock: the row and the inline content, the hashes of all chunks that storing
    the pieces can touch, and the blocks that the pieces do not cover."""
    chunks = {chunk_of(index) for index in file.pieces} | {0}
    known: set[int] = set()
    queries: list[Query] = []
    if not file.known or file.whole is None:
        known = chunks | {_tail(s, file.stored)}
        partial = _partial(s, file, file.size, file.size)
        queries = [sql.EXTENTS(*s.key, file.ino, sorted(known)), sql.BLOCKS_AT(*s.key, file.ino, partial)]
    rows = yield from texts.begin(s, file.ino, *queries)
    file.require_current()
    row = file.require_kept(rows[0])
    file.mixed = file.mixed or row.ctime != file.stored.ctime
    inline = file_row(rows[0], file.ino).inline
    if inline is not None:
        return row, inline, dict.fromkeys(chunks, b""), {0: inline}
    old = dict.fromkeys(known, b"") | dict(rows[1] if queries else ())
    base = {n: data for n, _, data in rows[2]} if queries else {}
    lacking = set(_partial(s, file, row.size, max(row.size, file.pieces.end))) - base.keys()
    lacking = {n for n in lacking if chunk_of(n) not in old or hash_at(old, n) != HOLE}
    chunks |= {_tail(s, row)}
    if lacking or chunks - old.keys():  # another door wrote meanwhile
        more = yield from run(sql.EXTENTS(*s.key, file.ino, sorted(chunks)), sql.BLOCKS_AT(*s.key, file.ino, sorted(lacking)))
        old = dict.fromkeys(chunks, b"") | dict(more[0])
        base |= {n: data for n, _, data in more[1]}
        if any(n not in base and hash_at(old, n) != HOLE for n in lacking):
            raise FsError(errno.EIO, file.ino)
    return row, None, old, base


def _tail(s: Session, row: Attr) -> int:
    """The chunk of the last byte."""
    return chunk_of(max(0, row.size - 1) // s.block_size)


def _store_new(s: Session, file: OpenFile, new: making.New) -> Op[None]:
    """The file and its small content at once."""
    content = file.pieces.read(0, file.size, {}) if file.size else b""
    attr = file.attr()._replace(blocks=len(content))
    changes = lines.of_new(content) if s.audit and content else None
    rows = yield from finish(
        *making.queries(s, new, attr, target=None, inline=content, written=file.written, also=file.operations, changes=changes)
    )
    if making.stored_before(rows[1][0]):  # without the content
        file.settled()
        file.late = True
        raise RetryableError("40001", "the file was stored meanwhile")
    file.was_stored(_made(s, file, new, attr, rows[1][0]), content, {})


def _made(s: Session, file: OpenFile, new: making.New, attr: Attr, row: Row) -> Attr:
    try:
        return making.made(s, new, attr, row)
    except FsError:  # another door took the name or the directory: there is no place for this file
        file.settled()
        file.pieces.clear()
        file.killed = False
        s.closed(file)
        raise


def _partial(s: Session, file: OpenFile, stored_size: int, size: int) -> list[int]:
    """The gathered blocks that need their stored content to be whole in a file of `size`."""
    block_size = s.block_size
    indices = []
    for n in file.pieces:
        piece = file.pieces.get(n)
        if piece is not None and n * block_size < stored_size and not piece.covers(0, min(block_size, size - n * block_size)):
            indices.append(n)
    return indices


def _block(s: Session, file: OpenFile, index: int, size: int, base: dict[int, bytes]) -> bytes:
    start = index * s.block_size
    return file.pieces.read(start, min(start + s.block_size, size), base)
