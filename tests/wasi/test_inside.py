"""The core inside CPython for WASI: its own unit tests, and its hashes beside the wheel's. wasmtime's own WASI is enough for both."""

from __future__ import annotations

import json
import sysconfig
from pathlib import Path

import blake3
import pytest
import wasmtime

from tests import pure
from tests.wasi.bundle import python_wasm
from tests.wasi.inside import EXCLUDED, pattern

ROOT = Path(__file__).resolve().parents[2]
SIZES = (0, 1, 64, 1023, 1024, 1025, 65535, 65536, 65537, 1 << 20)


@pytest.fixture(scope="module")
def hypothesis_inside(request: pytest.FixtureRequest) -> Path:
    assert request.config.cache is not None
    return pure.hypothesis(request.config.cache)


def inside(words: list[str], output: Path, preopens: dict[str, Path]) -> int:
    """Run inside.py; its status. What it prints is in `output`."""
    config = wasmtime.Config()
    config.cache = True
    engine = wasmtime.Engine(config)
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    store = wasmtime.Store(engine)
    wasi = wasmtime.WasiConfig()
    wasi.argv = ["python", "/repo/tests/wasi/inside.py", *words]
    wasi.env = [("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1"), ("HOME", "/tmp")]
    wasi.stdout_file = str(output)
    wasi.inherit_stderr()
    for name, path in preopens.items():
        wasi.preopen_dir(str(path), name, name == "/")
    store.set_wasi(wasi)
    start = linker.instantiate(store, wasmtime.Module.from_file(engine, python_wasm())).exports(store)["_start"]
    assert isinstance(start, wasmtime.Func)
    try:
        start(store)
    except wasmtime.ExitTrap as end:
        return end.code
    return 0


def test_the_unit_tests_pass_inside(tmp_path: Path, hypothesis_inside: Path) -> None:
    root = tmp_path / "root"
    for folder in ("tmp", "dev"):
        (root / folder).mkdir(parents=True)
    (root / "dev/null").touch()  # logging opens it
    (root / "pytest.ini").write_text("[pytest]\n")
    preopens = {"/": root, "/repo": ROOT, "/site": Path(sysconfig.get_path("purelib")), "/hypothesis": hypothesis_inside}
    status = inside(["tests"], tmp_path / "said", preopens)
    said = (tmp_path / "said").read_text()
    told = json.loads(said.rstrip().splitlines()[-1])
    assert (status, told["failed"]) == (0, []), said[-20_000:]
    assert told["passed"] > 500


def test_an_exclusion_names_tests_that_are_there() -> None:
    names = {path.name for path in (ROOT / "tests/unit").glob("test_*.py")}
    for words in EXCLUDED:
        file, _, test = words.partition("::")
        found = [name for name in names if name == file or (file.endswith("*") and name.startswith(file[:-1]))]
        assert found or file == "test_wasi_*", words
        assert test in ("", "*") or f"def {test.rstrip('*')}" in (ROOT / "tests/unit" / file).read_text()


def test_hashes_inside_are_those_of_the_wheel(tmp_path: Path) -> None:
    assert inside(["hashes", *map(str, SIZES)], tmp_path / "said", {"/repo": ROOT}) == 0
    assert (tmp_path / "said").read_text().split() == [blake3.blake3(pattern(size)).hexdigest() for size in SIZES]
