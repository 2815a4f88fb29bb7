"""The package as a library: guests in a program's own wasmtime, the two ways of binding calls, and several guests at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pytest
from wasmtime import Engine, ExitTrap, Linker, Module, Store, WasiConfig

import tarbox_wasi
from tarbox_core.errors import FsError, TenantError
from tarbox_wasi.binding import bind
from tarbox_wasi.calls import Call
from tests.wasi.helpers import Runner, compiled

ALL = (1 << 64) - 1


class Seen(NamedTuple):
    name: str
    memory: bytes | None
    size: int
    args: tuple[int, ...]


class Recorder:
    """Answers every call with 7, and writes "mark" at 8 of the memory."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.fails: BaseException | None = None

    def call(self, name: str, memory: memoryview, args: Sequence[int]) -> int:
        self.seen.append(Seen(name, bytes(memory[:4]), len(memory), tuple(args)))
        if self.fails is not None:
            raise self.fails
        if memory:
            memory[8:12] = b"mark"
        return 7


@pytest.fixture(params=["short", "boxed"])
def short_way(request: pytest.FixtureRequest) -> Iterator[bool]:
    yield request.param == "short"


def guest(recorder: Recorder, text: str, calls: dict[str, str], short_way: bool) -> tuple[Any, Store]:
    """The exports of a guest whose calls a recorder answers."""
    engine = Engine()
    linker, store = Linker(engine), Store(engine)
    bound = bind(linker, recorder, {name: Call(params, lambda: 0) for name, params in calls.items()}, short_way=short_way)
    assert bound.short == short_way
    return linker.instantiate(store, Module(engine, compiled(text))).exports(store), store


def imported(name: str, params: str) -> str:
    return f'(import "wasi_snapshot_preview1" "{name}" (func ${name} (param {params}) (result i32)))'


def test_arguments_are_unsigned_and_the_answer_comes_back(short_way: bool) -> None:
    recorder = Recorder()
    text = f"""
        (module {imported("first", "i32 i64 i32")} {imported("second", "i64")} (memory (export "memory") 1) (data (i32.const 0) "data")
          (func (export "go") (result i32)
            (i32.mul (call $first (i32.const -1) (i64.const -2) (i32.const 3)) (call $second (i64.const -1))))
          (func (export "look") (result i32) (i32.load (i32.const 8))))
    """
    exports, store = guest(recorder, text, {"first": "ili", "second": "l"}, short_way)
    assert exports["go"](store) == 49
    assert recorder.seen == [Seen("first", b"data", 65536, (0xFFFF_FFFF, ALL - 1, 3)), Seen("second", b"data", 65536, (ALL,))]
    assert exports["look"](store).to_bytes(4, "little") == b"mark"


def test_memory_that_grows_is_seen_as_it_is(short_way: bool) -> None:
    recorder = Recorder()
    text = f"""
        (module {imported("call", "i32")} (memory (export "memory") 1 100)
          (func (export "go")
            (drop (call $call (i32.const 0)))
            (drop (memory.grow (i32.const 90)))
            (i32.store (i32.const 0) (i32.const 0x64636261))
            (drop (call $call (i32.const 0)))))
    """
    exports, store = guest(recorder, text, {"call": "i"}, short_way)
    exports["go"](store)
    assert [(seen.size, seen.memory) for seen in recorder.seen] == [(65536, b"\0\0\0\0"), (91 * 65536, b"abcd")]


@pytest.mark.parametrize("memory", ["", '(memory (export "memory") 0)', "(memory 1)", '(table (export "memory") 1 funcref)'])
def test_a_guest_without_memory(short_way: bool, memory: str) -> None:
    recorder = Recorder()
    text = f'(module {imported("call", "i32")} {memory} (func (export "go") (result i32) (call $call (i32.const 1))))'
    exports, store = guest(recorder, text, {"call": "i"}, short_way)
    assert exports["go"](store) == 7
    assert recorder.seen == [Seen("call", b"", 0, (1,))]


