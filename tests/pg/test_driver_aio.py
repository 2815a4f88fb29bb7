"""What only the driver for event loops promises: cancelling, and a loop that keeps turning."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from tarbox_core.drivers.aio import AioDriver
from tarbox_core.effects import Op, Statement, finish, many, one, run
from tarbox_core.errors import SqlError

PUT = Statement("put", "insert into t values ($1)", ("int8",))
KEYS = Statement("keys", "select k from t order by k", (), ("int8",))
SLEEP = Statement("sleep", "select pg_sleep($1)", ("float8",))
ASLEEP = Statement(
    "asleep", "select count(*) from pg_stat_activity where query like '%pg_sleep%' and state = 'active' and pid <> pg_backend_pid()", (), ("int8",))
PID = Statement("pid", "select pg_backend_pid()", (), ("int4",))

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def driver(pg_url: str) -> AsyncIterator[AioDriver]:
    async with AioDriver(pg_url, pool_size=2, connection_timeout=5.0) as driver:
        await driver.script("create table t (k int8 primary key)")
        yield driver


async def until_asleep(driver: AioDriver, count: int) -> None:
    while await driver.run(lambda: one(ASLEEP())) != (count,):
        await anyio.sleep(0.01)


@pytest.mark.parametrize("final", [False, True])
async def test_a_cancelled_operation_is_stopped_on_the_server_and_undone(driver: AioDriver, final: bool) -> None:
    def op() -> Op[None]:
        yield from run(PUT(1))
        yield from (finish if final else run)(PUT(2), SLEEP(600.0))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(driver.run, op)
        await until_asleep(driver, 1)
        tasks.cancel_scope.cancel()
    assert await driver.run(lambda: one(ASLEEP())) == (0,)
    assert await driver.run(lambda: many(KEYS())) == []


async def test_places_in_the_pool_survive_cancelling(driver: AioDriver) -> None:
    for _ in range(5):
        with anyio.move_on_after(0.1) as scope:
            await driver.run(lambda: run(SLEEP(600.0)))
        assert scope.cancelled_caught
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(driver.run, lambda: run(SLEEP(0.2)))
    assert await driver.run(lambda: many(KEYS())) == []


async def test_cancelling_at_any_moment_leaves_a_working_driver(driver: AioDriver) -> None:
    def op(key: int) -> Op[None]:
        yield from run(PUT(key))
        yield from run(KEYS())

    for step in range(60):
        with anyio.move_on_after(step * 0.00005):
            await driver.run(lambda key=step: op(key))
    keys = await driver.run(lambda: many(KEYS()))
    assert len(set(keys)) == len(keys)
    await driver.run(lambda: op(1000))
    assert (1000,) in await driver.run(lambda: many(KEYS()))


async def test_one_that_waits_for_a_place_can_be_cancelled(driver: AioDriver) -> None:
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(driver.run, lambda: run(SLEEP(0.5)))
        await anyio.sleep(0.1)
        with anyio.move_on_after(0.1) as scope:
            await driver.run(lambda: one(PID()))
        assert scope.cancelled_caught
    assert await driver.run(lambda: one(PID()))


async def test_the_loop_turns_while_the_server_works_and_operations_run_on_it(driver: AioDriver) -> None:
    import threading

    here = threading.get_ident()
    turns = 0

    def op() -> Op[None]:
        yield from run(SLEEP(0.2))
        assert threading.get_ident() == here
        yield from finish(SLEEP(0.2))

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await anyio.sleep(0)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(turn)
        await driver.run(op)
        tasks.cancel_scope.cancel()
    assert turns > 10


async def test_operations_run_side_by_side(driver: AioDriver) -> None:
    pids: list[Any] = []

    def op() -> Op[None]:
        pids.extend((yield from run(PID(), SLEEP(0.3)))[0])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(driver.run, op)
        tasks.start_soon(driver.run, op)
    assert len(set(pids)) == 2


async def test_a_statement_cancelled_by_another_hand_is_an_error_of_the_statement(driver: AioDriver) -> None:
    cancel = Statement("cancel", "select pg_cancel_backend(pid) from pg_stat_activity where query like '%pg_sleep%' and pid <> pg_backend_pid()", (), ("bool",))

    async def stop() -> None:
        await until_asleep(driver, 1)
        await driver.run(lambda: many(cancel()))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stop)
        with pytest.raises(SqlError, match="57014"):
            await driver.run(lambda: run(SLEEP(600.0)))
