"""BLAKE3 digests of blocks: by the `blake3` wheel where it is installed, else by whoever was asked to (`use`), else by our own
code; all give the same bytes.

Our own runs many chunks side by side in the lanes of big integers, so that one Python operation works on a batch of
them; `blake3_pure` follows the BLAKE3 paper (section 2: tree, chunks, compression). Not here: keyed hashing, key
derivation, longer outputs, anything incremental.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

try:
    from blake3 import blake3 as _wheel
except ImportError:  # pure Python installations, WASI, the browser
    _wheel = None  # type: ignore[assignment,misc]

Data = bytes | bytearray | memoryview

BATCH: Final = 512  # chunks hashed side by side; twice as many are a little faster still, and leave small caches
_CHUNK: Final = 1024
_BLOCK: Final = 64
_CHUNK_START, _CHUNK_END, _PARENT, _ROOT = 1, 2, 4, 8
_IV: Final = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
_PERMUTATION: Final = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)

# A lane is 5 bytes: a 32-bit word and 8 spare bits above it, into which sums may carry. Within one compression a word
# is the sum of at most 29 words, which 40 bits hold, so nothing but the rotations needs to clear the spare bits.
_LANE: Final = 5


_elsewhere: Callable[[Sequence[Data]], list[bytes]] | None = None


def use(digests: Callable[[Sequence[Data]], list[bytes]] | None) -> None:
    """Have somebody quicker than our own code hash blocks; None: nobody. For a process without the wheel, which stays first."""
    global _elsewhere
    _elsewhere = digests


def digest(data: Data) -> bytes:
    """The 32-byte BLAKE3 hash of `data`."""
    return digests((data,))[0]


def digests(blocks: Iterable[Data]) -> list[bytes]:
    """The hashes of several blocks, in order."""
    if _wheel is not None:
        return [_wheel(block).digest() for block in blocks]
    if _elsewhere is not None:
        return _elsewhere(list(blocks))
    return [blake3_pure(block) for block in blocks]


def blake3_pure(data: Data) -> bytes:
    """The 32-byte BLAKE3 hash of `data`, without any extension module."""
    view = memoryview(data)
    data = view.tobytes() if view.nbytes <= _CHUNK or not view.contiguous else view.cast("B")
    if len(data) <= _CHUNK:
        return _join(_chunks(bytes(data), 0, _ROOT))
    level = _concatenate([_chunks(bytes(data[start : start + BATCH * _CHUNK]), start // _CHUNK, 0) for start in range(0, len(data), BATCH * _CHUNK)])
    while len(level[0]) > 2 * _LANE:
        level = _parents(level, 0)
    return _join(_parents(level, _ROOT))


class _Lanes(NamedTuple):
    """What depends only on the number of lanes."""

    ones: int  # 1 in every lane
    numbers: int  # 0, 1, 2, ... in the lanes
    words: int  # the 32 bits of every lane's word
    rotate: tuple[tuple[int, int], ...]  # for 16, 12, 8, 7: the bits that a right shift leaves, those that a left shift brings
    iv: tuple[int, ...]


@lru_cache(maxsize=32)
def _lanes(n: int) -> _Lanes:
    ones = int.from_bytes(b"\1\0\0\0\0" * n, "little")
    numbers = int.from_bytes(b"".join(i.to_bytes(_LANE, "little") for i in range(n)), "little")
    rotate = tuple(((ones * ((1 << 32 - k) - 1)), (ones * ((1 << 32) - (1 << 32 - k)))) for k in (16, 12, 8, 7))
    return _Lanes(ones, numbers, ones * 0xFFFFFFFF, rotate, tuple(ones * word for word in _IV))


def _mix(a: int, b: int, c: int, d: int, x: int, y: int, rotate: tuple[tuple[int, int], ...]) -> tuple[int, int, int, int]:
    """The quarter-round G on four words of every lane, with two message words."""
    (low16, high16), (low12, high12), (low8, high8), (low7, high7) = rotate
    a += b + x
    d ^= a
    d = d >> 16 & low16 | d << 16 & high16
    c += d
    b ^= c
    b = b >> 12 & low12 | b << 20 & high12
    a += b + y
    d ^= a
    d = d >> 8 & low8 | d << 24 & high8
    c += d
    b ^= c
    b = b >> 7 & low7 | b << 25 & high7
    return a, b, c, d


def _compress(lanes: _Lanes, cv: list[int], message: list[int], counter: int, length: int, flags: int) -> list[int]:
    """The compression function in every lane at once: a new chaining value of 8 words. counter < 2**32 in every lane."""
    rotate, words = lanes.rotate, lanes.words
    v0, v1, v2, v3, v4, v5, v6, v7 = cv
    v8, v9, v10, v11 = lanes.iv[:4]
    v12, v13, v14, v15 = counter, 0, length, flags
    m = message
    for turn in range(7):
        if turn:
            m = [m[i] for i in _PERMUTATION]
        v0, v4, v8, v12 = _mix(v0, v4, v8, v12, m[0], m[1], rotate)
        v1, v5, v9, v13 = _mix(v1, v5, v9, v13, m[2], m[3], rotate)
        v2, v6, v10, v14 = _mix(v2, v6, v10, v14, m[4], m[5], rotate)
        v3, v7, v11, v15 = _mix(v3, v7, v11, v15, m[6], m[7], rotate)
        v0, v5, v10, v15 = _mix(v0, v5, v10, v15, m[8], m[9], rotate)
        v1, v6, v11, v12 = _mix(v1, v6, v11, v12, m[10], m[11], rotate)
        v2, v7, v8, v13 = _mix(v2, v7, v8, v13, m[12], m[13], rotate)
        v3, v4, v9, v14 = _mix(v3, v4, v9, v14, m[14], m[15], rotate)
    return [(low ^ high) & words for low, high in ((v0, v8), (v1, v9), (v2, v10), (v3, v11), (v4, v12), (v5, v13), (v6, v14), (v7, v15))]


def _spread(data: bytes, offset: int, stride: int, n: int) -> int:
    """The 32-bit words at offset, offset + stride, ... in n lanes."""
    buffer = bytearray(_LANE * n)
    for i in range(4):
        buffer[i::_LANE] = data[offset + i :: stride]
    return int.from_bytes(buffer, "little")


def _chunks(data: bytes, first: int, root: int) -> list[bytes]:
    """The chaining values of up to BATCH chunks, as 8 words in lanes; `first` numbers the first chunk of `data`."""
    n = max(1, -(-len(data) // _CHUNK))
    lanes = _lanes(n)
    ones = lanes.ones
    counter = lanes.numbers + first * ones
    tail = len(data) - (n - 1) * _CHUNK  # bytes of the last chunk, which may have fewer blocks than the others
    last = max(1, -(-tail // _BLOCK)) - 1
    top = _LANE * 8 * (n - 1)
    data = data.ljust(n * _CHUNK, b"\0")
    cv = list(lanes.iv)
    ended: list[int] = []
    for block in range(last + 1 if n == 1 else _CHUNK // _BLOCK):
        message = [_spread(data, block * _BLOCK + 4 * i, _CHUNK, n) for i in range(16)]
        flags = ones * ((_CHUNK_START if block == 0 else 0) | (_CHUNK_END if block == 15 else 0))
        length = ones * _BLOCK
        if block == last:
            flags |= (_CHUNK_END | root) << top
            length -= _BLOCK - (tail - last * _BLOCK) << top
        cv = _compress(lanes, cv, message, counter, length, flags)
        if block == last:
            ended = [word >> top for word in cv]
    rest = (1 << top) - 1
    return [(word & rest | end << top).to_bytes(_LANE * n, "little") for word, end in zip(cv, ended, strict=True)]


def _parents(level: list[bytes], root: int) -> list[bytes]:
    """One level up in the tree: a parent for each pair; an odd last node goes up as it is."""
    width = len(level[0]) // _LANE
    up: list[list[bytes]] = []
    for start in range(0, width // 2, BATCH):
        n = min(BATCH, width // 2 - start)
        lanes = _lanes(n)
        nodes = [word[2 * _LANE * start : 2 * _LANE * (start + n)] for word in level]
        message = [_spread(word, side, 2 * _LANE, n) for side in (0, _LANE) for word in nodes]
        cv = _compress(lanes, list(lanes.iv), message, 0, lanes.ones * _BLOCK, lanes.ones * (_PARENT | root))
        up.append([word.to_bytes(_LANE * n, "little") for word in cv])
    if width % 2:
        up.append([word[-_LANE:] for word in level])
    return _concatenate(up)


def _concatenate(parts: list[list[bytes]]) -> list[bytes]:
    return [b"".join(word) for word in zip(*parts, strict=True)]


def _join(words: list[bytes]) -> bytes:
    """A single node's chaining value, out of its lanes."""
    return b"".join(word[:4] for word in words)
