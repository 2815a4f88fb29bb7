"""What goes to the kernel when it is to forget, byte by byte, and node numbers."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

import pytest

from tarbox_core.cache import Names, Recent
from tarbox_core.types import Attr
from tarbox_fuse.kernel import BEYOND, Kernel, Switch, split, tree_of

DIRECTORY = Attr(0, 0o40755, 0, 0, 2, 0, 0, 0, 0, 0, 0, 1, 1)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def told(reading: int) -> list[tuple[int, bytes]]:
    """(code, body) of each notification."""
    raw, found = os.read(reading, 1 << 16), []
    while raw:
        length, code, unique = struct.unpack_from("=IiQ", raw)
        assert unique == 0
        found.append((code, raw[16:length]))
        raw = raw[length:]
    return found


def test_a_node_tells_inode_and_tree() -> None:
    assert split(tree_of(0) | 5) == (5, tree_of(0))
    assert split(tree_of(7) | (1 << 44) - 1) == ((1 << 44) - 1, tree_of(7))
    assert split(5) == (5, 0)  # a directory
    assert split(BEYOND | 3 << 44 | 5) == (BEYOND | 3 << 44 | 5, 0)  # of no tree
    trees = [tree_of(generation) for generation in range(65535)]
    assert len(set(trees)) == len(trees) and 0 not in trees and max(trees) < BEYOND
    assert tree_of(65535) == tree_of(0)


def test_a_switch_is_told_without_waiting_and_again(pipe: tuple[int, int]) -> None:
    names, folders = Names(), Recent()
    names.saw(9, 5, b"file")
    for ino in (5, 6):
        folders.saw(DIRECTORY._replace(ino=ino), 0)
    switch = Switch(Kernel(pipe[1]), names, folders)
    switch.at_once()
    attributes = [(2, struct.pack("=Qqq", ino, -1, 0)) for ino in (1, 6, 5)]  # the newest first
    assert told(pipe[0]) == [(8, b""), *attributes]
    switch.settle()
    switch.again()
    assert told(pipe[0]) == [(8, b""), *attributes]


def test_an_old_kernel_is_told_each_name(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names()
    names.saw(9, 5, b"file")
    kernel = Kernel(pipe[1])
    monkeypatch.setattr(kernel, "_has_epoch", False)
    switch = Switch(kernel, names, Recent())
    switch.at_once()
    assert told(pipe[0]) == [(2, struct.pack("=Qqq", 1, -1, 0))]
    switch.settle()
    assert told(pipe[0]) == [(3, struct.pack("=QII", 5, 4, 0) + b"file\0")]
