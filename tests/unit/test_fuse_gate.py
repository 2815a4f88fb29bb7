"""The gate: who is in, who waits, who gives up."""

from __future__ import annotations

import errno
import threading
import time

import pytest

from tarbox_core.errors import LayerError
from tarbox_fuse.gate import Gate


def test_alone_waits_for_those_inside_and_keeps_others_out() -> None:
    gate = Gate()
    order: list[str] = []
    waited = threading.Event()

    def inside() -> None:
        time.sleep(0.05)
        order.append("left")
        gate.leave()

    def later() -> None:
        gate.enter(waited.set)
        order.append("entered")
        gate.leave()

    gate.enter()
    threads = [threading.Thread(target=inside), threading.Thread(target=later)]
    threads[0].start()
    with gate.alone(5):
        order.append("alone")
        assert not gate.try_enter()
        threads[1].start()
        assert waited.wait(5)  # it says so before it waits
        order.append("done")
    for thread in threads:
        thread.join()
    assert order == ["left", "alone", "done", "entered"]
    assert gate.try_enter()
    gate.leave()


def test_who_is_inside_goes_outside_to_be_alone() -> None:
    gate = Gate()
    gate.enter()
    with gate.outside(), gate.alone(1):
        pass
    with pytest.raises(LayerError) as caught, gate.alone(0.05):
        pytest.fail("somebody is inside")
    assert caught.value.errno == errno.EBUSY
    gate.enter()  # it is open again
    gate.leave()
    gate.leave()


def test_one_is_alone_at_a_time_and_many_pass() -> None:
    gate = Gate()
    inside = alone = 0
    lock = threading.Lock()
    stop = time.monotonic() + 0.5

    def passing() -> None:
        nonlocal inside
        while time.monotonic() < stop:
            gate.enter()
            with lock:
                inside += 1
            assert not alone
            with lock:
                inside -= 1
            gate.leave()

    def moving() -> None:
        nonlocal alone
        while time.monotonic() < stop:
            with gate.alone(5):
                alone += 1
                assert (inside, alone) == (0, 1)
                time.sleep(0)
                alone -= 1

    failures: list[BaseException] = []

    def noting(work: object) -> None:
        assert callable(work)
        try:
            work()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=noting, args=(work,)) for work in (*[passing] * 4, moving, moving)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
