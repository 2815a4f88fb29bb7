"""What a guest's clock shows, which is wasmtime's, and what it waits for, which is ours, are one clock."""

from __future__ import annotations

import time

from tarbox_wasi import Program
from tests.wasi.helpers import Runner, compiled

# Waits until 100 ms after what its monotonic clock shows. Subscription at 64: userdata, tag, clock, timeout, precision, flags.
SLEEPER = """(module
  (import "wasi_snapshot_preview1" "clock_time_get" (func $now (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (drop (call $now (i32.const 1) (i64.const 1) (i32.const 8)))
    (i32.store (i32.const 80) (i32.const 1))
    (i64.store (i32.const 88) (i64.add (i64.load (i32.const 8)) (i64.const 100000000)))
    (i32.store16 (i32.const 104) (i32.const 1))
    (call $exit (call $poll (i32.const 64) (i32.const 256) (i32.const 1) (i32.const 128)))))
"""


def test_a_guest_sleeps_until_its_own_clock_shows_the_time(runner: Runner) -> None:
    program = Program(compiled(SLEEPER))
    with runner.door() as door, door.guest() as world:
        time.sleep(0.2)  # as compiling may take
        began = time.monotonic()
        assert program.run(world).exit_code == 0
        assert 0.1 <= time.monotonic() - began < 10
