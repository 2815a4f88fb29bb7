"""The command line's words: modes as chmod(1) reads them, owners, times, where options may stand, and usage errors."""

from __future__ import annotations

import argparse
import os
import stat
import subprocess
import time
from datetime import datetime
from pathlib import Path

import pytest

from tarbox_cli import arguments
from tarbox_cli.arguments import Parser, UsageError, moment, owner, permissions, tenant_path
from tarbox_cli.commands import COMMANDS, FAMILIES, close_to, find
from tarbox_cli.main import main, parser_of

MODES = [
    "0", "7", "644", "0644", "4755", "7777", "u+x", "+x", "-w", "a-x", "go-rwx", "u=rw", "u=rw,go=r", "a=rX", "u+X", "ug+s", "+t", "o+t", "-t", "u-s", "g=u",
    "o=g", "u+t", "go=u-w", "u+x,g-x", "=r", "=", "u=", "a=rwx,o-w", "ugo+rwx", "u+s,g+s,o+t", "g+xs", "=rwxst", "u=g", "+rwx-x", "u+w-x+r", "o=s",
]


@pytest.mark.parametrize("start", [0o000, 0o644, 0o755, 0o6711, 0o1777, 0o2070])
@pytest.mark.parametrize("folder", [False, True])
def test_modes_are_those_of_chmod(tmp_path: Path, start: int, folder: bool) -> None:
    """Every mode, on a file and on a directory, under a umask: the system's chmod is the judge."""
    umask = 0o027
    for number, word in enumerate(MODES):
        if folder and word[0].isdigit():
            continue  # GNU chmod keeps a directory's set-id bits with an octal mode, as we do not: chmod(2) decides
        path = tmp_path / str(number)
        path.mkdir() if folder else path.touch()
        path.chmod(start)
        before = path.stat().st_mode
        subprocess.run(["sh", "-c", f"umask {umask:o}; exec chmod -- \"$1\" \"$2\"", "sh", word, path], check=False, capture_output=True)
        after = stat.S_IMODE(path.stat().st_mode)
        assert permissions(word)(before, umask) == after, f"{word} on {start:o}"


@pytest.mark.parametrize("word", ["", "8", "10000", "u", "u+q", "+x,", ",", "x", "rwx", "u~x", "0o644", "-1", "u+ug", "²"])
def test_bad_modes_are_refused(word: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="mode"):
        permissions(word)


def test_owners_by_name_and_number() -> None:
    import grp
    import pwd

    user = pwd.getpwuid(0)
    assert owner("root") == (0, None)
    assert owner("root:") == (0, user.pw_gid)
    assert owner("12:34") == (12, 34)
    assert owner(":34") == (None, 34)
    assert owner(f"12:{grp.getgrgid(0).gr_name}") == (12, 0)
    for bad in ("", ":", "nobody-of-that-name", "0:no-group-of-that-name", "4294967295", "-1", "12345678:"):
        with pytest.raises(argparse.ArgumentTypeError):
            owner(bad)


def test_moments() -> None:
    assert moment("@1714559400.000000007") == 1714559400_000000007
    assert moment("@-1.5") == -1_500_000_000
    assert moment("2024-05-01T12:30:00+02:00") == 1714559400 * 10**9
    assert moment("1970-01-01T00:00:00.123456Z") == 123_456_000
    now = time.time_ns()
    for word, ago in (("now", 0), ("1 day ago", 86400), ("90 min ago", 5400), ("2 hours ago", 7200), ("1.5 weeks ago", 907200), (" 1 Day Ago", 86400)):
        assert 0 <= moment(word) - (now - ago * 10**9) < 10**9, word
    midnight = moment("today")
    assert moment(datetime.now().date().isoformat()) == midnight <= now
    assert midnight - 25 * 3600 * 10**9 <= moment("yesterday") <= midnight - 23 * 3600 * 10**9
    for bad in ("last tuesday", "@x", "", "2024-13-01", "ago", "day ago", "-1 day ago", "3 parsecs ago", "999999999 days ago", "@1e99", "@-1e12"):
        with pytest.raises(argparse.ArgumentTypeError):
            moment(bad)


def test_tenant_paths_start_at_the_root_and_are_bytes() -> None:
    assert tenant_path("a/b/") == b"/a/b/"
    assert tenant_path("/a") == b"/a"
    assert tenant_path(os.fsdecode(b"/\xff")) == b"/\xff"
    with pytest.raises(argparse.ArgumentTypeError):
        tenant_path("")


