"""On whose behalf a command runs, and the names of this host's users and groups.

WebAssembly knows neither: there a command runs as whoever started the guest, if the host tells, else as root, and users
have numbers only.
"""

from __future__ import annotations

import json
import os
from functools import lru_cache
from typing import NamedTuple

from tarbox_core.types import Caller


class User(NamedTuple):
    """Whom what is made belongs to, and with which permissions it begins."""

    caller: Caller
    umask: int


_told: User | None = None


def whoever() -> User:
    """Who runs this process."""
    if _told is not None:
        return _told
    if not hasattr(os, "geteuid"):
        return User(Caller(pid=os.getpid()), 0o022)
    umask = os.umask(0)
    os.umask(umask)
    return User(Caller(os.geteuid(), os.getegid(), tuple(os.getgroups()), os.getpid()), umask)


def run_as(told: str) -> None:
    """Have this process run for a user, in the words of `written`."""
    global _told
    uid, gid, groups, pid, umask = json.loads(told)
    _told = User(Caller(uid, gid, tuple(groups), pid), umask)


def written(user: User) -> str:
    """A user as one word."""
    caller = user.caller
    return json.dumps([caller.uid, caller.gid, caller.groups, caller.pid, user.umask], separators=(",", ":"))


def find_user(name: str) -> tuple[int, int] | None:
    """The numbers of a user and of its own group; None where there is none of that name."""
    try:
        import pwd

        entry = pwd.getpwnam(name)
    except (ImportError, KeyError):
        return None
    return entry.pw_uid, entry.pw_gid


def find_group(name: str) -> int | None:
    try:
        import grp

        return grp.getgrnam(name).gr_gid
    except (ImportError, KeyError):
        return None


@lru_cache(maxsize=1024)
def user_name(uid: int) -> str:
    """A user's name, or its number."""
    try:
        import pwd

        return pwd.getpwuid(uid).pw_name
    except (ImportError, KeyError, OverflowError):
        return str(uid)


@lru_cache(maxsize=1024)
def group_name(gid: int) -> str:
    try:
        import grp

        return grp.getgrgid(gid).gr_name
    except (ImportError, KeyError, OverflowError):
        return str(gid)
