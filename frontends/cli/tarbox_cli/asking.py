"""Asking the user before something is removed for good."""

from __future__ import annotations

import sys

from tarbox_cli.arguments import UsageError
from tarbox_core.errors import TarboxError


def agree(command: str, question: str, answer: str) -> None:
    """Return when the user answers the question, which says what to type, with `answer`; TarboxError otherwise. UsageError where
    there is no terminal to ask at."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise UsageError(f"{command} asks first, and there is no terminal to ask at: give --yes", command)
    sys.stderr.write(f"{question}: ")
    sys.stderr.flush()
    if sys.stdin.readline().strip() != answer:
        raise TarboxError("nothing was done")
