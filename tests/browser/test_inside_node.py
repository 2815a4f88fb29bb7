"""The core inside Pyodide, the Python of the page: its own unit tests, less those that stay outside of CPython for WASI as well."""

from __future__ import annotations

import json
import subprocess
import sysconfig
from pathlib import Path

import pytest

from tests import pure
from tests.browser.pages import PAGE, built

ROOT = Path(__file__).resolve().parents[2]


def test_the_unit_tests_pass_inside(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    built()
    assert request.config.cache is not None
    folders = [PAGE / "node_modules/pyodide", ROOT, sysconfig.get_path("purelib"), pure.hypothesis(request.config.cache)]
    script = Path(__file__).with_name("inside_node.mjs")
    done = subprocess.run(["node", script, *folders], cwd=tmp_path, capture_output=True, text=True, timeout=390)
    told = json.loads(done.stdout.rstrip().splitlines()[-1] if done.stdout else "{}")
    assert (done.returncode, told.get("failed")) == (0, []), done.stdout[-20_000:] + done.stderr[-5_000:]
    assert told["passed"] > 500
