"""The shell inside a WASI guest: the command line's verbs, one a line, from where one stands in the tree.

Standard input may be a terminal, or a script; then nothing is prompted for. Not here: what a line means as words (words.py).
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from tarbox_cli import main as commands
from tarbox_cli.arguments import UsageError, from_here, stand, standing, tenant_path
from tarbox_cli.output import Output, complain, describe, quote, text
from tarbox_cli.session import Session, enter
from tarbox_cli.words import expand, split
from tarbox_core.errors import FsError, TarboxError

_HELP = """The shell's own:
  cd [DIR]               go to a directory; without one to /, with - to where you were
  pwd                    tell where you are
  help [COMMAND]         show this, or the help of a command
  exit [STATUS]          leave, as Ctrl-D does; the status is else that of the last command
                         (Ctrl-C ends the shell with whatever it is doing)

Paths that do not begin with / start where you are. Words are quoted as in a POSIX shell, and * ? [ ] stand for names.
"""


class _Exit(Exception):
    def __init__(self, status: int) -> None:
        self.status = status


class Shell:
    """Where one stands, and the status of the last command."""

    def __init__(self) -> None:
        self.status = 0
        self._before = standing()

    def obey(self, line: str) -> None:
        """Carry out one line."""
        try:
            words = expand(split(line), self._names)
            if words[:1] == ["tarbox"]:  # as the examples in the help have it
                del words[0]
            if words:
                own = {"cd": self._cd, "pwd": self._pwd, "help": self._help, "exit": self._exit}.get(words[0])
                self.status = commands.main(words) if own is None else own(words[1:])
        except UsageError as error:
            complain(str(error))
            self.status = 2
        except TarboxError as error:
            complain(describe(error))
            self.status = 1

    def prompt(self) -> str:
        with _session() as session:
            tenant, branch = session.tenant.name, session.fs.session.head
        return f"{tenant}{'' if branch == 'main' else '@' + branch}:{quote(standing())} $ "

    def _names(self, path: str) -> Collection[str]:
        at = from_here(os.fsencode(path)) if path else standing()
        with _session() as session:
            try:
                attr = session.attr(at)
                return [".", "..", *(text(entry.name) for entry in session.entries(attr.ino, at))] if attr.is_dir else []
            except FsError:
                return []

    def _cd(self, words: list[str]) -> int:
        if len(words) > 1:
            raise UsageError("cd: to one directory, or without one to /")
        word = words[0] if words else "/"
        to = self._before if word == "-" else tenant_path(word or ".")
        path = posixpath.normpath(to).replace(b"//", b"/")
        with _session() as session:
            attr = session.attr(path)
        if not stat.S_ISDIR(attr.mode):
            raise FsError(errno.ENOTDIR, path)
        self._before = standing()
        stand(path)
        return self._pwd([]) if word == "-" else 0

    def _pwd(self, words: list[str]) -> int:
        if words:
            raise UsageError("pwd: takes no argument")
        out = Output.standard()
        out.line(out.name(standing()))
        out.flush()
        return 0

    def _help(self, words: list[str]) -> int:
        if words:
            return commands.main([*words, "--help"])
        sys.stdout.write(_HELP + "\n")
        sys.stdout.flush()
        return commands.main(["--help"])

    def _exit(self, words: list[str]) -> int:
        if len(words) > 1 or not all(word.isascii() and word.isdigit() for word in words):
            raise UsageError("exit: one number, or none")
        raise _Exit(int(words[0]) & 0xFF if words else self.status)


@contextmanager
def _session() -> Iterator[Session]:
    with enter(commands.common_parser().parse([]), changes=False) as session:
        yield session


def run() -> int:
    """Carry out what comes through standard input, until its end or `exit`; the status of the last command."""
    shell = Shell()
    terminal = sys.stdin.isatty()
    try:
        while True:
            if terminal:
                sys.stderr.write(shell.prompt())
                sys.stderr.flush()
            line = sys.stdin.buffer.readline()
            if not line:
                if terminal:
                    sys.stderr.write("\n")
                return shell.status
            shell.obey(line.decode("utf-8", "surrogateescape"))
    except _Exit as end:
        return end.status
