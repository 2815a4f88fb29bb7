"""Running guests: through the library, and through the command as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from wasmtime import wat2wasm

from tarbox_wasi import Program, Result, open_door, run
from tests.pg.cli import Tarbox
from tests.tenants import Tenant

GUESTS = Path(__file__).parent / "guests"
PATIENCE = 60.0  # seconds for what should take one


class Runner:
    """Guests on a tenant, in this process: a name of tests/wasi/guests, or the bytes of a program."""

    def __init__(self, tenant: Tenant, folder: Path) -> None:
        self.tenant = tenant
        self._folder = folder

    def __call__(self, guest: str | bytes, *args: str, given: bytes = b"", **more: Any) -> tuple[Result, bytes]:
        """How it ended, and what it printed."""
        source, printed = self._folder / "stdin", self._folder / "stdout"
        source.write_bytes(given)
        program = guest if isinstance(guest, bytes) else GUESTS / f"{guest}.wat"
        with source.open("rb") as stdin, printed.open("wb") as stdout:
            stdio = (stdin.fileno(), stdout.fileno(), 2)
            result = run(program, args, tenant=self.tenant.info.name, database_url=self.tenant.url, stdio=stdio, **more)
        return result, printed.read_bytes()

    def door(self, **more: Any) -> Any:
        return open_door(self.tenant.info.name, self.tenant.url, **more)

    @staticmethod
    def program(guest: str, **more: Any) -> Program:
        return Program(GUESTS / f"{guest}.wat", **more)


class Ended(NamedTuple):
    """How a command ended."""

    status: int
    out: bytes
    said: str  # on standard error

    def line(self) -> str:
        """The one line that it said."""
        assert self.said.startswith("tarbox: ") and self.said.count("\n") == 1, self.said
        return self.said.removeprefix("tarbox: ").rstrip("\n")


def start(tarbox: Tarbox, *words: str | Path, env: dict[str, str] | None = None, **more: Any) -> subprocess.Popen[bytes]:
    """`tarbox wasi run WORDS...`, with pipes."""
    command = [sys.executable, "-m", "tarbox_cli", "wasi", "run", *map(os.fspath, words)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, cwd=tarbox.folder, env=tarbox.env | (env or {}), **more)


def finish(process: subprocess.Popen[bytes], given: bytes | None = None) -> Ended:
    out, said = process.communicate(given, timeout=PATIENCE)
    assert b"Traceback" not in said, said.decode()
    return Ended(process.returncode, out, said.decode())


def wasi_run(tarbox: Tarbox, *words: str | Path, given: bytes = b"", env: dict[str, str] | None = None) -> Ended:
    return finish(start(tarbox, *words, env=env), given)


def guest(name: str) -> Path:
    return GUESTS / f"{name}.wat"


def compiled(text: str) -> bytes:
    return bytes(wat2wasm(text))
