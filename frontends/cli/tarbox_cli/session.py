"""From the words of a command line to an open database, and to a tenant's tree in it, with the paths in error messages.

Which settings are in force is config.py's; what the verbs mean is the core's. The command line is the administrator of
a tenant: permission bits are not enforced, and new files belong to whoever runs it.
"""

from __future__ import annotations

import errno
import os
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple, ParamSpec, TypeVar

from tarbox_cli.arguments import UsageError
from tarbox_cli.commands import GATEWAY
from tarbox_cli.users import whoever
from tarbox_core.effects import Op
from tarbox_core.errors import ConnectError, FsError, LayerError, TarboxError, TenantError
from tarbox_core.types import Attr, Entry, TenantInfo

if TYPE_CHECKING:
    from tarbox_cli.config import Config
    from tarbox_core.control import ControlledFilesystem
    from tarbox_core.drivers.base import Driver
    from tarbox_core.drivers.dsn import Dsn
    from tarbox_core.drivers.sync import SyncDriver
    from tarbox_core.filesystem import Filesystem

P = ParamSpec("P")
R = TypeVar("R")

PAGE: Final = 1000  # names of a directory fetched at once
PIECE: Final = 1 << 20  # bytes of a file read or written at once
DIRTY_LIMIT: Final = 16 << 20  # bytes of one file held in memory before they are sent off


class Place(NamedTuple):
    """Where a name stands or is to stand: its directory, the name, and the path as the user gave it."""

    parent: int
    name: bytes
    path: bytes


class Session:
    """A tenant's tree, opened. Every verb here raises FsError with the path that it was given.

    `dsn` is None inside a guest, where the host sees to it that other doors are quiet while a head moves.
    """

    def __init__(self, dsn: Dsn | None, driver: Driver, fs: Filesystem, tenant: TenantInfo) -> None:
        self.dsn = dsn
        self.driver = driver
        self.fs = fs
        self.tenant = tenant
        self.caller, self.umask = whoever()

    def run(self, path: bytes, verb: Callable[P, Op[R]], *args: P.args, **more: P.kwargs) -> R:
        """Run a verb of the tree in a transaction; an FsError from it tells of `path`."""
        try:
            return self.driver.run(lambda: verb(*args, **more))
        except FsError as error:
            raise FsError(error.errno, path) from error

    def move(self, verb: Callable[P, Op[R]], *args: P.args, **more: P.kwargs) -> R:
        """Run a verb that moves the branch's head, durably. Mounts on the branch store what they hold before, and wait."""
        from tarbox_core.drivers.presence import quiet

        if self.dsn is None:
            return self.harden(verb, *args, **more)
        with quiet(self.dsn, self.driver, self.fs) as others:
            return self.driver.run(lambda: others.guard(verb(*args, **more)), durable=True)

    def harden(self, verb: Callable[P, Op[R]], *args: P.args, **more: P.kwargs) -> R:
        """Run a verb durably."""
        return self.driver.run(lambda: verb(*args, **more), durable=True)

    @property
    def kill_suid(self) -> bool:
        """Whether writing takes set-uid and set-gid away, as it does for anyone but root."""
        return self.caller.uid != 0

    def attr(self, path: bytes, follow: bool = True) -> Attr:
        return self.run(path, self.fs.resolve, self.caller, path, follow=follow)

    def find(self, path: bytes, follow: bool = True) -> Attr | None:
        """As `attr`; None where the last name is missing."""
        try:
            return self.attr(path, follow)
        except FsError as error:
            if error.errno != errno.ENOENT:
                raise
            return None

    def child(self, place: Place) -> Attr | None:
        """What stands at a place; None for nothing."""
        try:
            return self.run(place.path, self.fs.lookup, self.caller, place.parent, place.name)
        except FsError as error:
            if error.errno != errno.ENOENT:
                raise
            return None

    def expect(self, folder: int, path: bytes) -> None:
        """Before many files are made in a directory: once the core has seen its attributes, new files wait in memory for
        their content and attributes, and go out in one trip."""
        self.run(path, self.fs.getattr, folder)

    def place(self, path: bytes) -> Place:
        """The directory and last name of a path that is to be made, moved or removed; the root has none (EBUSY)."""
        bare = path.rstrip(b"/")
        if not bare:
            raise FsError(errno.EBUSY, path)
        if bare.rsplit(b"/", 1)[1] in (b".", b".."):
            raise FsError(errno.EINVAL, path)
        parent, name = self.run(path, self.fs.resolve_parent, self.caller, bare)
        return Place(parent.ino, name, path)

    def target(self, dest: bytes, source: bytes, several: bool = False) -> Place:
        """Where a source goes: into `dest` under its own name where that is a directory, else to `dest` itself."""
        at = self.find(dest)
        if at is not None and at.is_dir:
            name = source.rstrip(b"/").rsplit(b"/", 1)[-1]
            if name in (b"", b".", b".."):
                raise FsError(errno.EINVAL, source)
            return Place(at.ino, name, join(dest, name))
        if several or (dest.endswith(b"/") and at is not None):
            raise FsError(errno.ENOTDIR, dest)
        return self.place(dest)

    def entries(self, ino: int, path: bytes) -> Iterator[Entry]:
        """The entries of a directory with their attributes, without "." and "..", in no promised order."""
        folder = self.run(path, self.fs.opendir, self.caller, ino)
        offset = 0
        while True:
            page = self.run(path, folder.read, self.caller, offset, PAGE)
            if not page:
                return
            offset = page[-1].offset
            yield from (entry for entry in page if entry.name not in (b".", b".."))

    def attributes(self, entry: Entry, path: bytes) -> Attr:
        """The attributes of an entry, which a page of names may have come without."""
        return entry.attr if entry.attr is not None else self.run(path, self.fs.getattr, entry.ino)

    def walk(self, attr: Attr, path: bytes) -> Iterator[tuple[bytes, Attr]]:
        """(path, attributes) of everything below a directory, each directory before what it holds."""
        stack = [(path, attr.ino)]
        while stack:
            at, ino = stack.pop()
            for entry in sorted(self.entries(ino, at), key=_name):
                inner = join(at, entry.name)
                found = self.attributes(entry, inner)
                yield inner, found
                if found.is_dir:
                    stack.append((inner, found.ino))

    def finish(self, durable: bool) -> None:
        """Send off what is still held in memory. `durable`: on the server's disk before this returns."""
        self.driver.run(lambda: self.fs.sync(self.caller), durable=durable)


