"""Verbs that move the head: made durable, with the tenant's mounts quiet meanwhile. They block."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tarbox_core.client.door import Door
from tarbox_core.client.failures import failure
from tarbox_core.client.visit import Visit
from tarbox_core.drivers.base import Driver
from tarbox_core.drivers.presence import quiet
from tarbox_core.effects import Op
from tarbox_core.errors import FsError
from tarbox_core.layer import HEAD, Branch, Layer, Switched

R = TypeVar("R")

Move = Callable[[Visit], Op[R]]


def checkpoint(name: str | None, message: str) -> Move[Layer]:
    def op(v: Visit) -> Op[Layer]:
        made = yield from v.fs.checkpoint(v.caller, name, message)
        assert made is not None  # only an automatic one may find nothing to seal
        return made

    return op


def switch(word: str) -> Move[Switched]:
    return lambda v: v.fs.switch(v.caller, word)


def branch(name: str, word: str = HEAD) -> Move[Branch]:
    return lambda v: v.fs.make_branch(v.caller, name, word)


def move(door: Door, driver: Driver, wanted: Move[R]) -> R:
    """Run it when the other doors on this head have stored what is dirty. LayerError (EBUSY) where one cannot."""
    visit = door.visit()

    def factory() -> Op[R]:
        nonlocal visit
        visit = door.visit()
        return others.guard(wanted(visit))

    try:
        with quiet(door.plan.dsn, driver, visit.fs, listener=door.listener) as others:
            result = driver.run(factory, durable=True)
    except FsError as error:
        raise failure(error) from error
    door.saw(visit.session)
    return result
