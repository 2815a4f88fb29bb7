"""The awaited twin: the same verbs, files, courses and transactions."""

from __future__ import annotations

import asyncio
import inspect
import random
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio
import anyio.to_thread
import pytest
import trio

import tarbox_core
from tarbox_core.client.async_tree import AsyncTree
from tarbox_core.client.raw import Dropped
from tarbox_core.client.tree import Tree
from tarbox_core.errors import TransactionError
from tests.tenants import Tenant

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def opened(tenant: Tenant, **options: int) -> AsyncIterator[AsyncTree]:
    async with await tarbox_core.aconnect(tenant.url, tenant.info.name, **options) as tree:
        yield tree


def public(kind: type) -> dict[str, inspect.Signature]:
    return {name: inspect.signature(value) for name, value in vars(kind).items() if not name.startswith("_") and callable(value)}


def test_both_have_the_same_verbs() -> None:
    ours, theirs = public(Tree), public(AsyncTree)
    assert set(ours) == set(theirs) and len(ours) > 35
    for name in set(ours) - {"run", "walk"}:
        assert list(ours[name].parameters) == list(theirs[name].parameters), name


async def test_verbs(tenant: Tenant) -> None:
    async with opened(tenant) as tree:
        await tree.makedirs("/a/b")
        assert await tree.write_text("/a/f", "one\n") == 4
        assert await tree.read_text("/a/f") == "one\n"
        assert await tree.listdir("/a") == ["b", "f"]
        assert [entry.name for entry in await tree.scandir("/a")] == ["b", "f"]
        assert [found async for found in tree.walk("/")] == [("/", ["a"], []), ("/a", ["b"], ["f"]), ("/a/b", [], [])]
        assert await tree.glob("**/f") == ["/a/f"]
        assert (await tree.stat("/a/f")).st_size == 4
        with pytest.raises(FileNotFoundError) as raised:
            await tree.rename("/no", "/n")
        assert raised.value.filename2 == "/n"
        first = await tree.checkpoint("first")
        await tree.rmtree("/a")
        assert not await tree.exists("/a")
        assert [one.path for one in await tree.changes()] == ["/a", "/a/b", "/a/f"]
        await tree.switch(first.id)
        assert await tree.exists("/a/b")


async def test_files(tenant: Tenant) -> None:
    async with opened(tenant) as tree:
        async with await tree.open("/f", "w") as stream:
            await stream.write("one\ntwo\n")
        async with await tree.open("/f", "a+") as stream:
            await stream.write("three\n")
            await stream.seek(0)
            assert [line async for line in stream] == ["one\n", "two\n", "three\n"]
        async with await tree.open("/b", "wb") as stream:
            for _ in range(3):
                await stream.write(bytes(900_000))
        async with await tree.open("/b", "rb") as stream:
            assert len(await stream.read()) == 2_700_000
        with pytest.raises(FileExistsError):
            await tree.open("/f", "x")


async def test_transactions(tenant: Tenant) -> None:
    async with opened(tenant) as tree:
        await tree.write_text("/f", "0")
        with pytest.raises(KeyError):
            async with tree.transaction():
                await tree.write_text("/f", "1")
                async with await tree.open("/g", "w") as stream:
                    await stream.write("x")
                with pytest.raises(TransactionError):
                    await tree.checkpoint()
                assert await tree.listdir("/") == ["f", "g"]
                raise KeyError
        assert await tree.listdir("/") == ["f"] and await tree.read_text("/f") == "0"

        async def add(inside: AsyncTree) -> int:
            await inside.utime("/f")  # from here on it is ours
            value = int(await inside.read_text("/f")) + 1
            await inside.write_text("/f", str(value))
            return value

        async with anyio.create_task_group() as tasks:  # tasks that were begun outside have each their own
            for _ in range(4):
                tasks.start_soon(tree.run, add)
        assert await tree.read_text("/f") == "4"


async def test_many_tasks_share_a_few_connections(tenant: Tenant) -> None:
    async with opened(tenant, pool_size=2) as tree:
        await tree.mkdir("/d")

        async def work(number: int) -> None:
            await tree.write_text(f"/d/{number}", str(number))
            assert await tree.read_text(f"/d/{number}") == str(number)
            async with await tree.open("/log", "a") as stream:
                await stream.write(f"{number}\n")

        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(work, number)
        assert sorted(map(int, (await tree.read_text("/log")).split())) == list(range(20))


async def test_a_cancelled_transaction_leaves_nothing(tenant: Tenant) -> None:
    async with opened(tenant) as tree:
        with anyio.move_on_after(0.2) as scope:
            async with tree.transaction():
                await tree.mkdir("/d")
                await anyio.sleep(30)
        assert scope.cancelled_caught
        assert await tree.listdir("/") == []
        await tree.mkdir("/d")


