"""Finding by name: below a directory, several directories at a time, each find told at once."""

from __future__ import annotations

import fnmatch
import re
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import islice

from tarbox_worker import values
from tarbox_worker.trees import TOGETHER, Found, attributes, together
from tarbox_worker.values import Value


def matcher(words: str) -> Callable[[str], bool]:
    """Whether a name has all words in it, in any order and case; with * or ? in them, whether it matches as a whole."""
    wanted = words.casefold()
    if set(wanted) & set("*?"):
        fits = re.compile(fnmatch.translate(wanted)).match
        return lambda name: fits(name.casefold()) is not None
    each = wanted.split()
    return lambda name: all(word in name.casefold() for word in each)


async def search(top: Found, words: str, limit: int, tell: Callable[[list[Value]], None]) -> bool:
    """Tell the entries that match, with their `path`; whether that were all, and not only the first so many."""
    fits = matcher(words)
    folders = deque([(top.attr.ino, "")])
    while folders:
        some = [folders.popleft() for _ in range(min(TOGETHER, len(folders)))]
        for (_, folder), entries in zip(some, await together(partial(top.entries, *each) for each in some), strict=True):
            named = [(values.text(entry.name), entry) for entry in entries]
            hits = (values.entry(entry.name, attributes(entry)) | {"path": top.inside(_join(folder, name))} for name, entry in named if fits(name))
            if told := list(islice(hits, limit)):
                tell(told)
                limit -= len(told)
            if next(hits, None) is not None:
                return False
            folders += [(entry.ino, _join(folder, name)) for name, entry in named if attributes(entry).is_dir]
    return True


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
