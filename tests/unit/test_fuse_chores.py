"""What a mount does now and then: each thing at its own pace, trouble with one told once."""

from __future__ import annotations

import logging

import pytest

from tarbox_core.errors import TarboxError
from tarbox_fuse.chores import FIRST, Chores


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_each_at_its_own_pace() -> None:
    clock, done = Clock(), list[str]()
    chores = Chores(clock)
    chores.add("often", 10, lambda: bool(done.append("often")))
    chores.add("seldom", 10 * FIRST, lambda: bool(done.append("seldom")))
    for second in range(1, int(FIRST) + 25):
        clock.now = 1000.0 + second
        before = len(done)
        chores.look()
        assert (len(done) > before) == (second % 10 == 0 or second == FIRST), second
    assert done.count("seldom") == 1 and done.count("often") == 8


def test_what_has_more_to_do_goes_on_at_the_next_look() -> None:
    clock, left = Clock(), 3

    def work() -> bool:
        nonlocal left
        left -= 1
        return left > 0

    chores = Chores(clock)
    chores.add("much", 10, work)
    clock.now += 10
    for _ in range(5):
        chores.look()
    assert left == 0


def test_trouble_is_told_once_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    clock, done = Clock(), list[str]()
    trouble: Exception | None = TarboxError("no database")

    def work() -> bool:
        if trouble is not None:
            raise trouble
        return False

    chores = Chores(clock)
    chores.add("the first", 10, work)
    chores.add("the second", 10, lambda: bool(done.append("second")))

    def look() -> list[tuple[int, str]]:
        clock.now += 10
        caplog.clear()
        chores.look()
        return [(record.levelno, record.getMessage()) for record in caplog.records]

    with caplog.at_level(logging.INFO, "tarbox.fuse"):
        assert look() == [(logging.ERROR, "trouble with the first: no database")]
        assert look() == []
        trouble = ZeroDivisionError("a bug")
        assert look() == [(logging.ERROR, "trouble with the first")] and caplog.records[0].exc_info
        assert look() == []
        trouble = None
        assert look() == [(logging.WARNING, "no more trouble with the first")]
        assert look() == []
    assert len(done) == 6
