"""What `nox -s browser-build` leaves behind: pinned, complete, and not built anew for nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder

from tests.browser.pages import PAGE, ROOT, STATIC, built


def test_packages_are_pinned_by_hash_and_by_no_address() -> None:
    lock = json.loads((PAGE / "package-lock.json").read_bytes())
    packages = {path: package for path, package in lock["packages"].items() if path}
    assert len(packages) > 30
    assert all("integrity" in package and "resolved" not in package for package in packages.values())
    wanted = json.loads((PAGE / "package.json").read_bytes())
    assert all(version[0].isdigit() for kind in ("dependencies", "devDependencies") for version in wanted[kind].values())


def test_what_is_there_is_not_built_again() -> None:
    built()
    before = (STATIC / "manifest.json").stat()
    done = subprocess.run([sys.executable, ROOT / "wasm/browser.py"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "up to date; a first visit moves" in done.stdout
    assert (STATIC / "manifest.json").stat() == before


def test_files_are_named_by_what_is_in_them_and_come_compressed() -> None:
    manifest = built()
    for name in manifest["entries"].values():
        assert (STATIC / name).exists() and "-" in name
    for name in manifest["files"]:
        if name.endswith((".js", ".mjs", ".wasm", ".zip", ".txt")):
            assert {f"{name}.br", f"{name}.gz"} <= set(manifest["files"])
    names = {path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*") if path.is_file()}
    assert names == {*manifest["files"], "manifest.json"}


def test_the_wheel_holds_them() -> None:
    held = {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    assert {f"tarbox_browser/static/{name}" for name in built()["files"]} <= held
    assert not [name for name in held if "node_modules" in name]


def test_nothing_is_fetched_from_elsewhere(tmp_path: Path) -> None:
    """The one address in the code that would be is given another value when it starts (page/worker/python.js)."""
    worker = (STATIC / built()["entries"]["worker"]).read_text()
    assert "packageBaseUrl" in worker and "eval(" not in worker and "new Function" not in worker


def test_every_module_imports_with_the_library_that_is_there(tmp_path: Path) -> None:
    names = zipfile.ZipFile(STATIC / built()["entries"]["core"]).namelist()
    assert {"tarbox_worker/main.pyc", "tarbox_core/filesystem.pyc"} <= set(names) and not [name for name in names if not name.endswith(".pyc")]
    script = Path(__file__).with_name("imports_node.mjs")
    done = subprocess.run(["node", script, STATIC, PAGE / "node_modules/pyodide"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {}


def test_the_licences_of_all_that_is_shipped_are_told() -> None:
    built()
    told = (STATIC / "licenses.txt").read_text()
    for name in ("pyodide 314", "hash-wasm 4", "@codemirror/merge 6", "Python, in pyodide"):
        assert f"\n{name}" in f"\n{told}"
