"""A line of the guest's shell as words: quoting as in POSIX, and patterns that stand for names.

Not here: variables, pipes, redirections and lists of commands; a line with one of these is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

from tarbox_cli.arguments import UsageError

_TOKEN: Final = re.compile(
    r"""(?P<space>\s+)|'(?P<single>[^']*)'|\$'(?P<ansi>(?:[^'\\]|\\.)*)'|"(?P<double>(?:[^"\\]|\\.)*)"|\\(?P<escaped>.)"""
    r"""|(?P<operator>[|&;<>])|(?P<open>['"\\])|(?P<bare>[^\s'"\\|&;<>$]+|\$)""",
    re.DOTALL,
)
_MAGIC: Final = re.compile(r"[*?\[]")
_CODES: Final = {"a": b"\a", "b": b"\b", "t": b"\t", "n": b"\n", "v": b"\v", "f": b"\f", "r": b"\r", "0": b"\0"}


class Word(NamedTuple):
    text: str
    pattern: str | None = None  # for fnmatch, where the word has a *, ? or [ that is not quoted


def split(line: str) -> list[Word]:
    """The words of a line. UsageError."""
    words: list[Word] = []
    parts: list[tuple[str, bool]] = []  # of the word at hand, and whether they are quoted
    at = 0
    while at < len(line) and (parts or line[at] != "#"):
        token = _TOKEN.match(line, at)
        assert token is not None and token.lastgroup is not None  # any character begins one
        kind, at = token.lastgroup, token.end()
        if kind == "operator":
            raise UsageError(f"{token[0]} means nothing here: one command a line, without pipes and redirections (quote it to mean itself)")
        if kind == "open":
            raise UsageError("the line ends in a backslash" if token[0] == "\\" else f"the quote {token[0]} is not closed")
        if kind != "space":
            parts.append((_MEANT[kind](token[kind]), kind != "bare"))
        elif parts:
            words.append(_word(parts))
            parts = []
    return [*words, _word(parts)] if parts else words


def _word(parts: list[tuple[str, bool]]) -> Word:
    text = "".join(part for part, _ in parts)
    if not any(not quoted and _MAGIC.search(part) for part, quoted in parts):
        return Word(text)
    return Word(text, "".join(_MAGIC.sub(r"[\g<0>]", part) if quoted else part for part, quoted in parts))


def _same(text: str) -> str:
    return text


def _double(text: str) -> str:
    return re.sub(r'\\([$`"\\\n])', r"\1", text)


def _ansi(text: str) -> str:
    r"""What stands in $'...': \n and the like, and \xHH for a byte, which is how output.quote writes names."""

    def meant(code: re.Match[bytes]) -> bytes:
        letter = code[1].decode("utf-8", "surrogateescape")
        return bytes((int(code[2], 16),)) if code[2] else _CODES.get(letter, code[1])

    return re.sub(rb"\\(x([0-9a-fA-F]{1,2})|.)", meant, text.encode("utf-8", "surrogateescape"), flags=re.DOTALL).decode("utf-8", "surrogateescape")


_MEANT: Final[dict[str, Callable[[str], str]]] = {"single": _same, "ansi": _ansi, "double": _double, "escaped": _same, "bare": _same}


def expand(words: Iterable[Word], names: Callable[[str], Collection[str]]) -> list[str]:
    """The words with each pattern replaced by the names that match it, sorted; one that nothing matches stays as it is.

    `names`: what is in the directory of a path, "" for the one at hand, with "." and ".."; nothing where there is no directory.
    """
    found: list[str] = []
    for word in words:
        found += (word.pattern is not None and sorted(_matches(word.pattern, names))) or [word.text]
    return found


def _matches(pattern: str, names: Callable[[str], Collection[str]]) -> list[str]:
    """The paths that match; one with a "/" at the end stands for directories, as does all that stands before another "/"."""
    rest = pattern.lstrip("/")
    found = [pattern[: len(pattern) - len(rest)]]
    for part in re.split("(/+)", rest):
        if part.startswith("/"):
            found = [path + part for path in found if "." in names(path)]
        elif _MAGIC.search(part):
            hidden = part.startswith(".")
            fitting = [(path, name) for path in found for name in names(path) if fnmatchcase(name, part) and name not in (".", "..")]
            found = [path + name for path, name in fitting if hidden or not name.startswith(".")]
        elif part:
            found = [path + part for path in found if part in names(path)]
    return found
