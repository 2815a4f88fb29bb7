"""What went wrong, as Python programs expect it: POSIX failures are OSError and its kinds, with errno, text and the names given."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from tarbox_core.client.names import Path, given
from tarbox_core.errors import FsError


@contextmanager
def naming(*paths: Path) -> Iterator[None]:
    """An FsError inside becomes the OSError of its number, about these paths: one, or two as of a rename."""
    try:
        yield
    except FsError as error:
        raise failure(error, *paths) from error


def failure(error: FsError, *paths: Path) -> OSError:
    """FileNotFoundError, FileExistsError, PermissionError and so on, as the number has it."""
    words = os.strerror(error.errno)
    if isinstance(error.subject, str):  # no name, but what is the matter
        words = f"{words} ({error.subject})"
    names = [given(path) for path in paths]
    if len(names) == 2:
        return OSError(error.errno, words, names[0], None, names[1])
    if names:
        return OSError(error.errno, words, names[0])
    return OSError(error.errno, words)
