"""Unified output: what patch and git make of it is the new text; it looks like git's."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest

from tarbox_core.delta.unified import unified
from tests.unit import texts

LONG = [b"line %d\n" % n for n in range(200)]
HEADER = b"diff --git a/f b/f\n--- a/f\n+++ b/f\n"


def run(folder: Path, *command: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CEILING_DIRECTORIES": str(folder.parent)}
    return subprocess.run(command, cwd=folder, input=stdin, env=environment, capture_output=True, timeout=60)


def few(numbers: random.Random) -> bytes:
    """Up to 30 lines of few kinds, with and without a newline at the end."""
    lines = numbers.choices((b"a\n", b"b\n", b"\n", b"c\r\n", b"d d\n", b"-- x\n", b"++ y\n"), k=numbers.randrange(30))
    return b"".join(lines) + numbers.choice((b"", b"z", b"a\r"))


def random_pair(seed: int) -> tuple[bytes, bytes]:
    numbers = random.Random(seed)
    if seed % 2:
        return few(numbers), few(numbers)
    return b"".join(LONG), b"".join(texts.change_lines(LONG, numbers.choice((0.01, 0.1)), seed)) + numbers.choice((b"", b"end"))


PAIRS = [
    (b"", b"a\n"), (b"", b"a"), (b"a\n", b""), (b"a", b""), (b"a", b"a\n"), (b"a\n", b"a"), (b"a", b"b"), (b"a\nb", b"a\nc"), (b"a\nb", b"x\na\nb"),
    (b"a\r\nb\r\n", b"a\r\nc\r\n"), (b"a\r\n", b"a\n"), (b"\n", b"\n\n"),
    *(random_pair(seed) for seed in range(40)),
]  # fmt: skip


@pytest.mark.parametrize("context", [0, 1, 3])
def test_patch_and_git_make_the_new_text_of_the_old(context: int, tmp_path: Path) -> None:
    """All pairs in one patch of many files; git needs to be told that a patch has no context."""
    for program in ("patch", "git"):
        (tmp_path / program).mkdir()
    whole = b""
    pairs = {f"f{number}": pair for number, pair in enumerate(PAIRS) if pair[0] != pair[1]}
    for name, (old, new) in pairs.items():
        body = b"".join(unified(old, new, context=context))
        assert body.startswith(b"@@ -")
        whole += HEADER.replace(b"/f", b"/" + name.encode()) + body
        for program in ("patch", "git"):
            (tmp_path / program / name).write_bytes(old)
    patched = run(tmp_path / "patch", "patch", "-p1", "--binary", "--fuzz=0", stdin=whole)
    assert patched.returncode == 0, patched.stdout
    assert b"offset" not in patched.stdout
    applied = run(tmp_path / "git", "git", "apply", "--whitespace=nowarn", *(["--unidiff-zero"] if context == 0 else []), stdin=whole)
    assert applied.returncode == 0, applied.stderr
    for name, (_, new) in pairs.items():
        for program in ("patch", "git"):
            path = tmp_path / program / name
            assert (path.read_bytes() if path.exists() else b"") == new, f"{program} {name}"  # patch removes what it empties


@pytest.mark.parametrize("seed", [0, 2, 4])
def test_it_reads_as_what_git_prints(seed: int, tmp_path: Path) -> None:
    """Where no line repeats there is but one answer."""
    old = b"".join(LONG)
    new = b"".join(texts.change_lines(LONG, 0.05, seed))[: -1 if seed else None]
    (tmp_path / "old").write_bytes(old)
    (tmp_path / "new").write_bytes(new)
    for context in (0, 1, 3, 10):
        printed = run(tmp_path, "git", "diff", "--no-index", f"-U{context}", "old", "new").stdout
        git = [line.partition(b" @@")[0] + b" @@\n" if line.startswith(b"@@") else line for line in printed.splitlines(keepends=True)[4:]]
        assert list(unified(old, new, context=context)) == git


def test_ranges() -> None:
    assert list(unified(b"", b"a\n")) == [b"@@ -0,0 +1 @@\n", b"+a\n"]
    assert list(unified(b"a\nb\n", b"")) == [b"@@ -1,2 +0,0 @@\n", b"-a\n", b"-b\n"]
    assert list(unified(b"a\nb\nc\n", b"a\nc\n", context=0)) == [b"@@ -2 +1,0 @@\n", b"-b\n"]
    assert list(unified(b"same\n", b"same\n")) == []


def test_a_missing_newline_is_said_of_each_side() -> None:
    said = b"\\ No newline at end of file\n"
    assert list(unified(b"a", b"b")) == [b"@@ -1 +1 @@\n", b"-a\n", said, b"+b\n", said]
    assert list(unified(b"a\nz", b"b\nz")) == [b"@@ -1,2 +1,2 @@\n", b"-a\n", b"+b\n", b" z\n", said]
    assert list(unified(b"a\n", b"a")) == [b"@@ -1 +1 @@\n", b"-a\n", b"+a\n", said]
