"""What a program that imports tarbox_wasi runs guests with, in one call."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from tarbox_core.layer import MAIN
from tarbox_wasi.door import open_door
from tarbox_wasi.engine import Source
from tarbox_wasi.running import Program, Result

Word = str | bytes


def run(
    program: Source, args: Sequence[Word] = (), *, tenant: str, database_url: str | None = None, dirs: Mapping[Word, Word] | None = None,
    env: Mapping[Word, Word] | None = None, read_only: bool = False, branch: str = MAIN, layer: str | None = None,
    fuel: int | None = None, memory: int | None = None, timeout: float | None = None, stdio: tuple[int, int, int] = (0, 1, 2),
) -> Result:  # fmt: skip
    """Run a program (a file of this host, or the bytes of one) on a tenant's tree; all it changed is durable at the end.

    `args`: without the program's name, which goes before them. `dirs`: directories of the tenant by the names that the guest
    finds them at; its "/" as "/" where none are given. `layer`: the tree as it was there. `fuel`: instructions it may run,
    about; `memory`: bytes; `timeout`: seconds. `stdio`: descriptors of this process.

    ProgramError where it cannot be run, FsError with the path where a directory is none, TarboxError for what else fails.
    """
    loaded = Program(program, fuel=fuel, memory=memory)
    words = [os.fsencode(word) for word in (os.path.basename(loaded.name), *args)]
    found = {os.fsencode(name): os.fsencode(path) for name, path in ({"/": "/"} if dirs is None else dirs).items()}
    variables = {os.fsencode(name): os.fsencode(value) for name, value in (env or {}).items()}
    with open_door(tenant, database_url, branch=branch, layer=layer, read_only=read_only) as door:
        with door.guest(args=words, env=variables, dirs=found, stdio=stdio) as world:
            return loaded.run(world, timeout=timeout)
