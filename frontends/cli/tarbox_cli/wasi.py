"""The command that runs a WebAssembly program on a tenant's tree: wasi run. What runs it is tarbox_wasi's.

Standard output is the guest's own, so what is to be said of a run goes to standard error.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Final, NoReturn

from tarbox_cli.arguments import Parser, UsageError, at_layer, count, guest_directory, host_path, seconds, tenant_path, variable
from tarbox_cli.output import Output, complain, describe, text
from tarbox_cli.progress import patiently
from tarbox_cli.session import database_url, open_tenant, settings, tenant_info, tenant_of
from tarbox_core.errors import FsError, TarboxError
from tarbox_core.types import Caller

if TYPE_CHECKING:
    from tarbox_cli.commands import Verbs
    from tarbox_core.compare import Change
    from tarbox_core.control import ControlledFilesystem
    from tarbox_core.drivers.base import Driver
    from tarbox_core.drivers.dsn import Dsn
    from tarbox_core.layer import Layer
    from tarbox_wasi import Door, Program, Result, World

_INSIDE: Final = "tarbox:"  # before the path of a program that is a file of the tenant
_STATUSES: Final = """exit status:
  the program's own; else 124 out of time, 126 not a program that can be run, 134 a trap or out of fuel, 137 not enough memory
  to begin with, 130 interrupted, 1 an error of Tarbox itself, 2 bad usage

Options of Tarbox stand before PROG.wasm. It sees that directory, its standard streams and nothing else of this host. Standard
output is the program's own; with --json, standard error ends with a document that tells how it ended and what changed."""


def run_arguments(parser: ArgumentParser) -> None:
    assert isinstance(parser, Parser)
    parser.passes_on = True
    parser.add_argument("program", metavar="PROG.wasm", type=host_path, help="a module of WASI preview1; tarbox:/PATH is a file of the tenant")
    parser.add_argument("args", metavar="ARGS", nargs="*", default=[], help="the program's own arguments and options: all that stands behind it")
    parser.add_argument(
        "--dir", dest="dirs", metavar="GUEST[=PATH]", action="append", type=guest_directory, default=[],
        help="a directory of the tenant that the program is given, and finds at GUEST: PATH, or the one of that very name; may be repeated; else all of /",
    )  # fmt: skip
    parser.add_argument("--env", metavar="NAME=VALUE", action="append", type=variable, default=[], help="a variable of its environment, empty but for these")
    parser.add_argument("--read-only", "-r", action="store_true", help="it can change nothing")
    parser.add_argument("--checkpoint", action="store_true", help="make a layer before it runs, and tell at the end what changed")
    parser.add_argument("--fuel", metavar="N", type=count, help="about how many instructions it may run")
    parser.add_argument("--memory", metavar="MB", type=count, help="how much memory it may have")
    parser.add_argument("--timeout", metavar="S", type=seconds, help="for how many seconds it may run, waiting included")
    at_layer(parser, "on the tree of a layer, read-only")
    parser.notes = _STATUSES


def run(options: Namespace, out: Output) -> int:
    dirs = _directories(options)
    if options.checkpoint and (options.read_only or options.layer is not None):
        raise UsageError("--checkpoint is for a program that may change something", "wasi run")
    need_wasmtime()
    stand_in()
    from tarbox_wasi import NOT_RUNNABLE, ProgramError, entered

    source = os.fsdecode(options.program)
    if source == _INSIDE:
        raise UsageError(f"{_INSIDE} wants a path of the tenant behind it", "wasi run")
    try:
        program = None if source.startswith(_INSIDE) else _load(options, source)
        with _tenant(options) as (dsn, driver, fs):
            caller = Caller(os.geteuid(), os.getegid(), tuple(os.getgroups()), os.getpid())
            if program is None:
                program = _load(options, source, _stored(driver, fs, caller, tenant_path(source.removeprefix(_INSIDE))))
            with entered(dsn, driver, fs, caller) as door, attended():
                return _run(options, program, door, dirs)
    except ProgramError as error:
        complain(describe(error))
        return NOT_RUNNABLE


def need_wasmtime() -> None:
    """TarboxError where what runs programs is not installed."""
    try:
        import tarbox_wasi  # noqa: F401
    except ImportError as error:
        if error.name != "wasmtime":
            raise
        raise TarboxError(str(error)) from None


