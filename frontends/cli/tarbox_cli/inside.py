"""The command line inside a WASI guest: a file instead of a network, one tenant, and whoever started the guest as its user.

The host answers each frame that is written to the file named by TARBOX_GATEWAY. What a guest cannot do is refused by name.
"""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from functools import cache
from typing import Final

from tarbox_cli.arguments import UsageError
from tarbox_cli.commands import GATEWAY
from tarbox_core import hashing
from tarbox_core.drivers.remote import RemoteDriver
from tarbox_core.errors import ConnectionLost

_LENGTH: Final = 4  # bytes at the front of a frame that tell how many follow
_AT_ONCE: Final = 1 << 20


class Channel:
    """Frames through a file that the host answers."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDWR)

    def exchange(self, frame: bytes) -> bytes:
        """The answer to a frame."""
        left = memoryview(frame)
        while left:
            left = left[os.write(self._fd, left[:_AT_ONCE]) :]
        length = self._take(_LENGTH)
        return length + self._take(int.from_bytes(length, "big"))

    def _take(self, size: int) -> bytes:
        taken = bytearray()
        while len(taken) < size:
            data = os.read(self._fd, min(size - len(taken), _AT_ONCE))
            if not data:
                raise ConnectionLost("the host closed the gateway")
            taken += data
        return bytes(taken)


@cache
def _driver(path: str) -> RemoteDriver:
    """One for all commands of this process."""
    driver = RemoteDriver(Channel(path).exchange, program="tarbox in a WASI guest")
    hashing.use(driver.digests)
    return driver


def reach(options: Namespace) -> RemoteDriver:
    """The gateway, which serves one tenant; UsageError for options that ask for another."""
    if options.database_url is not None or options.config is not None:
        raise UsageError("a guest has neither databases nor configuration files to choose from: give this to what starts it")
    driver = _driver(os.environ[GATEWAY])
    if options.tenant not in (None, driver.tenant.name):
        raise UsageError(f"this guest sees the tenant {driver.tenant.name} alone")
    return driver


def main() -> int:
    """What the host starts: `USER shell`, or `USER exec ARGUMENTS` for one command. USER is users.written's."""
    from tarbox_cli import main as commands
    from tarbox_cli.users import run_as

    user, mode, *words = sys.argv[1:]
    run_as(user)
    if mode == "shell":
        from tarbox_cli.shell import run

        return run()
    return commands.main(words)