def _name(entry: Entry) -> bytes:
    return entry.name


def join(folder: bytes, name: bytes) -> bytes:
    return folder.rstrip(b"/") + b"/" + name


def settings(options: Namespace) -> Config:
    """The settings in force for a command line."""
    from tarbox_cli.config import load

    return load(options.config, os.environ, {"database.url": options.database_url, "tenant": options.tenant, "branch": options.branch})


def database_url(config: Config) -> str:
    """Where the database is; starts the embedded one where none is named."""
    if config.database.url:
        return config.database.url
    try:
        from tarbox_core.drivers import embedded
    except ImportError:
        raise ConnectError("no database is named (--database-url, TARBOX_DATABASE_URL), and WebAssembly cannot start one of its own") from None

    return embedded.start()


def running(options: Namespace) -> bool:
    """Whether the database can be asked without starting a server for it."""
    if settings(options).database.url:
        return True
    from tarbox_core.drivers import embedded

    return embedded.status().state == "running"


def connect(config: Config, url: str, role: str | None = None, pool_size: int = 1) -> SyncDriver:
    from tarbox_core.drivers.dsn import parse_url
    from tarbox_core.drivers.sync import SyncDriver

    settings = config.database
    return SyncDriver(
        parse_url(url, os.environ), role, pool_size=pool_size, connection_timeout=settings.connection_timeout, synchronous=settings.durability == "always",
    )


@contextmanager
def administer(options: Namespace) -> Iterator[SyncDriver]:
    """The database under its owner's role, its schema checked; the embedded one gets its schema here."""
    config = settings(options)
    driver = connect(config, database_url(config))
    try:
        ready(config, driver)
        yield driver
    finally:
        driver.close()


def ready(config: Config, driver: SyncDriver) -> None:
    """See that the schema is one we can use. The embedded database is ours alone, so it needs no word from the user."""
    from tarbox_core.drivers import migrate

    if config.database.url:
        migrate.check(driver)
    else:
        migrate.init(driver)


def tenant_of(config: Config, url: str) -> str:
    """The tenant of a command line; where none is named, the only one there is."""
    if config.tenant:
        return config.tenant
    from tarbox_core import tenant

    admin = connect(config, url)
    try:
        ready(config, admin)
        known = admin.run(tenant.listing)
    finally:
        admin.close()
    if not known:
        raise TenantError("there is no tenant yet: make one with `tarbox tenant create NAME`")
    if len(known) > 1:
        raise UsageError("which tenant? name it with --tenant NAME or in TARBOX_TENANT; `tarbox tenant list` shows them")
    return known[0].name


