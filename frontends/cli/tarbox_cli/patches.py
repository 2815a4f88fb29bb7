"""Changes as lines: for people, with paths and layers in their headers, and as patches that git and patch take.

Not here: what changed, and how lines are compared; both are the core's. A line is bytes with its newline.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from tarbox_cli.output import iso, kind, octal
from tarbox_cli.users import group_name, user_name
from tarbox_core.compare import Change
from tarbox_core.delta.diff import count, diff
from tarbox_core.delta.hunk import Counts, Hunk
from tarbox_core.delta.text import is_text
from tarbox_core.delta.unified import unified
from tarbox_core.listing import quoted, shown
from tarbox_core.types import Attr

_COLOURS: Final = {b"---": b"\x1b[1m", b"+++": b"\x1b[1m", b"@": b"\x1b[36m", b"-": b"\x1b[31m", b"+": b"\x1b[32m", b"\\": b"", b" ": b""}
_BOLD: Final = b"\x1b[1m"
_PLAIN: Final = b"\x1b[m"
_EMPTY: Final = b"e69de29"  # how git calls an empty content


class Both(NamedTuple):
    """A change with the two contents, and where they differ. None: no text."""

    change: Change
    old: bytes
    new: bytes
    hunks: list[Hunk] | None

    @property
    def counts(self) -> Counts | None:
        return None if self.hunks is None else count(self.old, self.new, self.hunks)

    @property
    def likeness(self) -> int:
        """Per cent of the larger content that is in the other, as git counts a rename's; 100 only for equal ones."""
        if self.old == self.new:
            return 100
        size = max(len(self.old), len(self.new))
        equal = 0 if self.hunks is None else len(self.old) - sum(hunk.old_end - hunk.old_start for hunk in self.hunks)
        return min(99, equal * 100 // size)


def both(change: Change, old: bytes | None, new: bytes | None) -> Both:
    """What `Comparison.contents` answered; contents that are too long are told apart from nothing, and no text."""
    if old is None or new is None or not is_text(old) or not is_text(new):
        return Both(change, b"\0" if old is None else old, b"\0" if new is None else new, None)
    return Both(change, old, new, diff(old, new) if change.content else [])


def coloured(lines: Iterable[bytes]) -> Iterator[bytes]:
    """As git colours them: what is neither a line of a hunk nor its header is bold."""
    inside = False
    for line in lines:
        if line.startswith(b"@@ "):
            inside = True
        elif inside and line[:1] not in (b" ", b"+", b"-", b"\\"):
            inside = False
        colour = _COLOURS[line[:1]] if inside else _BOLD
        bare = line.removesuffix(b"\n")
        yield colour + bare + _PLAIN + b"\n" if colour else line


# --- for people


def readable(found: Both, labels: tuple[str, str], context: int) -> Iterator[bytes]:
    """What became of a path, in words where lines cannot say it, then the lines that differ."""
    change = found.change
    old, new = change.old, change.new
    yield from (line.encode("utf-8", "surrogateescape") + b"\n" for line in _words(change))
    if not change.content or not all(attr is None or stat.S_ISREG(attr.mode) or stat.S_ISLNK(attr.mode) for attr in (old, new)):
        return
    names = [b"/dev/null" if attr is None else quoted(path or b"") for attr, path in ((old, change.old_path), (new, change.path))]
    sides = [name if attr is None else name + f" ({label})".encode() for name, attr, label in zip(names, (old, new), labels, strict=True)]
    if found.hunks is None:
        yield b"Binary files %s and %s differ\n" % (*sides,)
    elif found.hunks:
        yield b"--- %s\n" % sides[0]
        yield b"+++ %s\n" % sides[1]
        yield from unified(found.old, found.new, context=context, hunks=found.hunks)


def _words(change: Change) -> Iterator[str]:
    """What a unified diff has no lines for."""
    path, old, new = shown(change.path), change.old, change.new
    if old is None or new is None:
        attr = new or old
        if attr is not None and not (attr.is_reg and attr.size):
            empty = "empty " if attr.is_reg else ""
            yield f"{'new' if old is None else 'deleted'} {empty}{kind(attr.mode)} {path}"
        return
    if change.status == "R":
        yield f"renamed {shown(change.old_path or b'')} -> {path}"
    if change.status == "T":
        yield f"type {kind(old.mode)} -> {kind(new.mode)} {path}"
    if stat.S_IMODE(old.mode) != stat.S_IMODE(new.mode):
        yield f"mode {octal(old.mode)} -> {octal(new.mode)} {path}"
    if (old.uid, old.gid) != (new.uid, new.gid):
        yield f"owner {_owner(old)} -> {_owner(new)} {path}"
    if change.status == "m" and (old.mode, old.uid, old.gid) == (new.mode, new.uid, new.gid):
        if old.mtime != new.mtime and not new.is_dir:
            yield f"modified {iso(old.mtime)} -> {iso(new.mtime)} {path}"
        elif old.nlink != new.nlink and not new.is_dir:
            yield f"links {old.nlink} -> {new.nlink} {path}"
        else:
            yield f"extended attributes changed {path}"


def _owner(attr: Attr) -> str:
    return f"{user_name(attr.uid)}:{group_name(attr.gid)}"


# --- for programs


def in_patch_order(changes: Iterable[Change]) -> list[Change]:
    """What goes makes room for what comes: `patch` works from top to bottom."""
    return sorted(changes, key=lambda change: (("D", "R").index(change.status) if change.status in "DR" else 2, change.path))


def patch(found: Both, context: int) -> Iterator[bytes]:
    """One file of a patch as git writes it; nothing where git would see no change. `found.hunks` must be known."""
    change = found.change
    if change.status == "T":
        yield from patch(both(change._replace(status="D", path=change.old_path or b"", new=None), found.old, b""), context)
        yield from patch(both(change._replace(status="A", old=None), b"", found.new), context)
        return
    before = _header_name(b"a", change.path if change.old is None else change.old_path or b"")
    after = _header_name(b"b", change.path)
    header = [b"diff --git %s %s\n" % (before, after)]
    if change.old is None and change.new is not None:
        header.append(b"new file mode %o\n" % _git_mode(change.new))
        header += [b"index 0000000..%s\n" % _EMPTY] if not found.hunks else []
    elif change.old is not None and change.new is None:
        header.append(b"deleted file mode %o\n" % _git_mode(change.old))
        header += [b"index %s..0000000\n" % _EMPTY] if not found.hunks else []
    elif change.old is not None and change.new is not None:
        modes = _git_mode(change.old), _git_mode(change.new)
        if modes[0] != modes[1]:
            header += [b"old mode %o\n" % modes[0], b"new mode %o\n" % modes[1]]
        if change.status == "R":
            header.append(b"similarity index %d%%\n" % found.likeness)
            header += [b"rename from %s\n" % quoted((change.old_path or b"")[1:]), b"rename to %s\n" % quoted(change.path[1:])]
    if len(header) == 1 and not found.hunks:
        return
    yield from header
    if found.hunks:
        yield b"--- %s\n" % (b"/dev/null" if change.old is None else _ended(before))
        yield b"+++ %s\n" % (b"/dev/null" if change.new is None else _ended(after))
        yield from unified(found.old, found.new, context=context, hunks=found.hunks)


def _header_name(side: bytes, path: bytes) -> bytes:
    return quoted(side + path)


def _ended(name: bytes) -> bytes:
    """A tab tells where a name with spaces ends."""
    return name + b"\t" if b" " in name else name


def _git_mode(attr: Attr) -> int:
    return 0o120000 if attr.is_symlink else 0o100755 if attr.mode & stat.S_IXUSR else 0o100644


# --- sums


class Sum(NamedTuple):
    """Of one path, for --stat. `counts` None: no text, with the sizes."""

    path: str
    counts: Counts | None
    sizes: tuple[int, int]


def summed(found: Both) -> Sum:
    change = found.change
    path = quoted(change.path).decode()
    if change.old_path not in (None, change.path) and change.new is not None:
        path = f"{quoted(change.old_path or b'').decode()} => {path}"
    sizes = tuple(0 if attr is None else attr.size for attr in (change.old, change.new))
    return Sum(path, found.counts, (sizes[0], sizes[1]))


def table(sums: list[Sum], width: int) -> Iterator[str]:
    """As `git diff --stat`: path, lines that differ, and a graph of them; at the end the totals."""
    longest = max((len(one.path) for one in sums), default=0)
    most = max((one.counts.insertions + one.counts.deletions for one in sums if one.counts), default=0)
    digits = max(len(str(most)), 3 if any(one.counts is None for one in sums) else 1)
    room = max(10, width - longest - digits - 5)
    for one in sums:
        if one.counts is None:
            yield f" {one.path:<{longest}} | {'Bin':>{digits}} {one.sizes[0]} -> {one.sizes[1]} bytes"
        else:
            graph = "+" * _scaled(one.counts.insertions, most, room) + "-" * _scaled(one.counts.deletions, most, room)
            yield f" {one.path:<{longest}} | {one.counts.insertions + one.counts.deletions:>{digits}} {graph}".rstrip()
    come, gone = sum(one.counts.insertions for one in sums if one.counts), sum(one.counts.deletions for one in sums if one.counts)
    parts = [_plural(len(sums), "path", "") + " changed"]
    parts += [_plural(come, "insertion", "(+)")] if come or not gone else []
    parts += [_plural(gone, "deletion", "(-)")] if gone or not come else []
    yield " " + ", ".join(parts)


def _scaled(lines: int, most: int, room: int) -> int:
    """How long a bar is; anything is at least one."""
    return lines if most <= room else max(1, lines * room // most) if lines else 0


def _plural(number: int, word: str, sign: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}{sign}"
