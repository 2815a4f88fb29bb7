"""What cannot be run, and command lines that make no sense: one line that names what is wrong, before anything happens."""

from __future__ import annotations

import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from tests.conftest import PgServer
from tests.pg.cli import Tarbox
from tests.wasi.helpers import compiled, finish, guest, start, wasi_run

START = '(func (export "_start"))'
PREVIEW1 = "wasi_snapshot_preview1"
MODULE = compiled(f'(module (memory (export "memory") 1) {START})')
COMPONENT = b"\0asm\x0d\0\1\0"

# The bytes of a program, and what is said of them.
UNFIT = {
    "text": (b"#!/bin/sh\n", "not a WebAssembly module: it does not begin with \\0asm"),
    "empty": (b"", "not a WebAssembly module: it is empty"),
    "component": (
        COMPONENT,
        "a WebAssembly component (WASI 0.2 or later); what runs here are modules of WASI preview1: build it for wasm32-wasip1, not wasm32-wasip2",
    ),
    "later": (b"\0asm\2\0\0\0", "a WebAssembly module of an unknown version (02 00 00 00)"),
    "cut-off": (MODULE[:-3], "not a valid WebAssembly module, or cut off: unexpected end-of-file (at offset 0x2f)"),
    "header": (MODULE[:6], "not a valid WebAssembly module, or cut off: "),
    "damaged": (MODULE[:8] + b"\xff" * 8, "not a valid WebAssembly module, or cut off: "),
    "bad-text": (b"(module\n (func $x)", "not valid WebAssembly text: expected `)` (line 2, column 11)"),
    "library": (
        compiled('(module (func (export "_initialize")))'),
        "a library (it exports _initialize): it exports no _start function; build it as a command, with a main function",
    ),
    "no-start": (compiled("(module)"), "not a program: it exports no _start function; build it as a command, with a main function"),
    "odd-start": (
        compiled('(module (func (export "_start") (param i32)))'),
        "its _start is no function without parameters and results, so it is not a program of WASI preview1",
    ),
    "imports": (
        compiled(f'(module (import "env" "log" (func)) (import "{PREVIEW1}" "fd_teleport" (func)) (import "env" "memory" (memory 1)) {START})'),
        f"it asks its host for what WASI preview1 does not have: env::log, {PREVIEW1}::fd_teleport, env::memory",
    ),
    "older": (
        compiled(f'(module (import "wasi_unstable" "fd_close" (func (param i32) (result i32))) {START})'),
        "built for an older WASI (wasi_unstable): build it anew for WASI preview1; it asks for wasi_unstable::fd_close",
    ),
    "types": (compiled(f'(module (import "{PREVIEW1}" "fd_close" (func (param i64))) {START})'), f"it asks for {PREVIEW1}::fd_close with other types"),
}


@pytest.mark.parametrize("kind", UNFIT)
def test_what_is_not_a_program(tarbox: Tarbox, kind: str) -> None:
    data, words = UNFIT[kind]
    (tarbox.folder / "prog.wasm").write_bytes(data)
    said = tarbox.fails("wasi", "run", "prog.wasm", status=126)
    assert said.startswith(f"prog.wasm: {words}"), said


def test_what_cannot_be_read(tarbox: Tarbox) -> None:
    assert tarbox.fails("wasi", "run", "none.wasm", status=126) == "none.wasm: no such file or directory"
    assert tarbox.fails("wasi", "run", tarbox.folder, status=126) == f"{tarbox.folder}: is a directory"


