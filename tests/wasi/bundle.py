"""The guest's bundle, built before the first test that needs it, where it is not up to date."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = ROOT / "frontends/wasi/tarbox_wasi/bundle"


@cache
def built() -> Path:
    """The bundle's folder."""
    done = subprocess.run([sys.executable, ROOT / "wasm/build.py"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return BUNDLE


def python_wasm() -> Path:
    return built() / "python.wasm"
