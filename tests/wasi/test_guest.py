"""The command line inside wasmtime: real commands, a real PostgreSQL behind the gateway, nothing else in sight."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import random
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tarbox_cli.commands import COMMANDS
from tarbox_core.drivers.serving import Served
from tarbox_core.drivers.sync import SyncDriver
from tarbox_core.errors import GatewayError
from tarbox_core.gateway import Grant
from tarbox_core.tenant import attach
from tarbox_wasi import guest
from tests.pg.cli import Tarbox
from tests.tenants import Tenant
from tests.wasi.bundle import built
from tests.wasi.helpers import PATIENCE, Ended

Exec = Callable[..., Ended]

MIB = 1 << 20


@pytest.fixture
def environment(tarbox: Tarbox, request: pytest.FixtureRequest) -> dict[str, str]:
    """A test's own, but for the compiled guest."""
    built()
    assert request.config.cache is not None
    return tarbox.env | {"XDG_CACHE_HOME": str(request.config.cache.mkdir("guest"))}


@pytest.fixture
def wasi(tarbox: Tarbox, environment: dict[str, str]) -> Exec:
    """`tarbox wasi WORDS...` as a process."""

    def run(*words: str | bytes, given: bytes = b"") -> Ended:
        command = [sys.executable, "-m", "tarbox_cli", "wasi", *words]
        done = subprocess.run(command, input=given, capture_output=True, timeout=PATIENCE, cwd=tarbox.folder, env=environment)
        assert b"Traceback" not in done.stderr, done.stderr.decode()
        return Ended(done.returncode, done.stdout, done.stderr.decode())

    return run


def test_commands_print_inside_what_they_print_outside(tarbox: Tarbox, wasi: Exec) -> None:
    tarbox("mkdir", "-p", "/data/logs")
    tarbox("write", "/data/a.txt", "hello\n")
    tarbox("ln", "-s", "a.txt", "/data/link")
    tarbox("write", b"/data/\xff odd\n", "x")
    for words in (("ls", "-laR", "--numeric", "/"), ("stat", "--json", "/data/a.txt"), ("tree", "/")):
        assert wasi("exec", "--", *words) == Ended(0, tarbox(*words), "")


def test_standard_streams_and_the_status_are_the_commands_own(tarbox: Tarbox, wasi: Exec) -> None:
    assert wasi("exec", "--", "write", "/f", given=b"given") == Ended(0, b"", "")
    assert tarbox("cat", "/f") == b"given"
    assert wasi("exec", "cat", "/f", "/none") == Ended(1, b"given", "tarbox: /none: no such file or directory\n")
    assert wasi("exec", "cat", "--frobnicate") == Ended(2, b"", "tarbox: the following arguments are required: PATH (see tarbox cat --help)\n")


def test_sixteen_mebibytes_come_back_as_they_went(tarbox: Tarbox, wasi: Exec) -> None:
    data = random.Random(4).randbytes(16 * MIB + 5)
    assert wasi("exec", "--", "write", "/large", given=data) == Ended(0, b"", "")
    back = wasi("exec", "--", "cat", "/large").out
    assert hashlib.sha256(back).digest() == hashlib.sha256(tarbox("cat", "/large")).digest() == hashlib.sha256(data).digest()


def test_layers_are_made_compared_and_switched_inside(tarbox: Tarbox, wasi: Exec) -> None:
    done = wasi("shell", given=b"write /a.txt $'one\\n'\nlayer create first\nwrite /a.txt $'two\\n'\ndiff\nlayer switch first\ncat /a.txt\n")
    assert (done.status, done.said) == (0, "")
    assert b"--- /a.txt (first)\n+++ /a.txt (head)\n@@ -1 +1 @@\n-one\n+two\n" in done.out
    assert done.out.endswith(b"\none\n")
    assert tarbox("cat", "/a.txt") == b"one\n"
    assert [layer["name"] for layer in tarbox.json("layer", "list") if layer["name"]] == ["first"]


def test_what_is_made_inside_belongs_to_whoever_started_it(tarbox: Tarbox, wasi: Exec) -> None:
    wasi("exec", "--", "mkdir", "/inside")
    tarbox("mkdir", "/outside")
    inside, outside = (tarbox.json("stat", path)[0] for path in ("/inside", "/outside"))
    assert [inside[key] for key in ("uid", "gid", "mode")] == [outside[key] for key in ("uid", "gid", "mode")]
    made = [record for record in tarbox.json("audit", "--operation", "mkdir") if record["path"] == "/inside"]
    assert [record["uid"] for record in made] == [os.geteuid()]


