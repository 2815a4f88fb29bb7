"""From a file to a module that wasmtime can run: the engine's settings, its compile cache, and what can be wrong with a program.

What is wrong is a ProgramError, with one line that says what to do. Not here: running it.
"""

from __future__ import annotations

import os
import re
from typing import Final

from wasmtime import Config, Engine, Func, FuncType, Linker, Module, Store, WasmtimeError, wat2wasm

from tarbox_core.errors import TarboxError
from tarbox_wasi.caching import cache_folder

# All that the engine gives without further settings, which the package has none for; the thread that a guest runs in has more.
WASM_STACK: Final = 2 << 20

_MAGIC: Final = b"\0asm"
_MODULE: Final = b"\1\0\0\0"  # after the magic: version 1, layer 0
_COMPONENT: Final = b"\1\0"  # after the magic and a version: layer 1
_OLDER: Final = "wasi_unstable"  # preview0
_NAMED: Final = 8  # missing imports at most

Source = str | os.PathLike[str] | bytes


class ProgramError(TarboxError):
    """It cannot be run. The text begins with the program's name."""


class TooLittleMemory(ProgramError):
    """Less memory is allowed than it begins with."""


def make_engine(*, fuel: bool = False) -> Engine:
    """An engine for one guest: raising its epoch ends that guest. `fuel`: with fuel counted."""
    try:
        return Engine(_config(fuel, cached=cache_folder() is not None))
    except WasmtimeError:  # no place to keep it, as in a read-only home
        return Engine(_config(fuel, cached=False))


def _config(fuel: bool, cached: bool) -> Config:
    config = Config()
    config.epoch_interruption = True
    config.max_wasm_stack = WASM_STACK
    if fuel:
        config.consume_fuel = True
    if cached:
        config.cache = True
    return config


def load(source: Source, engine: Engine, name: str) -> Module:
    """Read and compile a program: a file of this host, or its bytes; binary, or text (.wat). ProgramError."""
    data = source if isinstance(source, bytes) else _read(os.fspath(source))
    if data[:4] != _MAGIC and data.lstrip()[:1] in (b"(", b";"):
        try:
            data = bytes(wat2wasm(data))
        except WasmtimeError as error:
            raise ProgramError(f"{name}: not valid WebAssembly text: {_one_line(error)}") from error
    _check_header(name, data)
    try:
        return Module(engine, data)
    except WasmtimeError as error:
        raise ProgramError(f"{name}: not a valid WebAssembly module, or cut off: {_one_line(error)}") from error


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ProgramError(f"{path}: {(error.strerror or str(error)).lower()}") from error
    except ValueError as error:  # a NUL in it
        raise ProgramError(f"{path!r}: {error}") from error


def _check_header(name: str, data: bytes) -> None:
    if not data:
        raise ProgramError(f"{name}: not a WebAssembly module: it is empty")
    if data[:4] != _MAGIC:
        raise ProgramError(f"{name}: not a WebAssembly module: it does not begin with \\0asm")
    if data[6:8] == _COMPONENT:
        raise ProgramError(
            f"{name}: a WebAssembly component (WASI 0.2 or later); what runs here are modules of WASI preview1: build it for wasm32-wasip1, not wasm32-wasip2"
        )
    if len(data) >= 8 and data[4:8] != _MODULE:
        raise ProgramError(f"{name}: a WebAssembly module of an unknown version ({data[4:8].hex(' ')})")


def check(module: Module, engine: Engine, name: str) -> None:
    """See that it is a program, and asks for nothing but what preview1 has. ProgramError names all that is missing."""
    _check_exports(module, name)
    linker = Linker(engine)
    linker.define_wasi()
    _check_imports(linker, Store(engine), module, name)


def instantiate(linker: Linker, store: Store, module: Module, name: str) -> Func:
    """Make the guest, and give its `_start`, which is to be called in the same store. ProgramError.

    A start function of the module runs in this, so that a wasmtime.Trap is possible, too.
    """
    try:
        instance = linker.instantiate(store, module)
    except WasmtimeError as error:
        words = _one_line(error)
        if pages := re.search(r"memory .*?(\d+) pages exceeds memory limits", words):
            raise TooLittleMemory(f"{name}: it needs {int(pages[1]) / 16:g} MB of memory to begin with") from error
        raise ProgramError(f"{name}: {words}") from error
    start = instance.exports(store)["_start"]
    assert isinstance(start, Func)
    return start


def _check_exports(module: Module, name: str) -> None:
    exported = {export.name: export.type for export in module.exports}
    start = exported.get("_start")
    if isinstance(start, FuncType) and not start.params and not start.results:
        return
    if "_start" in exported:
        raise ProgramError(f"{name}: its _start is no function without parameters and results, so it is not a program of WASI preview1")
    what = "a library (it exports _initialize)" if "_initialize" in exported else "not a program"
    raise ProgramError(f"{name}: {what}: it exports no _start function; build it as a command, with a main function")


def _check_imports(linker: Linker, store: Store, module: Module, name: str) -> None:
    missing, other = [], []
    for wanted in module.imports:
        called = f"{wanted.module}::{wanted.name}"
        try:
            found = linker.get(store, wanted.module, wanted.name or "")
        except WasmtimeError:
            missing.append(called)
        else:
            if not isinstance(found, Func) or _signature(wanted.type) != _signature(found.type(store)):
                other.append(called)
    if other:
        raise ProgramError(f"{name}: it asks for {', '.join(other[:_NAMED])} with other types than those of WASI preview1")
    if not missing:
        return
    shown = ", ".join(missing[:_NAMED]) + (f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else "")
    if all(one.startswith(f"{_OLDER}::") for one in missing):
        raise ProgramError(f"{name}: built for an older WASI ({_OLDER}): build it anew for WASI preview1; it asks for {shown}")
    raise ProgramError(f"{name}: it asks its host for what WASI preview1 does not have: {shown}")


def _signature(type_: object) -> tuple[list[str], list[str]] | None:
    return ([str(one) for one in type_.params], [str(one) for one in type_.results]) if isinstance(type_, FuncType) else None


def _one_line(error: WasmtimeError) -> str:
    """What the library says, without its drawings: the cause where it names one, with line and column of a text."""
    head, _, causes = str(error).partition("Caused by:")
    lines = [line.strip() for line in (causes or head).strip().splitlines()]
    place = next((re.sub(r".*<anon>:(\d+):(\d+).*", r" (line \1, column \2)", line) for line in lines if "<anon>:" in line), "")
    return re.sub(r"^\d+: ", "", lines[0]) + place
