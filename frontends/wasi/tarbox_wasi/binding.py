"""Our calls of WASI preview1 in a wasmtime Linker: what the guest calls is `World.call`, with its memory and the arguments.

The wasmtime package's own way (`Linker.define_func`) boxes and checks every value and looks the memory up by name in
Python, at several times the cost of what most calls do. Here the library's unchecked callback is bound instead, through
names that the package keeps to itself; where one of them is missing or is not what it was, the package's own way serves.
"""

from __future__ import annotations

import ctypes
import itertools
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import wasmtime
from wasmtime import FuncType, Linker, Memory, Store, ValType

from tarbox_wasi.calls import CALLS, Call

MODULE: Final = "wasi_snapshot_preview1"

_TOLD: Final = frozenset(("args_get", "args_sizes_get", "environ_get", "environ_sizes_get"))
_MEMORY: Final = b"memory"  # what a guest exports its memory as
_SLOT: Final = 16  # bytes of a raw value: as large as the largest type
_WRITABLE: Final = 0x200  # PyBUF_WRITE
_NONE: Final = memoryview(b"")  # of a guest without memory


class Exit(wasmtime.ExitTrap):
    """The guest called proc_exit. `code`: any that fits; wasmtime's own proc_exit takes none from 126 up."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exit status {code}")
        self.code = code


class Calls(Protocol):
    """What serves the calls: a `World`."""

    monotonic_zero: int

    def call(self, name: str, memory: memoryview, args: Sequence[int]) -> int: ...


class Bound:
    """Calls in a linker. `short`: the short way; `code`: of the guest's proc_exit, None before that."""

    def __init__(self, short: bool) -> None:
        self.short = short
        self.code: int | None = None

    def exit(self, code: int) -> None:
        self.code = code & 0xFFFF_FFFF
        raise Exit(self.code)


def add_to_linker(linker: Linker, store: Store, world: Calls, *, told: bool = False) -> Bound:
    """Have `world` serve the guests that this linker makes in `store`: all of preview1.

    Clocks, randomness, sched_yield and proc_raise are wasmtime's own; they ask for `store.set_wasi(WasiConfig())` just before:
    from there wasmtime's monotonic clock counts, and the world has to wait by it. A guest
    that ends through proc_exit raises a `wasmtime.ExitTrap` with its code. One world serves one guest, in any thread, but
    not in several at a time. The linker may shadow what it has from here on. `told`: the store's own WasiConfig has the
    arguments and the environment.
    """
    linker.allow_shadowing = True
    linker.define_wasi()
    world.monotonic_zero = time.monotonic_ns()
    return bind(linker, world, {name: call for name, call in CALLS.items() if not (told and name in _TOLD)})


def bind(linker: Linker, world: Calls, calls: Mapping[str, Call], *, short_way: bool = True) -> Bound:
    """Define these calls, and proc_exit."""
    short = _library() if short_way else None
    bound = Bound(short is not None)
    for name, call in calls.items():
        ty = FuncType([ValType.i32() if letter == "i" else ValType.i64() for letter in call.params], [ValType.i32()])
        if short is None:
            linker.define_func(MODULE, name, ty, _boxed(world.call, name, call.params), access_caller=True)
        else:
            short.define(linker, name, ty, _unboxed(short, world.call, name, call.params))
    linker.define_func(MODULE, "proc_exit", FuncType([ValType.i32()], []), bound.exit)
    return bound


# --- the package's own way


def _boxed(call: Callable[[str, memoryview, Sequence[int]], int], name: str, params: str) -> Callable[..., int]:
    masks = [0xFFFF_FFFF if letter == "i" else 0xFFFF_FFFF_FFFF_FFFF for letter in params]

    def called(caller: wasmtime.Caller, *args: int) -> int:
        memory = caller.get("memory")
        view = _NONE
        if isinstance(memory, Memory) and (size := memory.data_len(caller)):
            view = _view(ctypes.addressof(memory.data_ptr(caller).contents), size, _WRITABLE)
        return call(name, view, [value & mask for value, mask in zip(args, masks, strict=True)])

    return called


_view: Final = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int)(("PyMemoryView_FromMemory", ctypes.pythonapi))


# --- the short way