def stand_in() -> None:
    """Nothing, in place of a standard stream that was closed: else the next file or connection here would be the guest's."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)


def _directories(options: Namespace) -> dict[bytes, bytes]:
    dirs: dict[bytes, bytes] = {}
    for name, path in options.dirs or [(b"/", b"/")]:
        if name in dirs:
            raise UsageError(f"--dir names {text(name)} twice", "wasi run")
        dirs[name] = path
    return dirs


def _load(options: Namespace, name: str, data: bytes | None = None) -> Program:
    from tarbox_wasi import Program

    memory = options.memory and options.memory << 20
    load = partial(Program, name if data is None else data, name=name, fuel=options.fuel, memory=memory)
    return patiently(load, f"{name}: compiling it, which takes a while the first time")


@contextmanager
def _tenant(options: Namespace) -> Iterator[tuple[Dsn, Driver, ControlledFilesystem]]:
    from tarbox_core.drivers.dsn import parse_url

    config = settings(options)
    url = database_url(config)
    info = tenant_info(config, url, tenant_of(config, url))
    read_only = options.read_only or options.layer is not None
    driver, fs = open_tenant(config, url, info, read_only=read_only, defer=not read_only, pool_size=2, layer=options.layer)
    try:
        yield parse_url(url, os.environ), driver, fs
    finally:
        driver.close()


def _stored(driver: Driver, fs: ControlledFilesystem, caller: Caller, path: bytes) -> bytes:
    """The program that a file of the tenant holds. ProgramError, as of a file of this host."""
    from tarbox_wasi import ProgramError

    try:
        attr = driver.run(lambda: fs.resolve(caller, path))
        opened = driver.run(lambda: fs.open(caller, attr.ino))
        try:
            return driver.run(lambda: opened.read(caller, 0, attr.size))
        finally:
            driver.run(lambda: opened.release(caller))
    except FsError as error:
        raise ProgramError(f"tarbox:{text(path)}: {FsError(error.errno)}") from error


def _run(options: Namespace, program: Program, door: Door, dirs: dict[bytes, bytes]) -> int:
    door.preopens(dirs)  # an error in them before a layer is made
    layer = door.checkpoint(f"before wasi run {os.path.basename(program.name)}") if options.checkpoint else None
    if layer is not None and not options.json:
        complain(f"layer {layer.short} made: `tarbox layer switch {layer.short}` brings this tree back")
    args = [os.fsencode(word) for word in (os.path.basename(program.name), *options.args)]
    try:
        with door.guest(args=args, env=dict(options.env), dirs=dirs) as world:
            result = program.run(world, timeout=options.timeout)
            if not options.json:
                _explain(options, program, result)
            _troubles(world)
    except (KeyboardInterrupt, SystemExit) as signalled:  # `attended`
        _tell(options, door, layer, {"exit_code": signalled.code if isinstance(signalled, SystemExit) else 130, "reason": "signal", "trap": None})
        raise
    _tell(options, door, layer, result._asdict())
    return result.exit_code & 0xFF or min(result.exit_code, 1)  # of 256 a shell would see 0


def _tell(options: Namespace, door: Door, layer: Layer | None, ended: dict[str, object]) -> None:
    """What a script, or whoever had a layer made, wants to know of a run."""
    changes = None if layer is None else door.changes(layer)
    if options.json:
        _document(ended, layer, changes)
    elif changes is not None:
        _changed(changes)


def _explain(options: Namespace, program: Program, result: Result) -> None:
    """What ended a run, where it was not the program itself."""
    match result.reason:
        case "exit":
            return
        case "time":
            complain(f"{program.name}: ended, because {options.timeout:g} s are over")
        case "memory":
            complain(f"{result.trap}, and may have {options.memory} MB")
        case "fuel":
            complain(f"{program.name}: out of fuel: it ran {options.fuel} instructions")
        case "trap":
            what, _, backtrace = (result.trap or "").partition("\n")
            limited = f" (it may have {options.memory} MB of memory)" if options.memory else ""
            complain(f"{program.name}: trap: {what}{limited}")
            for line in backtrace.splitlines():
                sys.stderr.write(f"{line}\n")


def _troubles(world: World) -> None:
    """What failed in the database, of which the guest was told no more than EIO."""
    if world.trouble is not None:
        complain(f"the program met an input/output error: {world.trouble}")


def _changed(changes: list[Change]) -> None:
    from tarbox_core.listing import name_status

    for line in name_status(changes):
        sys.stderr.write(f"{line}\n")
    if not changes:
        complain("nothing changed")


def _document(ended: dict[str, object], layer: Layer | None, changes: list[Change] | None) -> None:
    from tarbox_cli.comparing import described
    from tarbox_core.listing import layer_value

    shown = {
        **ended, "layer": None if layer is None else layer_value(layer),
        "changes": None if changes is None else [described(change) for change in changes],
    }  # fmt: skip
    sys.stderr.flush()
    errors = Output(sys.stderr.buffer, False)
    errors.json(shown)
    errors.flush()


class _Teller(logging.Handler):
    """What is logged beside a guest, as lines on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and os.environ.get("TARBOX_DEBUG") == "1":
            sys.stderr.write(f"{self.format(record)}\n")
        elif record.exc_info:
            complain(f"{record.getMessage()}: {record.exc_info[1]!r} (TARBOX_DEBUG=1 shows where)")
        else:
            complain(record.getMessage())


@contextmanager
def attended() -> Iterator[None]:
    """Around a guest: SIGTERM and SIGHUP end it as Ctrl-C does, so that what it wrote is stored; and trouble beside it is told."""

    def end(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    ours = threading.current_thread() is threading.main_thread()  # no other may
    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP) if ours}
    log, teller = logging.getLogger("tarbox"), _Teller(logging.WARNING)
    log.addHandler(teller)
    try:
        yield
    finally:
        log.removeHandler(teller)
        for number, handler in before.items():
            signal.signal(number, handler)


VERBS: Verbs = {"wasi run": (run_arguments, run)}
