"""Where machine code may be kept. It is trusted as a program is, so only where nobody else can put any: not in the home of
whoever ran `sudo`, and not below a directory that others may write to."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_OTHERS_ENTER: Final = stat.S_IXGRP | stat.S_IXOTH


def cache_folder() -> Path | None:
    """The user's own folder for caches, made where it is not there; None where it cannot be, or another user could come between."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        folder = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        real = folder.resolve()
    except (OSError, RuntimeError):  # no home, or one that cannot be written to
        return None
    return real if sheltered(real) else None


def sheltered(path: Path) -> bool:
    """Whether this user and root alone can change what a path without symbolic links leads to. What is not there yet does not count."""
    me = os.geteuid()
    for each in reversed((path, *path.parents)):
        try:
            found = each.lstat()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        if found.st_uid not in (0, me) or stat.S_ISLNK(found.st_mode):
            return False
        if found.st_mode & _OTHERS_WRITE and not (stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX):
            return False
        if stat.S_ISDIR(found.st_mode) and not found.st_mode & _OTHERS_ENTER:
            return True  # whatever lies below
    return True