@pytest.mark.parametrize(
    ("words", "command", "expected"),
    [
        ("cp a b --tenant T c", "cp", {"sources": [b"/a", b"/b"], "dest": b"/c", "tenant": "T"}),
        ("cp -r -- -x -y", "cp", {"sources": [b"/-x"], "dest": b"/-y", "recursive": True}),
        ("cp a -r -- -y", "cp", {"sources": [b"/a"], "dest": b"/-y", "recursive": True}),
        ("write /p --tenant=T -5", "write", {"path": b"/p", "content": b"-5", "tenant": "T"}),
        ("write --tenant T /p --append", "write", {"content": None, "append": True, "tenant": "T"}),
        ("mkdir -pm 0700 a", "mkdir", {"parents": True, "paths": [b"/a"]}),
        ("mkdir -pm0700 a b", "mkdir", {"parents": True, "paths": [b"/a", b"/b"]}),
        ("chmod -x f", "chmod", {"paths": [b"/f"], "recursive": False}),
        ("chmod -R -w f g", "chmod", {"paths": [b"/f", b"/g"], "recursive": True}),
        ("ls -lah x", "ls", {"long": True, "all": True, "human": True, "paths": [b"/x"]}),
        ("ls -1 x -t", "ls", {"single": True, "by_time": True, "paths": [b"/x"]}),
        ("ls -- -1", "ls", {"single": False, "paths": [b"/-1"]}),
        ("ls", "ls", {"paths": []}),
    ],
)
def test_options_stand_anywhere(words: str, command: str, expected: dict[str, object]) -> None:
    found = find(command)
    assert found is not None
    parsed = vars(parser_of(found).parse(words.split(" ")[1:], argparse.Namespace(tenant=None)))
    assert {key: parsed[key] for key in expected} == expected


def test_every_command_has_its_function_help_and_example(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    for command in COMMANDS:
        assert command.words in command.example
        assert main([*command.words.split(" "), "--help"]) == 0
        out = capfdbinary.readouterr().out.decode()
        assert f"usage: tarbox {command.words}" in out
        assert command.example in out
        assert "--tenant" in out
        arguments_of, run = command.load()
        assert callable(arguments_of) and callable(run)


def test_the_overview_names_every_command(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    for words in (["--help"], ["-h"]):
        assert main(words) == 0
        out = capfdbinary.readouterr().out.decode()
        assert all(f"  {command.words} " in out and command.example in out for command in COMMANDS)
    for family in FAMILIES - {command.words for command in COMMANDS}:
        assert main([*family.split(" "), "--help"]) == 0
        out = capfdbinary.readouterr().out.decode()
        assert all((command.example in out) == command.words.startswith(family + " ") for command in COMMANDS)
        assert main(family.split(" ")) == 0
        assert capfdbinary.readouterr().out.decode() == out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no command given"),
        (["lss", "x"], "no command 'lss'; did you mean 'ls'"),
        (["--tenant", "t", "tenant", "--json", "lst", "x"], "no command 'tenant lst'; did you mean 'tenant list'"),
        (["--layer", "x", "touch", "y"], "--layer is for commands that only read a tenant's tree (see tarbox touch --help)"),
        (["rm", "y", "--layer", "x"], "--layer is for commands that only read a tenant's tree (see tarbox rm --help)"),
        (["tenant", "lst"], "did you mean 'tenant list'"),
        (["unmount"], "did you mean 'umount'"),
        (["xyzzy"], "no command 'xyzzy' (see"),
        (["ls", "--colour"], "unrecognized arguments: --colour (see tarbox ls --help)"),
        (["cat"], "required: PATH"),
        (["put", "a"], "required: DEST"),
        (["chmod", "u+q", "f"], "bad mode 'u+q'"),
        (["tree", "-L", "0", "/"], "not a number from 1 up"),
        (["ls", "--tenant"], "expected one argument"),
        (["mount", "/x", "--transport", "smoke"], "invalid choice: 'smoke'"),
        (["tenant", "create", "x", "--block-size", "many"], "expected a size"),
        (["--verison"], "unrecognized arguments: --verison"),
        (["tenant", "list", "extra"], "unrecognized arguments: extra (see"),
        (["tenant", "list", "--", "--"], "unrecognized arguments: -- (see"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(words: list[str], message: str, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(words) == 2
    out, err = (stream.decode() for stream in capfdbinary.readouterr())
    assert out == ""
    assert message in err
    assert err.startswith("tarbox: ") and err.count("\n") == 1


def test_a_close_command_is_found() -> None:
    assert close_to("mkdri") == "mkdir"
    assert close_to("tenant-list") == "tenant list"
    assert close_to("qqqqqq") is None


def test_usage_errors_name_the_command() -> None:
    parser = Parser(prog="tarbox x", add_help=False)
    parser.command = "x"
    with pytest.raises(UsageError) as caught:
        parser.parse(["--nothing"])
    assert caught.value.command == "x"
    assert arguments.count("3") == 3
