"""A text as its difference to another: encode, apply, and rebuild along a chain. `docs/delta-format.md` describes the bytes.

Whatever bytes they are given, the readers return a text of the size that they announce, at most `limit`, or raise
DeltaError. Whether it is the right text, only its hash can tell.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from tarbox_core.delta.diff import diff
from tarbox_core.delta.format import CONTROL_MAX, DICTIONARY_MAX, LEVEL, RAW_DEFLATE, TEXT_MAX, VARINT_MAX
from tarbox_core.delta.hunk import Hunk
from tarbox_core.errors import DeltaError

_PIECES_MAX = 4096  # pieces of a text that are carried from delta to delta before they are joined


def pack_whole(text: bytes) -> bytes:
    """A keyframe: the text by itself."""
    return zlib.compress(text, LEVEL)


def unpack_whole(data: bytes, limit: int = TEXT_MAX) -> bytes:
    """The text of a keyframe."""
    return _inflate(zlib.decompressobj(), data, limit)


def encode(old: bytes, new: bytes, hunks: Sequence[Hunk] | None = None) -> bytes:
    """The delta that makes `new` of `old`; along `hunks`, where they are known already."""
    steps = _steps(diff(old, new) if hunks is None else hunks)
    control = _control(steps)
    if len(control) > CONTROL_MAX:
        steps = _steps([Hunk(0, len(old), 0, len(new))])
        control = _control(steps)
    parts = [_varint(len(old)), _varint(len(new)), _section(control, b"")]
    for group in _groups([step.old_end - step.old_start for step in steps]):
        literals = b"".join([new[step.new_start : step.new_end] for step in steps[group]])
        if literals:
            parts.append(_section(literals, b"".join([old[step.old_start : step.old_end] for step in steps[group]])))
    return b"".join(parts)


def apply(old: bytes, delta: bytes, limit: int = TEXT_MAX) -> bytes:
    """The text that `delta` makes of `old`."""
    return rebuild(old, [delta], limit)


def rebuild(text: bytes, deltas: Sequence[bytes], limit: int = TEXT_MAX) -> bytes:
    """The text at the end of a chain: each delta is applied to what the one before it made, the first to `text`.

    What a delta copies are pieces of what the one before it copied; the bytes are joined once, at the end.
    """
    pieces, size = [memoryview(text)], len(text)
    for delta in deltas:
        pieces, size = _follow(pieces, size, delta, limit)
        if len(pieces) > _PIECES_MAX:
            pieces = [memoryview(b"".join(pieces))]
    return b"".join(pieces)


def _follow(pieces: list[memoryview], old_size: int, delta: bytes, limit: int) -> tuple[list[memoryview], int]:
    """The pieces of the text that `delta` makes of a text in pieces, and its size."""
    reader = _Reader(delta)
    if reader.varint() != old_size:
        raise DeltaError("the delta was made for a text of another size")
    new_size = reader.varint()
    if new_size > limit:
        raise DeltaError(f"the delta makes a text of {new_size} bytes, more than {limit}")
    control = _Reader(reader.section(CONTROL_MAX, b""))
    numbers = control.varints()
    if len(numbers) % 3:
        raise DeltaError("the control part of the delta ends within a step")
    copies, skips, inserts = numbers[0::3], numbers[1::3], numbers[2::3]
    rest = old_size - sum(copies) - sum(skips)
    if rest < 0 or new_size != sum(copies) + sum(inserts) + rest:
        raise DeltaError("the steps of the delta do not fit its sizes")
    old, made = _Pieces(pieces), []
    for group in _groups(skips):
        kept: list[list[memoryview]] = []
        removed: list[memoryview] = []
        for copy, skip in zip(copies[group], skips[group], strict=True):
            kept.append(old.take(copy))
            removed += old.take(skip)
        size = sum(inserts[group])
        literals = memoryview(reader.section(size, b"".join(removed)) if size else b"")
        if len(literals) != size:
            raise DeltaError("the delta holds less text than its steps insert")
        at = 0
        for copied, insert in zip(kept, inserts[group], strict=True):
            made += copied
            if insert:
                made.append(literals[at : at + insert])
            at += insert
    reader.finish()
    return made + old.take(rest), new_size


class _Pieces:
    """A text in pieces, taken from its front."""

    def __init__(self, pieces: list[memoryview]) -> None:
        self._pieces = pieces
        self._index = 0  # of the piece that is next
        self._at = 0  # and how much of it was taken

    def take(self, size: int) -> list[memoryview]:
        """The next `size` bytes, which are there."""
        taken = []
        while size:
            piece = self._pieces[self._index]
            part = piece[self._at : self._at + size]
            taken.append(part)
            size -= len(part)
            self._at += len(part)
            if self._at == len(piece):
                self._index, self._at = self._index + 1, 0
        return taken


class _Reader:
    """The numbers and sections of a delta, from its front. Raises DeltaError where it ends early or says what cannot be."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def varint(self) -> int:
        """The next number: 7 bits a byte, the lowest first; all bytes but the last have the top bit."""
        number = 0
        for shift in range(0, 7 * VARINT_MAX, 7):
            if self._at == len(self._data):
                raise DeltaError("the delta is cut off within a number")
            byte = self._data[self._at]
            self._at += 1
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
        raise DeltaError("the delta holds a number that is too large")

    def varints(self) -> list[int]:
        """All numbers that are left."""
        numbers = []
        while self._at < len(self._data):
            numbers.append(self.varint())
        return numbers

    def section(self, limit: int, dictionary: bytes) -> bytes:
        """The content of the next section, at most `limit` bytes."""
        size, deflated = divmod(self.varint(), 2)
        data = self._data[self._at : self._at + size]
        if len(data) < size:
            raise DeltaError("the delta is cut off within a section")
        self._at += size
        if deflated:
            return _inflate(zlib.decompressobj(RAW_DEFLATE, zdict=dictionary), data, limit)
        if size > limit:
            raise DeltaError(f"a section of the delta holds {size} bytes, more than {limit}")
        return data

    def finish(self) -> None:
        if self._at < len(self._data):
            raise DeltaError(f"{len(self._data) - self._at} bytes follow the end of the delta")