# --- what a guest may not


def test_what_needs_the_host_is_refused_by_name(wasi: Exec) -> None:
    refused = [command.words for command in COMMANDS if not command.inside]
    assert {"init", "tenant list", "gc", "mount", "put", "audit prune", "wasi run", "database status"} <= set(refused)
    done = wasi("shell", given="\n".join(refused).encode())
    told = [f"tarbox: {words} needs the host's files, mounts or database, which a guest does not see: run it outside" for words in refused]
    assert (done.status, done.out, done.said.splitlines()) == (1, b"", told)


def test_another_tenant_or_database_is_out_of_reach(tarbox: Tarbox, wasi: Exec) -> None:
    lines = ("ls --tenant other /", "ls --database-url postgresql://h/d /", f"ls --tenant {tarbox.tenant} /")
    done = wasi("shell", given="\n".join(lines).encode())
    first, second = done.said.splitlines()
    assert f"this guest sees the tenant {tarbox.tenant} alone" in first
    assert "neither databases nor configuration files" in second
    assert done.status == 0


def test_read_only_is_read_only(tarbox: Tarbox, wasi: Exec) -> None:
    tarbox("write", "/f", "kept")
    done = wasi("exec", "--read-only", "--", "rm", "/f")
    assert done.status == 1 and "read-only" in done.line()
    for words in (("touch", "/new"), ("mkdir", "/new"), ("cp", "/f", "/new")):
        done = wasi("exec", "--read-only", "--", *words)
        assert (done.status, done.line()) == (1, "/new: read-only file system")
    assert wasi("exec", "-r", "--", "cat", "/f") == Ended(0, b"kept", "")


def test_upkeep_is_granted_by_whoever_starts_the_guest(tarbox: Tarbox, wasi: Exec) -> None:
    tarbox("layer", "create", "one")
    tarbox("layer", "create", "two")
    words = ("--", "layer", "squash", "one..two", "--yes")
    refused = wasi("exec", *words)
    assert refused.status == 1 and refused.line().endswith("whoever started the guest has not granted it (--upkeep)")
    assert wasi("exec", "--upkeep", *words).status == 0
    assert [layer["name"] for layer in tarbox.json("layer", "list") if layer["name"]] == ["two"]
    assert wasi("exec", "--upkeep", "--", "audit", "verify").status == 0


def test_the_version_is_that_of_the_host(tarbox: Tarbox, wasi: Exec) -> None:
    assert wasi("exec", "--", "--version") == Ended(0, tarbox("--version"), "")


def test_an_unknown_tenant_is_told_by_the_host(wasi: Exec) -> None:
    assert wasi("exec", "--tenant", "nobody", "--", "ls").line().startswith("no tenant named 'nobody'")


SEEN = """
import os, sys
print(sorted(os.environ))
print(sorted(os.listdir("/guest")))
for path in ("/", "/etc/passwd", "/guest/../etc", "/proc/self/environ"):
    try:
        os.stat(path)
        print(path)
    except OSError:
        pass
import socket
try:
    socket.create_connection(("127.0.0.1", 5432))
except Exception as error:
    print("no network")
"""


