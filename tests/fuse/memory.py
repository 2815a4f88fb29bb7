"""Mounts of a tree in memory, for the tests of the transports; watched as helpers.Mount watches a tenant's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.fuse.helpers import Mount

TREE = Path(__file__).resolve().parents[2]
SOURCES = os.pathsep.join(map(str, (TREE, TREE / "frontends/fuse", TREE / "frontends/cli")))


class MemoryMount(Mount):
    """`python -m tests.fuse.memory_mount` in the foreground; of a Mount's methods, those that need a tenant do not apply."""

    def __init__(self, path: Path, *options: str, user: int | None = None) -> None:
        super().__init__(path, "mem", "", *options, env={"PYTHONPATH": SOURCES}, limit=120)
        self.user = user

    def command(self, *more: str) -> list[str]:
        return [sys.executable, "-W", "error", "-m", "tests.fuse.memory_mount", str(self.path), *self.options, *more]

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.daemon = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, env={**os.environ, **self.env},
                start_new_session=True, user=self.user, group=self.user, extra_groups=None if self.user is None else [],
            )  # fmt: skip
        assert self.daemon.stdout is not None
        said = self.daemon.stdout.readline()
        self.daemon.stdout.close()
        assert said == b"ready\n", f"{said!r}; the daemon's log:\n{self.log.read_text()}"

    def stop(self) -> None:
        """Unmount as the system does, and see the daemon end well."""
        if self.daemon is None:
            return
        subprocess.run(["umount", "--", self.path] if os.geteuid() == 0 else ["fusermount3", "-u", "--", self.path], check=True, timeout=60)
        code = self.daemon.wait(60)
        self.daemon = None
        assert code == 0, f"the daemon ended with {code}; its log:\n{self.log.read_text()}"
