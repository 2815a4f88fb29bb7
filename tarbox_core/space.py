"""A file's extent: truncation, holes, and where its data lies. Operations on an OpenFile; reading and writing are `file`'s."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from tarbox_core import access, blocks, lines, texts
from tarbox_core import statements as sql
from tarbox_core.content import chunk_of, hash_at, inline_max, stored_bytes, with_hashes
from tarbox_core.effects import Op, Query, finish, run
from tarbox_core.errors import FsError, RetryableError
from tarbox_core.inode import FileRow, copied_up, file_row
from tarbox_core.session import Session
from tarbox_core.statements import CHUNK_BLOCKS
from tarbox_core.types import (
    FALLOC_KEEP_SIZE,
    FALLOC_PUNCH_HOLE,
    FALLOC_ZERO_RANGE,
    HASH_SIZE,
    HOLE,
    SEEK_DATA,
    SEEK_HOLE,
    Attr,
    Caller,
)

if TYPE_CHECKING:
    from tarbox_core.file import OpenFile


def truncate(s: Session, file: OpenFile, caller: Caller, size: int, *, kill_suid: bool) -> Op[None]:
    """Make the file `size` bytes long; what it gains reads as zeros. EFBIG, EINVAL, EROFS."""
    if size < 0:
        raise FsError(errno.EINVAL, file.ino)
    if size > s.max_file_size:
        raise FsError(errno.EFBIG, file.ino)
    cut_block = 0 if size <= inline_max(s.block_size) else size // s.block_size
    row, inline, old, base = yield from _begin(s, file, min(size, file.stored.size), [cut_block])
    if row.size != file.stored.size:
        file.saw(FileRow(row, inline))
        raise RetryableError("40001", "the file changed")
    kill = kill_suid or file.killed
    after = row._replace(size=size, mode=access.without_suid(row.mode) if kill else row.mode)
    if size <= inline_max(s.block_size):
        content = (base.get(0, b"") if inline is None else inline)[:size].ljust(size, b"\0")
        cut = () if inline is not None else (sql.EXTENT_CUT(*s.key, file.ino, 0),)
        yield from _finish(s, file, caller, "truncate", row, after._replace(blocks=size), content, {}, list(cut))
        if size == 0 and row.size and file.cut is None:
            file.cut = lines.Was(row.size, inline, old, base, whole=True)
    else:
        data: dict[int, bytes] = {}
        new = dict(old)
        cuts = []
        if inline is not None:
            data = {0: inline} if inline else {}
            new = {0: b""}
        elif size < row.size:
            index, keep = divmod(size, s.block_size)
            last = chunk_of(index)
            cuts = [sql.EXTENT_CUT(*s.key, file.ino, last + 1)]
            new = {last: old.get(last, b"")[: (index % CHUNK_BLOCKS) * HASH_SIZE]}
            if keep and hash_at(old, index) != HOLE:
                data = {index: base[index][:keep]}
        puts, hashes = blocks.puts(s, data)
        for index, digest in hashes.items():
            new[chunk_of(index)] = with_hashes(new.get(chunk_of(index), b""), {index: digest})
        held = row.blocks if inline is None else 0
        held += stored_bytes(new.items(), size, s.block_size) - stored_bytes(old.items(), row.size, s.block_size)
        yield from _finish(s, file, caller, "truncate", row, after._replace(blocks=held), None, _changed(new, old), [*puts, *cuts])
    file.pieces.cut(size)
    if not file.pieces:
        file.killed = False


def fallocate(s: Session, file: OpenFile, caller: Caller, mode: int, offset: int, length: int) -> Op[None]:
    """fallocate(2) in its plain, KEEP_SIZE, PUNCH_HOLE and ZERO_RANGE forms.

    Nothing is reserved: a database has no blocks to set aside. EINVAL, EFBIG, EOPNOTSUPP for other modes.
    """
    if offset < 0 or length <= 0:
        raise FsError(errno.EINVAL, file.ino)
    if mode not in (0, FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, FALLOC_ZERO_RANGE, FALLOC_ZERO_RANGE | FALLOC_KEEP_SIZE):
        raise FsError(errno.EOPNOTSUPP, file.ino)
    yield from file.look()
    end = offset + length
    if end > s.max_file_size and not mode & FALLOC_KEEP_SIZE:
        raise FsError(errno.EFBIG, file.ino)
    grown = end if end > file.size and not mode & FALLOC_KEEP_SIZE else None
    if mode & (FALLOC_PUNCH_HOLE | FALLOC_ZERO_RANGE):
        yield from _punch(s, file, caller, offset, end, grown)
    elif grown is not None:
        yield from truncate(s, file, caller, grown, kill_suid=False)


def _punch(s: Session, file: OpenFile, caller: Caller, start: int, end: int, grown: int | None) -> Op[None]:
    """Zeros from start to end: whole blocks become holes, parts of blocks are rewritten."""
    size = s.block_size
    edges = sorted({start // size, (end - 1) // size})
    row, inline, old, base = yield from _begin(s, file, min(start, file.stored.size), edges)
    stop = min(end, row.size)
    after = row if grown is None else row._replace(size=max(grown, row.size))
    if inline is not None:
        content = inline[:start] + bytes(max(0, stop - start)) + inline[stop:] if start < stop else inline
        if after.size > inline_max(size):
            puts, hashes = blocks.puts(s, {0: content} if content else {})
            new = {0: with_hashes(b"", hashes)}
            held = stored_bytes(new.items(), after.size, size)
            yield from _finish(s, file, caller, "fallocate", row, after._replace(blocks=held), None, new, puts)
        else:
            content = content.ljust(after.size, b"\0")
            yield from _finish(s, file, caller, "fallocate", row, after._replace(blocks=after.size), content, {}, [])
    else:
        holes: dict[int, bytes] = {}
        rewritten: dict[int, bytes] = {}
        for chunk, hashes_then in old.items():
            for index in range(chunk * CHUNK_BLOCKS, chunk * CHUNK_BLOCKS + len(hashes_then) // HASH_SIZE):
                lo, hi = max(start - index * size, 0), min(stop - index * size, size)
                if lo >= hi or hash_at(old, index) == HOLE:
                    continue
                data = base.get(index)
                if data is None or (lo == 0 and hi >= len(data)):
                    holes[index] = HOLE
                else:
                    rewritten[index] = data[:lo].ljust(lo, b"\0") + bytes(min(hi, len(data)) - min(lo, len(data))) + data[hi:]
        puts, hashes = blocks.puts(s, rewritten)
        changes = holes | hashes
        new = {c: with_hashes(old[c], {n: h for n, h in changes.items() if chunk_of(n) == c}) for c in old}
        held = row.blocks + stored_bytes(new.items(), after.size, size) - stored_bytes(old.items(), row.size, size)
        yield from _finish(s, file, caller, "fallocate", row, after._replace(blocks=held), None, _changed(new, old), puts)
    length = file.size
    file.pieces.erase(start, end)
    file.pieces.end = length if file.dirty else 0


def _changed(new: dict[int, bytes], old: dict[int, bytes]) -> dict[int, bytes]:
    return {chunk: hashes for chunk, hashes in new.items() if hashes != old.get(chunk, b"")}


def _begin(
    s: Session, file: OpenFile, start: int, wanted: list[int]
) -> Op[tuple[Attr, bytes | None, dict[int, bytes], dict[int, bytes]]]:
    """Under the inode's lock: its row and inline content, the chunks from `start` on, and the stored blocks wanted."""
    first = chunk_of(start // s.block_size)
    rows = yield from texts.begin(s, file.ino, sql.EXTENTS_FROM(*s.key, file.ino, first), sql.BLOCKS_AT(*s.key, file.ino, wanted))
    file.require_current()
    row, inline, _ = file_row(rows[0], file.ino)
    old: dict[int, bytes] = dict(rows[1])
    base = {n: data for n, _, data in rows[2]}
    if any(hash_at(old, n) != HOLE and n not in base for n in wanted if chunk_of(n) in old):
        raise FsError(errno.EIO, file.ino)
    return row, inline, old, base


def _finish(
    s: Session,
    file: OpenFile,
    caller: Caller,
    operation: str,
    row: Attr,
    after: Attr,
    inline: bytes | None,
    chunks: dict[int, bytes],
    queries: list[Query],
) -> Op[None]:
    """Store the new extent, and let the open file know."""
    now = s.clock()
    after = after._replace(mtime=now, ctime=now, layer=s.layer)
    for query in queries[:-1]:
        yield from run(query)
    puts = [sql.EXTENT_PUT(s.tenant, s.layer, file.ino, list(chunks), list(chunks.values()))] if chunks else []
    yield from finish(
        *copied_up(s, (row,)),
        *queries[-1:],
        *puts,
        file.content_put(after, inline),
        *s.tell(file.ino),
        *s.record(caller, operation, file.ino, s.names.path(file.ino), metadata={"size": [row.size, after.size]}),
    )
    file.saw(FileRow(after, inline))
    file.mtime = file.changed = now


def seek(s: Session, file: OpenFile, offset: int, whence: int) -> Op[int]:
    """The next data or hole at or after `offset`. The end of the file is a hole. ENXIO at or behind the end."""
    size = file.size
    if whence not in (SEEK_DATA, SEEK_HOLE):
        raise FsError(errno.EINVAL, file.ino)
    if offset < 0 or offset >= size:
        raise FsError(errno.ENXIO, file.ino)
    # The row is read last: packing may take an old layer's extents away between the two.
    key = file.key
    rows = yield from run(sql.EXTENTS_FROM(*key, file.ino, chunk_of(offset // s.block_size)), sql.INODE_FULL(*key, file.ino))
    file.require_there(file_row(rows[1], file.ino).attr.ctime if rows[1] else None)
    attr, inline, packed = file_row(rows[1], file.ino)
    if inline is not None and size <= inline_max(s.block_size):
        return offset if whence == SEEK_DATA else size
    in_one_piece = inline is not None or packed is not None
    chunks: dict[int, bytes] = {} if in_one_piece else dict(rows[0])
    solid = -(-attr.size // s.block_size) if in_one_piece else 0  # blocks without holes
    last = (size - 1) // s.block_size
    index = offset // s.block_size
    while index <= last:
        is_data = index < solid or hash_at(chunks, index) != HOLE or file.pieces.get(index) is not None
        if is_data == (whence == SEEK_DATA):
            return max(offset, index * s.block_size)
        if not is_data and not file.pieces and chunk_of(index) not in chunks:
            later = [c for c in chunks if c > chunk_of(index)]
            index = min(later) * CHUNK_BLOCKS if later else last + 1
        else:
            index += 1
    if whence == SEEK_DATA:
        raise FsError(errno.ENXIO, file.ino)
    return size
