"""What ends a guest that would not: fuel, memory, time and signals, wherever it is; and that what it wrote is kept."""

from __future__ import annotations

import json
import os
import signal
import threading
import time

import pytest

from tarbox_wasi import Preopen, Program, StuckError
from tests.pg.cli import Tarbox
from tests.wasi.helpers import Runner, compiled, finish, guest, start, wasi_run


def test_out_of_fuel(tarbox: Tarbox) -> None:
    name = str(guest("spin"))
    assert wasi_run(tarbox, "--fuel", "100000", guest("spin")) == (134, b"", f"tarbox: {name}: out of fuel: it ran 100000 instructions\n")
    assert wasi_run(tarbox, "--fuel", "100000", guest("hello")) == (0, b"hello, tenant\n", "")


def test_memory_does_not_grow_beyond_its_limit(tarbox: Tarbox) -> None:
    ended = wasi_run(tarbox, "--memory", "8", guest("grow"))
    assert ended.status == 134
    assert ended.said.startswith(f"tarbox: {guest('grow')}: trap: wasm `unreachable` instruction executed (it may have 8 MB of memory)\n")


def test_less_memory_than_it_begins_with(tarbox: Tarbox) -> None:
    (tarbox.folder / "large.wasm").write_bytes(compiled('(module (memory (export "memory") 64) (func (export "_start")))'))
    ended = wasi_run(tarbox, "--memory", "2", "large.wasm")
    assert (ended.status, ended.line()) == (137, "large.wasm: it needs 4 MB of memory to begin with, and may have 2 MB")


def test_time_ends_a_loop(tarbox: Tarbox) -> None:
    ended = wasi_run(tarbox, "--timeout", "0.3", guest("spin"))
    assert (ended.status, ended.out, ended.line()) == (124, b"", f"{guest('spin')}: ended, because 0.3 s are over")


@pytest.mark.parametrize("name", ["sleep", "read"])
def test_time_ends_a_call_that_waits(runner: Runner, name: str) -> None:
    reading, writing = os.pipe()
    try:
        with runner.door() as door, door.guest(stdio=(reading, 1, 2)) as world:
            began = time.monotonic()
            result = runner.program(name).run(world, timeout=0.3)
        assert (result.exit_code, result.reason, result.trap) == (124, "time", None)
        assert 0.3 <= time.monotonic() - began < 5
    finally:
        os.close(reading)
        os.close(writing)


def test_time_ends_a_write_that_waits(runner: Runner) -> None:
    endless = compiled("""
        (module
          (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 2)
          (data (i32.const 0) "\\00\\01\\00\\00\\40\\9c\\00\\00")  ;; 40000 bytes: the second time, a pipe has room for some of them
          (func (export "_start") (loop $more (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))) (br $more))))
    """)
    reading, writing = os.pipe()  # that nobody reads
    try:
        with runner.door() as door, door.guest(stdio=(0, writing, 2)) as world:
            result = Program(endless).run(world, timeout=0.3)
        assert result.reason == "time"
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_guest_and_keeps_what_it_wrote(tarbox: Tarbox, number: int, status: int) -> None:
    process = start(tarbox, guest("keep"))
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    process.send_signal(number)
    ended = finish(process)
    assert (ended.status, ended.said) == (status, "tarbox: interrupted\n" if number == signal.SIGINT else "")
    assert tarbox("cat", "/kept.txt") == b"unflushed"


def test_who_ends_a_guest_is_told_what_it_changed(tarbox: Tarbox) -> None:
    told = []
    for word in ("--checkpoint", "--json"):
        process = start(tarbox, "--checkpoint", word, guest("keep"))
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        ended = finish(process)
        assert ended.status == 143
        told.append(ended.said)
    assert told[0].endswith("A\t/kept.txt\n")
    document = json.loads(told[1])
    assert (document["exit_code"], document["reason"], [change["path"] for change in document["changes"]]) == (143, "signal", ["/kept.txt"])


def test_what_a_guest_that_is_ended_wrote_is_kept(runner: Runner) -> None:
    result, out = runner("keep", timeout=0.3)
    assert (result.reason, out) == ("time", b"ready\n")
    assert runner.tenant.session().read(b"/kept.txt") == b"unflushed"


def test_a_call_of_the_hosts_own_that_never_ends(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """A channel that does not answer cannot be called off: the guest is given up, and whoever ran it goes on."""
    monkeypatch.setattr("tarbox_wasi.running._GRACE", 0.2)
    program = compiled("""
        (module
          (import "wasi_snapshot_preview1" "path_open" (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 1)
          (data (i32.const 0) "\\00\\01\\00\\00\\01\\00\\00\\00channel")
          (func (export "_start")
            (drop (call $path_open (i32.const 4) (i32.const 0) (i32.const 8) (i32.const 7) (i32.const 0)
              (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 16)))
            (drop (call $fd_read (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i32.const 20)))))
    """)
    answer = threading.Event()

    class Silent:
        def write(self, data: bytes) -> int:
            return len(data)

        def read(self, size: int) -> bytes:
            answer.wait(30)
            return b""

    with pytest.raises(StuckError, match="program: it was to end, but waits in a call and does not"), runner.door() as door:
        with door.guest(more=[Preopen(b"/host", extras={b"channel": Silent()})]) as world:
            Program(program).run(world, timeout=0.2)
    answer.set()
