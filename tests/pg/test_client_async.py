"""The awaited twin: the same verbs, files, courses and transactions."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

import tarbox_core
from tarbox_core.client.async_tree import AsyncTree
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
