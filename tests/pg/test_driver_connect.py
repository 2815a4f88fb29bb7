"""Getting a connection: Unix sockets, TCP, TLS, passwords, and one clear line for everything that can be wrong."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tarbox_core.drivers import embedded
from tarbox_core.drivers.dsn import Dsn, parse_url
from tarbox_core.drivers.framing import PLANNING
from tarbox_core.drivers.sync import SyncDriver
from tarbox_core.drivers.wire import Wire
from tarbox_core.effects import Statement, finish, one
from tarbox_core.errors import ConnectError, SqlError
from tests.pg.proxy import Proxy

WHO = Statement("who", "select current_user::text, inet_server_addr() is not null", (), ("text", "bool"))
ECHO = Statement("echo", "select $1", ("bytea",), ("bytea",))
SLEEP = Statement("sleep", "select pg_sleep($1)", ("float8",))
SETTINGS = Statement(
    "settings", "select current_user::text, current_setting('synchronous_commit'), current_setting('plan_cache_mode')", returns=("text", "text", "text"),
)


def who(dsn: Dsn) -> tuple[Any, ...]:
    wire = Wire(dsn)
    try:
        return wire.execute([WHO()], begin=True, commit=True)[0][0]
    finally:
        wire.close()


def refused(dsn: Dsn, role: str | None = None) -> str:
    with pytest.raises(ConnectError) as raised:
        Wire(dsn, role).close()
    text = str(raised.value)
    assert "\n" not in text
    assert "s3cret" not in text
    return text


def test_over_the_unix_socket(pg_url: str) -> None:
    assert who(parse_url(pg_url)) == ("tarbox", False)


def test_over_tcp_with_a_password(strict: Dsn) -> None:
    assert who(strict) == ("tarbox", True)
    assert who(replace(strict, sslmode="disable")) == ("tarbox", True)
    assert who(replace(strict, sslmode="allow")) == ("tarbox", True)


def test_tcp_carries_much_both_ways(strict: Dsn) -> None:
    wire = Wire(strict)
    data = os.urandom(1 << 20)
    assert [rows[0][0] for rows in wire.execute([ECHO(data)] * 16, begin=True, commit=True)] == [data] * 16
    wire.close()


def test_cancel_over_tcp(strict: Dsn) -> None:
    wire = Wire(strict)
    timer = threading.Timer(0.3, wire.cancel)
    timer.start()
    with pytest.raises(SqlError, match="57014"):
        wire.execute([SLEEP(60.0)], begin=True, commit=True)
    timer.join()
    wire.close()


def test_passwords(strict: Dsn) -> None:
    assert "wrong password for tarbox" in refused(replace(strict, password="guess"))
    assert "wrong password for tarbox" in refused(replace(strict, password=""))
    assert "wants a password for tarbox, and none was given" in refused(replace(strict, password=None))
    assert "wrong password for ghost, or no such role" in refused(replace(strict, user="ghost"))


def test_names_that_do_not_exist(strict: Dsn, pg_url: str) -> None:
    assert "there is no database ghosts" in refused(replace(strict, database="ghosts"))
    assert 'role "ghost" does not exist' in refused(replace(parse_url(pg_url), user="ghost"))
    assert 'role "ghost" does not exist' in refused(strict, role="ghost")
    assert "permission denied" in refused(strict, role="plain")


def test_a_rule_that_rejects(strict: Dsn) -> None:
    assert "lets nobody not in" in refused(replace(strict, user="nobody"))


def test_tls_that_the_server_does_not_offer(strict: Dsn) -> None:
    for mode in ("require", "verify-ca", "verify-full"):
        assert f"no TLS, which sslmode={mode} asks for" in refused(replace(strict, sslmode=mode))


def test_too_many_connections(strict: Dsn) -> None:
    wires: list[Wire] = []
    with pytest.raises(ConnectError, match="no connection left"):
        while len(wires) < 30:
            wires.append(Wire(strict))
    for wire in wires:
        wire.close()


def test_nobody_there(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert f"connection refused by 127.0.0.1:{port}" in refused(Dsn(host="127.0.0.1", port=port, user="u"))
    assert f"there is no socket {tmp_path}/.s.PGSQL.5432" in refused(Dsn(unix_sock=str(tmp_path), user="u"))
    assert "no host is called no-such-host.invalid" in refused(Dsn(host="no-such-host.invalid", user="u"))
    assert "cannot connect" in refused(Dsn(host="a" * 70 + ".x", user="u"))
    assert "too long" in refused(Dsn(unix_sock="/tmp/" + "x" * 120, user="u"))


@pytest.mark.parametrize(("answer", "word"), [
    (b"HTTP/1.1 400 Bad Request\r\n\r\n", "not PostgreSQL"), (b"", "not PostgreSQL"), (b"N", "no PostgreSQL greeted us")])
def test_something_else_answers(answer: bytes, word: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        def serve() -> None:
            stream, _ = server.accept()
            with stream:
                stream.recv(100)
                stream.sendall(answer)
                if answer == b"N":
                    stream.recv(1000)
                    stream.sendall(b"?\0\0\0\x04")

        thread = threading.Thread(target=serve)
        thread.start()
        assert word in refused(Dsn(host="127.0.0.1", port=server.getsockname()[1], user="u", connect_timeout=5))
        thread.join()


@pytest.mark.parametrize("sslmode", ["prefer", "disable"])
def test_nobody_answers(sslmode: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert "0.3 s" in refused(Dsn(host="127.0.0.1", port=silent.getsockname()[1], user="u", connect_timeout=0.3, sslmode=sslmode))


def test_the_usual_socket_directories_and_the_user_are_found(pg_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from tarbox_core.drivers import sockets

    dsn = parse_url(pg_url)
    monkeypatch.setattr(sockets, "SOCKET_DIRECTORIES", ("/nowhere", dsn.unix_sock))
    monkeypatch.setenv("LOGNAME", "tarbox")
    assert who(Dsn(database=dsn.database)) == ("tarbox", False)


def test_a_starting_server_is_waited_for(server_home: Path) -> None:
    """A server that has not yet reached consistency says so (57P03)."""
    url = embedded.start(server_home)
    dsn = parse_url(url)
    relay_dir = server_home.parent / "relay"
    relay_dir.mkdir()
    refusal = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0"
    attempts: list[int] = []
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{relay_dir}/.s.PGSQL.5432")
        server.listen()

        def serve() -> None:
            for _ in range(3):
                stream, _ = server.accept()
                with stream:
                    attempts.append(len(stream.recv(1000)))
                    stream.sendall(b"E" + (len(refusal) + 4).to_bytes(4) + refusal)
            os.unlink(f"{relay_dir}/.s.PGSQL.5432")
            os.symlink(f"{dsn.unix_sock}/.s.PGSQL.5432", f"{relay_dir}/.s.PGSQL.5432")

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            # The last refusal and the replacement of the socket may be seen in either order.
            found = who(replace(dsn, unix_sock=str(relay_dir)))
        except ConnectError:
            found = who(replace(dsn, unix_sock=str(relay_dir)))
        thread.join()
    assert found == ("tarbox", False)
    assert len(attempts) == 3


def test_a_server_that_never_gets_ready_is_given_up(tmp_path: Path) -> None:
    refusal = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / ".s.PGSQL.5432"))
        server.listen()

        def serve() -> None:
            while True:
                stream, _ = server.accept()
                with stream:
                    if stream.recv(1000) == b"":
                        return
                    stream.sendall(b"E" + (len(refusal) + 4).to_bytes(4) + refusal)

        thread = threading.Thread(target=serve)
        thread.start()
        assert "the server is not ready" in refused(Dsn(unix_sock=str(tmp_path), user="u", connect_timeout=0.5))
        _touch(tmp_path)
        thread.join()


def _touch(directory: Path) -> None:
    with socket.socket(socket.AF_UNIX) as last:
        last.connect(str(directory / ".s.PGSQL.5432"))


@pytest.fixture
def pooler(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """Logins are refused as pgbouncer refuses settings that it does not know; the settings that each login asked for."""
    from tarbox_core.drivers.refusals import ParameterRefused

    asked: list[set[str]] = []
    log_in = Wire._log_in

    def picky(self: Wire, tls: str, settings: dict[str, str]) -> None:
        asked.append(set(settings))
        for name in settings:
            if name != "client_encoding":
                raise ParameterRefused(f"unsupported startup parameter: {name}")
        log_in(self, tls, settings)

    monkeypatch.setattr(Wire, "_log_in", picky)
    return asked


def test_a_pooler_that_takes_no_settings_still_gets_the_role(pg_url: str, pooler: list[set[str]]) -> None:
    admin = Wire(parse_url(pg_url))
    admin.script("create role worker nologin; grant worker to current_user")
    admin.close()
    pooler.clear()
    wire = Wire(parse_url(pg_url), "worker")
    assert wire.execute([SETTINGS()], begin=True, commit=True) == [[("worker", "off", "force_generic_plan")]]
    assert pooler == [{"client_encoding", "synchronous_commit", "role", *PLANNING}, {"client_encoding"}]
    wire.close()
    with pytest.raises(ConnectError, match="nobody"):
        Wire(parse_url(pg_url), "nobody here")


def test_a_pooler_that_takes_no_settings_lets_the_owner_in(pg_url: str, pooler: list[set[str]]) -> None:
    for synchronous in (False, True):
        wire = Wire(parse_url(pg_url), synchronous=synchronous)
        assert wire.execute([SETTINGS()], begin=True, commit=True) == [[("tarbox", "on" if synchronous else "off", "auto")]]
        wire.close()


LIMITS = Statement("limits", "select current_setting('lock_timeout'), current_setting('statement_timeout')", (), ("text", "text"))


def test_settings_of_a_session(pg_url: str) -> None:
    wire = Wire(parse_url(pg_url), "tarbox", settings={"lock_timeout": "7s", "statement_timeout": "9000"})
    assert wire.execute([LIMITS(), SETTINGS()], begin=True, commit=True) == [[("7s", "9s")], [("tarbox", "off", "force_generic_plan")]]
    wire.close()


def test_settings_of_a_session_behind_a_pooler_that_takes_none(pg_url: str, pooler: list[set[str]]) -> None:
    wire = Wire(parse_url(pg_url), settings={"lock_timeout": "7s", "statement_timeout": "9000"})
    assert wire.execute([LIMITS()], begin=True, commit=True) == [[("7s", "9s")]]
    assert pooler == [{"client_encoding", "synchronous_commit", "lock_timeout", "statement_timeout"}, {"client_encoding"}]
    wire.close()


def test_options_that_a_pooler_drops_are_not_dropped_in_silence(pg_url: str, pooler: list[set[str]]) -> None:
    with pytest.raises(ConnectError, match="options"):
        Wire(parse_url(pg_url + "&options=-c%20work_mem%3D64MB"))


# --- TLS

@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a self-signed certificate for the name localhost, in one file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("makes its certificate with the openssl program")
    path = tmp_path_factory.mktemp("tls")
    subprocess.run([openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost", "-keyout", path / "key", "-out", path / "crt"], check=True, capture_output=True)
    (path / "both").write_bytes((path / "key").read_bytes() + (path / "crt").read_bytes())
    return path


@pytest.fixture
def tls(certificate: Path, pg_server: Any) -> Iterator[Proxy]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "both")
    with Proxy(pg_server.socket, context) as proxy:
        yield proxy


def test_sslmodes(tls: Proxy, pg_url: str, certificate: Path) -> None:
    plain = replace(parse_url(pg_url), unix_sock="", host="localhost", port=tls.port)
    for sslmode, encrypted in [("disable", 0), ("allow", 0), ("prefer", 1), ("require", 1)]:
        before = tls.encrypted
        assert who(replace(plain, sslmode=sslmode)) == ("tarbox", False)
        assert tls.encrypted - before == encrypted
    roots = str(certificate / "crt")
    assert who(replace(plain, sslmode="verify-full", sslrootcert=roots)) == ("tarbox", False)
    assert who(replace(plain, sslmode="verify-ca", sslrootcert=roots, host="127.0.0.1")) == ("tarbox", False)
    assert "not to be trusted" in refused(replace(plain, sslmode="verify-full", sslrootcert=roots, host="127.0.0.1"))
    assert "not to be trusted" in refused(replace(plain, sslmode="verify-ca"))
    assert "sslrootcert /no/file" in refused(replace(plain, sslmode="verify-ca", sslrootcert="/no/file"))


def test_tls_carries_large_batches_and_cancels(tls: Proxy, pg_url: str) -> None:
    wire = Wire(replace(parse_url(pg_url), unix_sock="", host="127.0.0.1", port=tls.port, sslmode="require"))
    data = os.urandom(1 << 20)
    assert [rows[0][0] for rows in wire.execute([ECHO(data)] * 12, begin=True, commit=True)] == [data] * 12
    assert wire.alive()
    wire.script("listen c; notify c, 'x'")
    note = wire.wait_notification(20)
    assert note is not None
    assert note.payload == "x"
    timer = threading.Timer(0.3, wire.cancel)
    timer.start()
    with pytest.raises(SqlError, match="57014"):
        wire.execute([SLEEP(60.0)], begin=True, commit=True)
    timer.join()
    assert tls.encrypted == 2
    wire.close()


# --- processes

def test_a_forked_child_leaves_its_parents_connections_alone(pg_url: str) -> None:
    program = f"""
