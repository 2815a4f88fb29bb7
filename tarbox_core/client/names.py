"""Paths as programs give them: str, bytes or os.PathLike, from the root whether or not they begin with "/"."""

from __future__ import annotations

import os

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]


def given(path: Path) -> str | bytes:
    """What an error calls it."""
    return os.fspath(path)


def encoded(path: Path) -> bytes:
    """Its bytes. ValueError for a NUL, as from os.stat."""
    plain = os.fspath(path)
    raw = plain.encode("utf-8", "surrogateescape") if isinstance(plain, str) else plain
    if b"\0" in raw:
        raise ValueError("embedded null byte")
    return raw


def absolute(path: Path) -> bytes:
    """The path from the root; "" stays, and is nowhere. ValueError as `encoded`."""
    raw = encoded(path)
    return raw if not raw or raw.startswith(b"/") else b"/" + raw


def text(name: bytes) -> str:
    """A name for programs: bytes that are not UTF-8 become lone surrogates, which `absolute` and os.fsencode undo."""
    return name.decode("utf-8", "surrogateescape")


def join(folder: str, name: str) -> str:
    return name if not folder else f"{folder}{name}" if folder.endswith("/") else f"{folder}/{name}"
