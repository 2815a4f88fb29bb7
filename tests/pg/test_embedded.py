"""The embedded server's life: made, found, shared, killed, stopped; and what a person is told when it cannot be."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pg8000.native
import pytest

from tarbox_core.drivers import embedded, postgres_wheel
from tarbox_core.errors import ConnectError

FAST = {"fsync": "off", "shared_buffers": "32MB"}
ROOT = Path(__file__).resolve().parents[2]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs another user, or a mount of its own")
STARTER = "import sys; from pathlib import Path; from tarbox_core.drivers import embedded; print(embedded.start(Path(sys.argv[1])))"


def connect(url: str, user: str | None = None) -> Any:
    parts = urlsplit(url)
    return pg8000.native.Connection(user or parts.username or "", unix_sock=parse_qs(parts.query)["host"][0] + "/.s.PGSQL.5432", database=parts.path[1:])


def ask(url: str, sql: str, user: str | None = None) -> Any:
    connection = connect(url, user)
    try:
        return connection.run(sql)
    finally:
        connection.close()


def starter(home: Path) -> subprocess.Popen[str]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", STARTER, home], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd="/")


def start_as(uid: int, home: Path | None) -> str:
    """What `start` returns, or says when it fails, in a child process of that user. Forked: he may not be able to enter our Python."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            try:
                answer = embedded.start(home)
            except ConnectError as error:
                answer = str(error)
            os.write(writer, answer.encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        answer = stream.read()
    os.waitpid(child, 0)
    return answer


def pid_of(home: Path) -> int:
    pid = embedded.status(home).pid
    assert pid is not None
    return pid


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    while True:
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as stream:
                if not stream.read():
                    return  # a zombie whose parent does not wait for it
        except (FileNotFoundError, ProcessLookupError):
            return
        time.sleep(0.01)


def test_the_cluster_is_as_promised(server_home: Path) -> None:
    url = embedded.start(server_home)
    assert url == embedded.start(server_home)
    assert ask(url, "select current_user, current_database(), rolsuper, rolcreaterole, rolbypassrls from pg_roles where rolname = current_user") == [
        ["tarbox", "tarbox", False, True, False]]
    settings = dict(ask(url, "select name, setting from pg_settings", "postgres"))
    assert settings["fsync"] == settings["full_page_writes"] == settings["data_checksums"] == settings["synchronous_commit"] == "on"
    assert (settings["listen_addresses"], settings["jit"], settings["wal_level"], settings["max_connections"]) == ("", "off", "minimal", "200")
    assert settings["server_encoding"] == "UTF8"
    assert ask(url, "select datcollate, datctype, pg_get_userbyid(datdba) from pg_database where datname = 'tarbox'") == [["C", "C", "tarbox"]]
    run = Path(settings["unix_socket_directories"])
    assert run.stat().st_mode & 0o7777 == 0o700
    assert (server_home / "data").stat().st_mode & 0o7777 == 0o700
    ask(url, "create table t (a int)")  # the role owns its database


def test_it_outlives_its_starter_in_a_session_of_its_own(server_home: Path) -> None:
    process = starter(server_home)
    url, problems = process.communicate()
    assert process.returncode == 0, problems
    pid = pid_of(server_home)
    assert os.getsid(pid) == pid  # a terminal's Ctrl-C goes to other process groups
    assert ask(url.strip(), "select 1") == [[1]]
    assert pid_of(server_home) == pid


def test_many_start_it_at_once(server_home: Path) -> None:
    processes = [starter(server_home) for _ in range(8)]
    answers = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0] * 8, answers
    assert len({url for url, _ in answers}) == 1
    assert ask(answers[0][0].strip(), "select count(*) from pg_database where datname = 'tarbox'") == [[1]]
    log = embedded.status(server_home).log.read_text()
    assert log.count("ready to accept connections") == 1
    assert "FATAL" not in log


def test_stop_and_status(server_home: Path) -> None:
    assert embedded.status(server_home).state == "stopped"
    assert embedded.stop(server_home) is False
    assert not server_home.exists()  # asking makes nothing
    url = embedded.start(server_home, settings=FAST)
    seen = embedded.status(server_home)
    assert (seen.state, seen.url, seen.version) == ("running", url, "18")
    connection = connect(url)  # an open connection does not keep it from stopping
    assert embedded.stop(server_home) is True
    assert embedded.status(server_home).state == "stopped"
    with contextlib.suppress(Exception):
        connection.close()
    assert embedded.start(server_home, settings=FAST) == url


def test_committed_rows_survive_kill_9(server_home: Path) -> None:
    url = embedded.start(server_home)
    ask(url, "create table t (a int)")
    ask(url, "insert into t select generate_series(1, 1000)")
    kill(pid_of(server_home))
    assert ask(embedded.start(server_home), "select count(*) from t") == [[1000]]


