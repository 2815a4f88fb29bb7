"""Commands for who comes without a database password: serve, token create, list and revoke. What serves is tarbox_browser's."""

from __future__ import annotations

import logging
import os
import secrets
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import TYPE_CHECKING

from tarbox_cli.arguments import UsageError, count, seconds, tenant_name, tenant_path, token_id
from tarbox_cli.output import Output, complain, iso, local, quote, text
from tarbox_cli.session import administer, database_url, open_tenant, settings
from tarbox_cli.users import whoever
from tarbox_core.errors import FsError, TarboxError, TenantError, TokenError
from tarbox_core.types import TenantInfo

if TYPE_CHECKING:
    from tarbox_browser.running import Started
    from tarbox_cli.commands import Verbs
    from tarbox_cli.config import Config
    from tarbox_core.drivers.sync import SyncDriver
    from tarbox_core.tokens import Token

_NEEDED = ("anyio", "starlette", "uvicorn", "websockets")
_DAY = 86400.0


def _port(word: str) -> int:
    number = 0 if word == "0" else count(word)
    if number > 65535:
        raise ArgumentTypeError(f"{word!r} is not a port: 0 to 65535")
    return number


# --- serve


def serve_arguments(parser: ArgumentParser) -> None:
    whom = parser.add_argument_group("what is served", conflict_handler="resolve")  # this --tenant instead of every command's
    several = "a tenant; may be given several times (TARBOX_TENANT, or all)"
    whom.add_argument("--tenant", dest="tenants", metavar="NAME", type=tenant_name, action="append", help=several)
    parser.add_argument("--host", metavar="ADDRESS", default="127.0.0.1", help="where to listen (127.0.0.1); elsewhere only with TARBOX_TOKEN_SECRET")
    parser.add_argument("--port", metavar="PORT", type=_port, help="the port; 0 for any that is free (7860, or the next that is free)")
    parser.add_argument("--origin", dest="origins", metavar="URL", action="append", default=[], help="what browsers call it, as in https://files.example.org")
    parser.add_argument("--read-only", "-r", action="store_true", help="the link changes nothing")
    parser.add_argument("--open", action="store_true", help="open the link in this machine's browser")


def serve(options: Namespace, out: Output) -> int:
    try:
        from tarbox_browser import running
    except ImportError as error:
        if error.name not in _NEEDED:
            raise
        raise TarboxError(f"{error.name} is not installed, without which no page is served: pip install 'tarbox[browser]'") from None
    from tarbox_core.drivers.dsn import parse_url
    from tarbox_core.layer import MAIN

    config = settings(options)
    wanted = options.tenants or ([config.tenant] if config.tenant else [])
    with administer(options) as driver:
        served = _tenants(driver, wanted)
    if config.branch != MAIN:
        for info in served:
            open_tenant(config, database_url(config), info, read_only=True)[0].close()  # or it has no such branch
    house = running.House(
        parse_url(database_url(config), os.environ), tuple(served), whoever().caller, key=config.token.secret, branch=config.branch, audit=config.audit.enabled,
        synchronous=config.database.durability == "always",
    )

    def ready(started: Started) -> None:
        if options.json:
            out.json({
                "url": started.link, "origin": started.origin, "host": options.host, "port": started.port, "tenants": names,
                "read_only": options.read_only,
            })  # fmt: skip
        else:
            out.line(f"{' and '.join([', '.join(names[:-1]), names[-1]] if len(names) > 1 else names)}: {started.link}")
            if options.origins:
                out.line(f"It listens on {options.host}, port {started.port}.")
            out.line("The link is good for one browser, within an hour. Ctrl-C ends the server.")
        out.flush()
        if options.open:
            _show(started.link)

    names = [info.name for info in served]
    logging.basicConfig(level=logging.WARNING, format="tarbox: %(message)s")
    running.serve(house, ready=ready, host=options.host, port=options.port, origins=options.origins, read_only=options.read_only)
    return 0


def _tenants(driver: SyncDriver, wanted: list[str]) -> list[TenantInfo]:
    """The tenants of these names, or all there are."""
    from tarbox_core import tenant

    if wanted:
        return [driver.run(lambda: tenant.info(name)) for name in dict.fromkeys(wanted)]  # noqa: B023
    known = driver.run(tenant.listing)
    if not known:
        raise TenantError("there is no tenant yet: make one with `tarbox tenant create NAME`")
    return known


def _show(link: str) -> None:
    import webbrowser

    try:
        opened = webbrowser.open(link)
    except webbrowser.Error:
        opened = False
    if not opened:
        complain("no browser is found here: open the link in one")


# --- token create


