"""WASI preview1's numbers and layouts, written out as its specification has them, and what lies outside of a memory."""

from __future__ import annotations

import errno
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tarbox_core.types import Attr
from tarbox_wasi import abi
from tarbox_wasi.abi import Errno, Filetype, Refused
from tarbox_wasi.calls import CALLS


def memory(size: int = 64) -> memoryview:
    return memoryview(bytearray(size))


def test_errnos_are_numbered_without_a_gap() -> None:
    assert [code.value for code in Errno] == list(range(77))
    assert (Errno.ACCES, Errno.BADF, Errno.EXIST, Errno.ILSEQ, Errno.INVAL, Errno.NOENT, Errno.NOTDIR, Errno.PERM, Errno.NOTCAPABLE) == (
        2, 8, 20, 25, 28, 44, 54, 63, 76,
    )  # fmt: skip


def test_the_hosts_errnos_have_the_same_name() -> None:
    for name in ("EPERM", "ENOENT", "EIO", "EACCES", "EEXIST", "EXDEV", "ENOTDIR", "EISDIR", "EINVAL", "EFBIG", "ENOSPC", "EROFS", "EMLINK",
                 "ENAMETOOLONG", "ENOTEMPTY", "ELOOP", "ENXIO", "ESTALE", "EBUSY", "EPIPE"):  # fmt: skip
        assert abi.from_host(getattr(errno, name)).name == name[1:]
    assert abi.from_host(errno.E2BIG) == 1
    assert abi.from_host(errno.EOPNOTSUPP) == Errno.NOTSUP
    assert abi.from_host(errno.ENODATA) == abi.from_host(9999) == Errno.IO


def test_layouts() -> None:
    stat = abi.Filestat(1, 2, Filetype.REGULAR_FILE, 3, 4, 5, 6, 7)
    eight = [bytes([n]) + bytes(7) for n in (1, 2, 4, 3, 4, 5, 6, 7)]  # device, inode, filetype, links, size, atim, mtim, ctim
    assert abi.FILESTAT.pack(*stat) == b"".join(eight)
    assert abi.FDSTAT.pack(3, 5, 1, 2) == b"\x03\0\x05\0" + bytes(4) + b"\x01" + bytes(7) + b"\x02" + bytes(7)
    assert abi.DIRENT.pack(1, 2, 3, 4) == b"\x01" + bytes(7) + b"\x02" + bytes(7) + b"\x03\0\0\0" + b"\x04\0\0\0"
    assert abi.PRESTAT.pack(0, 5) == b"\0\0\0\0\x05\0\0\0"
    assert abi.EVENT.pack(1, 2, 3, 4, 5) == b"\x01" + bytes(7) + b"\x02\0\x03" + bytes(5) + b"\x04" + bytes(7) + b"\x05\0" + bytes(6)
    assert (abi.SUBSCRIPTION.size, abi.SUBSCRIPTION_CLOCK.size, abi.SUBSCRIPTION_FD.size) == (48, 32, 32)
    clock = b"\x01\0\0\0" + bytes(4) + b"\x02" + bytes(7) + b"\x03" + bytes(7) + b"\x01\0" + bytes(6)
    assert abi.SUBSCRIPTION_CLOCK.unpack(clock) == (1, 2, 3, 1)
    assert abi.SUBSCRIPTION.unpack(b"\x09" + bytes(7) + b"\x01" + bytes(7) + clock) == (9, 1, clock)


def test_rights_of_what_there_is() -> None:
    assert abi.POLL_FD_READWRITE == 1 << 27 and abi.PATH_UNLINK_FILE == 1 << 26 and abi.FD_READDIR == 1 << 14
    assert not abi.DIRECTORY_RIGHTS & (abi.FD_READ | abi.FD_WRITE | abi.FD_SEEK | abi.FD_TELL | abi.FD_FILESTAT_SET_SIZE)
    assert not abi.FILE_RIGHTS & (abi.FD_READDIR | abi.PATH_OPEN)


def test_calls_have_as_many_parameters_as_their_handlers() -> None:
    for name, call in CALLS.items():
        assert re.fullmatch("[il]+", call.params)
        assert call.handler.__code__.co_argcount == 2 + len(call.params), name


def test_a_time_before_the_epoch_is_shown_as_the_epoch() -> None:
    attr = Attr(5, 0o120777, 0, 0, 1, 3, 3, 0, -1, 7, -5, 1, 0)
    assert abi.filestat(attr) == (1, 5, Filetype.SYMBOLIC_LINK, 1, 3, 0, 7, 0)


def test_types_of_entries() -> None:
    kinds = {2: "CHARACTER_DEVICE", 4: "DIRECTORY", 6: "BLOCK_DEVICE", 8: "REGULAR_FILE", 10: "SYMBOLIC_LINK", 12: "SOCKET_STREAM", 1: "UNKNOWN"}
    assert {kind: abi.filetype(kind).name for kind in kinds} == kinds


@pytest.mark.parametrize(("data", "code"), [(b"a\0", Errno.ILSEQ), (b"\xff", Errno.ILSEQ), (b"\xc3", Errno.ILSEQ), (b"\xed\xa0\x80", Errno.ILSEQ)])
def test_strings_are_text(data: bytes, code: Errno) -> None:
    with pytest.raises(Refused) as refused:
        abi.text(memoryview(bytearray(data)), 0, len(data))
    assert refused.value.code == code


def test_a_string_of_letters_of_any_script() -> None:
    word = "zażółć 漢字".encode()
    assert abi.text(memoryview(bytearray(word)), 0, len(word)) == word


def test_no_path_is_that_long() -> None:
    with pytest.raises(Refused, match="NAMETOOLONG"):
        abi.text(memory(1 << 17), 0, 1 << 17)


@given(st.integers(0, 80), st.integers(0, 80))
def test_what_lies_outside_is_a_fault_and_nothing_is_touched(address: int, size: int) -> None:
    held = memory()
    try:
        abi.put(held, address, b"x" * size)
    except Refused as refused:
        assert refused.code == Errno.FAULT and address + size > 64
        assert bytes(held) == bytes(64)
    else:
        assert bytes(held[address : address + size]) == b"x" * size and held.obj.count(b"x") == size


def test_vectors() -> None:
    held = memory(1 << 16)
    vectors = [(100, 3), (0, 0), (200, 2)]
    for number, vector in enumerate(vectors):
        abi.IOVEC.pack_into(held, number * 8, *vector)
    parts = abi.buffers(held, 0, 3)
    assert [len(part) for part in parts] == [3, 2]
    abi.scatter(parts, b"abcd")
    assert (bytes(held[100:103]), bytes(held[200:202])) == (b"abc", b"d\0")
    abi.IOVEC.pack_into(held, 8, (1 << 16) - 1, 2)
    for bad in ((0, 3), ((1 << 16) - 8, 2), (1 << 32, 1)):
        with pytest.raises(Refused, match="FAULT"):
            abi.buffers(held, *bad)


def test_one_call_looks_at_no_more_vectors_and_moves_no_more_bytes_than_it_says() -> None:
    held = memory(abi.AT_ONCE + (1 << 16))
    abi.IOVEC.pack_into(held, 0, 0, len(held))
    abi.IOVEC.pack_into(held, 8, 0, 5)
    assert [len(part) for part in abi.buffers(held, 0, 2)] == [abi.AT_ONCE]
    for number in range(2000):
        abi.IOVEC.pack_into(held, number * 8, 0, 1)
    assert len(abi.buffers(held, 0, 2000)) == abi.IOV_MAX
