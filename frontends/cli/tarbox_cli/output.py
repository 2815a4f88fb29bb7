"""How things are shown: quoting, JSON, tables, times, modes and sizes, and the two streams they go to.

Not here: what is shown. File names are bytes: on a terminal an odd one is quoted as a shell would take it, in a pipe it
goes out raw, in JSON it is text in which each byte that is not UTF-8 is an escaped surrogate, with `name_base64` beside it.
"""

from __future__ import annotations

import os
import re
import stat
import sys
import time
from collections.abc import Container, Iterable, Iterator, Sequence
from datetime import UTC
from typing import Any, BinaryIO, Final

from tarbox_core.columns import width
from tarbox_core.types import S_IFIFO, S_IFMT

_PLAIN: Final = re.compile(r"[^\s\"'`$\\|&;<>()*?\[\]#~{}!]+\Z")
_NUMBER: Final = re.compile(r"\d+(\.\d+)?[KMGTPE]?")  # with the unit of `human`
_ESCAPES: Final = {0x07: "\\a", 0x08: "\\b", 0x09: "\\t", 0x0A: "\\n", 0x0B: "\\v", 0x0C: "\\f", 0x0D: "\\r", 0x27: "\\'", 0x5C: "\\\\"}
_TYPES: Final = {
    stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink", S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket", stat.S_IFCHR: "character device", stat.S_IFBLK: "block device",
}


