"""The control files of a mount, used as people use them: from a shell, with programs that know nothing of them. What a switch
does to running programs is in test_layers.py, each file's text and refusals in tests/pg/test_control.py."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.fuse.helpers import Mount, run


def shell(mount: Mount, script: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
    return run("bash", "-ec", script, cwd=mount.path, check=check, timeout=60)


def test_echo_and_cat(mount: Mount) -> None:
    said = shell(
        mount,
        """
        echo one > f; mkdir d; echo deep > d/g
        echo "before refactor" > .tarbox/layers/new
        cat .tarbox/layers/current
        rm -r d; echo two > f
        printf 'after\\nall of it\\nreally\\n' > .tarbox/layers/new
        cat .tarbox/layers/list
        cat ".tarbox/layers/diff/before refactor..after"
        cat .tarbox/history/f
        read -r id name < .tarbox/layers/current; test "$name" = after
        echo "before refactor" > .tarbox/layers/switch
        cat f d/g
        echo "$id" > .tarbox/layers/switch
        cat f; test ! -e d
        echo - >> .tarbox/layers/switch
        cat d/g .tarbox/last_error
        """,
    ).stdout.splitlines()
    assert said[0].endswith(" before refactor") and said[1] == "branch main"
    listed = [line.split() for line in said[2:5]]
    assert [(line[0], line[2]) for line in listed] == [("*", "(open)"), ("|", "after"), ("|", "before")] and listed[1][4:] == ["all", "of", "it"]
    assert said[5:8] == ["D\t/d", "D\t/d/g", "M\t/f"]
    assert [line.split()[0] for line in said[8:10]] == ["after", "before"]
    assert said[10:] == ["one", "deep", "two", "deep"]
    layers = json.loads((mount.path / ".tarbox/layers/list.json").read_text())
    assert [layer["name"] for layer in layers[:2]] == ["before refactor", "after"] and layers[1]["message"] == "all of it\nreally"


@pytest.mark.mount_options("--transport", "libfuse")
def test_the_same_through_libfuse(mount: Mount) -> None:
    """Which shows a switch when the kernel has forgotten what it knew, within a second."""
    said = shell(
        mount,
        """
        echo one > f; echo first > .tarbox/layers/new
        echo two > f; echo second >> .tarbox/layers/new; echo third >> .tarbox/layers/new
        cat .tarbox/layers/tree/first/f
        cat .tarbox/layers/list | wc -l; cp .tarbox/layers/list copy; cmp copy .tarbox/layers/list
        cat .tarbox/layers/current > .tarbox/layers/switch
        echo first > .tarbox/layers/switch; sleep 1.5; cat f; test ! -e copy
        """,
    ).stdout
    assert said.split() == ["one", "4", "one"]
    assert "Invalid argument" in shell(mount, "echo a/b > .tarbox/layers/new", check=False).stderr
    assert "bad layer name 'a/b'" in (mount.path / ".tarbox/last_error").read_text()


def test_a_bad_write_fails_in_the_shell_and_last_error_says_why(mount: Mount) -> None:
    cases = [
        ("echo a/b > .tarbox/layers/new", "Invalid argument", "bad layer name 'a/b'"),
        ("echo nowhere > .tarbox/layers/switch", "No such file or directory", "no layer named 'nowhere'"),
        ("cat .tarbox/layers/diff/nowhere..", "No such file or directory", "no layer named 'nowhere'"),
        ("cat .tarbox/layers/tree/nowhere/f", "No such file or directory", "no layer named 'nowhere'"),
    ]
    for script, told, why in cases:
        done = shell(mount, script, check=False)
        assert done.returncode and told in done.stderr, done.stderr
        assert why in shell(mount, "cat .tarbox/last_error").stdout
    forbidden = ("echo x > .tarbox/layers/list", "cat .tarbox/layers/new", "rm .tarbox/stats", "mkdir .tarbox/x", "chmod 7 .tarbox/stats", "touch .tarbox/y")
    for script in forbidden:
        done = shell(mount, script, check=False)
        assert done.returncode and ("Permission denied" in done.stderr or "Operation not permitted" in done.stderr), (script, done.stderr)
    assert "File exists" in shell(mount, "mkdir .tarbox", check=False).stderr


def test_programs_do_not_meet_it_and_can_use_it(mount: Mount, tmp_path: Path) -> None:
    shell(
        mount,
        """
        git init -q . && git config user.email a@b && git config user.name a
        mkdir src && seq 1 30000 > src/numbers && ln -s numbers src/sym && mkfifo src/fifo && touch -d @1000000000.5 src/numbers
        chmod 640 src/numbers && git add -A && git commit -qm one && test -z "$(git status --porcelain)"
        echo good > .tarbox/layers/new
        """,
    )
    tree = mount.path / ".tarbox/layers/tree"
    assert ".tarbox" not in os.listdir(mount.path)
    assert "tarbox" not in shell(mount, "find . ; ls -a; git ls-files").stdout
    assert os.listdir(tree) == ["good"]
    found = shell(mount, "find .tarbox -maxdepth 3 | sort").stdout.split()
    assert ".tarbox/layers/tree/good" in found and ".tarbox/history/src" in found and ".tarbox/stats" in found
    shell(mount, "rm -rf ./* .git")
    assert os.listdir(mount.path) == []
    shell(mount, f"cp -a .tarbox/layers/tree/good {tmp_path}/out && cp -a .tarbox/layers/tree/good/. .")
    for copy in (tmp_path / "out", mount.path):
        assert run("diff", "-r", "--no-dereference", "--exclude=fifo", tree / "good", copy).stdout == ""
        assert (copy / "src/numbers").stat().st_mtime_ns == (tree / "good/src/numbers").stat().st_mtime_ns == 1000000000_500000000
    assert shell(mount, "git status --porcelain; git -C .tarbox/layers/tree/good log --oneline | wc -l").stdout.split() == ["1"]
    assert shell(mount, "cp .tarbox/layers/list copy && cmp copy .tarbox/layers/list; head -c 5 .tarbox/stats; tail -n1 .tarbox/layers/current").stdout
    assert shell(mount, "echo x > .tarbox/layers/tree/good/src/new", check=False).stderr.count("Read-only file system") == 1
    assert shell(mount, "wc -l < .tarbox/history/src/numbers; grep -c . .tarbox/layers/list").stdout.split() == ["1", "2"]
