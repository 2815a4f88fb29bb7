"""The FUSE codec: requests as the kernel lays them out, byte by byte; and whatever the bytes, a request or one named error."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tarbox_core.types import Attr, Entry, StatFs
from tarbox_fuse import abi, codec
from tarbox_fuse.codec import Encoder, ProtocolError, Timeouts


def decode(raw: bytes) -> codec.Request:
    return codec.decode(memoryview(raw), len(raw))


def plain(value: object) -> object:
    return bytes(value) if isinstance(value, memoryview) else value


def body(raw: bytes) -> tuple[object, ...]:
    return tuple(map(plain, decode(raw)[6]))


def header(opcode: int, length: int, *, extensions: int = 0) -> bytes:
    return struct.pack("=IIQQIIIHH", 40 + length, opcode, 7, 1, 1000, 1001, 4242, extensions, 0)


LOOKUP = bytes.fromhex(
    "2e000000"  # len: 46
    "01000000"  # opcode: LOOKUP
    "0700000000000000"  # unique
    "0200000000000000"  # nodeid: the parent
    "e8030000"  # uid 1000
    "e9030000"  # gid 1001
    "92100000"  # pid 4242
    "0000"  # total_extlen
    "0000"  # padding
    "68c3a96c6f00"  # "hélo" in UTF-8, NUL
)

WRITE = bytes.fromhex(
    "55000000"  # len: 85
    "10000000"  # opcode: WRITE
    "0900000000000000"  # unique
    "0300000000000000"  # nodeid
    "00000000"  # uid
    "00000000"  # gid
    "01000000"  # pid
    "0000"  # total_extlen
    "0000"  # padding
    "0500000000000000"  # fh
    "0010000000000000"  # offset 4096
    "05000000"  # size
    "04000000"  # write_flags: KILL_SUIDGID
    "0000000000000000"  # lock_owner
    "01840000"  # flags: O_WRONLY | O_APPEND | O_LARGEFILE
    "00000000"  # padding
    "68656c6c6f"  # "hello"
)

SETATTR = bytes.fromhex(
    "80000000"  # len: 128
    "04000000"  # opcode: SETATTR
    "0b00000000000000"  # unique
    "0300000000000000"  # nodeid
    "00000000"  # uid
    "00000000"  # gid
    "01000000"  # pid
    "0000"  # total_extlen
    "0000"  # padding
    "31000000"  # valid: MODE | ATIME | MTIME
    "00000000"  # padding
    "0000000000000000"  # fh
    "0000000000000000"  # size
    "0000000000000000"  # lock_owner
    "ffffffffffffffff"  # atime: -1 s, a date before 1970
    "0200000000000000"  # mtime
    "0000000000000000"  # ctime
    "01000000"  # atimensec
    "03000000"  # mtimensec
    "00000000"  # ctimensec
    "a4810000"  # mode: a regular file, 0644
    "00000000"  # unused
    "e8030000"  # uid
    "e9030000"  # gid
    "00000000"  # unused
)

RENAME2 = bytes.fromhex(
    "3e000000"  # len: 62
    "2d000000"  # opcode: RENAME2
    "0c00000000000000"  # unique
    "0100000000000000"  # nodeid: the old parent
    "00000000"  # uid
    "00000000"  # gid
    "01000000"  # pid
    "0000"  # total_extlen
    "0000"  # padding
    "0400000000000000"  # newdir
    "01000000"  # flags: NOREPLACE
    "00000000"  # padding
    "6100"  # "a", NUL
    "62ff6300"  # "b\xffc", NUL
)

INIT = bytes.fromhex(
    "68000000"  # len: 104
    "1a000000"  # opcode: INIT
    "0200000000000000"  # unique
    "0000000000000000"  # nodeid
    "00000000"  # uid
    "00000000"  # gid
    "00000000"  # pid
    "0000"  # total_extlen
    "0000"  # padding
    "07000000"  # major
    "2c000000"  # minor 44
    "00000200"  # max_readahead 128 KiB
    "01000040"  # flags: ASYNC_READ | INIT_EXT
    "20000000"  # flags2: PASSTHROUGH
    + "00" * 44  # unused
)


def test_header_and_name() -> None:
    assert decode(LOOKUP) == (abi.LOOKUP, 7, 2, 1000, 1001, 4242, ("hélo".encode(),))


def test_write_leaves_its_data_in_the_buffer() -> None:
    buffer = bytearray(WRITE)
    data = codec.decode(memoryview(buffer), len(buffer))[6][4]
    assert body(WRITE) == (5, 4096, abi.WRITE_KILL_SUIDGID, 0x8401, b"hello")
    buffer[-1:] = b"!"
    assert data == b"hell!"


def test_setattr_joins_seconds_and_nanoseconds() -> None:
    valid = abi.FATTR_MODE | abi.FATTR_ATIME | abi.FATTR_MTIME
    assert body(SETATTR) == (valid, 0, 0, -999_999_999, 2_000_000_003, 0, 0o100644, 1000, 1001)


def test_names_are_bytes_of_any_kind() -> None:
    assert body(RENAME2) == (4, 1, b"a", b"b\xffc")


def test_init_joins_both_words_of_flags() -> None:
    assert body(INIT) == (7, 44, 131072, abi.ASYNC_READ | abi.INIT_EXT | 1 << 37)


def test_a_short_init_of_an_older_kernel() -> None:
    raw = header(abi.INIT, 16) + struct.pack("=IIII", 7, 31, 4096, abi.ASYNC_READ)
    assert body(raw) == (7, 31, 4096, abi.ASYNC_READ)


@pytest.mark.parametrize(
    ("opcode", "raw", "expected"),
    [
        (abi.FORGET, struct.pack("=Q", 3), (3,)),
        (abi.BATCH_FORGET, struct.pack("=IIQQQQ", 2, 0, 5, 1, 6, 2), ((5, 1), (6, 2))),
        (abi.SYMLINK, b"name\0some/target\0", (b"name", b"some/target")),
        (abi.MKNOD, struct.pack("=IIII", 0o20644, 0x501, 0o22, 0) + b"tty\0", (0o20644, 0x501, 0o22, b"tty")),
        (abi.MKDIR, struct.pack("=II", 0o755, 0o22) + b"d\0", (0o755, 0o22, b"d")),
        (abi.LINK, struct.pack("=Q", 9) + b"n\0", (9, b"n")),
        (abi.CREATE, struct.pack("=IIII", 0o101, 0o100600, 0o77, 0) + b"n\0", (0o101, 0o100600, 0o77, 0, b"n")),
        (abi.READ, struct.pack("=QQIIQII", 1, 2, 3, 4, 5, 6, 0), (1, 2, 3, 4, 5, 6)),
        (abi.RELEASE, struct.pack("=QIIQ", 1, 2, 3, 4), (1, 2, 3, 4)),
        (abi.FLUSH, struct.pack("=QIIQ", 1, 0, 0, 4), (1, 4)),
        (abi.SETXATTR, struct.pack("=II", 3, 1) + b"user.k\0a\0b", (b"user.k", b"a\0b", 1)),
        (abi.GETXATTR, struct.pack("=II", 64, 0) + b"user.k\0", (64, b"user.k")),
        (abi.FALLOCATE, struct.pack("=QQQII", 1, 2, 3, 4, 0), (1, 2, 3, 4)),
        (abi.LSEEK, struct.pack("=QQII", 1, 2, 3, 0), (1, 2, 3)),
        (abi.COPY_FILE_RANGE, struct.pack("=QQQQQQQ", 1, 2, 3, 4, 5, 6, 0), (1, 2, 3, 4, 5, 6, 0)),
        (4095, b"whatever", ()),
    ],
)
def test_bodies(opcode: int, raw: bytes, expected: tuple[object, ...]) -> None:
    assert body(header(opcode, len(raw)) + raw) == expected


def test_extensions_behind_the_body_are_left_off() -> None:
    assert body(header(abi.MKDIR, 26, extensions=2) + struct.pack("=II", 0o755, 0) + b"d\0" + bytes(16)) == (0o755, 0, b"d")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        LOOKUP[:39],
        LOOKUP[:-1],  # shorter than it says
        header(abi.LOOKUP, 0),  # no name
        header(abi.LOOKUP, 3) + b"abc",  # no NUL
        header(abi.LOOKUP, 4) + b"a\0b\0",  # two names
        header(abi.RENAME, 12) + bytes(8) + b"a\0b\0"[:3] + b"x",  # the second name does not end
        header(abi.GETATTR, 15) + bytes(15),
        header(abi.WRITE, 44) + struct.pack("=QQIIQII", 1, 0, 5, 0, 0, 0, 0) + b"four",
        header(abi.SETXATTR, 13) + struct.pack("=II", 9, 0) + b"k\0abc",
        header(abi.BATCH_FORGET, 24) + struct.pack("=IIQQ", 2, 0, 5, 1),
        header(abi.MKDIR, 10, extensions=9) + struct.pack("=II", 0o755, 0) + b"d\0",
    ],
)
def test_malformed_requests_have_one_error(raw: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode(raw)
    assert caught.value.unique == (7 if len(raw) >= 40 else 0)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_request_or_a_protocol_error(raw: bytes) -> None:
    try:
        decode(raw)
    except ProtocolError:
        pass


@given(st.integers(0, 60), st.binary(max_size=200), st.integers(0, 3))
def test_any_body_is_a_request_or_a_protocol_error(opcode: int, raw: bytes, extensions: int) -> None:
    try:
        found = decode(header(opcode, len(raw), extensions=extensions) + raw)
    except ProtocolError as error:
        assert error.unique == 7
    else:
        assert found[:6] == (opcode, 7, 1, 1000, 1001, 4242)


ATTR = Attr(
    ino=9, mode=0o100644, uid=1000, gid=1001, nlink=2, size=5000, blocks=5000, rdev=0,
    atime=-1, mtime=1_600_000_000_000_000_007, ctime=3_000_000_000, layer=1, parent=0,
)  # fmt: skip


def test_entry_reply() -> None:
    raw = Encoder(Timeouts(1.5, 0.25, 0)).entry(ATTR, 0)
    assert raw == bytes.fromhex(
        "0900000000000000"  # nodeid
        "0000000000000000"  # generation
        "0100000000000000"  # entry_valid 1 s
        "0000000000000000"  # attr_valid
        "0065cd1d"  # entry_valid_nsec 500,000,000
        "80b2e60e"  # attr_valid_nsec 250,000,000
        "0900000000000000"  # ino
        "8813000000000000"  # size
        "0a00000000000000"  # blocks of 512 bytes
        "ffffffffffffffff"  # atime: one ns before 1970
        "00105e5f00000000"  # mtime
        "0300000000000000"  # ctime
        "ffc99a3b"  # atimensec 999,999,999
        "07000000"  # mtimensec
        "00000000"  # ctimensec
        "a4810000"  # mode
        "02000000"  # nlink
        "e8030000"  # uid
        "e9030000"  # gid
        "00000000"  # rdev
        "00000100"  # blksize
        "00000000"  # flags
    )


def test_reply_sizes_are_the_kernels() -> None:
    encoder = Encoder(Timeouts(1, 1, 1))
    assert len(encoder.entry(ATTR, 0)) == 128
    assert len(encoder.attr(ATTR)) == 104
    assert len(encoder.create(ATTR, 0, 1, 0)) == 144
    assert encoder.absent is not None and len(encoder.absent) == 128
    assert encoder.absent[:16] == bytes(16)  # node 0: there is no such name
    assert len(codec.encode_open(1, 0, 0)) == 16
    assert len(codec.encode_write(1, 0)) == 8
    assert len(codec.encode_statfs(StatFs(4096, 1 << 30, 1 << 29, 5, 4, 255))) == 80
    assert len(codec.encode_init(40, 131072, 0, 64, 256)) == 64
    assert codec.encode_header(16, -2, 7) == bytes.fromhex("10000000 feffffff 0700000000000000")


def test_absent_names_are_an_error_unless_they_may_be_remembered() -> None:
    assert Encoder(Timeouts(1, 1, 0)).absent is None


def test_init_reply() -> None:
    raw = codec.encode_init(40, 131072, abi.ASYNC_READ | abi.INIT_EXT | 1 << 37, 64, 256)
    assert raw == bytes.fromhex(
        "07000000"  # major
        "28000000"  # minor
        "00000200"  # max_readahead
        "01000040"  # flags
        "4000"  # max_background
        "3000"  # congestion_threshold
        "00001000"  # max_write: 1 MiB
        "01000000"  # time_gran: 1 ns
        "0001"  # max_pages
        "0000"  # map_alignment
        "20000000"  # flags2
    ) + bytes(28)


names = st.binary(min_size=1, max_size=255).filter(lambda name: not {0, 47} & set(name) and name not in (b".", b".."))


def parse_entries(raw: bytes, plus: bool) -> list[tuple[int, int, bytes, int]]:
    """(node, offset, name, type) of each record; node is the inode where records carry no entry."""
    found, at = [], 0
    while at < len(raw):
        node = struct.unpack_from("=Q", raw, at)[0]
        at += 128 if plus else 0
        ino, offset, length, kind = struct.unpack_from("=QQII", raw, at)
        found.append((node if plus else ino, offset, raw[at + 24 : at + 24 + length], kind))
        at += 24 + (length + 7 & ~7)
    assert at == len(raw)
    return found


@given(st.lists(names, max_size=20), st.integers(0, 5000))
def test_directory_records_fit_and_can_be_parsed(listed: list[bytes], room: int) -> None:
    entries = [Entry(name, 10 + n, 8, n + 1, ATTR._replace(ino=10 + n)) for n, name in enumerate(listed)]
    for plus in (False, True):
        encoder = Encoder(Timeouts())
        raw = encoder.entries_plus(entries, 0, room) if plus else encoder.entries(entries, room)
        found = parse_entries(raw, plus)
        assert len(raw) <= room
        assert found == [(e.ino, e.offset, e.name, e.kind) for e in entries[: len(found)]]
        if len(found) < len(entries):
            assert len(raw) + (152 if plus else 24) + (len(entries[len(found)].name) + 7 & ~7) > room


def test_dot_and_dotdot_carry_no_node() -> None:
    entries = [Entry(b".", 1, 4, 1, ATTR), Entry(b"..", 1, 4, 2, None), Entry(b"x", 9, 8, 3, ATTR)]
    assert [node for node, *_ in parse_entries(Encoder(Timeouts()).entries_plus(entries, 0, 4096), True)] == [0, 0, 9]
