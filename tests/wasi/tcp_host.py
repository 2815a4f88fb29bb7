"""A host for the component that grants it TCP or not: `tcp_host.py COMPILED tcp|none ARGUMENTS`, and `tcp_host.py COMPONENT compile COMPILED`.

Streams and the environment are the component's own; the status is 0 or 1, as wasi:cli/run says. Runs with wasmtime 47.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from wasmtime import Engine, Store, WasiConfig, _ffi, component


def run(compiled: str, grant: bool, arguments: list[str]) -> int:
    engine = Engine()
    store = Store(engine)
    wasi = WasiConfig()
    wasi.argv = ["tarbox", *arguments]
    wasi.env = list(os.environ.items())
    wasi.inherit_stdin()
    wasi.inherit_stdout()
    wasi.inherit_stderr()
    if grant:  # functions of its C interface that the package has no methods for
        _ffi.wasi_config_inherit_network(wasi.ptr())
        _ffi.wasi_config_allow_ip_name_lookup(wasi.ptr(), True)
    store.set_wasi(wasi)
    linker = component.Linker(engine)
    linker.add_wasip2()
    program = component.Component.deserialize_file(engine, compiled)
    interface = program.get_export_index("wasi:cli/run@0.2.0")
    function = linker.instantiate(store, program).get_func(store, program.get_export_index("run", interface))
    return 0 if function(store).tag == "ok" else 1


def main() -> int:
    program, what, *arguments = sys.argv[1:]
    if what == "compile":
        Path(arguments[0]).write_bytes(component.Component.from_file(Engine(), program).serialize())
        return 0
    return run(program, what == "tcp", arguments)


sys.exit(main())