class Output:
    """Standard output as bytes. `terminal` decides between quoting and raw names."""

    def __init__(self, stream: BinaryIO, terminal: bool) -> None:
        self._stream = stream
        self.terminal = terminal

    @classmethod
    def standard(cls) -> Output:
        if sys.stdout is None:  # started with descriptor 1 closed
            nothing = os.open(os.devnull, os.O_RDWR)  # for reading, too: it is standard input, where that was closed as well
            return cls(open(nothing, "wb"), False)
        return cls(sys.stdout.buffer, sys.stdout.isatty())

    def write(self, data: bytes | memoryview) -> None:
        self._stream.write(data)

    def line(self, text: str | bytes) -> None:
        self._stream.write((text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")) + b"\n")

    def name(self, name: bytes) -> bytes:
        """A file name or path as this stream wants it."""
        return quote(name).encode() if self.terminal else name

    def json(self, value: Any) -> None:
        """One JSON document."""
        import json

        # backslashreplace writes a lone surrogate as \udcXX, which is also how JSON spells it.
        self._stream.write(json.dumps(value, ensure_ascii=False, indent=2).encode("utf-8", "backslashreplace") + b"\n")

    def table(self, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Columns under their heads; those that hold numbers only are set to the right."""
        lines = [list(head), *(list(row) for row in rows)]
        numbers = {column for column in range(len(head)) if all(_NUMBER.fullmatch(line[column]) for line in lines[1:])}
        for line in columns([[cell.encode("utf-8", "surrogateescape") for cell in line] for line in lines], numbers, gap=b"  "):
            self.line(line.rstrip())

    def fields(self, pairs: Iterable[tuple[str, str | bytes]]) -> None:
        """`Label: value` lines with the values under one another."""
        known = list(pairs)
        width = max(len(label) for label, _ in known) + 1
        for label, value in known:
            self.line(f"{label + ':':{width}} ".encode() + (value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")))

    def flush(self) -> None:
        self._stream.flush()


def complain(message: str) -> None:
    """One line on standard error, after whatever was printed before it."""
    if sys.stderr is None:
        return
    line = "".join(ch if ch.isprintable() else ch.encode("unicode_escape", "surrogatepass").decode() for ch in message)
    sys.stderr.write(f"tarbox: {line}\n")
    sys.stderr.flush()


def describe(error: Exception) -> str:
    """An error as `PATH: what is wrong`, in words of one style for the tenant's files and the host's."""
    if isinstance(error, OSError):
        words = (error.strerror or str(error) or type(error).__name__).lower()
        return f"{text(os.fsencode(error.filename))}: {words}" if error.filename is not None else f"standard output: {words}"
    return str(error)


def quote(name: bytes) -> str:
    """The name as a shell would take it: plain where it can be, else '...' or $'...'."""
    try:
        text = name.decode()
    except UnicodeDecodeError:
        text = ""
    if text and text.isprintable():
        if _PLAIN.match(text) and text[0] not in "-=":
            return text
        if "'" not in text:
            return f"'{text}'"
    if not name:
        return "''"
    parts = []
    for ch in name.decode("utf-8", "surrogateescape"):
        code = ord(ch)
        if 0xDC80 <= code <= 0xDCFF:
            parts.append(f"\\x{code - 0xDC00:02x}")
        elif code in _ESCAPES:
            parts.append(_ESCAPES[code])
        elif ch.isprintable():
            parts.append(ch)
        else:
            parts.extend(f"\\x{byte:02x}" for byte in ch.encode())
    return "$'" + "".join(parts) + "'"


def text(name: bytes) -> str:
    """A name as text, undecodable bytes as surrogates."""
    return name.decode("utf-8", "surrogateescape")


def named(key: str, name: bytes) -> dict[str, str]:
    """A name's entries in a JSON object: `key`, and `key_base64` where it is not UTF-8."""
    shown = {key: text(name)}
    try:
        name.decode()
    except UnicodeDecodeError:
        import base64

        shown[f"{key}_base64"] = base64.b64encode(name).decode()
    return shown


def kind(mode: int) -> str:
    """The file type as a word."""
    return _TYPES.get(mode & S_IFMT, "unknown")


def symbolic(mode: int) -> str:
    """As ls shows it: drwxr-xr-x."""
    letter = {S_IFIFO: "p", stat.S_IFSOCK: "s"}.get(mode & S_IFMT)  # which WASI takes for one another
    return stat.filemode(mode) if letter is None else letter + stat.filemode(mode)[1:]


def octal(mode: int) -> str:
    return f"{stat.S_IMODE(mode):04o}"


def iso(ns: int) -> str:
    """Nanoseconds since the epoch in UTC, ISO 8601 with nine decimals: exact, and sorts as text."""
    seconds, rest = divmod(ns, 1_000_000_000)
    return f"{_clock(seconds, True)}.{rest:09d}Z"


def local(ns: int) -> str:
    """A time for people: local, to the minute."""
    return _clock(ns // 1_000_000_000, False)[:16]


def _clock(seconds: int, utc: bool) -> str:
    from datetime import datetime, timedelta

    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    if not utc:
        try:
            offset = time.localtime(seconds).tm_gmtoff
        except (OverflowError, OSError, ValueError):
            offset = 0
        return (moment + timedelta(seconds=offset)).strftime("%Y-%m-%d %H:%M:%S")
    return moment.strftime("%Y-%m-%dT%H:%M:%S")


def human(size: float) -> str:
    """Bytes in at most four characters and a unit: 999, 1.5K, 234M (powers of 1024)."""
    if size < 1024:
        return str(int(size))
    for unit in "KMGTP":
        size /= 1024
        if size < 9.95:
            return f"{size:.1f}{unit}"
        if size < 1023.5:
            return f"{size:.0f}{unit}"
    return f"{size / 1024:.1f}E"


def columns(rows: Sequence[Sequence[bytes]], right: Container[int], gap: bytes = b" ") -> Iterator[bytes]:
    """Rows of cells as padded lines; the columns in `right` are set to the right, the last one is not padded."""
    if not rows:
        return
    taken = [[width(text(cell)) for cell in row] for row in rows]
    widths = [max(column) for column in zip(*taken, strict=True)]
    last = len(widths) - 1
    for row, ours in zip(rows, taken, strict=True):
        spaces = [b" " * (most - own) for most, own in zip(widths, ours, strict=True)]
        yield gap.join(
            spaces[column] + cell if column in right else cell if column == last else cell + spaces[column] for column, cell in enumerate(row)
        )