def _steps(hunks: Sequence[Hunk]) -> list[Hunk]:
    """The hunks; one that removes more than a dictionary holds is cut into parts that replace like shares."""
    steps = []
    for hunk in hunks:
        old, new = hunk.old_end - hunk.old_start, hunk.new_end - hunk.new_start
        parts = max(1, -(-old // DICTIONARY_MAX))
        for part in range(parts):
            old_start, old_end = (hunk.old_start + old * cut // parts for cut in (part, part + 1))
            new_start, new_end = (hunk.new_start + new * cut // parts for cut in (part, part + 1))
            steps.append(Hunk(old_start, old_end, new_start, new_end))
    return steps


def _groups(skips: Sequence[int]) -> list[slice]:
    """The steps that share a section: as many as remove no more than a dictionary holds, or one alone."""
    groups = []
    first = removed = 0
    for number, skip in enumerate(skips):
        if removed + skip > DICTIONARY_MAX and number > first:
            groups.append(slice(first, number))
            first, removed = number, 0
        removed += skip
    groups.append(slice(first, len(skips)))
    return groups


def _control(steps: Sequence[Hunk]) -> bytes:
    parts = []
    at = 0
    for step in steps:
        parts += [_varint(step.old_start - at), _varint(step.old_end - step.old_start), _varint(step.new_end - step.new_start)]
        at = step.old_end
    return b"".join(parts)


def _varint(number: int) -> bytes:
    data = bytearray()
    while number >= 0x80:
        data.append((number & 0x7F) | 0x80)
        number >>= 7
    data.append(number)
    return bytes(data)


def _section(content: bytes, dictionary: bytes) -> bytes:
    """The content as it is, or deflated where that is shorter."""
    deflate = zlib.compressobj(LEVEL, zlib.DEFLATED, RAW_DEFLATE, zdict=dictionary)
    deflated = deflate.compress(content) + deflate.flush()
    if len(deflated) < len(content):
        return _varint(len(deflated) << 1 | 1) + deflated
    return _varint(len(content) << 1) + content


def _inflate(inflate: zlib._Decompress, data: bytes, limit: int) -> bytes:
    """All that `data` holds, which is at most `limit` bytes."""
    try:
        text = inflate.decompress(data, limit + 1)
    except zlib.error as error:
        raise DeltaError(f"deflated text cannot be read: {error}") from error
    if len(text) > limit:
        raise DeltaError(f"deflated text is longer than {limit} bytes")
    if not inflate.eof or inflate.unused_data:
        raise DeltaError("deflated text is cut off, or followed by more")
    return text
