"""Commands that show what changed: diff and history."""

from __future__ import annotations

import argparse
import os
import shutil
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tarbox_cli.arguments import UsageError, at_layer, count, count_or_none, layer_or_path, tenant_path
from tarbox_cli.output import Output, complain, iso, kind, local, named, octal, quote, text
from tarbox_cli.patches import Both, both, coloured, in_patch_order, patch, readable, summed, table
from tarbox_cli.session import Session, enter
from tarbox_core import listing
from tarbox_core.compare import Change, Comparison
from tarbox_core.errors import LayerError
from tarbox_core.layer import HEAD
from tarbox_core.types import Attr

if TYPE_CHECKING:
    from tarbox_cli.commands import Verbs
    from tarbox_core.history import Version


# --- diff


def diff_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "words", metavar="[A [B]] [PATH]", nargs="*", type=layer_or_path,
        help="two layers (a name, the beginning of an id, or head; also as A..B, or A.. for A and head), else the last checkpoint and head; "
        "a path to look at alone, with what is below it; one layer and a path that begins with / are that layer and head",
    )  # fmt: skip
    form = parser.add_mutually_exclusive_group()
    form.add_argument("-p", "--patch", action="store_true", help="as a patch that git apply and patch -p1 take")
    form.add_argument("--stat", action="store_true", help="how many lines of each path differ")
    form.add_argument("--name-status", action="store_true", help="only what became of each path: A D M R T, m for mode, owner, time and the like")
    parser.add_argument("-U", "--unified", dest="context", metavar="N", type=count_or_none, default=3, help="equal lines shown around a change (3)")
    colours = "colours: on a terminal where NO_COLOR is not set, always or never"
    parser.add_argument("--color", choices=("auto", "always", "never"), default="auto", help=colours)
    parser.add_argument("--exit-code", action="store_true", help="status 1 where there are differences")
    at_layer(parser, "what one layer changed")


def diff(options: Namespace, out: Output) -> int:
    older, newer, path = _operands(options)
    with enter(options, changes=False, layer=options.layer) as session:
        comparison: Comparison = session.driver.run(lambda: session.fs.compare(older, newer))
        try:
            changes = session.driver.run(lambda: comparison.changes(path, files=options.patch))
        except LayerError:
            _not_a_layer(session, options.words)
            raise
        found = (_contents(session, comparison, change) for change in changes)
        status = 0
        if options.json:
            out.json([_counted(one) for one in found])
        elif options.name_status:
            for line in listing.name_status(changes):
                out.line(line)
        elif options.stat:
            if changes:
                for line in table([summed(one) for one in found], shutil.get_terminal_size().columns):
                    out.line(line)
        elif options.patch:
            status = _patch(session, comparison, in_patch_order(changes), options, out)
        else:
            for one in found:
                _print(readable(one, (comparison.old.label, comparison.new.label), options.context), options, out)
    return status or int(options.exit_code and bool(changes))


def _operands(options: Namespace) -> tuple[str | None, str, bytes | None]:
    """The two layers and the path that the words name."""
    words: list[str] = options.words
    if words and ".." in words[0] and words[0].strip(".") and "/" not in words[0]:  # no layer is named so
        first, _, last = words[0].partition("..")
        words = [first, last or HEAD, *words[1:]]
    elif len(words) == 2 and words[1].startswith("/") and not words[0].startswith("/"):
        words = [words[0], HEAD, words[1]]
    if len(words) > 3:
        raise UsageError("at most two layers and a path", "diff")
    older, newer = words[:2] if len(words) > 1 else (None, HEAD)
    if older is not None and options.layer is not None:
        raise UsageError("--layer shows what one layer changed: it does not go with two layers", "diff")
    older = older or None
    if len(words) == 2:
        return older, newer, None
    try:
        return older, newer, tenant_path(words[-1]) if words else None
    except argparse.ArgumentTypeError as error:
        raise UsageError(str(error), "diff") from None


def _not_a_layer(session: Session, words: list[str]) -> None:
    """Tell who gave one layer alone, which was taken for a path, how two are given."""
    if len(words) == 1:
        with suppress(LayerError):
            session.driver.run(lambda: session.fs.layer(words[0]))
            told = quote(os.fsencode(f"{words[0]}.."))
            raise UsageError(f"{words[0]} is a layer and no path: `tarbox diff {told}` compares it with the tree as it is now", "diff")


def _contents(session: Session, comparison: Comparison, change: Change) -> Both:
    if not change.content:
        return both(change, b"", b"")
    return both(change, *session.run(change.path, comparison.contents, change))


def _patch(session: Session, comparison: Comparison, changes: list[Change], options: Namespace, out: Output) -> int:
    """Print what a patch can say; the status is 1 where that is not all."""
    status = 0
    for change in changes:
        one = _contents(session, comparison, change)
        if one.hunks is None:
            out.flush()
            complain(f"{text(change.path)}: not in the patch: it is no text, or larger than any")
            status = 1
        else:
            _print(patch(one, options.context), options, out)
    return status


def _print(lines: Iterator[bytes], options: Namespace, out: Output) -> None:
    wanted = options.color == "always" or (options.color == "auto" and out.terminal and not os.environ.get("NO_COLOR"))
    for line in coloured(lines) if wanted else lines:
        out.write(line)


def described(change: Change) -> dict[str, Any]:
    """A change as a JSON object."""
    old_path = {"old_path": None} if change.old_path is None else named("old_path", change.old_path)
    return {"status": change.status} | named("path", change.path) | old_path | {"old": _attributes(change.old), "new": _attributes(change.new)}


def _counted(found: Both) -> dict[str, Any]:
    """The same with `added`, `deleted` and `modified` lines, null where the content is no text."""
    lines: dict[str, Any] = dict.fromkeys(("added", "deleted", "modified")) if found.counts is None else found.counts._asdict()
    return described(found.change) | lines


def _attributes(attr: Attr | None) -> dict[str, Any] | None:
    if attr is None:
        return None
    return {"type": kind(attr.mode), "mode": octal(attr.mode), "uid": attr.uid, "gid": attr.gid, "size": attr.size, "mtime": iso(attr.mtime)}


# --- history


def history_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", type=tenant_path)
    parser.add_argument("-n", "--limit", metavar="N", type=count, help="only the newest N")
    at_layer(parser, "up to a layer, instead of this tree")


def history(options: Namespace, out: Output) -> int:
    with enter(options, changes=False, layer=options.layer) as session:
        versions = session.driver.run(lambda: session.fs.history(options.path, options.limit))
    if options.json:
        out.json([_version(version) for version in versions])
    else:
        for line in listing.history(versions, local):
            out.line(line)
    return 0


def _version(version: Version) -> dict[str, Any]:
    """A version as a JSON object. `added`, `deleted` and `modified` are null where it or the one before is no text."""
    old_path = {"old_path": None} if version.old_path is None else named("old_path", version.old_path)
    counts: dict[str, Any] = dict.fromkeys(("added", "deleted", "modified")) if version.counts is None else version.counts._asdict()
    attr = _attributes(version.attr) or {"size": None}
    where = {"layer": listing.layer_value(version.layer), "status": version.status} | named("path", version.path)
    return where | old_path | attr | {"lines": version.lines} | counts


VERBS: Verbs = {"diff": (diff_arguments, diff), "history": (history_arguments, history)}