def test_kill_9_leaves_a_process_that_has_not_noticed(server_home: Path) -> None:
    url = embedded.start(server_home, settings=FAST)

    def spin() -> None:
        with contextlib.suppress(Exception):  # its connection ends in one way or another
            ask(url, "do $$ begin loop null; end loop; end $$")

    thread = threading.Thread(target=spin)
    thread.start()
    while not ask(url, "select count(*) from pg_stat_activity where state = 'active' and query like 'do %'", "postgres")[0][0]:
        time.sleep(0.01)
    kill(pid_of(server_home))
    assert ask(embedded.start(server_home, settings=FAST), "select 1") == [[1]]
    thread.join()


def test_a_pid_file_that_names_somebody_else(server_home: Path) -> None:
    url = embedded.start(server_home, settings=FAST)
    pid_file = server_home / "data" / "postmaster.pid"
    lines = pid_file.read_text().split("\n")
    owner = pid_file.stat()
    kill(pid_of(server_home))
    innocent = subprocess.Popen(["sleep", "600"])
    try:
        pid_file.write_text("\n".join([str(innocent.pid), *lines[1:]]))
        os.chown(pid_file, owner.st_uid, owner.st_gid)
        assert embedded.status(server_home).state == "stopped"
        assert embedded.stop(server_home) is False
        assert embedded.start(server_home, settings=FAST) == url
        assert innocent.poll() is None
        embedded.stop(server_home)
        for garbage in ("", "nonsense\n", "-17\n/x\n"):
            pid_file.write_text(garbage)
            assert embedded.start(server_home, settings=FAST) == url
            embedded.stop(server_home)
    finally:
        innocent.kill()
        innocent.wait()


def test_its_socket_was_removed(server_home: Path) -> None:
    url = embedded.start(server_home, settings=FAST)
    pid = pid_of(server_home)
    (server_home / "run" / ".s.PGSQL.5432").unlink()
    assert embedded.status(server_home).state == "lost"
    assert ask(embedded.start(server_home, settings=FAST), "select 1") == [[1]]
    assert pid_of(server_home) != pid
    assert embedded.status(server_home).url == url


def test_starters_killed_at_any_moment(server_home: Path) -> None:
    for delay in (0.15, 0.3, 0.45, 0.6):
        process = starter(server_home)
        time.sleep(delay)  # somewhere within initdb, the single-user run or the start
        process.kill()
        process.communicate()
    url = embedded.start(server_home)
    assert ask(url, "select rolcreaterole from pg_roles where rolname = 'tarbox'") == [[True]]
    embedded.stop(server_home)
    assert embedded.start(server_home) == url
    assert not list(server_home.glob("data.*.new"))


def test_a_long_path_puts_the_socket_elsewhere(server_home: Path) -> None:
    home = server_home / ("d" * 120)
    server_home.mkdir()
    server_home.chmod(0o711)
    url = embedded.start(home, settings=FAST)
    folder = Path(parse_qs(urlsplit(url).query)["host"][0])
    try:
        assert folder.parent == Path("/tmp")
        assert folder.stat().st_mode & 0o7777 == 0o700
        assert folder.stat().st_uid == (home / "data").stat().st_uid
        assert ask(url, "select 1") == [[1]]
        embedded.stop(home)
        folder.chmod(0o755)
        with pytest.raises(ConnectError, match="mode 0700"):
            embedded.start(home, settings=FAST)
    finally:
        embedded.stop(home)
        shutil.rmtree(folder)


def test_a_path_that_a_list_or_a_shell_would_misread(server_home: Path) -> None:
    home = server_home / "one, two 'three'"
    server_home.mkdir()
    server_home.chmod(0o711)
    url = embedded.start(home, settings=FAST)
    try:
        assert ask(url, "select 1") == [[1]]
    finally:
        embedded.stop(home)
        shutil.rmtree(parse_qs(urlsplit(url).query)["host"][0])
    with pytest.raises(ConnectError, match=r"contains '\$'"):
        embedded.start(server_home / "a$b")


def test_the_cluster_decides_the_version(server_home: Path) -> None:
    assert ask(embedded.start(server_home, version=16, settings=FAST), "show server_version_num")[0][0].startswith("16")
    embedded.stop(server_home)
    assert ask(embedded.start(server_home, settings=FAST), "show server_version_num")[0][0].startswith("16")
    embedded.stop(server_home)
    (server_home / "data" / "PG_VERSION").write_text("17\n")
    with pytest.raises(ConnectError, match=r"made by PostgreSQL 17, but .* brings 16 and 18"):
        embedded.start(server_home)


def test_a_version_that_does_not_exist(server_home: Path) -> None:
    with pytest.raises(ConnectError, match="brings PostgreSQL 16 and 18, not 12"):
        embedded.start(server_home, version=12)


