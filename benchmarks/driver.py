"""The drivers beside plain pg8000, in one run: a trip, a transaction, bytea in and out, arrays out. `python benchmarks/driver.py [URL]`

Without a URL it starts an embedded PostgreSQL in a temporary directory. Prints the best of several rounds; the ratio is
how many times faster than pg8000 ours is.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tarbox_core.drivers.dsn import Dsn, parse_url
from tarbox_core.drivers.sync import SyncDriver
from tarbox_core.effects import Op, Statement, finish, one

ROUNDS = 5
BLOCK = 65536
BLOCKS = 64  # in a batch

PLUS = Statement("plus", "select $1 + 1", ("int8",), ("int8",))
PUT = Statement("put", "insert into block select * from unnest($1, $2) on conflict do nothing", ("int8[]", "bytea[]"))
GET = Statement("get", "select data from block where k = any($1)", ("int8[]",), ("bytea",))
ENTRIES = Statement("entries", "select array_agg(n), array_agg(n % 3 = 0), array_agg(n::text::bytea) from generate_series(1::int8, 1000) n", (),
                    ("int8[]", "bool[]", "bytea[]"))
ROWS = Statement("rows", "select n, n, n, n::int4 from generate_series(1::int8, 1000) n", (), ("int8", "int8", "int8", "int4"))


def plain(dsn: Dsn) -> Any:
    import pg8000.native

    where = {"unix_sock": f"{dsn.unix_sock}/.s.PGSQL.{dsn.port}"} if dsn.unix_sock else {"host": dsn.host or "localhost", "port": dsn.port}
    return pg8000.native.Connection(dsn.user, database=dsn.database, password=dsn.password, **where)


def best(work: Callable[[], object], times: int) -> float:
    """Seconds of one call, in the best of the rounds."""
    found = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(times):
            work()
        found.append((time.perf_counter() - start) / times)
    return min(found)


def report(what: str, ours: float, theirs: float | None, size: int = 0) -> None:
    def form(seconds: float) -> str:
        return f"{size / seconds / 1e6:8.0f} MB/s" if size else f"{seconds * 1e6:8.1f} us"

    print(f"{what:44} {form(ours):>14} {form(theirs) if theirs else '':>14} {f'{theirs / ours:6.1f}x' if theirs else ''}")


def trip() -> Op[Any]:
    return (yield from finish(PLUS(1)))


def two_trips() -> Op[Any]:
    return (yield from one(PLUS(1)))


def pipelined() -> Op[Any]:
    return (yield from finish(*[PLUS(1)] * 32))


def measure(url: str) -> None:
    dsn = parse_url(url, os.environ)
    driver, other = SyncDriver(dsn), plain(dsn)
    prepared = other.prepare("select cast(:n as int8) + 1")

    def transaction() -> None:
        other.run("begin")
        prepared.run(n=1)
        other.run("commit")

    print(f"{'':44} {'tarbox':>14} {'pg8000':>14}")
    report("one statement, one transaction", best(lambda: driver.run(trip), 1000), best(lambda: prepared.run(n=1), 1000))
    report("the same, not prepared there", best(lambda: driver.run(trip), 1000), best(lambda: other.run("select cast(:n as int8) + 1", n=1), 500))
    report("a transaction with its own begin and commit", best(lambda: driver.run(two_trips), 1000), best(transaction, 500))
    report("one of 32 statements in a batch", best(lambda: driver.run(pipelined), 100) / 32, best(lambda: [prepared.run(n=1) for _ in range(32)], 20) / 32)
    report("a durable transaction", best(lambda: driver.run(trip, durable=True), 100), None)

    table = "create table block (k int8 primary key, data bytea); alter table block alter data set storage external"
    driver.script(f"drop table if exists block; {table}")
    blocks = [os.urandom(BLOCK) for _ in range(BLOCKS)]
    keys = list(range(BLOCKS))
    put = other.prepare("insert into block select * from unnest(cast(:k as int8[]), cast(:d as bytea[])) on conflict do nothing")
    get = other.prepare("select data from block where k = any(cast(:k as int8[]))")

    # Each batch finds an empty table, so that both write the same.
    def fresh(work: Callable[[], object]) -> float:
        found = []
        for _ in range(ROUNDS):
            driver.script("truncate block; checkpoint" if dsn.user == "postgres" else "truncate block")
            start = time.perf_counter()
            work()
            found.append(time.perf_counter() - start)
        return min(found)

    size = BLOCK * BLOCKS
    theirs_in = fresh(lambda: put.run(k=keys, d=blocks))
    ours_in = fresh(lambda: driver.run(lambda: finish(PUT(keys, blocks))))
    report("bytea in, 64 blocks of 64 KiB a batch", ours_in, theirs_in, size)
    assert sorted(data for (data,) in driver.run(lambda: finish(GET(keys)))[0]) == sorted(blocks)
    report("bytea out, the same", best(lambda: driver.run(lambda: finish(GET(keys))), 10), best(lambda: get.run(k=keys), 3), size)
    report("1,000 entries as one row of arrays", best(lambda: driver.run(lambda: finish(ENTRIES())), 50), best(lambda: other.run(ENTRIES.sql), 10))
    report("1,000 rows of four integers", best(lambda: driver.run(lambda: finish(ROWS())), 50), best(lambda: other.run(ROWS.sql), 10))
    driver.script("drop table block")
    driver.close()
    other.close()


def main() -> None:
    if len(sys.argv) > 1:
        measure(sys.argv[1])
        return
    from tarbox_core.drivers import embedded

    home = Path(tempfile.mkdtemp(prefix="tarbox-bench-", dir="/tmp"))
    home.chmod(0o711)
    try:
        measure(embedded.start(home / "pg"))
    finally:
        embedded.stop(home / "pg")
        shutil.rmtree(home)


if __name__ == "__main__":
    main()
