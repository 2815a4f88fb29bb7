"""Commands on whole tenants: tenant create, list, info, delete."""

from __future__ import annotations

import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import TYPE_CHECKING, Any

from tarbox_cli.arguments import no_arguments, tenant_name
from tarbox_cli.asking import agree
from tarbox_cli.output import Output, human, iso, local
from tarbox_cli.session import administer, connect, database_url, open_tenant, ready, settings
from tarbox_cli.users import whoever
from tarbox_core.errors import TarboxError, TenantError
from tarbox_core.types import TenantInfo

if TYPE_CHECKING:
    from tarbox_cli.commands import Verbs
    from tarbox_cli.config import Config


def _size(word: str) -> int:
    """Bytes, with or without a unit, as in the configuration."""
    from tarbox_cli.config import size

    try:
        return size(word)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def described(info: TenantInfo) -> dict[str, Any]:
    return {
        "name": info.name, "title": info.title, "block_size": info.block_size, "max_file_size": info.max_file_size,
        "created_at": iso(info.created_at), "role": info.role,
    }


# --- create


def create_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("new", metavar="NAME", help="1 to 64 letters, digits, '.', '_' and '-', a letter or digit first")
    parser.add_argument("--name", dest="title", metavar="TEXT", default="", help="what people call it")
    parser.add_argument("--block-size", metavar="SIZE", type=_size, help="a power of two from 4KiB to 1MiB; fixed for ever (64KiB)")
    parser.add_argument("--max-file-size", metavar="SIZE", type=_size, help="the largest a file may grow (10GB)")


def create(options: Namespace, out: Output) -> int:
    from tarbox_core import tenant

    config = settings(options)
    block_size = options.block_size or config.filesystem.block_size
    largest = options.max_file_size or config.filesystem.max_file_size
    caller = whoever().caller
    with administer(options) as driver:
        info = driver.run(
            lambda: tenant.create(options.new, options.title, block_size, largest, caller.uid, caller.gid, time.time_ns()), durable=True,
        )
    if options.json:
        out.json(described(info))
    else:
        out.line(f"tenant {info.name} created")
    return 0


def create_missing(config: Config, url: str, name: str) -> None:
    """Make a tenant unless there is one of that name."""
    from tarbox_core import tenant

    filesystem = config.filesystem
    caller = whoever().caller
    admin = connect(config, url)
    try:
        ready(config, admin)
        if all(known.name != name for known in admin.run(tenant.listing)):
            try:
                admin.run(
                    lambda: tenant.create(name, "", filesystem.block_size, filesystem.max_file_size, caller.uid, caller.gid, time.time_ns()), durable=True,
                )
            except TenantError:
                if all(known.name != name for known in admin.run(tenant.listing)):  # else somebody made it meanwhile
                    raise
    finally:
        admin.close()


# --- list


def list_(options: Namespace, out: Output) -> int:
    from tarbox_core import tenant

    with administer(options) as driver:
        found = driver.run(tenant.listing)
    if options.json:
        out.json([described(info) for info in found])
    elif found:
        out.table(("NAME", "CREATED", "BLOCK SIZE", "TITLE"), [(info.name, local(info.created_at), human(info.block_size), info.title) for info in found])
    return 0


# --- info


def info_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("which", metavar="NAME", nargs="?", type=tenant_name, help="else --tenant or TARBOX_TENANT")


def info(options: Namespace, out: Output) -> int:
    from tarbox_cli.session import tenant_info, tenant_of
    from tarbox_core import tenant

    config = settings(options)
    url = database_url(config)
    found = tenant_info(config, url, options.which or tenant_of(config, url))
    driver, fs = open_tenant(config, url, found, read_only=True)
    try:
        attached = fs.tenant
        usage = driver.run(lambda: tenant.usage(attached))
        standing = driver.run(fs.current)
        branches = driver.run(fs.branches)
        sealed = [layer for layer in driver.run(fs.layers) if layer.sealed_at is not None]
    finally:
        driver.close()
    if options.json:
        out.json(described(attached) | {
            "head": attached.head, "layer": standing.parent_id, "branches": [branch.name for branch in branches], "layers": len(sealed),
            "files": usage.files, "directories": usage.directories, "bytes": usage.size, "stored_bytes": usage.stored,
        })
        return 0
    out.fields([
        ("Name", attached.name), ("Title", attached.title or "-"), ("Created", iso(attached.created_at)),
        ("Files", str(usage.files)), ("Directories", str(usage.directories)),
        ("Bytes", f"{usage.size} ({human(usage.size)})"), ("Stored", f"{usage.stored} ({human(usage.stored)})"),
        ("Block size", f"{attached.block_size} ({human(attached.block_size)})"),
        ("Largest file", f"{attached.max_file_size} ({human(attached.max_file_size)})"),
        ("Database role", attached.role), ("Branch", attached.head), ("Branches", ", ".join(branch.name for branch in branches)), ("Layers", str(len(sealed))),
    ])
    return 0


# --- delete


def delete_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("which", metavar="NAME", type=tenant_name)
    parser.add_argument("--yes", "-y", action="store_true", help="do not ask")
    parser.add_argument("--force", action="store_true", help="delete it even while it is mounted")


def delete(options: Namespace, out: Output) -> int:
    from tarbox_core import tenant
    from tarbox_core.drivers.presence import doors

    name = options.which
    with administer(options) as driver:
        info = driver.run(lambda: tenant.info(name))  # tell of a wrong name before asking
        if not options.force and doors(driver, info.id):
            raise TarboxError(f"tenant {name} is mounted; unmount it first, or delete it from under the mount with --force")
        if not options.yes:
            agree("tenant delete", f"Delete the tenant {name} with all its files and layers? Type its name to go on", name)
        driver.run(lambda: tenant.delete(name), durable=True)
    if options.json:
        out.json({"deleted": name})
    else:
        out.line(f"tenant {name} deleted")
    return 0


VERBS: Verbs = {
    "tenant create": (create_arguments, create), "tenant list": (no_arguments, list_), "tenant info": (info_arguments, info),
    "tenant delete": (delete_arguments, delete),
}
