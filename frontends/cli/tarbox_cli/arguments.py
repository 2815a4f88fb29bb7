"""What may stand on the command line: the types of arguments, and a parser that complains in one line.

A type's function object also tells completion what a word is (a path in the tenant, a path of the host, a tenant).
"""

from __future__ import annotations

import argparse
import os
import re
import stat
from collections.abc import Callable
from datetime import UTC
from typing import Final, NoReturn

# Letters of symbolic modes and what they stand for.
_WHO: Final = {"u": stat.S_ISUID | 0o700, "g": stat.S_ISGID | 0o070, "o": stat.S_ISVTX | 0o007}
_PERMISSIONS: Final = {"r": 0o444, "w": 0o222, "x": 0o111}


class UsageError(Exception):
    """The command line makes no sense; exit status 2. `command` names whose --help to read; "" is the program's own."""

    def __init__(self, message: str, command: str = "") -> None:
        self.command = command
        super().__init__(message)


class HelpWanted(Exception):
    """--help stands on the command line."""


class _Help(argparse.Action):
    def __call__(self, *_: object) -> NoReturn:
        raise HelpWanted


class Parser(argparse.ArgumentParser):
    """argparse that raises instead of printing, never guesses at abbreviations, and lets options stand anywhere."""

    command = ""
    takes_layer = True
    notes = ""  # at the end of --help
    passes_on = False  # what stands behind the first word is another program's: `args`, options too
    dashed_words = re.compile(r"-\d+(\.\d+)?\Z")  # look like options and are none

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, self.command)

    def finish(self) -> Parser:
        """Add --help, and -h where the command has no -h of its own. A command without a --layer is to say why it has none."""
        if "--layer" not in self._option_string_actions:
            self.takes_layer = False
            self.add_argument("--layer", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        flags = ["--help"] if "-h" in self._option_string_actions else ["-h", "--help"]
        self.add_argument(*flags, action=_Help, nargs=0, help="show this help")
        return self

    def parse(self, argv: list[str], namespace: argparse.Namespace | None = None) -> argparse.Namespace:
        """As parse_args, with all options first: argparse ends a list of words at the first option behind it."""
        options: list[str] = []
        words: list[str] = []
        passed: list[str] = []
        rest = iter(argv)
        for token in rest:
            if self.passes_on and words:
                passed = [token, *rest]
            elif token == "--" and self.passes_on:
                words.extend(word for word in (next(rest, None),) if word is not None)
            elif token == "--":
                words.extend(rest)
            elif len(token) < 2 or token[0] != "-" or (self.dashed_words.match(token) and token not in self._option_string_actions):
                words.append(token)
            else:
                options.append(token)
                if self.expects_value(token):
                    options.extend(value for value in (next(rest, None),) if value is not None)
        parsed, unknown = self.parse_known_args([*options, "--", *words] if words else options, namespace)
        if words and "--" in unknown:
            unknown.remove("--")  # ours
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        if self.passes_on:
            parsed.args = passed
        return parsed

    def expects_value(self, token: str) -> bool:
        """Whether the word after this option belongs to it."""
        if token.startswith("--"):
            action = self._option_string_actions.get(token)
            return action is not None and action.nargs != 0
        for at, letter in enumerate(token[1:], 1):
            action = self._option_string_actions.get(f"-{letter}")
            if action is not None and action.nargs != 0:
                return at == len(token) - 1
        return False


def at_layer(parser: argparse.ArgumentParser, what: str = "as it was in a layer") -> None:
    """The option --layer of commands that only read a tenant's tree."""
    words = f"{what}: its name, or the beginning of its id"
    parser.add_argument("--layer", metavar="LAYER", type=layer_word, default=argparse.SUPPRESS, help=words)


def no_arguments(parser: argparse.ArgumentParser) -> None:
    """For commands that take nothing beyond the options of every command."""


_standing = b"/"


def standing() -> bytes:
    """Where paths in the tenant start that do not begin with a slash: the root, or where a shell stands."""
    return _standing


def stand(path: bytes) -> None:
    global _standing
    _standing = path


def from_here(path: bytes) -> bytes:
    return path if path.startswith(b"/") else _standing.rstrip(b"/") + b"/" + path


def tenant_path(word: str) -> bytes:
    """A path in the tenant. Outside of a shell it starts at the root whether or not it says so; a trailing slash is kept."""
    path = os.fsencode(word)
    if not path:
        raise argparse.ArgumentTypeError("a path may not be empty")
    return from_here(path)


def host_path(word: str) -> bytes:
    """A path of the host."""
    path = os.fsencode(word)
    if not path:
        raise argparse.ArgumentTypeError("a path may not be empty")
    return path


def host_directory(word: str) -> bytes:
    """A directory of the host."""
    return host_path(word)


def guest_directory(word: str) -> tuple[bytes, bytes]:
    """`GUEST` or `GUEST=PATH`: what a guest of `wasi run` finds at a name, and the directory of the tenant that this is."""
    name, equals, path = word.partition("=")
    if not name or (equals and not path):
        raise argparse.ArgumentTypeError(f"bad directory {word!r}: write GUEST or GUEST=PATH, as in /work=/projects/a")
    return os.fsencode(name), tenant_path(path or name)


def variable(word: str) -> tuple[bytes, bytes]:
    """`NAME=VALUE` of an environment."""
    name, equals, value = os.fsencode(word).partition(b"=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"bad variable {word!r}: write NAME=VALUE")
    return name, value


def seconds(word: str) -> float:
    """A time to wait: `30`, `0.5`, `10s` or `2m`, more than nothing."""
    from tarbox_cli.config import duration

    try:
        found = duration(word)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{word!r} is not a time: {error}") from None
    if not 0 < found <= 1e9:
        raise argparse.ArgumentTypeError(f"{word!r} is not a time: more than nothing is needed")
    return found


def tenant_name(word: str) -> str:
    """The name of a tenant; whether it is a good one is decided where it is used."""
    return word


def layer_word(word: str) -> str:
    """A layer: its name, the beginning of its id, or "head"."""
    return word


def layer_or_path(word: str) -> str:
    """A layer, or a path in the tenant, by where it stands."""
    return word


def layer_range(word: str) -> str:
    """Two layers with ".." between them, or one of the two."""
    return word


def branch_name(word: str) -> str:
    """The name of a branch."""
    return word


def raw_bytes(word: str) -> bytes:
    return os.fsencode(word)


def link_target(word: str) -> bytes:
    """What a link leads to: for a hard link a path in the tenant, for a symbolic one any text."""
    if not word:
        raise argparse.ArgumentTypeError("a link cannot lead to an empty path")
    return os.fsencode(word)


def count(word: str) -> int:
    """A number from 1 up."""
    if not word.isascii() or not word.isdigit() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"{word!r} is not a number from 1 up")
    return int(word)


def token_id(word: str) -> int:
    """The number of a token."""
    return count(word)


def count_or_none(word: str) -> int:
    """A number from 0 up."""
    try:
        return 0 if word == "0" else count(word)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{word!r} is not a number from 0 up") from None


def permissions(word: str) -> Callable[[int, int], int]:
    """A mode, octal or symbolic (`0644`, `u+x,go-w`, `a=rX`), as a function (st_mode, umask) -> permission bits."""
    if word and all(ch in "01234567" for ch in word):
        bits = int(word, 8)
        if bits > 0o7777:
            raise argparse.ArgumentTypeError(f"mode {word} is larger than 7777")
        return lambda mode, umask: bits
    clauses = [_clause(clause, word) for clause in word.split(",")]

    def change(mode: int, umask: int) -> int:
        for who, actions in clauses:
            for sign, letters in actions:
                mode = _apply(mode, umask, who, sign, letters)
        return stat.S_IMODE(mode)

    return change


def _clause(clause: str, word: str) -> tuple[str, list[tuple[str, str]]]:
    rest = clause.lstrip("ugoa")
    who = clause[: len(clause) - len(rest)]
    actions: list[tuple[str, str]] = []
    while rest:
        sign, rest = rest[0], rest[1:]
        letters = rest.lstrip("rwxXst") if rest[:1] not in ("u", "g", "o") else rest[1:]
        taken = rest[: len(rest) - len(letters)]
        if sign not in "+-=" or (letters and letters[0] not in "+-="):
            raise argparse.ArgumentTypeError(f"bad mode {word!r}")
        actions.append((sign, taken))
        rest = letters
    if not actions:
        raise argparse.ArgumentTypeError(f"bad mode {word!r}")
    return who, actions


def _apply(mode: int, umask: int, who: str, sign: str, letters: str) -> int:
    everyone = not who or "a" in who
    reach = 0o7777 if everyone else 0
    for letter in who.replace("a", ""):
        reach |= _WHO[letter]
    bits = 0
    for letter in letters:
        if letter in _PERMISSIONS:
            bits |= _PERMISSIONS[letter]
        elif letter == "X":
            bits |= 0o111 if stat.S_ISDIR(mode) or mode & 0o111 else 0
        elif letter == "s":
            bits |= stat.S_ISUID | stat.S_ISGID
        elif letter == "t":
            bits |= stat.S_ISVTX
        else:
            share = mode >> {"u": 6, "g": 3, "o": 0}[letter] & 7
            bits |= share * 0o111
    bits &= reach
    if not who:
        bits &= ~umask
    if sign == "+":
        return mode | bits
    if sign == "-":
        return mode & ~bits
    keep = stat.S_ISUID | stat.S_ISGID if stat.S_ISDIR(mode) and "s" not in letters else 0  # as GNU chmod: a directory's are not lost by =
    return (mode & ~(reach & ~keep)) | bits


def owner(word: str) -> tuple[int | None, int | None]:
    """`user`, `user:group`, `:group` or `user:` (the user's own group), by name or number, as (uid, gid)."""
    from tarbox_cli.users import find_group, find_user

    user, colon, group = word.partition(":")
    uid: int | None = None
    gid: int | None = None
    if not user and not group:
        raise argparse.ArgumentTypeError(f"bad owner {word!r}")
    if user:
        known = find_user(user)
        if known is not None:
            uid = known[0]
            gid = known[1] if colon and not group else None
        else:
            uid = _number(user, "user")
            if colon and not group:
                raise argparse.ArgumentTypeError(f"user {user} has no group of its own here: write {user}:GROUP")
    if group:
        gid = find_group(group)
        if gid is None:
            gid = _number(group, "group")
    return uid, gid


def _number(word: str, what: str) -> int:
    digits = word.removeprefix("+")
    if digits.isascii() and digits.isdigit() and int(digits) < (1 << 32) - 1:
        return int(digits)
    raise argparse.ArgumentTypeError(f"no {what} {word!r}")


def moment(word: str) -> int:
    """A time as ns since the epoch: `now`, `today`, `yesterday` (when they began), `2 hours ago`, `@SECONDS`, or ISO 8601;
    local where it names no zone."""
    import time
    from datetime import datetime, timedelta
    from decimal import Decimal, InvalidOperation

    given, word = word, word.strip()
    try:
        if word == "now":
            return time.time_ns()
        if word.lower().endswith(" ago"):
            from tarbox_cli.config import duration

            return _known(time.time_ns() - int(duration(word[: -len(" ago")]) * 1_000_000_000))
        if word.startswith("@"):
            return _known(int(Decimal(word[1:]) * 1_000_000_000))
        if word in ("today", "yesterday"):
            parsed = datetime.now().replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=word == "yesterday")
        else:
            parsed = datetime.fromisoformat(word)
        since = parsed.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    except (ValueError, OverflowError, InvalidOperation):
        words = "2024-05-01, 2024-05-01T12:30:00+02:00, @1714559400, '1 day ago', yesterday, today or now"
        raise argparse.ArgumentTypeError(f"{given!r} is not a time: {words}") from None
    return (since.days * 86400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000


def _known(ns: int) -> int:
    """A time that a calendar has: ValueError before the year 1 and after 9999."""
    if not -62_135_596_800 <= ns // 1_000_000_000 < 253_402_300_800:
        raise ValueError("no such time")
    return ns
