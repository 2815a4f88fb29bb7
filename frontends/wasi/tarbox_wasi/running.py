"""A program run to its end in a World: within limits of fuel, memory and time, with what ended it and the status that tells.

The guest runs in a thread of its own, and the caller's thread waits for it: so a time limit and Ctrl-C end a guest
wherever it is, in a loop or in a call that waits.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from wasmtime import Linker, Store, Trap, TrapCode, WasiConfig

from tarbox_core.errors import TarboxError
from tarbox_wasi.binding import add_to_linker
from tarbox_wasi.engine import WASM_STACK, Source, TooLittleMemory, check, instantiate, load, make_engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wasmtime import Engine, Module

    from tarbox_wasi.world import World

TIME: Final = 124  # exit statuses beside the guest's own, as `timeout` and shells have them
NOT_RUNNABLE: Final = 126
TRAPPED: Final = 134
NO_MEMORY: Final = 137

Reason = Literal["exit", "trap", "fuel", "memory", "time"]

_STACK: Final = WASM_STACK + (14 << 20)  # of the guest's thread: its own, and that of the calls it makes
_GRACE: Final = 5.0  # seconds for a guest that was told to end


class Result(NamedTuple):
    """How a run ended. `exit_code`: the guest's own where `reason` is "exit", from 0 to 2^32-1. `trap`: what the guest ran into,
    with its backtrace, in several lines; where it was short of memory to begin with, how much it needs."""

    exit_code: int
    reason: Reason
    trap: str | None = None


class StuckError(TarboxError):
    """A guest that was told to end still waits in a call, so nothing more can be done with its World."""


class Program:
    """A program that can be run: loaded, and all that it asks for is there. ProgramError where that is not so.

    `name`: what it is called in errors; else its path. `fuel`: the number of instructions it may run, about; `memory`: bytes of
    linear memory it may have; `loader`: instead of engine.load. To be run as often as wanted, but not in two threads at a time.
    """

    def __init__(
        self, source: Source, *, name: str | None = None, fuel: int | None = None, memory: int | None = None,
        loader: Callable[[Source, Engine, str], Module] = load,
    ) -> None:  # fmt: skip
        self.name = name or ("program" if isinstance(source, bytes) else os.fspath(source))
        self._fuel = fuel
        self._memory = memory
        self._engine = make_engine(fuel=fuel is not None)
        self._module = loader(source, self._engine, self.name)
        check(self._module, self._engine, self.name)

    def run(self, world: World, *, timeout: float | None = None) -> Result:
        """Run it to its end, or for that many seconds. StuckError; KeyboardInterrupt, when the guest has ended."""
        guest = _Guest(self, world)
        with _stack_size(_STACK):
            guest.start()
        try:
            ended = guest.over.wait(timeout)
        except BaseException:
            self._end(guest, world)
            raise
        if ended:
            return guest.result()
        self._end(guest, world)
        return Result(TIME, "time")

    def _end(self, guest: _Guest, world: World) -> None:
        self._engine.increment_epoch()
        world.cancel()
        if not guest.over.wait(_GRACE):
            raise StuckError(f"{self.name}: it was to end, but waits in a call and does not")

    def play(self, world: World) -> int:
        """Run it in this thread; the code it ended with."""
        store = Store(self._engine)
        config = WasiConfig()
        told = _tell(config, world)
        store.set_wasi(config)
        store.set_epoch_deadline(1)
        if self._fuel is not None:
            store.set_fuel(self._fuel)
        if self._memory is not None:
            store.set_limits(memory_size=self._memory)
        linker = Linker(self._engine)
        bound = add_to_linker(linker, store, world, told=told)
        try:
            instantiate(linker, store, self._module, self.name)(store)
        except Exception:
            if bound.code is None:
                raise
        return bound.code or 0


def _tell(config: WasiConfig, world: World) -> bool:
    """Have wasmtime itself tell arguments and environment, which some guests ask for all the time; whether it can: it takes text."""
    try:
        config.argv = [word.decode() for word in world.args]
        config.env = [(name.decode(), value.decode()) for name, _, value in (pair.partition(b"=") for pair in world.env)]
    except UnicodeDecodeError:
        return False
    return True


class _Guest(threading.Thread):
    def __init__(self, program: Program, world: World) -> None:
        super().__init__(name="guest", daemon=True)
        self._program = program
        self._world = world
        self._code = 0
        self._error: BaseException | None = None
        self.over = threading.Event()

    def run(self) -> None:
        try:
            self._code = self._program.play(self._world)
        except BaseException as error:
            self._error = error
        finally:
            self.over.set()

    def result(self) -> Result:
        error = self._error
        if error is None:
            return Result(self._code, "exit")
        if isinstance(error, Trap):
            fuel = error.trap_code is TrapCode.OUT_OF_FUEL
            return Result(TRAPPED, "fuel" if fuel else "trap", describe(error))
        if isinstance(error, TooLittleMemory):
            return Result(NO_MEMORY, "memory", str(error))
        raise error


def describe(trap: Trap) -> str:
    """What the guest ran into, then where, from the inside out: `  FUNCTION (MODULE), at OFFSET of the file`."""
    cause = trap.message.partition("Caused by:")[2].strip().splitlines()
    words = [line.strip().split(": ", 1)[-1] if line.strip()[:1].isdigit() else line.strip() for line in cause]
    what = "; ".join(word.removeprefix("wasm trap: ") for word in words) or trap.message.partition("\n")[0]
    lines = [what]
    for frame in trap.frames:
        function = frame.func_name or f"function {frame.func_index}"
        module = f" ({frame.module_name})" if frame.module_name else ""
        lines.append(f"  {function}{module}, at {frame.module_offset:#x}")
    return "\n".join(lines)


@contextmanager
def _stack_size(size: int) -> Iterator[None]:
    """What threads that are started within have; some systems give them less than a guest may take."""
    before = threading.stack_size(size)
    try:
        yield
    finally:
        threading.stack_size(before)
