"""Lines of the guest's shell: quoting as in POSIX, and patterns that stand for names."""

from __future__ import annotations

from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tarbox_cli.arguments import UsageError
from tarbox_cli.output import quote
from tarbox_cli.words import Word, expand, split

TREE = {"": ["a.txt", "b.txt", ".hidden", "dir", "empty", "[x]"], "dir": ["one", "two"], "empty": [], "/": ["etc"], "/etc": ["hosts"]}


def names(path: str) -> Collection[str]:
    found = TREE.get(path.rstrip("/") or path)
    return [] if found is None else [".", "..", *found]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ls -l  /a\tb\n", ["ls", "-l", "/a", "b"]),
        ("'a b' \"c d\" e\\ f", ["a b", "c d", "e f"]),
        ("x'y'\"z\"", ["xyz"]),
        ("'' \"\"", ["", ""]),
        (r'"a\"b\\c\d"', ['a"b\\c\\d']),
        (r"'a\n' $'a\n\x41\xff\''", ["a\\n", "a\nA\udcff'"]),
        ("a#b # rest 'of it", ["a#b"]),
        ("$HOME \\# '|' \\>", ["$HOME", "#", "|", ">"]),
        ("", []),
        ("  # all", []),
    ],
)
def test_words(line: str, expected: list[str]) -> None:
    assert [word.text for word in split(line)] == expected


@pytest.mark.parametrize("line", ["ls | cat", "ls > f", "a && b", "a; b", "cat < f", "echo 'a", 'echo "a', "a\\"])
def test_what_has_no_meaning_here_is_said(line: str) -> None:
    with pytest.raises(UsageError):
        split(line)


@given(st.lists(st.binary(min_size=1, max_size=20).filter(lambda name: b"\0" not in name), max_size=4))
def test_what_is_quoted_is_read_back(given_names: list[bytes]) -> None:
    line = " ".join(quote(name) for name in given_names)
    assert split(line) == [Word(name.decode("utf-8", "surrogateescape")) for name in given_names]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("*.txt", ["a.txt", "b.txt"]),
        ("*", ["[x]", "a.txt", "b.txt", "dir", "empty"]),
        (".*", [".hidden"]),
        ("?.txt [ab].*", ["a.txt", "b.txt", "a.txt", "b.txt"]),
        ("'*' \\*.txt", ["*", "*.txt"]),
        ("'[x'*", ["[x]"]),
        ("d*/t*", ["dir/two"]),
        ("*/", ["dir/", "empty/"]),
        ("/e*/*", ["/etc/hosts"]),
        ("*/one", ["dir/one"]),
        ("none* a.txt", ["none*", "a.txt"]),
    ],
)
def test_patterns_stand_for_names(line: str, expected: list[str]) -> None:
    assert expand(split(line), names) == expected
