"""The command that shows what texts of old layers take: layer stats."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from tarbox_cli.output import Output, human
from tarbox_cli.session import enter
from tarbox_core.columns import some
from tarbox_core.listing import name_shown

if TYPE_CHECKING:
    from tarbox_cli.commands import Verbs


def stats_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--each", action="store_true", help="of each layer as well")


def stats(options: Namespace, out: Output) -> int:
    with enter(options, changes=False) as session:
        total, found = session.driver.run(session.fs.text_stats)
        layers = {layer.stamp: layer for layer in session.driver.run(session.fs.layers)}
    of_layers = [(layers[one.layer], one) for one in found if one.layer in layers]
    if options.json:
        value: dict[str, object] = {
            "blocks": total.blocks, "block_bytes": total.blocks_stored, "keyframes": total.keyframes, "deltas": total.deltas,
            "packed_files": total.packed, "text_bytes": total.texts_size, "stored_bytes": total.texts_stored, "saved_bytes": total.saved,
        }
        if options.each:
            value["layers"] = [
                {
                    "id": layer.id, "name": layer.name, "files": one.files, "bytes": one.size, "keyframes": one.keyframes,
                    "deltas": one.deltas, "text_bytes": one.texts_size, "stored_bytes": one.texts_stored,
                }
                for layer, one in of_layers
            ]
        out.json(value)
        return 0
    out.fields([
        ("Blocks", f"{total.blocks} ({human(total.blocks_stored)}B)"),
        ("Packed", f"{some(total.packed, 'version')} of files"),
        ("Keyframes", str(total.keyframes)),
        ("Deltas", str(total.deltas)),
        ("Text", f"{human(total.texts_size)}B, stored in {human(total.texts_stored)}B"),
        ("Saved", f"{human(total.saved)}B"),
    ])
    if options.each:
        out.line("")
        out.table(
            ("LAYER", "NAME", "FILES", "BYTES", "KEYFRAMES", "DELTAS", "TEXT", "STORED"),
            [
                (
                    layer.short, name_shown(layer), str(one.files), human(one.size), str(one.keyframes), str(one.deltas),
                    human(one.texts_size), human(one.texts_stored),
                )
                for layer, one in of_layers
            ],
        )
    return 0


VERBS: Verbs = {"layer stats": (stats_arguments, stats)}
