"""Commands on layers and branches: layer create, list, current, switch, diff, delete, squash, branch. What they mean is the core's."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from tarbox_cli.arguments import UsageError, branch_name, layer_range, layer_word, no_arguments
from tarbox_cli.asking import agree
from tarbox_cli.output import Output, iso, local
from tarbox_cli.session import Session, Tally, enter
from tarbox_core.columns import some
from tarbox_core.layer import HEAD, SHOWN, Layer
from tarbox_core.listing import headline, layer_rows, layer_value, layer_values, line_to, name_status

if TYPE_CHECKING:
    from tarbox_cli.commands import Verbs


def called(layer: Layer) -> str:
    """How a layer is told of: by name and id where it has a name."""
    return f"{layer.name} ({layer.short})" if layer.name is not None else layer.short


def _find(session: Session, word: str) -> Layer:
    return session.driver.run(lambda: session.fs.layer(word))


def holder(session: Session, stamp: int) -> Layer | None:
    """The layer that holds what the tree shows under a stamp: the one that wrote it, or that this one was squashed into."""
    line = line_to(session.driver.run(session.fs.layers), session.fs.session.layer)
    return min((layer for layer in line if layer.stamp >= stamp), key=_stamp, default=None)


def _stamp(layer: Layer) -> int:
    return layer.stamp


# --- create


def create_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", help="what to call it; unique in the tenant")
    parser.add_argument("--name", dest="named", metavar="NAME", help="the same, as an option")
    parser.add_argument("-m", "--message", metavar="TEXT", default="", help="what there is to say about it")


def create(options: Namespace, out: Output) -> int:
    if options.name is not None and options.named is not None:
        raise UsageError("two names: NAME and --name are the same thing", "layer create")
    name = options.named if options.name is None else options.name
    with enter(options, changes=True) as session:
        layer = session.move(session.fs.checkpoint, session.caller, name, options.message)
    assert layer is not None  # only an automatic checkpoint may make none
    if options.json:
        out.json(layer_value(layer))
    else:
        out.line(f"layer {called(layer)} made: `tarbox layer switch {layer.short}` brings this tree back")
    return 0


# --- list


def list_(options: Namespace, out: Output) -> int:
    with enter(options, changes=False) as session:
        known = session.driver.run(session.fs.layers)
        standing = session.fs.session.layer
    if options.json:
        out.json(layer_values(known, standing))
    else:
        out.table(("", "LAYER", "NAME", "TIME", "BRANCH", "MESSAGE"), layer_rows(known, standing, local))
    return 0


# --- current


def current(options: Namespace, out: Output) -> int:
    with enter(options, changes=False) as session:
        standing = session.driver.run(session.fs.current)
        below = None if standing.parent_id is None else _find(session, standing.parent_id)
        _, changed = session.driver.run(session.fs.begun)
    if options.json:
        out.json({"branch": standing.branch, "open": layer_value(standing), "changed": changed, "layer": None if below is None else layer_value(below)})
        return 0
    rows = [("Branch", standing.branch or "-"), ("Layer", "none yet" if below is None else called(below))]
    if below is not None:
        rows += [("Time", local(below.sealed_at or below.created_at)), ("Message", headline(below.message) or "-")]
    out.fields([*rows, ("Changed", "yes" if changed else "no"), ("Open", standing.short)])
    return 0


# --- switch


def switch_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("to", metavar="LAYER", nargs="?", type=layer_word, help="a name, the beginning of an id, or - for what the last switch left")
    parser.add_argument("--layer", dest="layer_id", metavar="LAYER", type=layer_word, help="the same, as an option")


def switch(options: Namespace, out: Output) -> int:
    words = [word for word in (options.to, options.layer_id or options.layer) if word is not None]
    if len(words) != 1:
        raise UsageError("to which layer? name one, or - for what the last switch left", "layer switch")
    with enter(options, changes=True) as session:
        before = session.fs.session.layer
        to, left = session.move(session.fs.switch, session.caller, words[0])
        moved = session.fs.session.layer != before
    if options.json:
        out.json({"switched": moved, "layer": layer_value(to), "left": None if left is None else layer_value(left)})
    elif not moved:
        out.line(f"nothing to do: this is {'the head' if to.sealed_at is None else called(to)} already")
    elif left is None:
        out.line(f"switched to {called(to)}; there was nothing to keep of what you had")
    else:
        out.line(f"switched to {called(to)}; what you had is {called(left)}: `tarbox layer switch -` goes back")
    return 0


# --- diff


def diff_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("first", metavar="A[..B]", nargs="?", type=layer_range, help="the older layer (the last checkpoint), and the newer one")
    parser.add_argument("last", metavar="B", nargs="?", type=layer_word, help="the newer one (head)")
    parser.add_argument("--layer1", metavar="A", type=layer_word, help="the same, as options")
    parser.add_argument("--layer2", metavar="B", type=layer_word)


def diff(options: Namespace, out: Output) -> int:
    from tarbox_cli.comparing import described

    if (options.first is not None and options.layer1 is not None) or (options.last is not None and options.layer2 is not None):
        raise UsageError("too many layers: A and --layer1 are the same thing, as are B and --layer2", "layer diff")
    older, newer = options.first or options.layer1, options.last or options.layer2
    if older is not None and newer is None:
        older, _, newer = older.partition("..")
    with enter(options, changes=False) as session:
        changes = session.driver.run(lambda: session.fs.changes(older or None, newer or HEAD))
    if options.json:
        out.json([described(change) for change in changes])
    else:
        for line in name_status(changes):
            out.line(line)
    return 0


# --- delete


def delete_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("layers", metavar="LAYER", nargs="+", type=layer_word, help="a name, or the beginning of an id")
    parser.add_argument("--yes", "-y", action="store_true", help="do not ask")


def delete(options: Namespace, out: Output) -> int:
    tally = Tally()
    gone: list[Layer] = []
    with enter(options, changes=True) as session:
        found = {layer.stamp: layer for layer in (_find(session, word) for word in options.layers)}
        if not options.yes:
            names = ", ".join(called(layer) for layer in found.values())
            agree("layer delete", f"Delete {names}, with what nothing else holds? There is no way back. Type yes to go on", "yes")
        for layer in sorted(found.values(), key=_stamp, reverse=True):  # what rests on another is the younger one
            with tally.each():
                gone.append(session.harden(session.fs.delete_layer, session.caller, layer.id))
    if options.json:
        out.json({"deleted": [layer_value(layer) for layer in gone]})
    else:
        for layer in gone:
            out.line(f"layer {called(layer)} deleted")
    return tally.status


# --- squash


def squash_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("first", metavar="A[..B]", type=layer_range, help="the first and the last layer of a run: A..B, or A B")
    parser.add_argument("last", metavar="B", nargs="?", type=layer_word)
    parser.add_argument("--yes", "-y", action="store_true", help="do not ask")


def squash(options: Namespace, out: Output) -> int:
    first, last = (options.first, options.last) if options.last is not None else options.first.partition("..")[::2]
    if not first or not last:
        raise UsageError("which layers? A..B, or A B", "layer squash")
    with enter(options, changes=True) as session:
        start, end = _find(session, first), _find(session, last)
        if not options.yes:
            question = f"Make one layer, {called(end)}, of {called(start)} up to it? The ones before it go for good. Type yes to go on"
            agree("layer squash", question, "yes")
        kept, count = session.harden(session.fs.squash, session.caller, start.id, end.id)
    if options.json:
        out.json({"layer": layer_value(kept), "removed": count})
    else:
        out.line(f"{some(count, 'layer')} squashed into {called(kept)}")
    return 0


# --- branches


def branch_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", help="of the new branch; without one, branches are listed")
    parser.add_argument("start", metavar="FROM", nargs="?", type=layer_word, default=HEAD, help="the layer it goes on from (the tree as it is now)")


def branch(options: Namespace, out: Output) -> int:
    if options.name is None:
        return branch_list(options, out)
    with enter(options, changes=True) as session:
        made = session.move(session.fs.make_branch, session.caller, options.name, options.start)
        shown = _branches(session)[made.name]
    if options.json:
        out.json(shown)
    else:
        on = "" if shown["layer"] is None else f" on layer {_label(shown)}"
        out.line(f"branch {made.name} made{on}: `--branch {made.name}` works on it")
    return 0


def _branches(session: Session) -> dict[str, dict[str, Any]]:
    """All branches as JSON objects. `layer`: the id of the layer that a branch stands on; `open`: of the one it writes to."""
    found = session.driver.run(session.fs.branches)
    known = {layer.stamp: layer for layer in session.driver.run(session.fs.layers)}
    if any(item.layer not in known for item in found):  # another door switched in between
        return _branches(session)
    shown = {}
    for item in found:
        standing = known[item.layer]
        below = known.get(standing.parent or 0)
        shown[item.name] = {
            "name": item.name, "created_at": iso(item.created_at), "current": item.name == session.fs.session.head, "open": standing.id,
            "layer": standing.parent_id, "layer_name": None if below is None else below.name,
        }  # fmt: skip
    return shown


def _label(shown: dict[str, Any]) -> str:
    """The layer that a branch stands on."""
    if shown["layer"] is None:
        return "-"
    short: str = shown["layer"][:SHOWN]
    return short if shown["layer_name"] is None else f"{shown['layer_name']} ({short})"


def branch_list(options: Namespace, out: Output) -> int:
    with enter(options, changes=False) as session:
        shown = _branches(session).values()
    if options.json:
        out.json(list(shown))
    else:
        rows = [("*" if item["current"] else "", item["name"], _label(item)) for item in shown]
        out.table(("", "BRANCH", "ON LAYER"), rows)
    return 0


def branch_delete_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", type=branch_name)


def branch_delete(options: Namespace, out: Output) -> int:
    with enter(options, changes=True) as session:
        last = session.harden(session.fs.delete_branch, session.caller, options.name)
    if options.json:
        out.json({"deleted": options.name, "last": None if last is None else layer_value(last)})
    else:
        kept = "" if last is None else f"; what it had last is {called(last)}: `tarbox layer branch {options.name} {last.short}` makes it anew"
        out.line(f"branch {options.name} deleted, its layers stay{kept}")
    return 0


VERBS: Verbs = {
    "layer create": (create_arguments, create), "layer list": (no_arguments, list_), "layer current": (no_arguments, current),
    "layer switch": (switch_arguments, switch), "layer diff": (diff_arguments, diff), "layer delete": (delete_arguments, delete),
    "layer squash": (squash_arguments, squash),
    "layer branch": (branch_arguments, branch), "layer branch list": (no_arguments, branch_list),
    "layer branch delete": (branch_delete_arguments, branch_delete),
}
