"""What `import tarbox_core` costs a function: importing, a cold start to the first byte of a file, warm calls. `python benchmarks/serverless.py [URL]`

Without a URL it starts an embedded PostgreSQL in a temporary directory. Each cold start is a process of its own; a peer
starts with pg8000 and one query, which is the least that any program pays for it. With pgbouncer installed the calls are
measured through it, too. Prints the median of several runs, and the limits that we set ourselves.
"""

from __future__ import annotations

import argparse
import compileall
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import tarbox_core

ROOT = Path(__file__).resolve().parents[1]
TENANT = "serverless"
COLD = 15  # processes
WARM = 200  # calls

LIMITS = {"import tarbox_core": 40.0, "first byte of a file": 400.0, "warm": 5.0}  # ms

FIRST_BYTE = """
import sys, tarbox_core
with tarbox_core.connect(sys.argv[1], {tenant!r}) as tree:
    assert tree.read_bytes("/small")[:1] == b"x"
"""
PEER = """
import sys, pg8000.native
from urllib.parse import urlsplit, parse_qs
url = urlsplit(sys.argv[1])
query = parse_qs(url.query)
where = {{"host": url.hostname, "port": url.port or 5432}}
if "host" in query:
    where = {{"unix_sock": query["host"][0] + "/.s.PGSQL." + query.get("port", ["5432"])[0]}}
connection = pg8000.native.Connection(url.username, database=url.path[1:], password=url.password, **where)
assert connection.run("select 1") == [[1]]
"""


def process(program: str, *words: str) -> float:
    """ms from the start of a Python to its end."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", program, *words], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    return (time.perf_counter() - start) * 1e3


def cold(*programs: tuple[str, ...]) -> list[float]:
    """The median of each, in turns, so that what else the machine does falls on all."""
    runs = [[process(*program) for program in programs] for _ in range(COLD)]
    return [statistics.median(times) for times in zip(*runs, strict=True)]


def warm(work: Callable[[], object]) -> float:
    work()
    times = []
    for _ in range(WARM):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def report(what: str, ms: float, limit: str = "", ratio: str = "") -> None:
    bound = f"limit {LIMITS[limit]:g} ms{'' if ms < LIMITS[limit] else ', EXCEEDED'}" if limit else ""
    print(f"{what:52} {ms:9.2f} ms   {bound:24} {ratio}")


def measure_cold(url: str) -> None:
    nothing, core, interface, first, peer = cold(
        ("pass",), ("import tarbox_core",), ("import tarbox_core.client.tree",), (FIRST_BYTE.format(tenant=TENANT), url), (PEER.format(), url)
    )
    print(f"beyond a Python that does nothing, which takes {nothing:.0f} ms:")
    report("import tarbox_core", max(0.0, core - nothing), "import tarbox_core")
    report("the interface, without a connection", interface - nothing)
    report("first byte of a file", first - nothing, "first byte of a file", f"{(first - nothing) / (peer - nothing):.2f} of pg8000 and one query")
    report("pg8000 and one query", peer - nothing)


def measure_warm(tree: tarbox_core.Tree, where: str) -> None:
    def together() -> None:
        with tree.transaction():
            tree.write_text("/a", "1")
            tree.write_text("/b", tree.read_text("/small"))

    def append() -> None:
        with tree.open("/log", "a") as log:
            log.write("a line\n")

    tree.write_text("/small", "x" * 1000)
    tree.write_bytes("/large", os.urandom(1 << 20))
    print(f"warm, {where}:")
    report("stat", warm(lambda: tree.stat("/small")), "warm")
    report("read 1 KB", warm(lambda: tree.read_text("/small")), "warm")
    report("read 1 MiB", warm(lambda: tree.read_bytes("/large")), "warm")
    report("list a directory", warm(lambda: tree.listdir("/")), "warm")
    report("write 1 KB, durable", warm(lambda: tree.write_text("/w", "y" * 1000)), "warm")
    report("append a line through open, durable", warm(append))
    report("a transaction of two writes and a read, durable", warm(together))


def measure(url: str) -> None:
    compileall.compile_dir(ROOT / "tarbox_core", quiet=1)
    with tarbox_core.connect(url, TENANT, create=True) as tree:
        tree.write_text("/small", "x" * 1000)
        measure_cold(url)
        measure_warm(tree, "directly")
    if shutil.which("pgbouncer", path=os.environ.get("PATH", "") + ":/usr/sbin") and "host=" in url:
        sys.path.insert(0, str(ROOT))
        from tests.pg.pooler import pooler

        with pooler(url) as pooled, tarbox_core.connect(pooled, TENANT) as tree:
            measure_warm(tree, "through pgbouncer in transaction mode")


def main() -> None:
    from tarbox_core.drivers import embedded, migrate
    from tarbox_core.drivers.sync import SyncDriver

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", nargs="?", metavar="URL", help="a database to use instead of an embedded server of its own")
    url = parser.parse_args().url
    with ExitStack() as stack:
        if url is None:
            home = Path(tempfile.mkdtemp(prefix="tarbox-bench-", dir="/tmp"))
            home.chmod(0o711)
            stack.callback(shutil.rmtree, home, ignore_errors=True)
            url = embedded.start(home / "pg")
            stack.callback(embedded.stop, home / "pg")
        with SyncDriver(url, pool_size=1) as driver:
            migrate.init(driver)
        measure(url)


if __name__ == "__main__":
    main()
