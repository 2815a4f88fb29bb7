"""The commands that run this command line inside WebAssembly: wasi exec and wasi shell. What runs it is tarbox_wasi's.

The guest sees one tenant, through a gateway in this process, and no password; standard streams and the status are its own.
"""

from __future__ import annotations

import os
import shutil
import sys
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from tarbox_cli.arguments import Parser
from tarbox_cli.output import Output, complain
from tarbox_cli.progress import patiently
from tarbox_cli.session import connect, database_url, settings, tenant_info, tenant_of
from tarbox_cli.users import whoever, written
from tarbox_cli.wasi import attended, need_wasmtime, stand_in

if TYPE_CHECKING:
    from tarbox_cli.commands import Verbs

_INSIDE = """Inside is CPython for WASI, which reaches the database through this process: it sees one tenant, no password, no network and
no file of this host; of the environment TERM, COLUMNS, NO_COLOR, LANG and TZ. What needs the host (put, get, mount, tenant,
gc and others) says so. The exit status is that of the {which}, 134 where the guest itself failed. The first start
compiles it, for some seconds; later ones find that in ~/.cache/tarbox/wasm."""

_SEEN = ("TERM", "COLUMNS", "NO_COLOR", "LANG", "TZ")  # of the environment, by the guest


def exec_arguments(parser: ArgumentParser) -> None:
    assert isinstance(parser, Parser)
    parser.passes_on = True
    parser.add_argument("command", metavar="COMMAND", help="a command of tarbox, as in `tarbox wasi exec -- ls -l /`")
    parser.add_argument("args", metavar="ARGS", nargs="*", default=[], help="its arguments and options: all that stands behind it")
    _granted(parser)
    parser.notes = _INSIDE.format(which="command")


def exec_(options: Namespace, out: Output) -> int:
    general = ["--json"] if options.json else []
    return _guest(options, ["exec", *general, options.command, *options.args])


def shell_arguments(parser: ArgumentParser) -> None:
    assert isinstance(parser, Parser)
    _granted(parser)
    parser.notes = _INSIDE.format(which="last command")


def shell(options: Namespace, out: Output) -> int:
    return _guest(options, ["shell"])


def _granted(parser: ArgumentParser) -> None:
    grant = parser.add_mutually_exclusive_group()
    grant.add_argument("--read-only", "-r", action="store_true", help="nothing can be changed")
    grant.add_argument("--upkeep", action="store_true", help="also what rewrites the past: layer delete, layer squash, fsck --repair, audit verify")


def _guest(options: Namespace, words: list[str]) -> int:
    need_wasmtime()
    stand_in()
    from tarbox_core import tenant
    from tarbox_core.drivers.serving import Served
    from tarbox_core.gateway import Grant
    from tarbox_wasi import guest

    config = settings(options)
    url = database_url(config)
    info = tenant_info(config, url, tenant_of(config, url))
    user = whoever()
    grant = Grant(read_only=options.read_only, upkeep=options.upkeep, audit=config.audit.enabled, caller=user.caller)
    program = patiently(guest.load, "compiling the guest, which is done once")
    with connect(config, url, info.role) as driver:
        attached = driver.run(lambda: tenant.attach(info, config.branch))
        with Served(driver.dsn, attached, grant, synchronous=config.database.durability == "always") as served, attended():
            told = [os.fsencode(word) for word in (written(user), *words)]
            result, trouble = guest.run(program, told, served.exchange, driver, attached, env=_environment())
    if trouble is not None:
        complain(f"the guest met an input/output error: {trouble}")
    if result.trap is not None:
        complain("the guest trapped: {}".format(result.trap.partition("\n")[0]))
        for line in result.trap.splitlines()[1:]:
            sys.stderr.write(f"{line}\n")
    return result.exit_code & 0xFF


def _environment() -> dict[bytes, bytes]:
    if sys.stdout is not None and sys.stdout.isatty():
        os.environ.setdefault("COLUMNS", str(shutil.get_terminal_size().columns))
    return {os.fsencode(name): os.fsencode(os.environ[name]) for name in _SEEN if name in os.environ}


VERBS: Verbs = {"wasi exec": (exec_arguments, exec_), "wasi shell": (shell_arguments, shell)}
