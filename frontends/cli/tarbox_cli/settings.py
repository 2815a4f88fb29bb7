"""Commands about the command line itself: config show, completion; and the version."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from functools import cache
from typing import TYPE_CHECKING

from tarbox_cli.arguments import no_arguments
from tarbox_cli.output import Output
from tarbox_cli.session import settings

if TYPE_CHECKING:
    from tarbox_cli.commands import Verbs


@cache
def version() -> str:
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("tarbox")
    except PackageNotFoundError:
        return "(not installed)"


def show(options: Namespace, out: Output) -> int:
    config = settings(options)
    found = list(config.sources())
    if options.json:
        values: dict[str, object] = {source.key: source.value for source in found}
        origins = {source.key: source.origin for source in found}
        out.json({"file": config.file, "settings": values, "origins": origins})
        return 0
    out.table(("SETTING", "VALUE", "FROM"), [(source.key, _shown(source.key, source.value), source.origin) for source in found])
    return 0


def _shown(key: str, value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "(embedded)" if key == "database.url" else "-"
    return str(value)


def completion_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("shell", metavar="SHELL", choices=("bash", "zsh", "fish"), help="bash, zsh or fish")


def completion(options: Namespace, out: Output) -> int:
    from tarbox_cli.completion import SCRIPTS

    out.write(SCRIPTS[options.shell].encode())
    return 0


VERBS: Verbs = {"config show": (no_arguments, show), "completion": (completion_arguments, completion)}
