"""The way in: find the command, parse its arguments, run it, and turn whatever went wrong into one line and a status.

Statuses: 0 done, 1 the operation failed, 2 bad usage, 130 interrupted, 141 the reader of a pipe went away. A traceback is
printed only with TARBOX_DEBUG=1. Not here: any command. Modules are imported when they are needed: start-up time is
what users of a command line feel.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tarbox_cli.arguments import Parser, UsageError
    from tarbox_cli.commands import Command
    from tarbox_cli.output import Output


def main(argv: list[str] | None = None) -> int:
    try:
        from tarbox_cli.output import Output

        out = Output.standard()
        status = _dispatch(sys.argv[1:] if argv is None else argv, out)
        out.flush()
        return status
    except KeyboardInterrupt:
        return _say("interrupted", 130)
    except BrokenPipeError:
        _drop_output()
        return 141
    except Exception as error:
        if os.environ.get("TARBOX_DEBUG") == "1":
            raise
        return _explain(error)


def _say(message: str, status: int) -> int:
    from tarbox_cli.output import complain

    complain(message)
    return status


def _drop_output() -> None:
    """Let the interpreter flush what is left of standard output to nowhere at exit, without a word."""
    if not hasattr(os, "dup2"):  # WebAssembly
        sys.stdout = None
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def _explain(error: Exception) -> int:
    from tarbox_cli.arguments import UsageError
    from tarbox_cli.output import describe
    from tarbox_core.errors import GatewayError, TarboxError

    if isinstance(error, UsageError):
        return _say(f"{error} (see tarbox {error.command + ' ' if error.command else ''}--help)", 2)
    if isinstance(error, GatewayError) and error.code == "not-allowed":
        return _say(f"{error}: whoever started the guest has not granted it (--upkeep)", 1)
    if isinstance(error, TarboxError):
        return _say(describe(error), 1)
    if isinstance(error, OSError):
        if error.filename is None:  # the host's own calls name their file; what is left is standard output
            _drop_output()
        return _say(describe(error), 1)
    if isinstance(error, ImportError) and sys.platform == "wasi":
        return _say("this needs files, mounts or processes of the host, which WebAssembly has not", 1)
    return _say(f"a fault in tarbox itself: {type(error).__name__}: {error} (TARBOX_DEBUG=1 shows where)", 1)


def _dispatch(argv: list[str], out: Output) -> int:
    from tarbox_cli.arguments import HelpWanted, UsageError
    from tarbox_cli.commands import FAMILIES, GATEWAY, find
    from tarbox_core.errors import TarboxError

    sys.setrecursionlimit(50_000)  # directories are nested deeper than Python's default, which spares no stack since 3.11
    if argv[:1] == ["__complete"]:
        from tarbox_cli.completion import answer

        return answer(argv[1:], out)
    line = begun(argv)
    command = find(line.name)
    if command is not None and os.environ.get(GATEWAY) and not command.inside:
        raise TarboxError(f"{command.words} needs the host's files, mounts or database, which a guest does not see: run it outside")
    try:
        options = common_parser().parse(line.options)
        if options.version:
            from tarbox_cli.settings import version

            out.line(f"tarbox {version()}")
            return 0
        if command is None:
            if line.name in FAMILIES and not line.rest:
                raise HelpWanted
            raise _unknown(line)
        parser = parser_of(command)
        options = parser.parse(line.rest, options)
    except HelpWanted:
        out.line(_overview(line.name) if command is None else _help(command))
        return 0
    if options.layer is not None and not parser.takes_layer:
        raise UsageError("--layer is for commands that only read a tenant's tree", command.words)
    return command.load()[1](options, out) or 0


class Line(NamedTuple):
    """How a command line begins."""

    options: list[str]  # of every command, before and between the words of `name`
    name: str  # of a command or a family; a word that is neither; "" for none
    rest: list[str]


def begun(argv: list[str]) -> Line:
    """Find the command: the longest run of words that is the name of one."""
    from tarbox_cli.commands import FAMILIES, find

    general = common_parser()
    options: list[str] = []
    name, rest = "", argv
    while not name or name in FAMILIES:
        if find(name) is None:  # otherwise options that follow are that command's
            at = 0
            while at < len(rest) and rest[at].startswith("-") and rest[at] != "-":
                at += 2 if general.expects_value(rest[at]) else 1
            options += rest[:at]
            rest = rest[at:]
        longer = f"{name} {rest[0]}".lstrip() if rest else ""
        if not longer or (name and longer not in FAMILIES and find(longer) is None):
            break
        name, rest = longer, rest[1:]
    return Line(options, name, rest)


def _unknown(line: Line) -> UsageError:
    from tarbox_cli.arguments import UsageError
    from tarbox_cli.commands import FAMILIES, close_to

    words = " ".join([line.name, *line.rest[:1]]) if line.name in FAMILIES else line.name
    if not words:
        return UsageError("no command given")
    meant = close_to(words)
    return UsageError(f"no command {words!r}" + (f"; did you mean {meant!r}?" if meant else ""))


def _parser(command: Command | None) -> Parser:
    """A parser with the options that every command takes."""
    import argparse

    from tarbox_cli.arguments import Parser, branch_name, host_path, layer_word, tenant_name

    words = command.words if command else ""
    # Behind a command an option that is absent must leave what stood before it.
    default = argparse.SUPPRESS if command else None
    parser = Parser(prog=f"tarbox {words}".strip(), add_help=False, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.command = words
    common = parser.add_argument_group("options of every command")
    common.add_argument("--tenant", metavar="NAME", type=tenant_name, default=default, help="the tenant to work in; else TARBOX_TENANT")
    common.add_argument("--branch", metavar="NAME", type=branch_name, default=default, help="the tenant's branch; else TARBOX_BRANCH, else main")
    common.add_argument(
        "--database-url", metavar="URL", default=default,
        help="the database; else TARBOX_DATABASE_URL, DATABASE_URL, the configuration file, and at last the embedded PostgreSQL",
    )
    common.add_argument("--config", metavar="FILE", type=host_path, default=default, help="the configuration file (TOML); else TARBOX_CONFIG")
    common.add_argument("--json", action="store_true", default=default or False, help="print one JSON document")
    if command is None:
        parser.add_argument("--layer", metavar="LAYER", type=layer_word)
        parser.add_argument("--version", action="store_true")
        return parser.finish()
    return parser


def common_parser() -> Parser:
    """The parser of what stands before the command."""
    return _parser(None)


def parser_of(command: Command) -> Parser:
    """The complete parser of a command."""
    arguments, _ = command.load()
    parser = _parser(command)
    arguments(parser)
    return parser.finish()


def _help(command: Command) -> str:
    import shutil

    from tarbox_cli.commands import family

    parser = parser_of(command)
    parser.description = command.summary[0].upper() + command.summary[1:] + "."
    parser.epilog = f"example:\n  {command.example}" + (f"\n\n{parser.notes}" if parser.notes else "")
    others = family(command.words)
    if others:
        parser.epilog += "\n\nsee also:\n" + "\n".join(f"  tarbox {other.words:<20} {other.summary}" for other in others)
    os.environ.setdefault("COLUMNS", str(min(shutil.get_terminal_size().columns, 110)))
    return parser.format_help().rstrip()


def _overview(name: str) -> str:
    """Every command, or those of the family of that name."""
    from tarbox_cli.commands import COMMANDS, FAMILIES, GATEWAY, family

    only = name if name in FAMILIES else None
    shown = family(only) if only else list(COMMANDS)
    if os.environ.get(GATEWAY):
        shown = [command for command in shown if command.inside]
    lines = [f"usage: tarbox [--tenant NAME] [--branch NAME] [--database-url URL] [--config FILE] [--json] {only or 'COMMAND'} ..."]
    if only is None:
        lines += ["", "A filesystem for AI agents that lives in PostgreSQL: every agent gets a tenant, a tree of its own."]
    group = ""
    for command in shown:
        if command.group != group:
            group = command.group
            lines += ["", f"{group}:"]
        lines += [f"  {command.words:<20} {command.summary}", f"  {'':<20}   {command.example}"]
    lines += [
        "",
        f"Options stand before or after the command. `tarbox {only + ' ' if only else ''}COMMAND --help` tells the rest.",
    ]
    if os.environ.get(GATEWAY):
        return "\n".join(lines)
    lines += [
        "The tenant may come from TARBOX_TENANT, the database from TARBOX_DATABASE_URL or DATABASE_URL; with no database",
        "named anywhere, an embedded PostgreSQL starts by itself.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