class _Library:
    """Functions of the wasmtime library, with plain numbers for pointers, and without letting go of the interpreter's lock:
    each is over in nanoseconds.

    AttributeError, TypeError or ValueError where this version of the package has others.
    """

    def __init__(self) -> None:
        from wasmtime import _bindings, _ffi, _func

        self._func: Any = _func  # it raises its LAST_EXCEPTION from where the guest was called
        self._error_type: Any = ctypes.POINTER(_bindings.wasmtime_error_t)
        self._new_trap: Any = _bindings.wasmtime_trap_new
        dll = _ffi.dll
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        self.export: Any = ctypes.PYFUNCTYPE(ctypes.c_bool, pointer, ctypes.c_char_p, size, pointer)(("wasmtime_caller_export_get", dll))
        self.context: Any = ctypes.PYFUNCTYPE(pointer, pointer)(("wasmtime_caller_context", dll))
        self.data: Any = ctypes.PYFUNCTYPE(pointer, pointer, pointer)(("wasmtime_memory_data", dll))
        self.data_size: Any = ctypes.PYFUNCTYPE(size, pointer, pointer)(("wasmtime_memory_data_size", dll))
        self.callback = ctypes.CFUNCTYPE(size, pointer, pointer, pointer, size)
        self._define: Any = ctypes.CFUNCTYPE(
            pointer, pointer, ctypes.c_char_p, size, ctypes.c_char_p, size, pointer, self.callback, size, _finalizer_type
        )(("wasmtime_linker_define_func_unchecked", dll))  # fmt: skip
        extern: Any = _bindings.wasmtime_extern_t
        self.extern = extern
        self.memory_kind: int = _ffi.WASMTIME_EXTERN_MEMORY.value
        self.memory_at: int = extern.of.offset
        if ctypes.sizeof(_bindings.wasmtime_val_raw_t) != _SLOT or extern.kind.offset or extern.kind.size != 1:
            raise ValueError("another layout")

    def define(self, linker: Linker, name: str, ty: FuncType, called: Callable[[int, int, int, int], int]) -> None:
        callback = self.callback(called)
        number = next(_numbers)
        _alive[number] = callback
        text, module = name.encode(), MODULE.encode()
        error = self._define(
            ctypes.cast(linker.ptr(), ctypes.c_void_p), module, len(module), text, len(text), ctypes.cast(ty.ptr(), ctypes.c_void_p),
            callback, number, _finalizer,
        )  # fmt: skip
        if error:
            raise wasmtime.WasmtimeError._from_ptr(ctypes.cast(error, self._error_type))

    def trap(self, error: BaseException) -> int:
        """End the guest; where it was called the error is raised."""
        self._func.LAST_EXCEPTION = error
        words = f"{type(error).__name__}: {error}".encode(errors="replace")
        trap = self._new_trap(ctypes.create_string_buffer(words), len(words))
        return ctypes.cast(trap, ctypes.c_void_p).value or 0


# Callbacks live until the library is done with them, which it says by their number.
_alive: Final[dict[int, object]] = {}
_numbers: Final = itertools.count(1)
_finalizer_type: Final = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def _forget(number: int) -> None:
    _alive.pop(number, None)


_finalizer: Final = _finalizer_type(_forget)


def _library() -> _Library | None:
    try:
        return _Library()
    except (ImportError, AttributeError, TypeError, ValueError):
        return None


def _unboxed(library: _Library, call: Callable[[str, memoryview, Sequence[int]], int], name: str, params: str) -> Callable[[int, int, int, int], int]:
    # Of the upper half of a slot that holds an i32 nothing is promised.
    unpack = struct.Struct("<" + "".join("I12x" if letter == "i" else "Q8x" for letter in params)).unpack_from
    answer = struct.Struct("<I").pack_into
    slots = (ctypes.c_char * (_SLOT * max(len(params), 1))).from_address
    export, context, data, data_size, trap = library.export, library.context, library.data, library.data_size, library.trap
    found = library.extern()
    extern = ctypes.addressof(found)
    kind = ctypes.c_uint8.from_address(extern)
    memory, memory_kind = extern + library.memory_at, library.memory_kind
    memory_name, memory_length = _MEMORY, len(_MEMORY)
    view_of, none, writable = _view, _NONE, _WRITABLE

    def called(_number: int, caller: int, raw: int, _count: int) -> int:
        try:
            values = slots(raw)
            view = none
            if export(caller, memory_name, memory_length, extern) and kind.value == memory_kind:
                store = context(caller)
                size = data_size(store, memory)
                if size:
                    view = view_of(data(store, memory), size, writable)  # it may have grown, and moved, since the last call
            answer(values, 0, call(name, view, unpack(values)))
            return 0
        except BaseException as error:
            return trap(error)

    called.__dict__["extern"] = found  # alive as long as what writes to its address
    return called
