"""Commands that make a tenant a directory of this host: mount, umount. What a mount is, is tarbox_fuse's."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from functools import partial
from typing import TYPE_CHECKING

from tarbox_cli.arguments import UsageError, at_layer, host_directory, host_path
from tarbox_cli.output import Output, quote
from tarbox_cli.session import connect, database_url, open_tenant, settings, tenant_info, tenant_of

if TYPE_CHECKING:
    from tarbox_cli.commands import Verbs
    from tarbox_cli.config import Config
    from tarbox_core.drivers.base import Driver
    from tarbox_core.drivers.presence import Presence
    from tarbox_core.filesystem import Filesystem


def mount_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", nargs="?", type=host_directory, help="an empty directory; else mount_point of the configuration")
    parser.add_argument("--foreground", "-f", action="store_true", help="stay here and log to standard error until the mount ends")
    parser.add_argument("--read-only", "-r", action="store_true", help="nothing can be changed through the mount")
    parser.add_argument("--allow-other", action="store_true", help="other users may use it, as far as permissions allow")
    parser.add_argument("--create-tenant", action="store_true", help="make the tenant where there is none of the name")
    parser.add_argument("--transport", choices=("kernel", "libfuse"), default="kernel", help="speak to the kernel directly (the default), or through libfuse")
    at_layer(parser, "the tree of a sealed layer, read-only")
    parser.add_argument("--log-file", metavar="FILE", type=host_path, help="where the daemon writes its log")


def upkeep(config: Config, url: str) -> None:
    """What a mount, which works under its tenant's role, has the owner do now and then: weeks of the audit trail to come."""
    from tarbox_core import tenant

    owner = connect(config, url)
    try:
        owner.run(tenant.audit_ahead)
    finally:
        owner.close()


def mount(options: Namespace, out: Output) -> int:
    import tarbox_fuse
    from tarbox_core.layer import MAIN

    config = settings(options)
    directory = os.fsdecode(options.directory) if options.directory else config.filesystem.mount_point
    if not directory:
        raise UsageError("where? name a directory, or set mount_point in the configuration", "mount")
    url = database_url(config)
    name = tenant_of(config, url)
    if options.create_tenant:
        from tarbox_cli.tenants import create_missing

        create_missing(config, url, name)
    info = tenant_info(config, url, name)
    read_only = options.read_only or options.layer is not None

    def open_fs() -> tuple[Driver, Filesystem]:
        return open_tenant(config, url, info, read_only=read_only, defer=not read_only, pool_size=config.database.pool_size, layer=options.layer)

    def presence(fs: Filesystem) -> Presence:
        from tarbox_core.drivers.dsn import parse_url
        from tarbox_core.drivers.presence import Presence

        return Presence(parse_url(url, os.environ), fs)

    def ready() -> None:
        where = os.path.abspath(directory)
        if options.json:
            shown = {"tenant": name, "branch": None if options.layer else config.branch, "layer": options.layer}
            out.json({**shown, "mountpoint": where, "read_only": read_only, "transport": options.transport})
        else:
            at = f", layer {options.layer}," if options.layer else "" if config.branch == MAIN else f", branch {config.branch},"
            out.line(f"{name}{at} is mounted on {quote(os.fsencode(where))}")
        out.flush()

    tarbox_fuse.serve_mount(
        directory, open_fs, tenant=name, read_only=read_only, allow_other=options.allow_other, foreground=options.foreground,
        transport=options.transport, log_file=os.fsdecode(options.log_file) if options.log_file else None, ready=ready, presence=presence,
        upkeep=partial(upkeep, config, url), checkpoint_every=config.layer.checkpoint_interval if config.layer.auto_checkpoint else None,
    )  # fmt: skip
    return 0


def umount_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", nargs="?", type=host_directory, help="the mount; else mount_point of the configuration")
    parser.add_argument("--lazy", "-l", action="store_true", help="take it out of sight now, end when nothing uses it any more")


def umount(options: Namespace, out: Output) -> int:
    import tarbox_fuse

    directory = os.fsdecode(options.directory) if options.directory else settings(options).filesystem.mount_point
    if not directory:
        raise UsageError("what? name the mount's directory, or set mount_point in the configuration", "umount")
    tarbox_fuse.unmount(directory, lazy=options.lazy)
    if options.json:
        out.json({"mountpoint": os.path.abspath(directory), "lazy": options.lazy})
    return 0


VERBS: Verbs = {"mount": (mount_arguments, mount), "umount": (umount_arguments, umount)}
