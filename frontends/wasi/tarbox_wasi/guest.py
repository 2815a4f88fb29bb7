"""Tarbox itself as a guest: its command line in CPython for WASI, one tenant behind a file, and no password.

The guest sees standard streams and the directory /guest: its own modules, and the file that leads through a gateway to the
database. `wasm/` builds what it is made of into the folder bundle/. Not here: what the gateway grants.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from tarbox_core import frames
from tarbox_core.control import ControlledFilesystem
from tarbox_core.errors import GatewayError, TarboxError
from tarbox_core.types import Caller, TenantInfo
from tarbox_wasi.extras import Extra
from tarbox_wasi.mapped import load_mapped
from tarbox_wasi.running import Program, Result
from tarbox_wasi.world import Preopen, World

if TYPE_CHECKING:
    from tarbox_core.drivers.base import Driver

BUNDLE: Final = Path(__file__).with_name("bundle")

_FOLDER: Final = b"/guest"
_SQL: Final = b"sql"
_CORE: Final = b"core.zip"
# Not `python core.zip`, which would import much before it begins.
_BEGIN: Final = b"import sys; sys.path.insert(0, '%s/%s'); from tarbox_cli.inside import main; sys.exit(main())" % (_FOLDER, _CORE)
_PYTHON: Final = (b"python", b"-S", b"-I", b"-X", b"utf8", b"-c", _BEGIN)


class Channel:
    """The host's end of the file: whole frames in, their answers out, one at a time, so that no guest fills the host's memory."""

    def __init__(self, exchange: Callable[[bytes], bytes]) -> None:
        self._exchange = exchange
        self._asked = bytearray()
        self._answer = memoryview(b"")

    def write(self, data: bytes) -> int:
        """Take a part of a frame; with its last the answer is there. GatewayError: beyond the limit, or before an answer was read."""
        self._asked += data
        try:
            for frame in frames.split(self._asked, frames.REQUEST_MAX):
                if self._answer:
                    raise GatewayError("protocol", "a request before the answer to the one before it was read")
                self._answer = memoryview(self._exchange(frame))
        except GatewayError:
            self._asked.clear()
            raise
        return len(data)

    def read(self, size: int) -> bytes:
        taken, self._answer = self._answer[:size], self._answer[size:]
        return bytes(taken)


class Ended(NamedTuple):
    """How a guest ended, and what was behind an input/output error of its."""

    result: Result
    trouble: TarboxError | None


def bundle_file(name: str) -> Path:
    """A file of the bundle. TarboxError where it was not built."""
    path = BUNDLE / name
    if not path.is_file():
        raise TarboxError("the WASI guest is not built: run `python wasm/build.py` in a checkout of tarbox, and install that again")
    return path


def load() -> Program:
    """The guest, for `run`; the first time it is compiled. TarboxError where it was not built."""
    return Program(bundle_file("python.wasm"), name="the guest", loader=load_mapped)


def run(
    program: Program, words: Sequence[bytes], exchange: Callable[[bytes], bytes], driver: Driver, tenant: TenantInfo, *,
    env: Mapping[bytes, bytes] | None = None, stdio: tuple[int, int, int] = (0, 1, 2),
) -> Ended:  # fmt: skip
    """Run the guest that was loaded to its end, with the words that tarbox_cli.inside takes. `exchange` answers its frames.

    `env`: what it sees of an environment, beside where its gateway is. `driver` and `tenant` are not used by it: it has
    none of the tree's directories open.
    """
    extras: dict[bytes, Extra] = {_SQL: Channel(exchange), _CORE: bundle_file("core.zip").read_bytes()}
    variables = {b"TARBOX_GATEWAY": _FOLDER + b"/" + _SQL, **(env or {})}
    tree = ControlledFilesystem(tenant, time.time_ns, enforce=False, read_only=True)
    world = World(
        driver, tree, Caller(), args=[*_PYTHON, *words], env=[b"%s=%s" % pair for pair in variables.items()],
        preopens=[Preopen(_FOLDER, extras=extras)], stdio=stdio,
    )  # fmt: skip
    try:
        return Ended(program.run(world), world.trouble)
    finally:
        world.close()
