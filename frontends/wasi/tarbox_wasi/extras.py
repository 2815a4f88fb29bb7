"""Files that are no tenant's: bytes that never change, and channels that the host answers. They stand in directories of their own.

Such a directory has no directories in it, and nothing in it can be made, moved, changed or removed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from tarbox_wasi import abi
from tarbox_wasi.abi import Errno, Filestat, Filetype, Refused
from tarbox_wasi.descriptors import POLLED_ROOM, STREAM_AT_ONCE, Descriptor, Directory, Entry

if TYPE_CHECKING:
    from tarbox_wasi.world import World


class Channel(Protocol):
    """What the host answers: whoever opens the file writes to it and reads from it. Called by one thread at a time; what it raises is EIO."""

    def write(self, data: bytes) -> int:
        """How many of the bytes were taken."""
        ...

    def read(self, size: int) -> bytes:
        """At most so many bytes; none when there is nothing."""
        ...


Extra = bytes | Channel

_ROOT_INO: Final = 1


class StaticFile(Descriptor):
    """An open file of bytes that are what they are."""

    rights = abi.FILE_RIGHTS & ~(abi.FD_WRITE | abi.FD_ALLOCATE | abi.FD_FILESTAT_SET_SIZE)
    filetype = Filetype.REGULAR_FILE

    def __init__(self, content: bytes, stat: Filestat, base: int, flags: int) -> None:
        super().__init__(base, 0, flags)
        self._content = content
        self._stat = stat

    def unfit(self, right: int) -> Errno:
        return Errno.ROFS if right & abi.FILE_RIGHTS else super().unfit(right)

    def stat(self) -> Filestat:
        return self._stat

    def read(self, size: int) -> bytes:
        data = self.pread(size, self.position)
        self.position += len(data)
        return data

    def pread(self, size: int, offset: int) -> bytes:
        return self._content[offset : offset + size]

    def ready(self, write: bool) -> int | None:
        return max(0, len(self._content) - self.position)


class ChannelFile(Descriptor):
    """An open channel. The host answers without the world's lock."""

    rights = abi.STREAM_RIGHTS
    filetype = Filetype.SOCKET_STREAM

    def __init__(self, world: World, channel: Channel, stat: Filestat, base: int, flags: int) -> None:
        super().__init__(base, 0, flags)
        self._world = world
        self._channel = channel
        self._stat = stat

    def stat(self) -> Filestat:
        return self._stat

    def read(self, size: int) -> bytes:
        with self._world.unlocked():
            return self._channel.read(min(size, abi.AT_ONCE))[:size]

    def write(self, data: bytes | memoryview) -> int:
        with self._world.unlocked():
            return min(len(data), self._channel.write(bytes(data)))

    def ready(self, write: bool) -> int | None:
        return POLLED_ROOM if write else STREAM_AT_ONCE


class FixedDirectory(Directory):
    """A directory of extras. `device` tells it from others."""

    def __init__(self, world: World, extras: Mapping[bytes, Extra], device: int, base: int, inheriting: int, flags: int = 0) -> None:
        super().__init__(base, inheriting, flags)
        self._world = world
        self._extras = extras
        self._device = device
        self._listed = [Entry(1, _ROOT_INO, Filetype.DIRECTORY, b"."), Entry(2, _ROOT_INO, Filetype.DIRECTORY, b"..")] + [
            Entry(number + 2, number + _ROOT_INO, self._kind(extra), name) for number, (name, extra) in enumerate(extras.items(), 1)
        ]

    @staticmethod
    def _kind(extra: Extra) -> Filetype:
        return StaticFile.filetype if isinstance(extra, bytes) else ChannelFile.filetype

    def _find(self, path: bytes) -> Entry:
        """What a path leads to: the directory itself, or a file in it."""
        if path.startswith(b"/"):
            raise Refused(Errno.PERM)
        names = [name for name in path.split(b"/") if name not in (b"", b".")]
        if not path or b".." in names[:1]:
            raise Refused(Errno.PERM if path else Errno.NOENT)
        name = names[0] if names else b"."
        entry = next((entry for entry in self._listed if entry.name == name), None)
        if entry is None:
            raise Refused(Errno.NOENT)
        if names and (len(names) > 1 or path.endswith((b"/", b"/."))):
            raise Refused(Errno.NOTDIR)
        return entry

    def _stat(self, entry: Entry) -> Filestat:
        extra = self._extras.get(entry.name)
        return Filestat(self._device, entry.ino, entry.filetype, 1, len(extra) if isinstance(extra, bytes) else 0)

    def stat(self) -> Filestat:
        return self._stat(self._listed[0])

    def stat_at(self, path: bytes, *, follow: bool) -> Filestat:
        return self._stat(self._find(path))

    def entries(self, cookie: int, count: int) -> Sequence[Entry]:
        return self._listed[cookie : cookie + count]

    def open(self, path: bytes, *, follow: bool, oflags: int, base: int, inheriting: int, flags: int) -> Descriptor:
        try:
            entry = self._find(path)
        except Refused as refused:
            raise Refused(Errno.ROFS) if refused.code == Errno.NOENT and oflags & abi.CREAT else refused from None
        if oflags & abi.CREAT and oflags & abi.EXCL:
            raise Refused(Errno.EXIST)
        extra = self._extras.get(entry.name)
        if extra is None:
            if base & abi.FD_WRITE or oflags & (abi.CREAT | abi.TRUNC):
                raise Refused(Errno.ISDIR)
            return FixedDirectory(self._world, self._extras, self._device, base, inheriting, flags)
        if oflags & abi.DIRECTORY:
            raise Refused(Errno.NOTDIR)
        if not isinstance(extra, bytes):
            return ChannelFile(self._world, extra, self._stat(entry), base, flags)
        if base & abi.FD_WRITE or oflags & abi.TRUNC:
            raise Refused(Errno.ROFS)
        return StaticFile(extra, self._stat(entry), base, flags)