def test_a_trap_shows_where(tarbox: Tarbox) -> None:
    ended = wasi_run(tarbox, guest("trap"))
    said, *frames = ended.said.splitlines()
    assert (ended.status, said) == (134, f"tarbox: {guest('trap')}: trap: integer divide by zero")
    assert [line.split(",")[0] for line in frames] == ["  divide (faulty)", "  main (faulty)"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--dir", "=/x"], "argument --dir: bad directory '=/x': write GUEST or GUEST=PATH, as in /work=/projects/a"),
        (["--dir", "/x="], "argument --dir: bad directory '/x=': write GUEST or GUEST=PATH, as in /work=/projects/a"),
        (["--dir", "/", "--dir", "/=/data"], "--dir names / twice"),
        (["--env", "PATH"], "argument --env: bad variable 'PATH': write NAME=VALUE"),
        (["--fuel", "0"], "argument --fuel: '0' is not a number from 1 up"),
        (["--memory", "much"], "argument --memory: 'much' is not a number from 1 up"),
        (["--timeout", "soon"], """argument --timeout: 'soon' is not a time: expected a duration such as "30s", "1h" or "90 days\""""),
        (["--checkpoint", "--read-only"], "--checkpoint is for a program that may change something"),
    ],
)
def test_bad_usage(tarbox: Tarbox, words: list[str], said: str) -> None:
    assert tarbox.fails("wasi", "run", *words, guest("hello"), status=2) == f"{said} (see tarbox wasi run --help)"


def test_no_program(tarbox: Tarbox) -> None:
    assert tarbox.fails("wasi", "run", "--read-only", status=2) == "the following arguments are required: PROG.wasm (see tarbox wasi run --help)"


def test_a_directory_that_is_none(tarbox: Tarbox) -> None:
    tarbox("write", "/file", "x")
    assert tarbox.fails("wasi", "run", "--checkpoint", "--dir", "/x=/none", guest("hello")) == "/none: no such file or directory"
    assert tarbox.fails("wasi", "run", "--checkpoint", "--dir", "/file", guest("hello")) == "/file: not a directory"
    assert len(tarbox.json("layer", "list")) == 1  # none was made


def test_unknown_tenants_layers_and_branches(tarbox: Tarbox) -> None:
    assert tarbox.fails("wasi", "run", "--tenant", "nobody", guest("hello")).startswith("no tenant named 'nobody'")
    assert tarbox.fails("wasi", "run", "--layer", "nothing", guest("hello")).startswith("no layer")
    assert "has no branch 'none'" in tarbox.fails("wasi", "run", "--branch", "none", guest("hello"))


def test_without_wasmtime(tarbox: Tarbox) -> None:
    script = "import sys; sys.modules['wasmtime'] = None; from tarbox_cli.main import main; sys.exit(main(['wasi', 'run', 'x.wasm']))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, cwd=tarbox.folder, env=tarbox.env)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "tarbox: WebAssembly programs need the package wasmtime: pip install 'tarbox[wasi]'\n")


def test_a_home_that_cannot_be_written(tarbox: Tarbox) -> None:
    env = {"HOME": "/proc/nowhere", "XDG_CACHE_HOME": "/proc/nowhere", "XDG_CONFIG_HOME": "/proc/nowhere"}
    assert wasi_run(tarbox, guest("hello"), env=env) == (0, b"hello, tenant\n", "")


def test_a_database_that_goes_away(tarbox: Tarbox, pg_server: PgServer) -> None:
    """The guest is told of an input/output error, and whoever runs it of the reason."""
    process = start(tarbox, guest("watch"))
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    database = urlsplit(tarbox.env["TARBOX_DATABASE_URL"]).path[1:]
    admin = pg_server.connect()
    try:
        admin.run(f"alter database {database} allow_connections false")
        admin.run("select pg_terminate_backend(pid) from pg_stat_activity where datname = :name", name=database)
        ended = finish(process)
    finally:
        admin.run(f"alter database {database} allow_connections true")
        admin.close()
    *told, failed = ended.said.splitlines()
    why = "not currently accepting connections"
    assert ended.status == 1
    assert any(line.startswith("tarbox: the program met an input/output error: ") and why in line for line in told), ended.said
    assert failed.startswith("tarbox: ") and why in failed


def test_help_tells_the_statuses(tarbox: Tarbox) -> None:
    said = tarbox("wasi", "run", "--help").decode()
    assert "exit status:" in said and "134 a trap or out of fuel" in said
    assert b"run a WASI program on a tenant's tree" in tarbox("wasi")
