"""The command that brings back what a layer holds: restore."""

from __future__ import annotations

import errno
import os
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from tarbox_cli.arguments import UsageError, at_layer, tenant_path
from tarbox_cli.files import make_directory, remove_tree
from tarbox_cli.layers import called
from tarbox_cli.moving import Copier
from tarbox_cli.output import Output, named, quote, text
from tarbox_cli.session import Place, Refused, Session, Tally, enter, join
from tarbox_core.errors import FsError
from tarbox_core.types import RENAME_EXCHANGE, RENAME_NOREPLACE, Attr

if TYPE_CHECKING:
    from tarbox_cli.commands import Verbs
    from tarbox_core.layer import Layer


def restore_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("paths", metavar="PATH", nargs="+", type=tenant_path, help="files, and directories with all that is in them")
    at_layer(parser, "the layer to take them from")
    parser.add_argument("--to", metavar="PATH", type=tenant_path, help="a new name, or a directory to put it into, instead of where it was")


class Restorer:
    """One run of restore. What is brought back is made beside its place, whole, and then takes the place in one step. Before
    the first thing is replaced, what was changed since the last checkpoint is sealed: `kept`."""

    def __init__(self, session: Session, source: Session, layer: Layer, tally: Tally) -> None:
        self.kept: Layer | None = None
        self._sealed = False
        self._layer = layer
        self.session = session
        self.source = source
        self._tally = tally
        self._copier = Copier(session, tally, preserve=True, links=True, clobber=True, source=source)

    def restore(self, path: bytes, to: bytes | None, several: bool) -> Attr | None:
        """Bring a path back; what stood there before."""
        attr = self.source.attr(path.rstrip(b"/") or b"/", follow=False)
        if not path.strip(b"/"):
            raise Refused(f"{text(path)}: the whole tree comes back with `tarbox layer switch`")
        if to is None:
            self._make_parents(path.rstrip(b"/"))
        target = self.session.place(path) if to is None else self.session.target(to, path, several)
        there = self.session.child(target)
        if there is not None and not self._sealed:
            message = f"before the restore from {self._layer.label}"
            self.kept = self.session.move(self.session.fs.checkpoint, self.session.caller, None, message, automatic=True)
            self._sealed = True
        scratch = target._replace(name=b".tarbox-%d" % os.getpid(), path=join(target.path.rstrip(b"/").rpartition(b"/")[0], b".tarbox-%d" % os.getpid()))
        failures = Tally()
        try:
            self._copier.tally = failures
            self._copier.copy(path, attr, scratch)
            if failures.status:
                raise Refused(f"{text(path)}: nothing was changed, because not all of it could be brought back")
            self._take_place(scratch, attr, target, there)
        finally:
            self._clear(scratch)
        return there

    def _take_place(self, scratch: Place, attr: Attr, target: Place, there: Attr | None) -> None:
        session = self.session
        swapped = there is not None and (there.is_dir or attr.is_dir)
        flags = RENAME_EXCHANGE if swapped else RENAME_NOREPLACE if there is None else 0
        session.run(target.path, session.fs.rename, session.caller, scratch.parent, scratch.name, target.parent, target.name, flags)

    def _clear(self, scratch: Place) -> None:
        """Remove what is left beside: what was replaced, or what was not finished."""
        session = self.session
        left = session.child(scratch)
        if left is not None and left.is_dir:
            remove_tree(session, scratch, left, self._tally)
        elif left is not None:
            session.run(scratch.path, session.fs.unlink, session.caller, scratch.parent, scratch.name)

    def _make_parents(self, path: bytes) -> None:
        """The directories above a path that are gone, as the layer has them."""
        missing = []
        above = path.rpartition(b"/")[0]
        while above and self.session.find(above) is None:
            missing.append(above)
            above = above.rpartition(b"/")[0]
        for folder in reversed(missing):
            attr = self.source.attr(folder)
            made = make_directory(self.session, self.session.place(folder), 0o700)
            self._copier.keep(folder, attr, folder, made)


def restore(options: Namespace, out: Output) -> int:
    if options.layer is None:
        raise UsageError("from which layer? name it with --layer", "restore")
    tally = Tally()
    done = []
    several = len(options.paths) > 1
    with enter(options, changes=True) as session:
        layer = session.driver.run(lambda: session.fs.layer(options.layer))
        if layer.sealed_at is None:
            raise UsageError("head is the tree as it is now: name a sealed layer", "restore")
        seen = session.driver.run(lambda: session.fs.view(layer.id))
        source = Session(session.dsn, session.driver, session.fs.look(seen), session.tenant)
        restorer = Restorer(session, source, layer, tally)
        for path in options.paths:
            with tally.each():
                try:
                    replaced = restorer.restore(path, options.to, several)
                except FsError as error:
                    if error.errno == errno.ENOENT and error.subject == path.rstrip(b"/"):
                        raise Refused(f"{text(path)}: not in layer {layer.label}") from error
                    raise
                done.append(named("path", path) | {"replaced": replaced is not None})
                if not options.json:
                    what = "in the place of what was there" if replaced is not None else "where nothing was"
                    out.line(f"restored {quote(path)} from {called(layer)}, {what}")
    kept = restorer.kept
    if options.json:
        out.json({"layer": layer.id, "restored": done, "before": None if kept is None else kept.id})
    elif kept is not None:
        out.line(f"the tree as it was before is layer {kept.short}")
    return tally.status


VERBS: Verbs = {"restore": (restore_arguments, restore)}
