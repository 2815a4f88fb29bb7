"""Packages for tests that run inside WebAssembly, where nothing is machine code of the host."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_WANTED = Path(__file__).parent / "wasi/inside.txt"


def hypothesis(cache: pytest.Cache) -> Path:
    """A folder with a hypothesis of pure Python, installed once."""
    there = cache.mkdir("inside") / _WANTED.read_text().splitlines()[-1].rpartition(":")[2][:16]
    if not there.exists():
        made = there.with_name(f"{there.name}.{os.getpid()}")
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q", "--no-deps", "--require-hashes", "--target", made, "-r", _WANTED]
        subprocess.run(pip, check=True, timeout=120)
        made.rename(there)
    return there