@pytest.mark.parametrize("error", [KeyboardInterrupt("now"), RuntimeError("a fault")])
def test_what_a_call_raises_ends_the_guest_and_comes_out(short_way: bool, error: BaseException) -> None:
    recorder = Recorder()
    recorder.fails = error
    text = f"""
        (module {imported("call", "i32")} (memory (export "memory") 1)
          (func (export "go") (loop $again (drop (call $call (i32.const 1))) (br $again))))
    """
    exports, store = guest(recorder, text, {"call": "i"}, short_way)
    with pytest.raises(type(error)) as raised:
        exports["go"](store)
    assert raised.value is error and len(recorder.seen) == 1
    recorder.fails = KeyError("another")
    with pytest.raises(KeyError):
        exports["go"](store)


@pytest.mark.parametrize("missing", ["wasmtime_val_raw_t", "wasmtime_extern_t", "wasmtime_trap_new"])
def test_another_version_of_the_package_is_bound_its_own_way(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.delattr(f"wasmtime._bindings.{missing}")
    assert not bind(Linker(Engine()), Recorder(), {}).short


def test_a_linker_of_ones_own(runner: Runner) -> None:
    engine = Engine()
    linker, store = Linker(engine), Store(engine)
    store.set_wasi(WasiConfig())
    with runner.door() as door, door.guest(args=[b"exit", b"300"]) as world:
        tarbox_wasi.add_to_linker(linker, store, world)
        instance = linker.instantiate(store, Module.from_file(engine, str(runner.program("exit").name)))
        with pytest.raises(ExitTrap) as ended:
            instance.exports(store)["_start"](store)  # type: ignore[operator]
    assert ended.value.code == 300


def test_run_gives_how_it_ended(runner: Runner) -> None:
    assert runner("copy", given=b"content") == (tarbox_wasi.Result(0, "exit"), b"content")
    assert runner.tenant.session().read(b"/kept.txt") == b"content"
    assert runner("exit", "4000000000")[0] == tarbox_wasi.Result(4000000000, "exit")
    assert runner("echo", "a", env={"K": "v"})[1] == b"echo.wat\0a\0K=v\0"
    result, _ = runner("trap")
    assert (result.exit_code, result.reason) == (134, "trap")
    assert result.trap is not None and result.trap.startswith("integer divide by zero\n  divide (faulty), at 0x")


def test_directories_and_limits_of_run(runner: Runner) -> None:
    session = runner.tenant.session()
    session.mkdir(b"/a")
    runner("copy", given=b"x", dirs={"/work": "/a"})
    assert session.names(b"/a") == [b"kept.txt"]
    assert runner("copy", given=b"x", read_only=True)[0].exit_code == 69
    assert runner("spin", fuel=1000)[0].reason == "fuel"
    with pytest.raises(FsError, match="/none: no such file or directory"):
        runner("hello", dirs={"/work": "/none"})
    with pytest.raises(tarbox_wasi.ProgramError, match="program: not a WebAssembly module"):
        runner(b"text")
    with pytest.raises(TenantError, match="no tenant named 'nobody'"):
        tarbox_wasi.run(compiled('(module (func (export "_start")))'), tenant="nobody", database_url=runner.tenant.url)


def test_a_layer_before_and_what_changed(runner: Runner) -> None:
    program = runner.program("keep")
    with runner.door() as door:
        layer = door.checkpoint("before")
        with door.guest() as world:
            program.run(world, timeout=0.2)
        assert [(change.status, change.path) for change in door.changes(layer)] == [("A", b"/kept.txt")]


def test_guests_at_once_do_not_end_each_other(runner: Runner) -> None:
    """Each has its own engine: that one's time is over is nothing to the other."""
    results = {}

    def go(name: str, timeout: float | None) -> None:
        with runner.door() as door, door.guest() as world:
            results[name] = runner.program(name).run(world, timeout=timeout)

    threads = [threading.Thread(target=go, args=args) for args in (("spin", 0.2), ("watch", None))]
    for thread in threads:
        thread.start()
    threads[0].join(30)
    assert results["spin"].reason == "time" and threads[1].is_alive()
    runner.tenant.session(alone=False).write(b"/sign.txt", b"")
    threads[1].join(30)
    assert results["watch"] == tarbox_wasi.Result(0, "exit")


def test_a_program_runs_more_than_once(runner: Runner) -> None:
    program = runner.program("trap")
    with runner.door() as door:
        for _ in range(2):
            with door.guest() as world:
                assert program.run(world).reason == "trap"