def test_a_guest_sees_one_file_its_own_modules_and_no_password(tenant: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever runs in there, not our command line only."""
    built()
    monkeypatch.setattr(guest, "_PYTHON", (b"python", b"-c", SEEN.encode()))
    with SyncDriver(tenant.url, tenant.info.role, pool_size=1) as driver, (tmp_path / "out").open("wb") as out:
        attached = driver.run(lambda: attach(tenant.info))
        with Served(tenant.url, attached, Grant()) as served:
            result, trouble = guest.run(guest.load(), [], served.exchange, driver, attached, env={b"TERM": b"dumb"}, stdio=(0, out.fileno(), 2))
    assert (result.exit_code, trouble) == (0, None)
    assert (tmp_path / "out").read_text().splitlines() == ["['TARBOX_GATEWAY', 'TERM']", "['core.zip', 'sql']", "no network"]


def test_the_environment_stays_outside(tarbox: Tarbox, wasi: Exec) -> None:
    """TARBOX_DATABASE_URL is set for the command, and the guest works without it: what it has is told by its own refusal."""
    done = wasi("exec", "--", "config", "show")
    assert tarbox.env["TARBOX_DATABASE_URL"] not in done.said and "needs the host's" in done.line()


def test_a_channel_answers_whole_frames_one_at_a_time() -> None:
    channel = guest.Channel(lambda frame: b"<" + frame[4:] + b">")
    for byte in b"\0\0\0\3abc":
        assert channel.write(bytes((byte,))) == 1
    assert [channel.read(2), channel.read(9), channel.read(9)] == [b"<a", b"bc>", b""]
    assert channel.write(b"\0\0\0\1x") == 5
    with pytest.raises(GatewayError, match="before the answer"):
        channel.write(b"\0\0\0\1y")
    assert channel.read(9) == b"<x>"
    with pytest.raises(GatewayError, match="is the limit"):
        channel.write(b"\xff\xff\xff\xff")
    assert channel.write(b"\0\0\0\1z") == 5
    assert channel.read(9) == b"<z>"


# --- the shell


def test_a_script_stands_somewhere_and_globs(tarbox: Tarbox, wasi: Exec) -> None:
    script = r"""
# comments and empty lines
mkdir -p '/data/sub dir' /data/.hidden
cd data
pwd
write 'a b.txt' one
write c.txt two
ls *.txt
cat * # a directory among them
cd "sub dir"
ln ../c.txt hard
ln -s ../c.txt soft
cat soft hard ../a*
cd -
cd nowhere
cd c.txt
tarbox ls
cd
tarbox pwd
exit
"""
    done = wasi("shell", given=script.encode())
    assert done.out.decode() == (
        "/data\n/data/a b.txt\n/data/c.txt\nonetwotwotwoone/data\na b.txt\nc.txt\nsub dir\n/\n"
    )
    assert done.said.splitlines() == [
        "tarbox: /data/sub dir: is a directory", "tarbox: /data/nowhere: no such file or directory", "tarbox: /data/c.txt: not a directory",
    ]  # fmt: skip
    assert done.status == 0
    assert tarbox.names("/data/sub dir") == [b"hard", b"soft"]


@pytest.mark.parametrize(("script", "status"), [(b"exit 3\nls /none", 3), (b"ls /none", 1), (b"ls /none\nls /", 0), (b"ls |", 2), (b"frob", 2), (b"", 0)])
def test_the_status_is_that_of_the_last_command_or_of_exit(wasi: Exec, script: bytes, status: int) -> None:
    done = wasi("shell", given=script)
    assert (done.status, done.out) == (status, b"")


@pytest.fixture
def terminal(tarbox: Tarbox, environment: dict[str, str]) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """The shell on a terminal of its own: the terminal's other end, and the process."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "tarbox_cli", "wasi", "shell"]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=tarbox.folder, env=environment, start_new_session=True)
    os.close(theirs)
    try:
        yield ours, process
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def until(terminal: int, wanted: bytes) -> bytes:
    """What a terminal shows up to some words."""
    shown = b""
    deadline = time.monotonic() + PATIENCE
    while wanted not in shown:
        assert select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))[0], shown
        shown += os.read(terminal, 4096)
    return shown


def test_a_terminal_is_prompted(tarbox: Tarbox, terminal: tuple[int, subprocess.Popen[bytes]]) -> None:
    ours, process = terminal
    name = tarbox.tenant.encode()
    until(ours, name + b":/ $ ")
    os.write(ours, b"mkdir -p '/a b'\n")
    until(ours, name + b":/ $ ")
    os.write(ours, b"cd '/a b'\n")
    until(ours, name + b":'/a b' $ ")
    os.write(ours, b"help\n")
    shown = until(ours, name + b":'/a b' $ ")
    assert b"cd [DIR]" in shown and b"layer create" in shown and b"tarbox mount" not in shown
    os.write(ours, b"write typed\nabc\n\x04")
    until(ours, b"$ ")
    assert tarbox("cat", "/a b/typed") == b"abc\n"
    os.write(ours, b"\x04")
    assert process.wait(PATIENCE) == 0


def test_json_and_branches_are_told_to_the_guest(tarbox: Tarbox, wasi: Exec) -> None:
    tarbox("layer", "branch", "other")
    assert json.loads(wasi("exec", "--json", "--branch", "other", "--", "layer", "current").out)["branch"] == "other"
