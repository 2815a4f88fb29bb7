"""core.zip: the core and the command line as the guest imports them, compiled by the guest's own Python.

Which modules are in it is stated here. The same sources give the same bytes.
"""

from __future__ import annotations

import io
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from packages import BuildError

ROOT: Final = Path(__file__).resolve().parents[1]
PACKAGES: Final = {"tarbox_core": ROOT / "tarbox_core", "tarbox_cli": ROOT / "frontends/cli/tarbox_cli"}
# Drivers that need neither sockets nor threads; what else is in that folder stays out.
DRIVERS: Final = frozenset(("__init__.py", "base.py", "presence.py", "remote.py"))
# What the host does for the guest, or what works on the host's files, processes and databases.
OUTSIDE: Final = frozenset(("__main__.py", "completion.py", "guest.py", "mounting.py", "tenants.py", "transfer.py", "wasi.py"))
_DATE: Final = (1980, 1, 1, 0, 0, 0)  # of every member

# Runs inside. A .pyc that is never compared with its source needs no source, and no time of one.
_COMPILE: Final = """
import py_compile, sys
for name in sys.argv[1:]:
    source = f"/sources/{name}"
    py_compile.compile(source, source + "c", name, doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
"""


def modules() -> Iterator[tuple[str, Path]]:
    """(path in the archive, source) of everything that is in it, sorted."""
    for package, folder in sorted(PACKAGES.items()):
        for source in sorted(folder.rglob("*.py")):
            at = source.relative_to(folder)
            if not (at.name in OUTSIDE if package == "tarbox_cli" else _elsewhere(at)):
                yield f"{package}/{at.as_posix()}", source


def _elsewhere(module: Path) -> bool:
    """Whether a module of the core needs connections of its own: drivers, and the interface for programs that import the core."""
    return module.parts[0] == "client" or (module.parts[0] == "drivers" and module.name not in DRIVERS)


def version() -> str:
    """Of tarbox, which the guest tells as its own."""
    found: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    return found


def archive(python: Path, folder: Path) -> bytes:
    """The archive's bytes; `python`: the interpreter it is for, `folder`: an empty one to work in. BuildError: no wasmtime, a module does not compile."""
    names = []
    for name, source in modules():
        names.append(name)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(source.read_bytes())
    _compile(python, folder, names)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as target:  # stored: inflating costs a start more than reading
        for name in names:
            member = zipfile.ZipInfo(name + "c", _DATE)
            member.external_attr = 0o644 << 16
            target.writestr(member, (folder / f"{name}c").read_bytes())
        target.writestr(zipfile.ZipInfo(f"tarbox-{version()}.dist-info/METADATA", _DATE), f"Metadata-Version: 2.1\nName: tarbox\nVersion: {version()}\n")
    return packed.getvalue()


def _compile(python: Path, folder: Path, names: list[str]) -> None:
    try:
        import wasmtime
    except ImportError:
        raise BuildError("wasmtime is not installed, which compiles the core: use the Python that tarbox is installed for") from None

    config = wasmtime.Config()
    config.cache = True
    engine = wasmtime.Engine(config)
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    store = wasmtime.Store(engine)
    wasi = wasmtime.WasiConfig()
    wasi.argv = ["python", "-S", "-c", _COMPILE, *names]
    wasi.env = [("PYTHONHASHSEED", "0")]
    wasi.preopen_dir(str(folder), "/sources")
    said = folder / "said"
    wasi.stderr_file = str(said)
    store.set_wasi(wasi)
    start = linker.instantiate(store, wasmtime.Module.from_file(engine, python)).exports(store)["_start"]
    assert isinstance(start, wasmtime.Func)
    try:
        start(store)
    except wasmtime.ExitTrap as end:
        if end.code:
            raise BuildError(f"the modules do not compile: {said.read_text().strip().splitlines()[-1]}") from None