async def test_whoever_is_cancelled_at_any_moment_leaves_nothing_half_done(tenant: Tenant) -> None:
    """By asyncio itself, which does not wait for threads: neither a connection nor a thread is used by two, or kept."""
    async with opened(tenant, pool_size=3) as tree:
        await tree.mkdir("/d")
        dice, before = random.Random(5), asyncio.all_tasks()

        async def work(number: int) -> None:
            async with tree.transaction():
                await tree.mkdir(f"/d/{number}-a")
                async with await tree.open(f"/d/{number}-b", "w") as stream:
                    await stream.write("x")
            async with await tree.open("/log", "a") as stream:
                await stream.write("a line\n" * 300)

        for number in range(60):
            task = asyncio.create_task(work(number))
            await asyncio.sleep(dice.random() * 0.03)
            for _ in range(dice.choice((1, 1, 2))):
                task.cancel()
                await asyncio.sleep(0)
            with suppress(asyncio.CancelledError):
                await task
        await work(60)  # on a slow machine the only one that comes to its end
        names = await tree.listdir("/d")
        assert [name for name in names if name.replace("-a", "-b") not in names] == []
        assert (await tree.stat("/log")).st_size % 2100 == 0
        with anyio.fail_after(10):
            while asyncio.all_tasks() - before or tree._driver._leases._room.wires.value < 3:
                await asyncio.sleep(0.01)
        await asyncio.gather(*(tree.write_text(f"/{number}", "x") for number in range(12)))


async def test_what_goes_on_behind_a_transaction_is_not_in_it(tenant: Tenant) -> None:
    """A task that was begun inside and is not done at the end."""
    async with opened(tenant) as tree, opened(tenant) as other:
        await tree.mkdir("/d")
        async with other.transaction():
            await other.mkdir("/d/x")  # whoever wants to change the directory waits
            with pytest.raises(KeyError):
                async with tree.transaction():
                    await tree.mkdir("/e")
                    task = asyncio.create_task(tree.mkdir("/d/x"))
                    await asyncio.sleep(0.1)
                    raise KeyError
            with pytest.raises(TransactionError, match="ended while something was done in it"):
                await task
        assert await tree.listdir("/") == ["d"] and await tree.listdir("/d") == ["x"]


async def test_a_file_that_is_dropped_keeps_nobody_waiting(tenant: Tenant) -> None:
    async with opened(tenant) as tree:
        stream = await tree.open("/f", "w")
        await stream.write("flushed\n")
        await stream.flush()
        await stream.write("never")
        inner = stream.wrapped
        with pytest.raises(Dropped, match="was dropped"):
            inner.close()  # as the collection of garbage does, wherever it runs
        whole = await tree.open("/g", "w")
        await whole.write("flushed")
        await whole.flush()
        whole.wrapped.close()  # nothing is lost
        await anyio.to_thread.run_sync((await tree.open("/f", "r")).wrapped.close)  # in a thread of the loop it is a call like any other
        assert await tree.read_text("/f") == "flushed\n" and await tree.read_text("/g") == "flushed"


def test_event_loops_that_run_at_once(tenant: Tenant) -> None:
    tree = asyncio.run(start(tenant))
    failures: list[BaseException] = []

    def run(number: int) -> None:
        try:
            asyncio.run(work(number))
        except BaseException as error:
            failures.append(error)

    async def work(number: int) -> None:
        await asyncio.gather(*(tree.write_text(f"/{number}-{turn}", "x") for turn in range(6)))

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == [] and not any(thread.is_alive() for thread in threads)
    assert len(asyncio.run(tree.listdir("/"))) == 24
    asyncio.run(tree.close())


def test_trio(tenant: Tenant) -> None:
    async def main() -> None:
        async with await tarbox_core.aconnect(tenant.url, tenant.info.name, pool_size=2) as tree:
            await tree.mkdir("/d")
            with trio.move_on_after(0.1) as scope:
                async with tree.transaction():
                    await tree.mkdir("/d/no")
                    await trio.sleep(10)
            assert scope.cancelled_caught
            async with trio.open_nursery() as nursery:
                for number in range(4):
                    nursery.start_soon(tree.write_text, f"/d/{number}", "x")
            async with await tree.open("/d/log", "a") as stream:
                await stream.write("line\n")
            assert await tree.listdir("/d") == ["0", "1", "2", "3", "log"] and (await tree.checkpoint("c")).label == "c"

    trio.run(main)


def test_a_tree_held_beyond_one_event_loop(tenant: Tenant) -> None:
    """As by a handler that calls asyncio.run for each invocation."""
    tree = asyncio.run(start(tenant))
    for number in range(3):
        asyncio.run(use(tree, number))
    asyncio.run(tree.close())


async def start(tenant: Tenant) -> AsyncTree:
    return await tarbox_core.aconnect(tenant.url, tenant.info.name)


async def use(tree: AsyncTree, number: int) -> None:
    await asyncio.gather(*(tree.write_text(f"/{number}-{turn}", "x") for turn in range(8)))
    assert len(await tree.listdir("/")) == 8 * (number + 1)
