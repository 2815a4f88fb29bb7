"""The calls that tell a guest how it was started: args_* and environ_*."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tarbox_wasi import abi
from tarbox_wasi.abi import Errno, require, store

if TYPE_CHECKING:
    from tarbox_wasi.world import World


def args_get(world: World, memory: memoryview, pointers: int, buffer: int) -> int:
    return _put(memory, world.args, pointers, buffer)


def args_sizes_get(world: World, memory: memoryview, count_at: int, size_at: int) -> int:
    return _put_sizes(memory, world.args, count_at, size_at)


def environ_get(world: World, memory: memoryview, pointers: int, buffer: int) -> int:
    return _put(memory, world.env, pointers, buffer)


def environ_sizes_get(world: World, memory: memoryview, count_at: int, size_at: int) -> int:
    return _put_sizes(memory, world.env, count_at, size_at)


def _put(memory: memoryview, strings: Sequence[bytes], pointers: int, buffer: int) -> int:
    """The strings one behind the other, each with a NUL, and where each begins."""
    require(memory, pointers, abi.SIZE.size * len(strings))
    for number, string in enumerate(strings):
        abi.put(memory, buffer, string + b"\0")
        store(abi.SIZE, memory, pointers + number * abi.SIZE.size, buffer)
        buffer += len(string) + 1
    return Errno.SUCCESS


def _put_sizes(memory: memoryview, strings: Sequence[bytes], count_at: int, size_at: int) -> int:
    store(abi.SIZE, memory, count_at, len(strings))
    store(abi.SIZE, memory, size_at, sum(len(string) + 1 for string in strings))
    return Errno.SUCCESS
