"""Commands that keep the store in order: init, fsck, gc, and the embedded server's status and stop."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from tarbox_cli.arguments import no_arguments
from tarbox_cli.output import Output, complain, human, iso
from tarbox_cli.progress import Progress
from tarbox_cli.session import administer, connect, database_url, enter, settings
from tarbox_cli.users import whoever
from tarbox_core.columns import some
from tarbox_core.errors import TarboxError

if TYPE_CHECKING:
    from tarbox_cli.commands import Verbs


# --- init


def init(options: Namespace, out: Output) -> int:
    from tarbox_cli.config import redacted
    from tarbox_core import tenant
    from tarbox_core.drivers import migrate

    config = settings(options)
    url = database_url(config)
    driver = connect(config, url)
    try:
        before, version = migrate.init(driver)
        driver.run(tenant.audit_ahead)
    finally:
        driver.close()
    if options.json:
        out.json({"database": redacted(url), "embedded": config.database.url is None, "schema_version": version, "schema_version_before": before})
    elif before < version:
        out.line(f"the database is ready: schema version {version} ({redacted(url)})")
    else:
        out.line(f"nothing to do: the schema is at version {version} ({redacted(url)})")
    return 0


# --- fsck


def fsck_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--repair", action="store_true", help="mend what can be mended")
    parser.add_argument("--layers", action="store_true", help="look at the trees of the other branches and of every sealed layer too")


def fsck(options: Namespace, out: Output) -> int:
    from tarbox_core import check

    with enter(options, changes=options.repair) as session, Progress() as progress:
        findings = session.driver.run(
            lambda: check.fsck(
                session.fs, repair=options.repair, layers=options.layers, progress=lambda blocks: progress.add(blocks * session.tenant.block_size)
            ),
            durable=options.repair,
        )
        name = session.tenant.name
    left = [found for found in findings if not found.repaired]
    if options.json:
        out.json({
            "tenant": name, "clean": not left,
            "findings": [{"kind": found.kind, "inode": found.ino, "text": found.text, "repaired": found.repaired} for found in findings],
        })
    else:
        for found in findings:
            out.line(f"{found.kind}: {found.text}" + (f": {found.repaired}" if found.repaired else ""))
        if not findings:
            out.line(f"{name}: clean")
        else:
            out.line(f"{name}: {len(findings)} found, {len(findings) - len(left)} repaired" + ("" if options.repair else "; --repair mends what can be mended"))
    return 1 if left else 0


# --- gc


def gc(options: Namespace, out: Output) -> int:
    from tarbox_core import check, sealing, tenant, trail
    from tarbox_core.drivers.packing import pack

    with enter(options, changes=True) as session:
        packed = pack(session.driver, session.fs)
        swept = session.driver.run(lambda: check.gc(session.fs), durable=True)
        while session.driver.run(lambda: sealing.seal(session.fs.session)):
            pass
        name = session.tenant.name
    records: int | None = None
    try:
        with administer(options) as owner:
            owner.run(tenant.audit_ahead)
            caller = whoever().caller
            pruned = owner.run(lambda: trail.prune(settings(options).audit.retention_days, caller.uid, caller.pid), durable=True)
            records = pruned.records
    except TarboxError as error:  # what was removed is told all the same
        complain(str(error))
    if options.json:
        out.json({
            "tenant": name, "packed": packed.versions, "blocks": swept.blocks, "texts": swept.texts, "bytes": swept.bytes,
            "unlinked": swept.unlinked, "strays": swept.strays, "audit_records": records,
        })  # fmt: skip
    else:
        if packed.versions:
            out.line(f"{name}: packed {some(packed.versions, 'old version')} of files: {human(packed.size)}B of text in {human(packed.stored)}B")
        texts = f" and {some(swept.texts, 'text')}" if swept.texts else ""
        rest = f"{some(swept.unlinked, 'unlinked file')}, {some(swept.strays, 'stray')}"
        out.line(f"{name}: removed {some(swept.blocks, 'block')}{texts} ({human(swept.bytes)}B), {rest}")
        if records:
            out.line(f"removed {some(records, 'audit record')} from before {iso(pruned.before)[:10]} (UTC), of all tenants")
    return 1 if records is None else 0


# --- the embedded server


def status(options: Namespace, out: Output) -> int:
    from tarbox_core.drivers import embedded

    seen = embedded.status()
    if options.json:
        out.json({"state": seen.state, "home": str(seen.home), "log": str(seen.log), "pid": seen.pid, "url": seen.url, "version": seen.version})
    else:
        out.fields([
            ("State", seen.state), ("Directory", str(seen.home)), ("Log", str(seen.log)), ("Process", str(seen.pid or "-")),
            ("URL", seen.url or "-"), ("PostgreSQL", seen.version or "-"),
        ])
    return 0


def stop_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--force", action="store_true", help="stop it also while tenants are mounted; their mounts then answer with errors")


def stop(options: Namespace, out: Output) -> int:
    from tarbox_core.drivers import embedded

    seen = embedded.status()
    if seen.url and not options.force:
        mounted = _mounted(options, seen.url)
        if mounted:
            raise TarboxError(f"still mounted: {', '.join(mounted)}; unmount first, or stop from under the mounts with --force")
    stopped = embedded.stop()
    if options.json:
        out.json({"stopped": stopped})
    else:
        out.line("the embedded PostgreSQL has stopped" if stopped else "the embedded PostgreSQL was not running")
    return 0


def _mounted(options: Namespace, url: str) -> list[str]:
    """The tenants of the embedded database that have doors with files open; none where it cannot be asked."""
    from tarbox_core import tenant
    from tarbox_core.drivers.presence import doors

    driver = connect(settings(options), url)
    try:
        return [info.name for info in driver.run(tenant.listing) if doors(driver, info.id)]
    except TarboxError:
        return []  # no schema yet, or a server that does not answer: nothing that could be mounted
    finally:
        driver.close()


VERBS: Verbs = {
    "init": (no_arguments, init), "fsck": (fsck_arguments, fsck), "gc": (no_arguments, gc),
    "database status": (no_arguments, status), "database stop": (stop_arguments, stop),
}
