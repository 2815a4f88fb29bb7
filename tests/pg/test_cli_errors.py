"""Databases, tenants and settings from the command line; and every wrong input with its one line and its status."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tarbox_core.drivers import embedded
from tests.conftest import FAST
from tests.pg.cli import Tarbox, fresh

COMMAND = [sys.executable, "-m", "tarbox_cli"]


@pytest.fixture
def tarbox(schema_url: str, tmp_path: Path) -> Iterator[Tarbox]:
    with fresh(schema_url, tmp_path) as command:
        yield command


# --- databases


def test_init_and_the_schema(pg_url: str, tmp_path: Path) -> None:
    tarbox = Tarbox(pg_url, tmp_path)
    assert "run tarbox init" in tarbox.fails("tenant", "list")
    assert "run tarbox init" in tarbox.fails("ls", "/")
    assert b"the database is ready: schema version" in tarbox("init")
    assert b"nothing to do: the schema is at version" in tarbox("init")
    shown = tarbox.json("init", "--database-url", pg_url)
    assert shown["schema_version"] == shown["schema_version_before"] > 0 and not shown["embedded"]
    assert tarbox.json("tenant", "list") == []
    assert tarbox("tenant", "list") == b""


def test_a_newer_schema_is_refused(pg_url: str, tmp_path: Path, pg_server: Any) -> None:
    tarbox = Tarbox(pg_url, tmp_path)
    tarbox("init")
    connection = pg_server.connect(pg_url.split("/")[3].split("?")[0])
    connection.run("insert into schema_version (version) values (999)")
    connection.close()
    for words in (["init"], ["tenant", "list"], ["ls", "/"]):
        assert "schema 999" in tarbox.fails(*words) and "upgrade tarbox" in tarbox.fails(*words)


def test_databases_that_cannot_be_reached(tmp_path: Path, pg_url: str) -> None:
    nothing = Tarbox("postgresql://nobody:secret@127.0.0.1:1/none", tmp_path)
    said = nothing.fails("ls", "/")
    assert "127.0.0.1" in said and "secret" not in said
    assert "secret" not in nothing.fails("init")
    assert "does_not_exist" in Tarbox(pg_url.replace(pg_url.split("/")[3].split("?")[0], "does_not_exist"), tmp_path).fails("ls")
    assert "postgresql://" in Tarbox("mysql://x/y", tmp_path).fails("ls")


def test_a_wrong_password(server_home: Path, tmp_path: Path) -> None:
    import pg8000.native

    url = embedded.start(server_home, settings=FAST)
    path = str(server_home / "run" / ".s.PGSQL.5432")
    admin = pg8000.native.Connection("postgres", unix_sock=path, database="postgres")
    admin.run("alter role tarbox password 'right'")
    access = server_home / "data" / "pg_hba.conf"
    usual = access.read_text()
    access.write_text("local all all scram-sha-256\n")
    admin.run("select pg_reload_conf()")
    admin.close()
    deadline = time.monotonic() + 30
    wrong = Tarbox(url.replace("tarbox@", "tarbox:wr0ng@"), tmp_path)
    while subprocess.run([*COMMAND, "init"], env=wrong.env, capture_output=True, check=False).returncode == 0:  # until the server has read its file
        assert time.monotonic() < deadline
    said = wrong.fails("ls", "/")
    assert "password" in said and "wr0ng" not in said
    Tarbox(url.replace("tarbox@", "tarbox:right@"), tmp_path)("init")
    access.write_text(usual)  # as whoever stops the server expects it
    os.kill(int((server_home / "data" / "postmaster.pid").read_text().split()[0]), signal.SIGHUP)


def test_the_database_goes_away_in_the_middle(server_home: Path, tmp_path: Path) -> None:
    tarbox = Tarbox(embedded.start(server_home, settings=FAST), tmp_path)
    tarbox("init")
    tarbox("tenant", "create", tarbox.tenant)
    with subprocess.Popen([*COMMAND, "write", "/f"], env=tarbox.env, stdin=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0) as process:
        assert process.stdin is not None and process.stderr is not None
        _feed(process.stdin, 9 << 20)
        embedded.stop(server_home)
        with contextlib.suppress(BrokenPipeError):
            _feed(process.stdin, 20 << 20)
        process.stdin.close()
        said = process.stderr.read().decode()
    assert process.returncode == 1
    assert said.startswith("tarbox: ") and said.count("\n") == 1, said


def _feed(stream: Any, size: int) -> None:
    while size > 0:
        size -= stream.write(b"x" * min(size, 1 << 20))


def test_the_embedded_database_starts_and_is_made_ready_by_itself(tmp_path: Path) -> None:
    """With HOME of its own, as a user: the first command of all makes a tenant. Two at once share one server."""
    if os.geteuid() == 0:
        pytest.skip("root's embedded server lives in a fixed place")
    env = {key: value for key, value in os.environ.items() if not key.startswith(("TARBOX_", "DATABASE_URL", "XDG_"))} | {"HOME": str(tmp_path)}
    try:
        both = [subprocess.Popen([*COMMAND, "tenant", "create", name], env=env) for name in ("one", "two")]
        assert [process.wait(120) for process in both] == [0, 0]
    finally:
        subprocess.run([*COMMAND, "database", "stop"], env=env, check=True)


# --- where settings come from


def test_tenant_and_database_may_be_named_in_many_places(tarbox: Tarbox, tmp_path: Path, schema_url: str) -> None:
    tarbox("write", "/f", "x")
    bare = {"TARBOX_TENANT": "", "TARBOX_DATABASE_URL": ""}
    t, u = tarbox.tenant, schema_url
    for words in (
        ["--tenant", t, "--database-url", u, "ls", "/"], ["ls", "--tenant", t, "/", "--database-url", u], ["ls", f"--tenant={t}", f"--database-url={u}", "/"],
        [f"--tenant={t}", "ls", "/", "--database-url", u],
    ):
        assert tarbox.run(*words, env=bare).stdout == b"f\n"
    assert tarbox.run("ls", "/", env={"TARBOX_DATABASE_URL": "", "DATABASE_URL": u}).stdout == b"f\n"
    (tmp_path / "some.toml").write_text(f'tenant = "{t}"\n[database]\nurl = "{u}"\n')
    assert tarbox.run("ls", "--config", "some.toml", env=bare).stdout == b"f\n"
    assert tarbox.run("--config", "some.toml", "ls", env=bare).stdout == b"f\n"
    assert tarbox.run("tenant", "--config", "some.toml", "info", "--json", env=bare).stdout.startswith(b"{")
    assert tarbox.run("--tenant", "wrong", "ls", "--tenant", t).stdout == b"f\n"  # the later one


def test_which_tenant(pg_url: str, tmp_path: Path) -> None:
    tarbox = Tarbox(pg_url, tmp_path)
    tarbox("init")
    unnamed = {"TARBOX_TENANT": ""}
    assert "no tenant yet" in tarbox.fails("ls", env=unnamed)
    tarbox("tenant", "create", "one")
    tarbox.run("touch", "/only", env=unnamed)  # the only one there is
    assert tarbox("ls", "--tenant", "one") == b"only\n"
    tarbox("tenant", "create", "two")
    assert "which tenant?" in tarbox.fails("ls", status=2, env=unnamed)


def test_broken_configuration_names_the_line(tarbox: Tarbox, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text('[database]\nurl = "x\n')
    assert tarbox.fails("ls", "--config", "bad.toml").startswith("bad.toml, line 2: not valid TOML")
    (tmp_path / "wrong.toml").write_text("[audit]\nenabled = true\nretention_days = 'long'\n")
    assert tarbox.fails("config", "show", "--config", "wrong.toml").startswith("wrong.toml, line 3: audit.retention_days")
    assert "none.toml" in tarbox.fails("ls", "--config", "none.toml")


def test_config_show(tarbox: Tarbox, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('[database]\nurl = "postgresql://u:topsecret@h/d"\n[audit]\nretention_days = 7\n')
    env = {"TARBOX_DATABASE_URL": ""}
    shown = tarbox.run("config", "show", "--config", "a.toml", env=env).stdout.decode()
    assert "topsecret" not in shown and "a.toml, line 4" in shown
    import json

    value = json.loads(tarbox.run("config", "show", "--config", "a.toml", "--json", env=env).stdout)
    assert value["settings"]["audit.retention_days"] == 7 and value["origins"]["audit.retention_days"] == "a.toml, line 4"
    assert value["settings"]["filesystem.block_size"] == 65536 and value["file"] == "a.toml"
    assert "topsecret" not in json.dumps(value)


# --- tenants


def test_tenants(tarbox: Tarbox) -> None:
    name = tarbox.tenant + ".second"
    made = tarbox.json("tenant", "create", name, "--name", "My AI Agent", "--block-size", "4KiB", "--max-file-size", "1MB")
    assert (made["name"], made["title"], made["block_size"], made["max_file_size"]) == (name, "My AI Agent", 4096, 1_000_000)
    assert {tarbox.tenant, name} <= {item["name"] for item in tarbox.json("tenant", "list")}
    assert b"My AI Agent" in tarbox("tenant", "list")
    tarbox("--tenant", name, "write", "/f", "12345")
    info = tarbox.json("tenant", "info", name)
    assert (info["files"], info["directories"], info["bytes"], info["head"]) == (1, 1, 5, "main")
    assert b"Title:         My AI Agent\n" in tarbox("tenant", "info", name)
    assert tarbox.fails("tenant", "create", name) == f"a tenant named {name!r} exists already"
    for bad in ("", "-x", "a/b", "a b", "x" * 65, ".hidden", "grüße"):
        assert tarbox.fails("tenant", "create", "--", bad).startswith("bad tenant name")
    assert "bad block size 5000" in tarbox.fails("tenant", "create", "x", "--block-size", "5000")
    for words in (["tenant", "info", "nobody"], ["tenant", "delete", "nobody", "--yes"], ["ls", "--tenant", "nobody", "/"]):
        assert tarbox.fails(*words).startswith("no tenant named 'nobody'")
    assert "--yes" in tarbox.fails("tenant", "delete", name, status=2)
    assert tarbox("tenant", "delete", name, "--yes") == f"tenant {name} deleted\n".encode()
    assert tarbox.fails("tenant", "delete", name, "--yes").startswith("no tenant named")


def test_delete_asks_at_a_terminal(tarbox: Tarbox) -> None:
    name = tarbox.tenant + "x"
    tarbox("tenant", "create", name)
    for answer, status in (("no\n", 1), (name + "\n", 0)):
        leader, follower = pty.openpty()
        process = subprocess.Popen([*COMMAND, "tenant", "delete", name], env=tarbox.env, stdin=follower, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        os.close(follower)
        os.write(leader, answer.encode())
        out, err = process.communicate(timeout=60)
        os.close(leader)
        assert process.returncode == status
        assert b"Type its name to go on: " in err
        assert (b"nothing was done" in err) == bool(status)
        assert (f"tenant {name} deleted\n".encode() == out) == (not status)


# --- files


def test_paths_that_lead_nowhere(tarbox: Tarbox) -> None:
    tarbox("write", "/file", "x")
    tarbox("ln", "-s", "b", "/a")
    tarbox("ln", "-s", "a", "/b")
    for words in (["cat"], ["ls"], ["touch"], ["rm"], ["rmdir"], ["stat"]):
        assert tarbox.fails(*words, "/file/below") == "/file/below: not a directory"
        if words != ["touch"]:
            assert tarbox.fails(*words, "/none") == "/none: no such file or directory"
        assert tarbox.fails(*words, "/a/x") == "/a/x: too many levels of symbolic links"
    assert tarbox.fails("cat", "/a") == "/a: too many levels of symbolic links"
    assert tarbox.fails("mkdir", "/file/d") == "/file/d: not a directory"
    assert tarbox.fails("cat", "/" + "x/" * 2048) .endswith(": name too long")


def test_files_too_large(tarbox: Tarbox) -> None:
    small = Tarbox(tarbox.env["TARBOX_DATABASE_URL"], tarbox.folder)
    small("tenant", "create", small.tenant, "--max-file-size", "100kB")
    assert small.fails("write", "/f", given=b"x" * 100_001) == "/f: file too large"
    small("write", "/g", given=b"x" * 100_000)
    assert small.fails("write", "--append", "/g", "x") == "/g: file too large"
    assert small.json("stat", "/g")[0]["size"] == 100_000


def test_ctrl_c_is_one_line_and_130(tarbox: Tarbox) -> None:
    process = subprocess.Popen([*COMMAND, "write", "/f"], env=tarbox.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None
    deadline = time.monotonic() + 60
    while b"f" not in tarbox("ls", "/").split() and time.monotonic() < deadline:
        process.stdin.write(b"x" * (9 << 20))  # enough to be stored
        process.stdin.flush()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, b"tarbox: interrupted\n")


# --- upkeep


def test_fsck_and_gc(tarbox: Tarbox, schema_url: str, pg_server: Any) -> None:
    tarbox("write", "/big", given=os.urandom(500_000))
    tarbox("write", "/big", given=b"small now")
    swept = tarbox.json("gc")
    assert swept["tenant"] == tarbox.tenant and swept["blocks"] == 8 and swept["bytes"] == 500_000
    assert tarbox("gc") == f"{tarbox.tenant}: removed 0 blocks (0B), 0 unlinked files, 0 strays\n".encode()
    assert tarbox("fsck") == f"{tarbox.tenant}: clean\n".encode()
    ino = tarbox.json("stat", "/big")[0]["inode"]
    connection = pg_server.connect(schema_url.split("/")[3].split("?")[0])
    connection.run("update inode set nlink = 7 where ino = :ino", ino=ino)
    connection.close()
    done = tarbox.run("fsck", status=1)
    assert f"wrong-links: inode {ino} counts 7 links and has 1".encode() in done.stdout and b"--repair mends" in done.stdout
    repaired = tarbox.json("fsck", "--repair")
    assert repaired["clean"] and repaired["findings"][0]["kind"] == "wrong-links" and repaired["findings"][0]["repaired"]
    assert tarbox("fsck") == f"{tarbox.tenant}: clean\n".encode()


# --- mounts: what goes wrong before anything is mounted


def test_mounts_that_cannot_be(tarbox: Tarbox, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    assert "does not exist" in tarbox.fails("mount", "none")
    assert "not empty" in tarbox.fails("mount", "full")
    assert "not a directory" in tarbox.fails("mount", "full/x")
    assert "not a mount of tarbox" in tarbox.fails("umount", "full")
    (tmp_path / "empty").mkdir()
    assert tarbox.fails("mount", "empty", "--tenant", "nobody").startswith("no tenant named 'nobody'")
    (tmp_path / "m.toml").write_text(f'[filesystem]\nmount_point = "{tmp_path}/full"\n')
    assert "not empty" in tarbox.fails("mount", "--config", "m.toml")