def tenant_info(config: Config, url: str, name: str) -> TenantInfo:
    """The tenant of that name, as the database's owner sees it: TenantError where there is none."""
    from tarbox_core import tenant

    admin = connect(config, url)
    try:
        ready(config, admin)
        return admin.run(lambda: tenant.info(name))
    finally:
        admin.close()


def open_tenant(
    config: Config, url: str, info: TenantInfo, *, read_only: bool, defer: bool = False, pool_size: int = 1, layer: str | None = None
) -> tuple[Driver, ControlledFilesystem]:
    """The tenant's tree on the configured branch, under the tenant's own role; `layer`: as it was in that layer, read-only."""
    driver = connect(config, url, info.role, pool_size)
    try:
        return driver, _tree(config, driver, info, config.branch, read_only=read_only, defer=defer, layer=layer)
    except BaseException:
        driver.close()
        raise


def _tree(
    config: Config | None, driver: Driver, info: TenantInfo, branch: str, *, read_only: bool, defer: bool, layer: str | None
) -> ControlledFilesystem:
    """A tree by the settings, or by none."""
    from tarbox_core import tenant
    from tarbox_core.control import ControlledFilesystem

    chosen: dict[str, Any] = {}
    if config is not None:
        chosen = {"audit": config.audit.enabled, "audit_batch": config.audit.batch_size, "block_cache": config.cache.block_size}

    def tree(seen: TenantInfo, view: bool) -> ControlledFilesystem:
        return ControlledFilesystem(seen, time.time_ns, enforce=False, read_only=read_only, view=view, defer=defer, **chosen)

    fs = tree(driver.run(lambda: tenant.attach(info, branch)), False)
    return fs if layer is None else tree(driver.run(lambda: fs.view(layer)), True)


class _Reached(NamedTuple):
    """A tenant's database under the tenant's own role. A guest knows neither where it is nor settings."""

    dsn: Dsn | None
    config: Config | None
    driver: Driver
    tenant: TenantInfo
    branch: str
    read_only: bool = False


@contextmanager
def _reach(options: Namespace) -> Iterator[_Reached]:
    if os.environ.get(GATEWAY):
        from tarbox_cli.inside import reach

        gateway = reach(options)
        yield _Reached(None, None, gateway, gateway.tenant, options.branch or gateway.tenant.head, gateway.read_only)
        return
    from tarbox_core.drivers.dsn import parse_url

    config = settings(options)
    url = database_url(config)
    info = tenant_info(config, url, tenant_of(config, url))
    with connect(config, url, info.role) as connected:
        yield _Reached(parse_url(url, os.environ), config, connected, info, config.branch)


@contextmanager
def enter(options: Namespace, *, changes: bool, layer: str | None = None) -> Iterator[Session]:
    """A tenant's tree; `layer`: as it was in that layer. With `changes`, what was changed is durable when the block ends,
    also when it ends in an FsError."""
    from tarbox_core.drivers import presence

    with _reach(options) as reached:
        driver = reached.driver
        changes = changes and not reached.read_only
        fs = _tree(reached.config, driver, reached.tenant, reached.branch, read_only=not changes, defer=changes, layer=layer)
        presence.look(driver, fs)
        session = Session(reached.dsn, driver, fs, reached.tenant)
        try:
            yield session
        except (FsError, OSError):
            session.finish(changes)
            raise
        session.finish(changes)
        if layer is not None:
            driver.run(fs.current)  # a LayerError where it was removed meanwhile, so that what was shown may be no whole


class Refused(TarboxError):
    """One operand of a command makes no sense; the text begins with its path."""


class Tally:
    """Errors of a command with several operands: each is told, the others go on, and the status is 1."""

    def __init__(self) -> None:
        self.status = 0

    @contextmanager
    def each(self, before: Callable[[], None] = lambda: None) -> Iterator[None]:
        """The work on one operand. `before` runs before an error is told."""
        from tarbox_cli.output import complain, describe

        try:
            yield
        except (FsError, LayerError, Refused, OSError) as error:
            if isinstance(error, OSError) and error.filename is None:
                raise  # standard output, or a pipe that was closed
            before()
            complain(describe(error))
            self.status = 1