def create_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--read-only", "-r", action="store_true", help="it changes nothing")
    parser.add_argument("--ttl", metavar="TIME", type=seconds, default=_DAY, help="for how long it is good, as in 30m, 8h or 90d; a year at most (1d)")
    parser.add_argument("--path", metavar="DIR", type=tenant_path, help="it opens this directory and what is below it, and nothing else of the tenant")
    parser.add_argument("--name", metavar="TEXT", default="", help="what it is for, in `token list` and in the audit")


def create(options: Namespace, out: Output) -> int:
    from tarbox_cli.session import tenant_of
    from tarbox_core import tenant, tokens

    config = settings(options)
    name = tenant_of(config, database_url(config))
    shown = tokens.secret(secrets.token_bytes(tokens.RANDOM_BYTES))
    digest = tokens.hashed(shown, config.token.secret)
    with administer(options) as driver:
        info = driver.run(lambda: tenant.info(name))
        path = None if options.path is None else _directory(config, info, options.path)
        (new,) = driver.run(
            lambda: tokens.create(
                [info], digest, seconds=max(1, round(options.ttl)), caller=whoever().caller, name=options.name, read_only=options.read_only,
                path=path,
            ), durable=True,
        )  # fmt: skip
    if options.json:
        out.json({
            "id": new.id, "token": shown, "tenant": name, "path": path and text(path), "name": options.name, "read_only": options.read_only,
            "expires_at": iso(new.expires_at),
        })  # fmt: skip
    else:
        out.line(shown)
    return 0


def _directory(config: Config, info: TenantInfo, given: bytes) -> bytes | None:
    """The directory that a token is for, under its true name; None for the root, which is all. UsageError where it has another."""
    from tarbox_core import path

    driver, fs = open_tenant(config, database_url(config), info, read_only=True)
    try:
        names = driver.run(lambda: path.true_names(fs.session, whoever().caller, given))
    except FsError as error:
        raise FsError(error.errno, given) from error
    finally:
        driver.close()
    if not names:
        return None
    true = b"/" + b"/".join(names)
    if path.split(given, given) != names:
        raise UsageError(f"{quote(given)} leads to {quote(true)}: a token is for a directory under its true name, as in --path {quote(true)}")
    return true


# --- token list


def list_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--all", "-a", action="store_true", help="also those that are expired, revoked or spent")


def list_(options: Namespace, out: Output) -> int:
    from tarbox_core import tenant, tokens

    name = settings(options).tenant
    with administer(options) as driver:
        of = None if name is None else driver.run(lambda: tenant.info(name)).id
        known = driver.run(lambda: tokens.listing(of))
    found = [token for token in known if options.all or token.state == "good"]
    if options.json:
        out.json([_described(token) for token in found])
    elif found:
        head = ("ID", "TENANT", "PATH", "KIND", "MAY", "STATE", "EXPIRES", "LAST USED", "NAME")
        out.table(head, [_row(token) for token in found])
    return 0


def _row(token: Token) -> tuple[str, ...]:
    used = "-" if token.used_at is None else local(token.used_at)
    return (
        str(token.id), token.tenant_name, quote(token.path or b"/"), token.kind, "read" if token.read_only else "write", token.state, local(token.expires_at),
        used, token.name,
    )  # fmt: skip


def _described(token: Token) -> dict[str, object]:
    return {
        "id": token.id, "tenant": token.tenant_name, "path": token.path and text(token.path), "kind": token.kind, "name": token.name,
        "read_only": token.read_only, "state": token.state, "parent": token.parent, "uid": token.uid, "created_at": iso(token.created_at),
        "expires_at": iso(token.expires_at), "used_at": None if token.used_at is None else iso(token.used_at),
    }  # fmt: skip


# --- token revoke


def revoke_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("ids", metavar="ID", type=token_id, nargs="+", help="as `tarbox token list` shows it")


def revoke(options: Namespace, out: Output) -> int:
    from tarbox_core import tokens

    ended: list[int] = []
    unknown: list[TokenError] = []
    with administer(options) as driver:
        for ident in dict.fromkeys(options.ids):
            try:
                ended += driver.run(lambda: tokens.revoke(ident, whoever().caller), durable=True)  # noqa: B023
            except TokenError as error:
                unknown.append(error)  # the others end nevertheless
    if options.json:
        out.json({"revoked": ended})
    elif ended:
        out.line(f"revoked: {', '.join(map(str, ended))}")
    out.flush()
    for each in unknown:
        complain(str(each))
    return 1 if unknown else 0


VERBS: Verbs = {
    "serve": (serve_arguments, serve), "token create": (create_arguments, create), "token list": (list_arguments, list_),
    "token revoke": (revoke_arguments, revoke),
}  # fmt: skip