import os
from tarbox_core.drivers.sync import SyncDriver
from tarbox_core.effects import Statement, one
driver = SyncDriver({pg_url!r})
pid = Statement("pid", "select pg_backend_pid()", (), ("int4",))
mine = driver.run(lambda: one(pid()))
child = os.fork()
if child == 0:
    ok = driver.run(lambda: one(pid())) != mine
    driver.close()
    os._exit(0 if ok else 1)
assert os.waitpid(child, 0)[1] == 0
assert driver.run(lambda: one(pid())) == mine
driver.close()
"""
    run = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=50, check=False)
    assert (run.returncode, run.stderr) == (0, "")


def test_importing_the_drivers_loads_no_pg8000() -> None:
    program = "import sys, tarbox_core.drivers.sync, tarbox_core.drivers.migrate; print([m for m in ('pg8000', 'anyio', 'ssl') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=True)
    assert run.stdout == "[]\n"


def test_a_closed_pool_leaves_nothing_open(pg_url: str) -> None:
    driver = SyncDriver(pg_url, pool_size=4)
    start = threading.Barrier(4)

    def op() -> Any:
        start.wait(20)
        return (yield from finish(SLEEP(0.2)))

    threads = [threading.Thread(target=driver.run, args=(op,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sessions = Statement("sessions", "select count(*) from pg_stat_activity where datname = current_database()", (), ("int8",))
    assert driver.run(lambda: one(sessions())) == (4,)
    driver.close()
    after = SyncDriver(pg_url)
    while after.run(lambda: one(sessions())) != (1,):
        threading.Event().wait(0.01)
    after.close()
