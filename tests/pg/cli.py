"""The real command on a tenant of the test's own: as a process, or its main function where that makes no difference."""

from __future__ import annotations

import io
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from tarbox_cli.main import main

_numbers = itertools.count(1)


class Tarbox:
    """`tarbox ARGUMENTS` against a database and a tenant, in a directory of the test's own."""

    def __init__(self, url: str, folder: Path) -> None:
        self.tenant = f"cli{next(_numbers)}"
        self.folder = folder
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("TARBOX_", "DATABASE_URL"))}
        self.env = kept | {"TARBOX_DATABASE_URL": url, "TARBOX_TENANT": self.tenant, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder / "config")}

    def run(
        self, *words: str | bytes | Path, given: bytes = b"", status: int = 0, env: dict[str, str] | None = None, **more: Any
    ) -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run(
            [sys.executable, "-m", "tarbox_cli", *words], input=given, capture_output=True, timeout=120, cwd=self.folder, env=self.env | (env or {}), **more
        )
        assert done.returncode == status, f"{words} ended with {done.returncode}\n{done.stdout!r}\n{done.stderr.decode()}"
        assert b"Traceback" not in done.stderr
        if status == 0:
            assert done.stderr == b""
        return done

    def here(self, *words: str | bytes | Path, given: bytes = b"", env: dict[str, str] | None = None) -> tuple[int, bytes, str]:
        """Status, output and errors of a command run in this process, which is quicker; for what needs no process of its own."""
        out, err = io.TextIOWrapper(io.BytesIO(), write_through=True), io.StringIO()
        kept = dict(os.environ), os.getcwd(), sys.stdin
        os.environ.clear()
        os.environ.update(self.env | (env or {}))
        os.chdir(self.folder)
        sys.stdin = io.TextIOWrapper(io.BytesIO(given))
        try:
            with redirect_stdout(out), redirect_stderr(err):
                status = main([os.fsdecode(word) for word in words])
        finally:
            os.environ.clear()
            os.environ.update(kept[0])
            os.chdir(kept[1])
            sys.stdin = kept[2]
        return status, out.buffer.getvalue(), err.getvalue()  # type: ignore[attr-defined]

    def __call__(self, *words: str | bytes | Path, given: bytes = b"") -> bytes:
        """What a command that succeeds prints."""
        status, out, err = self.here(*words, given=given)
        assert (status, err) == (0, ""), f"{words} ended with {status}\n{out!r}\n{err}"
        return out

    def json(self, *words: str | bytes | Path) -> Any:
        return json.loads(self(*words, "--json"))

    def fails(self, *words: str | bytes | Path, status: int = 1, given: bytes = b"", env: dict[str, str] | None = None) -> str:
        """The one line that a command that fails says."""
        ended, out, said = self.here(*words, given=given, env=env)
        assert (ended, out) == (status, b""), f"{words} ended with {ended}\n{out!r}\n{said}"
        assert said.startswith("tarbox: ") and said.count("\n") == 1, said
        return said.removeprefix("tarbox: ").rstrip("\n")

    def names(self, path: str | bytes = "/") -> list[bytes]:
        return self("ls", "-a", path).splitlines()


@contextmanager
def fresh(url: str, folder: Path) -> Iterator[Tarbox]:
    """A command on a new tenant, in which fsck finds nothing afterwards."""
    tarbox = Tarbox(url, folder)
    tarbox("tenant", "create", tarbox.tenant)
    yield tarbox
    assert tarbox.json("fsck") == {"tenant": tarbox.tenant, "clean": True, "findings": []}
