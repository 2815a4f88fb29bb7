"""The WebAssembly door: WASI preview1 programs on a tenant's tree, in wasmtime.

    import tarbox_wasi

    result = tarbox_wasi.run("prog.wasm", ["--verbose"], tenant="demo", dirs={"/work": "/projects/a"}, timeout=10)
    print(result.exit_code, result.reason)

With a layer to go back to, and what the program changed:

    program = tarbox_wasi.Program("prog.wasm", memory=256 << 20)
    with tarbox_wasi.open_door("demo") as door:
        layer = door.checkpoint("before prog")
        with door.guest(args=[b"prog"]) as world:
            program.run(world)
        print(door.changes(layer))

A program that embeds wasmtime itself has its guests served through its own Linker:

    with tarbox_wasi.open_door("demo") as door, door.guest(dirs={b"/": b"/"}) as world:
        store.set_wasi(wasmtime.WasiConfig())
        tarbox_wasi.add_to_linker(linker, store, world)
        linker.instantiate(store, module).exports(store)["_start"](store)

Nothing of the host is seen by a guest but its standard streams. `run` is in a thread of the guest's own, so that a timeout
and Ctrl-C end it wherever it is; who calls a guest as above sees to that himself, with an epoch deadline and `world.cancel`.
"""

try:
    import wasmtime as _wasmtime  # noqa: F401
except ImportError as _error:
    raise ImportError("WebAssembly programs need the package wasmtime: pip install 'tarbox[wasi]'", name="wasmtime") from _error

from tarbox_wasi.binding import add_to_linker
from tarbox_wasi.door import Door, entered, open_door
from tarbox_wasi.engine import ProgramError
from tarbox_wasi.library import run
from tarbox_wasi.running import NO_MEMORY, NOT_RUNNABLE, TIME, TRAPPED, Program, Result, StuckError
from tarbox_wasi.world import Preopen, World

__all__ = [
    "Door", "NOT_RUNNABLE", "NO_MEMORY", "Preopen", "Program", "ProgramError", "Result", "StuckError", "TIME", "TRAPPED", "World",
    "add_to_linker", "entered", "open_door", "run",
]  # fmt: skip
