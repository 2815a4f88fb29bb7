"""The WASI 0.2 component: the command line inside wasmtime, whose pg8000 connects over wasi:sockets to a server that wants a password."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from urllib.parse import quote

import pytest

from tarbox_core.drivers.dsn import Dsn
from tests.pg.cli import Tarbox, fresh

HERE = Path(__file__).resolve().parent
WASM = HERE.parents[1] / "wasm"


@pytest.fixture(scope="module")
def builder() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(WASM))
        import componentize  # type: ignore[import-not-found]

        yield componentize


class Host:
    """Runs the component, compiled once, each time in a process of its own."""

    def __init__(self, packages: Path, component: Path, folder: Path) -> None:
        self.packages = packages
        self.compiled = folder / "component.cwasm"
        self.environment: dict[str, str] = {}
        self.start(component, "compile", self.compiled)

    def start(self, *words: str | Path, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-S", HERE / "tcp_host.py", *words]
        return subprocess.run(command, input=given, capture_output=True, timeout=120, env={"PYTHONPATH": str(self.packages), **self.environment})

    def __call__(self, *words: str, given: bytes = b"") -> bytes:
        """What a command that succeeds prints."""
        done = self.start(self.compiled, "tcp", *words, given=given)
        assert (done.returncode, done.stderr) == (0, b""), done
        return done.stdout

    def fails(self, *words: str, grant: str = "tcp") -> str:
        """The one line that a command that fails says."""
        done = self.start(self.compiled, grant, *words)
        said = done.stderr.decode()
        assert (done.returncode, done.stdout) == (1, b""), done
        assert said.startswith("tarbox: ") and said.count("\n") == 1 and "fault" not in said and "s3cret" not in said, said
        return said.removeprefix("tarbox: ").rstrip("\n")


@pytest.fixture(scope="module")
def compiled(builder: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Host:
    builder.build()
    return Host(builder.install(HERE / "tcp_host.txt"), builder.COMPONENT, tmp_path_factory.mktemp("component"))


def url_of(dsn: Dsn, query: str = "") -> str:
    return f"postgresql://{dsn.user}:{quote(dsn.password or '')}@{dsn.host}/{dsn.database}{query}"


@pytest.fixture
def host(compiled: Host, strict: Dsn) -> Host:
    compiled.environment = {"TARBOX_DATABASE_URL": url_of(strict)}
    return compiled


@pytest.fixture
def outside(host: Host, strict: Dsn, tmp_path: Path) -> Iterator[Tarbox]:
    """The command line of this machine on a new tenant of the same database, which the component made ready; at last, fsck."""
    host("init")
    with fresh(url_of(strict), tmp_path) as tarbox:
        host.environment["TARBOX_TENANT"] = tarbox.tenant
        yield tarbox


def test_a_tree_is_worked_on_from_inside(host: Host, outside: Tarbox) -> None:
    content = random.Random(16).randbytes(1 << 20)
    host("mkdir", "-p", "/data/logs")
    host("write", "/data/blob", given=content)
    host("write", "/data/notes", given=b"one\ntwo\n")
    assert host("ls", "-a", "/data").splitlines() == [b"blob", b"logs", b"notes"]
    assert hashlib.sha256(host("cat", "/data/blob")).digest() == hashlib.sha256(content).digest()
    host("layer", "create", "before", "-m", "from inside")
    host("write", "/data/notes", given=b"one\n2\n")
    host("rm", "/data/blob")
    assert host("layer", "diff", "before").splitlines() == [b"D\t/data/blob", b"M\t/data/notes"]
    assert host("diff", "/data/notes").splitlines()[2:] == [b"@@ -1,2 +1,2 @@", b" one", b"-two", b"+2"]
    host("layer", "switch", "before")
    assert outside("cat", "/data/blob") == content
    assert b"/data/blob" in host("audit", "--operation", "unlink")
    assert host("audit", "verify").startswith(outside.tenant.encode() + b": verified")
    assert host("fsck").decode() == f"{outside.tenant}: clean\n"


@pytest.mark.parametrize(
    "words", [("ls", "/", "--json"), ("stat", "/data", "--json"), ("tree", "/"), ("layer", "list", "--json"), ("ls", "--help"), ("--version",)],
)
def test_a_command_prints_what_it_prints_outside(host: Host, outside: Tarbox, words: tuple[str, ...]) -> None:
    outside("write", "/data", "words")
    outside("chown", "70:80", "/data")
    outside("ln", "-s", "data", "/link")
    assert host(*words).decode() == outside(*words).decode()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda dsn: url_of(replace(dsn, password="guess")), "wrong password for tarbox, or no such role"),
        (lambda dsn: url_of(replace(dsn, host="nowhere.invalid")), "no host is called nowhere.invalid"),
        (lambda dsn: url_of(replace(dsn, host=f"{dsn.host}:1")), "connection refused by"),
        (lambda dsn: url_of(dsn, "?sslmode=require"), "this Python has no TLS, which sslmode=require asks for"),
        (lambda dsn: "postgresql://tarbox@/tarbox?host=/run", "there are no Unix sockets here: name the server's host"),
        (lambda dsn: f"postgresql://{dsn.host}/tarbox", "names no user"),
        (lambda dsn: "", "no database is named"),
    ],
)
def test_what_is_wrong_with_a_connection_is_said(host: Host, strict: Dsn, change: Callable[[Dsn], str], said: str) -> None:
    host.environment["TARBOX_DATABASE_URL"] = change(strict)
    assert said in host.fails("ls", "/")


def test_without_the_grant_of_the_host_it_says_what_it_lacks(host: Host) -> None:
    assert host.fails("ls", "/", grant="none").endswith("the WebAssembly host does not let this program connect: it must grant TCP and name lookups")


@pytest.mark.parametrize("words", [("mount", "/mnt"), ("put", "x", "/y"), ("database", "status")])
def test_what_only_a_host_can_do_is_refused(host: Host, words: tuple[str, ...]) -> None:
    assert host.fails(*words) == "this needs files, mounts or processes of the host, which WebAssembly has not"


def test_wrong_usage_ends_with_a_failure(host: Host) -> None:
    assert host.fails("lss") == "no command 'lss'; did you mean 'ls'? (see tarbox --help)"


def test_the_build_does_nothing_when_nothing_changed(host: Host, builder: ModuleType) -> None:
    builder.build()
    before = builder.COMPONENT.stat().st_ino
    assert builder.build() is False
    assert builder.COMPONENT.stat().st_ino == before


def test_a_package_that_is_not_what_was_pinned_is_refused(builder: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "DIST", tmp_path / "dist")
    pins = tmp_path / "requirements.txt"
    pins.write_text(f"scramp==1.5.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(builder.BuildError, match=r"requirements\.txt cannot be installed: .*(HASH|hash|THESE PACKAGES)"):
        builder.install(pins)
    assert list((tmp_path / "dist").iterdir()) == []


def test_imports_are_found_wherever_they_stand(builder: ModuleType) -> None:
    source = "import a.b, c\ndef f():\n    from d.e import g\n    if True:\n        import h as i\n"
    assert builder.imported(source) == {"a.b", "c", "d.e", "h"}
