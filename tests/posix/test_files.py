"""The content of files: reading and writing, sizes, holes, and files that are open while things happen to them."""

from __future__ import annotations

import errno
import os
import random

import pytest

from tarbox_core.types import FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE
from tests.posix.conftest import MAX_FILE_SIZE
from tests.posix.door import Door, fails, get, put
from tests.tenants import BLOCK

CHUNK = 32 * BLOCK
SIZES = [0, 1, 100, BLOCK - 1, BLOCK, BLOCK + 1, 8191, 8192, 8193, 3 * BLOCK, CHUNK - 1, CHUNK, CHUNK + 1, CHUNK + 5 * BLOCK + 7]
RDWR = os.O_RDWR | os.O_CREAT


def data(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


# --- reading and writing


@pytest.mark.parametrize("size", SIZES)
def test_what_was_written_is_read(door: Door, size: int) -> None:
    content = data(size)
    put(door, b"/file", content)
    assert get(door, b"/file") == content and door.stat(b"/file").size == size
    file = door.open(b"/file")
    for offset in (0, 1, size // 2, max(0, size - 1), size, size + 100):
        assert door.read(file, 5000, offset) == content[offset : offset + 5000]
    door.close(file)


@pytest.mark.parametrize("place", [0, 1, BLOCK - 2, BLOCK, 2 * BLOCK - 1, 5 * BLOCK, CHUNK - 3, CHUNK, CHUNK + 100, 4 * CHUNK])
@pytest.mark.parametrize("size", [10, BLOCK, 3 * BLOCK + 5, CHUNK + 9])
def test_writing_in_the_middle_and_behind_the_end(door: Door, size: int, place: int) -> None:
    content = bytearray(data(size))
    put(door, b"/file", bytes(content))
    file = door.open(b"/file", os.O_RDWR)
    assert door.write(file, b"0123", place) == 4
    content.extend(bytes(max(0, place + 4 - len(content))))
    content[place : place + 4] = b"0123"
    assert door.read(file, len(content) + 1, 0) == content  # before it is stored
    door.fsync(file)
    assert door.read(file, len(content) + 1, 0) == content
    door.close(file)
    assert get(door, b"/file") == content


def test_appending_writers_do_not_overwrite_each_other(door: Door) -> None:
    put(door, b"/log", b"start\n")
    one = door.open(b"/log", os.O_WRONLY | os.O_APPEND)
    two = door.open(b"/log", os.O_WRONLY | os.O_APPEND)
    for number in range(50):
        door.append(one, b"one %d\n" % number)
        door.append(two, b"two %d\n" % number)
    door.close(one)
    door.close(two)
    assert get(door, b"/log") == b"start\n" + b"".join(b"one %d\ntwo %d\n" % (n, n) for n in range(50))


def test_two_opens_see_each_others_writes_at_once(door: Door) -> None:
    one = door.open(b"/file", RDWR)
    two = door.open(b"/file", os.O_RDWR)
    door.write(one, b"abc", 0)
    assert door.read(two, 10, 0) == b"abc" and door.fstat(two).size == 3
    door.write(two, b"d", 3)
    door.close(two)
    assert door.read(one, 10, 0) == b"abcd"
    door.close(one)


def test_the_access_mode_of_an_open_file_holds(door: Door) -> None:
    put(door, b"/file", b"abc")
    reader, writer = door.open(b"/file", os.O_RDONLY), door.open(b"/file", os.O_WRONLY)
    with fails(errno.EBADF):
        door.write(reader, b"x", 0)
    with fails(errno.EBADF):
        door.read(writer, 1, 0)
    with fails(errno.EBADF, errno.EINVAL):
        door.ftruncate(reader, 0)
    door.close(reader)
    door.close(writer)


def test_truncation_when_opening(door: Door) -> None:
    put(door, b"/file", data(3 * BLOCK))
    file = door.open(b"/file", os.O_RDWR | os.O_TRUNC)
    assert door.fstat(file).size == 0 and door.read(file, 10, 0) == b""
    door.close(file)
    assert get(door, b"/file") == b""
    file = door.open(b"/file", os.O_RDWR | os.O_CREAT)
    door.write(file, b"kept", 0)
    door.close(file)
    assert get(door, b"/file") == b"kept"


def test_opening_what_cannot_be_opened(door: Door) -> None:
    door.mkdir(b"/dir")
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC):
        with fails(errno.EISDIR):
            door.open(b"/dir", flags)
    with fails(errno.ENOENT):
        door.open(b"/none")
    with fails(errno.EEXIST):
        door.open(b"/dir", os.O_CREAT | os.O_EXCL | os.O_WRONLY)


# --- sizes


@pytest.mark.parametrize("after", SIZES)
@pytest.mark.parametrize("before", SIZES)
def test_truncation(door: Door, before: int, after: int) -> None:
    content = data(before)
    put(door, b"/file", content)
    door.truncate(b"/file", after)
    expected = content[:after].ljust(after, b"\0")
    assert door.stat(b"/file").size == after and get(door, b"/file") == expected
    door.truncate(b"/file", before)
    assert get(door, b"/file") == expected[:before].ljust(before, b"\0")


@pytest.mark.parametrize("after", [0, 7, BLOCK, 8192, 8193, CHUNK, CHUNK + 3])
@pytest.mark.parametrize("stored, written", [(0, 100), (100, 3 * BLOCK), (3 * BLOCK, CHUNK + 10), (CHUNK, 20)])
def test_truncation_of_what_is_not_stored_yet(door: Door, stored: int, written: int, after: int) -> None:
    put(door, b"/file", data(stored))
    file = door.open(b"/file", os.O_RDWR)
    place = stored // 2
    door.write(file, data(written, 2), place)
    expected = (data(stored)[:place] + data(written, 2) + data(stored)[place + written :])[:after].ljust(after, b"\0")
    door.ftruncate(file, after)
    assert door.read(file, after + 10, 0) == expected and door.fstat(file).size == after
    door.write(file, b"end", after)
    door.close(file)
    assert get(door, b"/file") == expected + b"end"


def test_truncation_errors(door: Door) -> None:
    door.mkdir(b"/dir")
    with fails(errno.EISDIR):
        door.truncate(b"/dir", 0)
    with fails(errno.ENOENT):
        door.truncate(b"/none", 0)
    put(door, b"/file", b"abc")
    with fails(errno.EINVAL):
        door.truncate(b"/file", -1)
    with fails(errno.EFBIG):
        door.truncate(b"/file", MAX_FILE_SIZE + 1)
    assert get(door, b"/file") == b"abc"
    door.truncate(b"/file", MAX_FILE_SIZE)
    assert door.stat(b"/file").size == MAX_FILE_SIZE


def test_no_file_grows_beyond_the_largest_size(door: Door) -> None:
    file = door.open(b"/file", RDWR)
    assert door.write(file, b"123456", MAX_FILE_SIZE - 4) == 4
    for offset in (MAX_FILE_SIZE, MAX_FILE_SIZE + 1, 1 << 40):
        with fails(errno.EFBIG):
            door.write(file, b"x", offset)
    with fails(errno.EFBIG):
        door.fallocate(file, 0, MAX_FILE_SIZE, 1)
    with fails(errno.EFBIG):
        door.ftruncate(file, MAX_FILE_SIZE + 1)
    door.close(file)
    assert door.stat(b"/file").size == MAX_FILE_SIZE
    file = door.open(b"/file")
    assert door.read(file, 10, MAX_FILE_SIZE - 5) == b"\x001234"
    door.close(file)


# --- holes


def regions(door: Door, file: int, size: int) -> list[tuple[int, int]]:
    """Where the data lies, as SEEK_DATA and SEEK_HOLE tell it."""
    found = []
    place = 0
    while place < size:
        try:
            start = door.seek(file, place, os.SEEK_DATA)
        except OSError as error:
            assert error.errno == errno.ENXIO
            break
        place = door.seek(file, start, os.SEEK_HOLE)
        found.append((start, place))
    return found


def test_a_sparse_file_stores_only_its_data(door: Door) -> None:
    file = door.open(b"/sparse", RDWR)
    size = 64 << 20
    for place in (3 * BLOCK, 10 * CHUNK + BLOCK, size - BLOCK):
        door.write(file, b"x" * BLOCK, place)
    door.close(file)
    found = door.stat(b"/sparse")
    assert (found.size, found.blocks) == (size, 3 * BLOCK)
    file = door.open(b"/sparse")
    assert regions(door, file, size) == [(3 * BLOCK, 4 * BLOCK), (10 * CHUNK + BLOCK, 10 * CHUNK + 2 * BLOCK), (size - BLOCK, size)]
    assert door.read(file, 3 * BLOCK, 2 * BLOCK) == bytes(BLOCK) + b"x" * BLOCK + bytes(BLOCK)
    assert not any(door.read(file, 1 << 20, 20 << 20))
    door.close(file)


def test_seeking_data_and_holes(door: Door) -> None:
    file = door.open(b"/file", RDWR)
    door.write(file, b"x" * BLOCK, 2 * BLOCK)
    door.ftruncate(file, 6 * BLOCK)
    door.fsync(file)
    assert door.seek(file, 0, os.SEEK_DATA) == 2 * BLOCK
    assert door.seek(file, 2 * BLOCK + 5, os.SEEK_DATA) == 2 * BLOCK + 5
    assert door.seek(file, 0, os.SEEK_HOLE) == 0
    assert door.seek(file, 2 * BLOCK + 5, os.SEEK_HOLE) == 3 * BLOCK
    for offset, whence in ((3 * BLOCK, os.SEEK_DATA), (6 * BLOCK, os.SEEK_DATA), (6 * BLOCK, os.SEEK_HOLE), (1 << 30, os.SEEK_HOLE)):
        with fails(errno.ENXIO):
            door.seek(file, offset, whence)
    door.close(file)
    put(door, b"/small", b"abc")
    file = door.open(b"/small")
    assert (door.seek(file, 1, os.SEEK_DATA), door.seek(file, 1, os.SEEK_HOLE)) == (1, 3)
    door.close(file)
    put(door, b"/empty")
    file = door.open(b"/empty")
    with fails(errno.ENXIO):
        door.seek(file, 0, os.SEEK_DATA)
    door.close(file)


@pytest.mark.parametrize("start, end", [
    (0, 1), (0, BLOCK), (1, BLOCK), (BLOCK - 1, BLOCK + 1), (BLOCK, 3 * BLOCK), (100, 5 * BLOCK + 1), (0, 40 * BLOCK), (CHUNK - BLOCK, CHUNK + BLOCK),
    (CHUNK + 1, CHUNK + 2), (39 * BLOCK, 50 * BLOCK), (60 * BLOCK, 61 * BLOCK),
])
@pytest.mark.parametrize("mode", [FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, FALLOC_ZERO_RANGE, FALLOC_ZERO_RANGE | FALLOC_KEEP_SIZE])
@pytest.mark.parametrize("size", [0, 1000, 8192, 40 * BLOCK - 5])
@pytest.mark.parametrize("stored", [True, False], ids=["stored", "not stored"])
def test_zeroing_a_range(door: Door, size: int, mode: int, start: int, end: int, stored: bool) -> None:
    content = bytearray(data(size))
    file = door.open(b"/file", RDWR)
    if size:
        door.write(file, bytes(content), 0)
    if stored:
        door.fsync(file)
    door.fallocate(file, mode, start, end - start)
    stop = min(end, size)
    content[start:stop] = bytes(max(0, stop - start))
    if not mode & FALLOC_KEEP_SIZE:
        content.extend(bytes(max(0, end - size)))
    assert door.read(file, 1 << 20, 0) == content and door.fstat(file).size == len(content)
    door.close(file)
    assert get(door, b"/file") == content


def test_a_punched_hole_gives_its_room_back(door: Door) -> None:
    put(door, b"/file", data(40 * BLOCK))
    assert door.stat(b"/file").blocks == 40 * BLOCK
    file = door.open(b"/file", os.O_RDWR)
    door.fallocate(file, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, BLOCK + 1, 33 * BLOCK)
    door.close(file)
    found = door.stat(b"/file")
    assert (found.size, found.blocks) == (40 * BLOCK, 8 * BLOCK)
    file = door.open(b"/file")
    assert regions(door, file, 40 * BLOCK) == [(0, 2 * BLOCK), (34 * BLOCK, 40 * BLOCK)]
    door.close(file)


def test_fallocate(door: Door) -> None:
    file = door.open(b"/file", RDWR)
    door.write(file, b"abc", 0)
    door.fallocate(file, 0, 0, 2)
    assert door.fstat(file).size == 3
    door.fallocate(file, FALLOC_KEEP_SIZE, 0, 5 * BLOCK)
    assert door.fstat(file).size == 3
    door.fallocate(file, 0, 100, 5 * BLOCK)
    assert door.fstat(file).size == 100 + 5 * BLOCK
    for offset, length in ((0, 0), (-1, 5), (0, -1)):
        with fails(errno.EINVAL):
            door.fallocate(file, 0, offset, length)
    with fails(errno.EOPNOTSUPP, errno.EINVAL):
        door.fallocate(file, FALLOC_PUNCH_HOLE, 0, 1)
    door.close(file)
    assert get(door, b"/file") == b"abc".ljust(100 + 5 * BLOCK, b"\0")


# --- copying


COPIES = [(0, 0, 10 * BLOCK), (100, 3, 5 * BLOCK), (9 * BLOCK, 0, 5 * BLOCK), (0, 20 * BLOCK, BLOCK), (10 * BLOCK + 5, 0, 10)]


@pytest.mark.parametrize("offset, to, length", COPIES)
def test_copying_ranges(door: Door, offset: int, to: int, length: int) -> None:
    content, other = data(10 * BLOCK + 5), bytearray(data(2 * BLOCK, 2))
    put(door, b"/source", content)
    put(door, b"/target", bytes(other))
    source, target = door.open(b"/source"), door.open(b"/target", os.O_RDWR)
    copied = 0
    while count := door.copy_range(source, offset + copied, target, to + copied, length - copied):
        copied += count
        if copied == length:
            break
    piece = content[offset : offset + length]
    assert copied == len(piece)
    if piece:
        other.extend(bytes(max(0, to - len(other))))
        other[to : to + len(piece)] = piece
    door.close(source)
    door.close(target)
    assert get(door, b"/target") == other and get(door, b"/source") == content


# --- open files


def test_an_unlinked_file_lives_while_it_is_open(door: Door) -> None:
    file = door.open(b"/file", RDWR)
    door.write(file, b"abc", 0)
    door.unlink(b"/file")
    with fails(errno.ENOENT):
        door.stat(b"/file")
    assert door.fstat(file).nlink == 0 and door.read(file, 10, 0) == b"abc"
    door.write(file, data(5 * BLOCK), 3)
    door.ftruncate(file, 4 * BLOCK)
    door.fsync(file)
    assert door.read(file, 1 << 20, 0) == (b"abc" + data(5 * BLOCK))[: 4 * BLOCK]
    put(door, b"/file", b"another")  # the name is free
    assert door.read(file, 3, 0) == b"abc"
    door.close(file)
    assert get(door, b"/file") == b"another"


def test_an_open_file_keeps_what_is_written_when_it_changes_its_name_by_link_and_unlink(door: Door) -> None:
    """As programs do that make a file under a temporary name."""
    file = door.open(b"/temporary", RDWR)
    door.write(file, b"abc", 0)
    door.link(b"/temporary", b"/final")
    door.unlink(b"/temporary")
    door.write(file, b"def", 3)
    door.close(file)
    assert get(door, b"/final") == b"abcdef" and door.stat(b"/final").nlink == 1


def test_an_open_file_keeps_what_is_written_when_it_is_renamed(door: Door) -> None:
    door.mkdir(b"/dir")
    file = door.open(b"/temporary", RDWR)
    door.write(file, b"abc", 0)
    door.rename(b"/temporary", b"/dir/final")
    door.write(file, b"def", 3)
    assert door.stat(b"/dir/final").size == 6
    door.close(file)
    assert get(door, b"/dir/final") == b"abcdef"


def test_attributes_set_while_a_file_is_being_written(door: Door) -> None:
    file = door.open(b"/file", RDWR, 0o600)
    door.write(file, b"abc", 0)
    door.chmod(b"/file", 0o640)
    door.chown(b"/file", 5, 6)
    door.setxattr(b"/file", b"user.x", b"y")
    door.utimens(b"/file", 1_000_000_007, 2_000_000_009)
    door.close(file)
    found = door.stat(b"/file")
    assert (found.mode & 0o7777, found.uid, found.gid, found.size, found.atime, found.mtime) == (0o640, 5, 6, 3, 1_000_000_007, 2_000_000_009)
    assert door.getxattr(b"/file", b"user.x") == b"y"


def test_truncation_by_path_while_a_file_is_being_written(door: Door) -> None:
    file = door.open(b"/file", RDWR)
    door.write(file, data(3 * BLOCK), 0)
    door.truncate(b"/file", 10)
    assert door.fstat(file).size == 10
    door.write(file, b"x", 20)
    door.close(file)
    assert get(door, b"/file") == data(3 * BLOCK)[:10] + bytes(10) + b"x"


def test_many_open_files(door: Door) -> None:
    files = []
    for number in range(300):
        files.append(door.open(b"/%d" % number, RDWR))
        door.write(files[-1], b"%d" % number, 0)
    for number in range(0, 300, 2):
        door.unlink(b"/%d" % number)
    for number, file in enumerate(files):
        assert door.read(file, 10, 0) == b"%d" % number
        door.close(file)
    assert sorted(door.readdir(b"/")) == sorted(b"%d" % number for number in range(1, 300, 2))