def test_without_the_wheel(server_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_wheel, "PACKAGE", "no_such_package")
    with pytest.raises(ConnectError, match=r"pip install 'tarbox\[embedded\]'"):
        embedded.start(server_home)


def test_settings_that_postgres_refuses(server_home: Path) -> None:
    with pytest.raises(ConnectError, match=r"does not start: .*log/postgres.log") as raised:
        embedded.start(server_home, settings={"shared_buffers": "a lot"})
    assert "\n" not in str(raised.value)
    assert embedded.start(server_home, settings=FAST)


def test_the_owners_settings_stand_over_ours(server_home: Path) -> None:
    url = embedded.start(server_home, settings={"fsync": "off"})
    embedded.stop(server_home)
    (server_home / "local.conf").write_text("shared_buffers = '16MB'\n")
    assert embedded.start(server_home, settings={"fsync": "off"}) == url
    assert ask(url, "show shared_buffers") == [["16MB"]]


def test_a_data_directory_that_is_not_ours(server_home: Path) -> None:
    server_home.mkdir()
    server_home.chmod(0o711)
    (server_home / "PG_VERSION").write_text("15\n")
    with pytest.raises(ConnectError, match="data directory of its own"):
        embedded.start(server_home)


def test_home_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConnectError, match=str(tmp_path)):
        embedded.start(tmp_path / "file" / "pg")


@pytest.fixture
def small_disk(server_home: Path) -> Iterator[Path]:
    server_home.mkdir()
    server_home.chmod(0o711)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=0711", "tmpfs", server_home], check=True)
    try:
        yield server_home / "pg"
    finally:
        embedded.stop(server_home / "pg")
        subprocess.run(["umount", server_home], check=True)


@as_root
def test_a_full_disk(small_disk: Path) -> None:
    with pytest.raises(ConnectError, match="disk is full"):
        embedded.start(small_disk)
    assert not list(small_disk.glob("data*"))


@as_root
def test_root_in_a_closed_directory(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(ConnectError, match=r"cannot enter .*choose another"):
        embedded.start(tmp_path / "pg")


@as_root
def test_an_ordinary_user(server_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user's default directory, and the same user in front of somebody else's."""
    nobody = 65534
    prefix = postgres_wheel.installations()[18].prefix
    if postgres_wheel._version(prefix, postgres_wheel.ServerUser(nobody, nobody)) is None:
        pytest.skip("this Python's packages are closed to other users")
    server_home.mkdir()
    os.chown(server_home, nobody, nobody)
    monkeypatch.setenv("XDG_DATA_HOME", str(server_home))
    home = server_home / "tarbox" / "postgres"
    try:
        url = start_as(nobody, None)
        assert embedded.status(home).url == url
        assert (home / "data").stat().st_uid == nobody
        assert home.stat().st_mode & 0o7777 == 0o700
        assert embedded.start(home) == url  # root finds it as well
    finally:
        embedded.stop(home)
    try:
        assert embedded.start(home, settings=FAST) == url  # and starts it as its owner
        assert os.stat(f"/proc/{pid_of(home)}").st_uid == nobody
    finally:
        embedded.stop(home)
    os.chown(home, 0, 0)
    said = start_as(nobody, home)
    assert said.startswith(f"cannot use the embedded PostgreSQL in {home}: ")
    assert "ermission denied" in said


@as_root
def test_an_installation_that_only_root_can_read_is_copied_once(server_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server_home.mkdir()
    server_home.chmod(0o755)
    monkeypatch.setattr(postgres_wheel, "SYSTEM_ROOT", server_home / "system")
    original = postgres_wheel.installations()[18]
    closed = server_home / "closed"
    closed.mkdir(mode=0o700)
    package = closed / postgres_wheel.PACKAGE
    shutil.copytree(original.prefix, package / original.prefix.name, symlinks=True)
    libraries = original.prefix.parents[1] / f"{postgres_wheel.PACKAGE}.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, closed / libraries.name)
    user = postgres_wheel.system_user()
    hidden = postgres_wheel.Installation(package / original.prefix.name, original.version)
    answers: list[postgres_wheel.Installation] = []
    threads = [threading.Thread(target=lambda: answers.append(postgres_wheel.readable(hidden, user))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(answers)) == 1 and answers[0] != hidden
    assert user.output([answers[0].program("postgres"), "--version"])[0] == 0
    assert [path.name for path in (server_home / "system").iterdir()] == [f"postgres-{original.version}"]
    before = answers[0].program("postgres").stat().st_ino
    assert postgres_wheel.readable(hidden, user).program("postgres").stat().st_ino == before
    answers[0].program("postgres").write_bytes(b"")  # damaged: made anew
    assert postgres_wheel.readable(hidden, user).program("postgres").stat().st_size > 0
